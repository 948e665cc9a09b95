"""`heedloop judge improve`: a new version of a judge, from audited answers that it got wrong.

It is shown such answers, or a model writes other instructions from them (`--propose`). What was proposed judges the held-out audits
before it is stored, and is kept only if it is surely right more often there: the rule of `heedloop prompt optimise`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from heedloop.client import Client
from heedloop.responses import Disagreements, Interval, JudgeComparison
from heedloop.schema import JudgeExample, JudgeSpec, Target
from heedloop_cli.commands.progress import Progress
from heedloop_cli.judges.backends import BackendError, ChatApi, Endpoint, backend_of
from heedloop_cli.judges.items import Item, answer_items, example_texts
from heedloop_cli.judges.journal import Budget, Journal, OverBudget
from heedloop_cli.judges.paid_calls import PaidCalls, Prices
from heedloop_cli.judges.proposal import Case, Proposal, changed_lines
from heedloop_cli.judges.worker import Worker

MIN_EXAM = 10
"""Fewer held-out audits decide nothing."""
_EXAMPLES = 4
_WRITER_TOKENS = 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--examples", type=int, help="answers to show (4; with --propose those that it is shown already)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--prompt", type=Path, help="a file with the new prompt")
    source.add_argument(
        "--propose",
        action="store_true",
        help="let a model write other instructions; kept if surely better on held-out audits",
    )
    parser.add_argument("--keep", action="store_true", help="keep what was proposed in any case")
    parser.add_argument("--cases", type=int, default=20, help="wrong answers that the writer reads (20)")
    parser.add_argument("--endpoint", help="address of the OpenAI-compatible API that the judge asks")
    parser.add_argument("--key-env", default="OPENAI_API_KEY", help="variable with its key (OPENAI_API_KEY)")
    parser.add_argument("--folder", type=Path, help="where the judge's checkpoint is on this machine")
    parser.add_argument("--writer-model", help="the model that writes (the judge's own)")
    parser.add_argument("--writer-endpoint", help="address of its API (the judge's)")
    parser.add_argument("--writer-key-env", default="OPENAI_API_KEY", help="variable with the key of that")
    parser.add_argument(
        "--writer-parameter",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help=f"what it is sent (max_tokens={_WRITER_TOKENS})",
    )
    parser.add_argument("--writer-price-input", type=float, help="of a million tokens (the judge's)")
    parser.add_argument("--writer-price-output", type=float, help="of a million tokens (the judge's)")


def run_with(client: Client, spec: JudgeSpec, args: argparse.Namespace) -> int:
    """0 where a new version was stored, 1 where none was, since it is not surely better or the budget was used up."""
    if spec.form != "pointwise":
        raise ValueError(f"{spec.id} is {spec.form}; only pointwise judges can be improved")
    if not args.propose and (args.keep or args.endpoint or args.writer_endpoint or args.writer_model):
        raise ValueError("--keep, --endpoint and --writer-… belong to --propose")
    if args.propose and spec.backend in ("function", "reward"):
        raise ValueError(
            f"{spec.id} is a {spec.backend} judge: it has no instructions that a model could write"
        )
    num = args.examples or (0 if args.propose else _EXAMPLES)
    found = client.judge_disagreements(spec.id, limit=max(num, args.cases))
    if not found.disagreements:
        raise ValueError(
            f"there is nothing to learn from: {found.num_exam} held-out audits, no disagreement that may be shown"
        )
    if args.propose:
        return _propose(client, spec, found, num, args)
    prompt = args.prompt.read_text(encoding="utf-8") if args.prompt else spec.prompt
    better = client.create_judge(_with_examples(replace(spec, prompt=prompt), found, num))
    print(
        f"{better.id} is shown {len(better.spec.examples)} answers that {spec.id} got wrong. Let it judge the audited answers "
        f"(heedloop judge run {better.id}), then: heedloop judge compare {spec.id} {better.id} "
        f"({found.num_exam} held-out audits)"
    )
    return 0


def _with_examples(spec: JudgeSpec, found: Disagreements, num: int) -> JudgeSpec:
    """The judge that is shown the `num` worst disagreements."""
    words = sorted(spec.verdicts, key=lambda w: spec.verdicts[w])
    if not words:
        raise ValueError(f"{spec.id} has no verdicts that an example could be shown with")
    if "{examples}" not in spec.prompt:
        raise ValueError("the prompt has no hole {examples}; give one that has with --prompt")
    examples = (
        JudgeExample(d.target, words[-1] if d.people > 0.5 else words[0]) for d in found.disagreements[:num]
    )
    return replace(spec, examples=tuple(examples))


# -------------------------------------------------------------------------------------------------------- proposals


def _propose(
    client: Client, spec: JudgeSpec, found: Disagreements, num: int, args: argparse.Namespace
) -> int:
    if found.num_exam < MIN_EXAM:
        raise ValueError(
            f"there are {found.num_exam} held-out audits; {MIN_EXAM} are needed to try a proposal"
        )
    backend = backend_of(
        spec, url=args.endpoint, key_env=args.key_env, folder=args.folder, timeout_s=args.timeout
    )
    prices = (args.price_input, args.price_output, args.writer_price_input, args.writer_price_output)
    if args.budget_cost is not None and not any(prices):
        raise ValueError("--budget-cost limits nothing without --price-input and --price-output")
    proposal = _proposal(client, spec, found, num, args)
    budget = Budget(args.budget_calls, args.budget_cost)
    journal = Journal(args.journal or Path(f"improve-{spec.id}.sqlite"), proposal.key, budget)
    try:
        writing = PaidCalls(journal, _writer_prices(args, proposal.writer.spec), 1, args.attempts)
        better = proposal.written(writing)
        print(changed_lines(spec, better))
        prices = Prices(args.price_input, args.price_output, int(spec.parameters.get("max_tokens", 1024)))
        calls = PaidCalls(journal, prices, args.concurrency, args.attempts)
        worker = Worker(client, better, backend, calls, example_texts(client, better))
        return _try(spec, worker, list(_items(client, spec, found.exam)), keep=args.keep)
    except OverBudget as err:
        print(f"stopped: the budget is used up: {err}; nothing is kept", file=sys.stderr)
        return 1
    except BackendError as err:
        raise ValueError(f"{err}; nothing is kept, and the same command goes on from here") from None
    finally:
        num_calls, cost = journal.spent()
        journal.close()
        print(f"{num_calls:,} calls, {cost:.4g} spent in all")


def _proposal(
    client: Client, spec: JudgeSpec, found: Disagreements, num: int, args: argparse.Namespace
) -> Proposal:
    wrong = {d.target: d for d in found.disagreements[: args.cases]}
    cases = [Case(wrong[i.targets[0]], i) for i in _items(client, spec, wrong)]
    if not cases:
        raise ValueError(f"the answers that {spec.id} got wrong are not stored any more")
    shown = _with_examples(spec, found, num) if num else spec
    return Proposal(shown, _writer(spec, args), tuple(cases))


def _try(spec: JudgeSpec, worker: Worker, exam: list[Item], *, keep: bool) -> int:
    """Let the new version judge the exam, and store it with what it said there if it is surely better, or `keep`."""
    client, better = worker.client, worker.spec
    with Progress("judging", len(exam), "held-out audits") as progress:
        verdicts = worker.verdicts(exam, progress.show)
    found = client.examine_judge(spec.id, verdicts)
    print(comparison_text(spec.id, better.id, found))
    if num := sum(v is None for v in verdicts.values()):
        print(f"  {num} replies could not be read, which counts as wrong")
    is_better = found.difference is not None and found.difference.low > 0
    if not (is_better or keep):
        print("nothing is kept: it is not surely right more often; --keep would keep it all the same")
        return 1
    client.create_judge(better)
    with suppress(OverBudget):  # all that was read is in the journal; what was not may be tried again later
        worker.run(exam)
    print(f"{better.id} is kept; let it judge the other answers: heedloop judge run {better.id}")
    return 0


def _items(client: Client, spec: JudgeSpec, targets: Iterable[Target]) -> Iterator[Item]:
    return answer_items(client, targets, "{reference}" in spec.prompt)


def _writer(spec: JudgeSpec, args: argparse.Namespace) -> Endpoint:
    """The model that writes, as a judge whose prompt is not used."""
    url = args.writer_endpoint or args.endpoint
    if not url:
        raise ValueError("say with --writer-endpoint which OpenAI-compatible API shall write")
    model = args.writer_model or (spec.model if spec.backend == "endpoint" else "")
    if not model:
        raise ValueError(f"say with --writer-model who writes; {spec.model} is no model of an endpoint")
    given = args.writer_parameter or [f"max_tokens={_WRITER_TOKENS}"]
    parameters = {n: json.loads(v) for n, _, v in (p.partition("=") for p in given)}
    key_env = args.writer_key_env if args.writer_endpoint else args.key_env
    api = ChatApi(url.rstrip("/"), os.environ.get(key_env, ""), args.timeout)
    return Endpoint(replace(spec, model=model, parser="number", parameters=parameters), api)


def _writer_prices(args: argparse.Namespace, writer: JudgeSpec) -> Prices:
    sent = writer.parameters
    most = sent.get("max_tokens") or sent.get("max_completion_tokens") or _WRITER_TOKENS
    given = (args.writer_price_input, args.price_input), (args.writer_price_output, args.price_output)
    return Prices(*(judge if own is None else own for own, judge in given), max_output=int(most))


# ------------------------------------------------------------------------------------------------------ in words


def comparison_text(judge: str, other: str, found: JudgeComparison) -> str:
    """Two judges on the exam, in a few lines."""
    rows = ((judge, found.judge), (other, found.other), ("difference", found.difference))
    lines = [f"  {label}: {interval_text(value)}" for label, value in rows]
    return "\n".join([f"on {found.num_answers} held-out audits:", *lines])


def interval_text(value: Interval | None) -> str:
    """An estimate with its interval."""
    return "not known" if value is None else f"{value.estimate:.3f} [{value.low:.3f}, {value.high:.3f}]"
