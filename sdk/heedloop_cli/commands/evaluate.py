"""`heedloop evaluate`: answer prompts again before a release, and compare with what production answered."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from heedloop.client import Client
from heedloop.responses import Evaluation, EvaluationResult, EvaluationRow
from heedloop.schema import Case, JudgeSpec, Message, to_json, utc_now
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.json_text import json_value, number
from heedloop_cli.commands.judge import add_worker_options, prices_of
from heedloop_cli.commands.names import find_judge
from heedloop_cli.commands.progress import Progress
from heedloop_cli.evaluate import report
from heedloop_cli.evaluate.judging import against_rows, check_by_judge, judged_items
from heedloop_cli.evaluate.sources import Source, case_set_source, file_source, snapshot_source
from heedloop_cli.evaluate.targets import AppFunction, target_of
from heedloop_cli.evaluate.worker import Evaluator, finished
from heedloop_cli.judges.backends import BackendError, backend_of
from heedloop_cli.judges.items import example_texts
from heedloop_cli.judges.journal import Budget, Journal, OverBudget
from heedloop_cli.judges.paid_calls import PaidCalls, Prices
from heedloop_cli.judges.worker import Worker

HELP = "answer held-out prompts or cases again, and compare with production or an earlier evaluation"
GATE_CLOSED, NOT_RUN = 1, 2
"""Exit codes: the gate stays closed; it could not be told, as something broke, a budget was used up, or nothing was compared."""
_MOST_REASONS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "target",
        help="module:function, the address of an OpenAI-compatible API, or a checkpoint's folder",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--dataset", metavar="SNAPSHOT", help="its held-out prompts; a name or the beginning of an id"
    )
    source.add_argument("--cases", metavar="NAME[@VERSION]", help="a case set of the server")
    source.add_argument("--file", type=Path, help="JSON Lines of cases or of {prompt, reference}")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test")
    parser.add_argument("--limit", type=int, help="the first so many prompts")
    parser.add_argument("--name", help="of the evaluation; the target's, numbered, where not given")
    parser.add_argument("--against", metavar="NAME", help="compare with this evaluation, not with production")
    parser.add_argument(
        "--judge", action="append", default=[], metavar="ID", help="rates both answers; may be repeated"
    )
    parser.add_argument("--judge-endpoint", help="address of the API that the judges ask")
    parser.add_argument("--judge-key-env", default="OPENAI_API_KEY", help="variable with its key")
    parser.add_argument("--judge-folder", type=Path, help="where a judge's checkpoint or reward model is")
    parser.add_argument("--model", help="the model that an endpoint is asked for")
    parser.add_argument("--key-env", default="OPENAI_API_KEY", help="variable with the endpoint's key")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=JSON", help="such as temperature=0"
    )
    parser.add_argument(
        "--few-shot", type=int, default=0, metavar="K", help="show so many liked or corrected answers first"
    )
    add_worker_options(parser, journal="evaluation-NAME.sqlite", concurrency=8)
    parser.add_argument("--gate", action="store_true", help="end with 1 where it is worse; for CI")
    parser.add_argument("--tolerance", type=float, default=0.0, help="share of cases that may fail (0)")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="METRIC=LOSS", help="how much a metric may lose"
    )
    parser.add_argument("--local", action="store_true", help="with --file: no server, nothing is stored")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    return with_plain_errors(args, _run)


def _run(args: argparse.Namespace) -> int:
    if args.local and not args.file:
        raise ValueError("--local answers the prompts of a --file; those of a server need the server")
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit: {args.limit} is not 1 or more")
    allowed = {n: number(f"--allow {n}", v) for n, _, v in (a.rpartition("=") for a in args.allow)}
    client = None if args.local else client_of(args)
    source = _source(args, client)
    judges = [find_judge(client, j) for j in args.judge] if client else []
    parameters = {
        n: json_value(f"--parameter {n}", v) for n, _, v in (p.partition("=") for p in args.parameter)
    }
    target = target_of(
        args.target, model=args.model, key_env=args.key_env, parameters=parameters, timeout_s=args.timeout
    )
    if args.few_shot and isinstance(target, AppFunction) and not target.takes_messages:
        raise ValueError(
            f"--few-shot needs a function with the argument messages; {args.target} is given the question alone"
        )
    one = _evaluation(args, client, source, judges)
    path = args.journal or Path(f"evaluation-{one.name}.sqlite")
    journal = Journal(path, f"evaluation:{one.name}", _budget(args))
    prices = prices_of(args, parameters)
    calls = PaidCalls(journal, prices, args.concurrency, args.attempts)
    worker = Evaluator(client, one, target, calls, _examples(client, args.few_shot))
    try:
        rows, why = _answer(worker, source)
        if client is not None and not why:
            rows, why = _judge(args, client, one, judges, rows, source, path)
    finally:
        journal.close()
    if why:
        print(f"stopped: {why}; the same command goes on", file=sys.stderr)
        return NOT_RUN
    result = client.evaluation(one.name, against=args.against or "") if client else None
    _print(args, client, one, result, rows)
    if args.gate:
        return _gate(args, rows, result, allowed)
    return NOT_RUN if rows and all(r.error for r in rows) else 0


def _source(args: argparse.Namespace, client: Client | None) -> Source:
    if args.file:
        source = file_source(args.file)
    elif args.cases:
        source = case_set_source(_needed(client), args.cases)
    else:
        source = snapshot_source(_needed(client), args.dataset, args.split)
    return Source(source.name, source.cases[: args.limit])


def _needed(client: Client | None) -> Client:
    assert client is not None  # noqa: S101  only --file goes without
    return client


def _budget(args: argparse.Namespace) -> Budget:
    return Budget(args.budget_calls, args.budget_cost)


def _evaluation(
    args: argparse.Namespace, client: Client | None, source: Source, judges: Sequence[JudgeSpec]
) -> Evaluation:
    """The evaluation of that name; without a name the unfinished one of the same target and source, else a new one."""
    target = args.target if not args.model else f"{args.model} at {args.target}"
    if args.few_shot:
        target += f" with {args.few_shot} examples"
    known = client.evaluations() if client else []
    slug = re.sub(r"[^a-z0-9]+", "-", (args.model or Path(args.target).name).lower()).strip("-")[:48]
    same = [e for e in known if (e.target, e.source) == (target, source.name) and e.status != "finished"]
    name = args.name or (same[0].name if same else "")
    number = 1 + sum(e.name.startswith(f"{slug}-") for e in known)
    one = Evaluation(
        name=name or f"{slug or 'evaluation'}-{number}",
        target=target,
        source=source.name,
        status="running",
        created_at=next((e.created_at for e in known if e.name == name), utc_now()),
        judges=tuple(j.id for j in judges),
        num_cases=len(source.cases),
    )
    return client.save_evaluation(one) if client else one


def _examples(client: Client | None, num: int) -> Callable[[Case], Sequence[Message]]:
    """Liked or corrected answers to similar questions, as turns before the question."""
    if not num:
        return lambda _: ()
    if client is None:
        raise ValueError("--few-shot needs the server, which has the examples")

    def before(case: Case) -> list[Message]:
        found = client.examples(case.question, num).examples
        return [m for e in found for m in (Message("user", e.question), Message("assistant", e.answer))]

    return before


def _answer(worker: Evaluator, source: Source) -> tuple[list[EvaluationRow], str]:
    """The rows of all cases, and why it stopped before the end."""
    why = ""
    try:
        with Progress("answering", len(source.cases), "prompts") as shown:
            worker.run(source.cases, shown.show)
    except OverBudget as err:
        why = f"the budget is used up: {err}"
    except BackendError as err:
        raise ValueError(str(err)) from None
    finally:
        rows = worker.rows()
        calls, cost = worker.calls.journal.spent()
        if worker.client is not None:
            at = None if why or len(rows) < len(source.cases) else utc_now()
            worker.client.save_evaluation(finished(worker.evaluation, rows, cost, at))
        parts = ", ".join(f"{n:,} {name}" for name, n in sorted(worker.counts.items()) if n)
        print(f"{worker.evaluation.name}: {parts}; {calls:,} calls, {cost:.4g} spent in all")
        for reason, num in worker.reasons.most_common(_MOST_REASONS):
            print(f"  {num:,} failed: {reason:.300}", file=sys.stderr)
    return rows, why


def _judge(
    args: argparse.Namespace,
    client: Client,
    one: Evaluation,
    judges: Sequence[JudgeSpec],
    rows: list[EvaluationRow],
    source: Source,
    path: Path,
) -> tuple[list[EvaluationRow], str]:
    """Let the judges rate both answers; the rows with the checks that ask them."""
    if not judges:
        return rows, ""
    client.wait_until_stored()
    cases = {c.id: c for c in source.cases}
    compared = against_rows(client, rows, args.against) if args.against else rows
    for spec in judges:
        backend = backend_of(
            spec, url=args.judge_endpoint, key_env=args.judge_key_env, folder=args.judge_folder,
            timeout_s=args.timeout,
        )  # fmt: skip
        journal = Journal(path, spec.id, _budget(args))
        calls = PaidCalls(journal, Prices(), args.concurrency, args.attempts)
        worker = Worker(client, spec, backend, calls, example_texts(client, spec))
        try:
            with Progress(f"judging by {spec.name}", 2 * len(compared), "answers") as shown:
                worker.run(judged_items(client, spec, compared, cases), shown.show)
        except OverBudget as err:
            return rows, f"the budget of {spec.id} is used up: {err}"
        except BackendError as err:
            raise ValueError(str(err)) from None
        finally:
            journal.close()
        unusable = ", ".join(f"{n:,} {how}" for how in ("unparsable", "failed") if (n := worker.counts[how]))
        if unusable and not worker.counts["judged"] + worker.counts["judged before"]:
            return rows, f"{spec.id} gave no verdict: {unusable}"
        if unusable:
            print(f"{spec.id}: {unusable}", file=sys.stderr)
        if spec.form == "pointwise":
            rows = check_by_judge(client, one.name, spec, rows, cases)
    return rows, ""


def _print(
    args: argparse.Namespace,
    client: Client | None,
    one: Evaluation,
    result: EvaluationResult | None,
    rows: Sequence[EvaluationRow],
) -> None:
    if args.json:
        shown = to_json(result) if result else {"rows": [to_json(r) for r in rows]}
        print(json.dumps(shown, indent=2))
        return
    if client and result:
        print(report.result_text(result))
        if result.metrics:
            pairs = client.evaluated_pairs(one.name, against=args.against or "", limit=20)
            print(report.regressions_text(pairs) or f"no case is worse by {pairs.metric}")
    if not (result and result.metrics) and any(r.scores for r in rows):
        print(report.scores_text(rows))
    for row in [r for r in rows if r.failed_checks][:20]:
        print(f"case {row.case_id} {'; '.join(row.failed_checks)}")


def _gate(
    args: argparse.Namespace,
    rows: Sequence[EvaluationRow],
    result: EvaluationResult | None,
    allowed: Mapping[str, float],
) -> int:
    found = report.failures(rows, result.metrics if result else [], tolerance=args.tolerance, allowed=allowed)
    for sentence in found:
        print(f"gate: {sentence}", file=sys.stderr)
    if not found and not report.is_decidable(rows, result.metrics if result else [], allowed):
        print("gate: it could not be told: no case has a check, and no answer was compared", file=sys.stderr)
        return NOT_RUN
    print("gate: closed" if found else "gate: open", file=sys.stderr)
    return GATE_CLOSED if found else 0
