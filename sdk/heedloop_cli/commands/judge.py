"""`heedloop judge create | list | run | card | improve | compare`: AI judges, measured by annotators."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from heedloop.client import Client
from heedloop.responses import Deferral, JudgeCard
from heedloop.schema import JudgeSpec, from_json, to_json, utc_now
from heedloop_cli.commands import judge_improve
from heedloop_cli.commands.call_filters import add_filters, filters_of
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.json_text import json_object, json_value
from heedloop_cli.commands.judge_improve import comparison_text, interval_text
from heedloop_cli.commands.names import find_judge, find_queue
from heedloop_cli.commands.progress import Progress
from heedloop_cli.judges.backends import BackendError, backend_of, weights_hash
from heedloop_cli.judges.items import Item, chosen_calls, example_texts, queue_items, read_items
from heedloop_cli.judges.journal import Budget, Journal, OverBudget
from heedloop_cli.judges.paid_calls import PaidCalls, Prices
from heedloop_cli.judges.templates import TEMPLATES, guideline_prompt
from heedloop_cli.judges.worker import Worker

HELP = "AI judges: make one, let it judge stored answers, see how far annotators confirm it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(
        dest="what", required=True, metavar="create | list | run | card | improve | compare"
    )
    _add_create(commands.add_parser("create", help="store a judge; another prompt or model is another judge"))
    add_connection(commands.add_parser("list", help="all judges"))
    _add_run(
        commands.add_parser("run", help="judge answers that were not judged yet; go on where it was stopped")
    )
    card = commands.add_parser("card", help="how far a judge is to be believed")
    card.add_argument("judge", help="its id, or the beginning of one")
    card.add_argument("--name", help="the rubric's dimension")
    card.add_argument("--json", action="store_true", help="the whole card as JSON")
    add_filters(card)
    add_connection(card)
    improve = commands.add_parser("improve", help="a new version, from audited answers that it got wrong")
    improve.add_argument("judge", help="its id, or the beginning of one")
    judge_improve.add_arguments(improve)
    add_worker_options(improve, journal="improve-ID.sqlite")
    add_connection(improve)
    compare = commands.add_parser(
        "compare", help="whether another judge is right more often, by held-out audits"
    )
    compare.add_argument("judge")
    compare.add_argument("other")
    add_connection(compare)


def _add_create(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--template", choices=sorted(TEMPLATES))
    source.add_argument(
        "--guideline", metavar="QUEUE", help="follow the newest guideline of this review queue"
    )
    source.add_argument("--file", type=Path, help="JSON: the fields of JudgeSpec (docs/judges.md)")
    parser.add_argument("--name", help="what to call it (the template's name)")
    parser.add_argument(
        "--backend", choices=("endpoint", "checkpoint", "reward", "function"), default="endpoint"
    )
    parser.add_argument("--model", help="the endpoint's model, a folder, or module:function")
    parser.add_argument(
        "--question", help="the name of the feedback it gives, as annotators are asked (the template's)"
    )
    parser.add_argument(
        "--token-probability", action="store_true", help="read the verdicts' probabilities instead of words"
    )
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=JSON", help="such as max_tokens=300"
    )
    add_connection(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("judge", help="its id, or the beginning of one")
    parser.add_argument(
        "--endpoint", help="base address of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1"
    )
    parser.add_argument(
        "--key-env", default="OPENAI_API_KEY", help="environment variable with its key (OPENAI_API_KEY)"
    )
    parser.add_argument("--folder", type=Path, help="where the checkpoint or reward model is on this machine")
    parser.add_argument("--queue", help="judge the items of this review queue")
    parser.add_argument(
        "--sample", type=_at_least_one, help="judge so many, drawn at random from all that match"
    )
    parser.add_argument("--seed", default="0", help="another seed, another sample")
    parser.add_argument("--limit", type=_at_least_one, help="judge the newest so many")
    parser.add_argument(
        "--recheck",
        action="store_true",
        help="ask again about judged answers: does the judge still say the same? Nothing it said changes",
    )
    parser.add_argument(
        "--follow",
        type=_seconds,
        metavar="SECONDS",
        help="look for new answers every so often, until stopped",
    )
    parser.add_argument(
        "--references",
        action="store_true",
        help="give the judge each answer's newest correction as {reference}",
    )
    add_worker_options(parser, journal="judge-ID.sqlite")
    add_filters(parser, model="of_model")
    add_connection(parser)


def add_worker_options(parser: argparse.ArgumentParser, *, journal: str, concurrency: int = 4) -> None:
    """How calls that cost something are made: at once, again, within which budget, and where they are written down."""
    parser.add_argument(
        "--concurrency", type=_at_least_one, default=concurrency, help=f"calls at once ({concurrency})"
    )
    parser.add_argument(
        "--attempts", type=_at_least_one, default=4, help="calls before an item has failed (4)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="of one call in all (60)"
    )
    parser.add_argument(
        "--budget-calls", type=int, help="the most calls, all attempts and earlier runs counted"
    )
    parser.add_argument("--budget-cost", type=float, help="the most money, in the currency of the prices")
    parser.add_argument("--price-input", type=float, default=0.0, help="of a million tokens")
    parser.add_argument("--price-output", type=float, default=0.0, help="of a million tokens")
    parser.add_argument(
        "--journal", type=Path, help=f"what was asked and answered ({journal}): keep it to go on"
    )


def prices_of(args: argparse.Namespace, parameters: Mapping[str, Any]) -> Prices:
    """The prices of calls with these parameters; raises `ValueError` where there are none to keep a budget by."""
    if args.budget_cost is not None and not (args.price_input or args.price_output):
        raise ValueError("--budget-cost limits nothing without --price-input and --price-output")
    return Prices(args.price_input, args.price_output, int(parameters.get("max_tokens", 1024)))


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _seconds(text: str) -> float:
    if not (number := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def run(args: argparse.Namespace) -> int:
    """Run one of the sub-commands."""
    work = {
        "create": _create,
        "list": _list,
        "run": _run,
        "card": _card,
        "improve": _improve,
        "compare": _compare,
    }
    return with_plain_errors(args, work[args.what])


def _create(args: argparse.Namespace) -> int:
    client = client_of(args)
    spec = _spec(args, client)
    made = client.create_judge(spec)
    print(
        f"{made.id}\njudge answers: heedloop judge run {made.id}{' --endpoint URL' if spec.backend == 'endpoint' else ''}"
    )
    return 0


def _spec(args: argparse.Namespace, client: Client) -> JudgeSpec:
    if args.file:
        return from_json(JudgeSpec, json_object(args.file))
    fields: dict[str, Any] = {"name": args.name or args.template or "guideline", "form": "pointwise"}
    if args.guideline:
        queue = client.review_queue(find_queue(client, args.guideline))
        if not queue.guideline.text:
            raise ValueError(
                f"the queue {queue.name} has no guideline; give it one: heedloop review guideline"
            )
        fields |= {**TEMPLATES["helpfulness"], "prompt": guideline_prompt(queue.guideline.text)}
        fields["guideline"] = f"{queue.queue_id}/{queue.guideline.version}"
    else:
        fields |= TEMPLATES[args.template]
    if not args.model:
        raise ValueError("--model says who judges: the endpoint's model, a folder, or module:function")
    fields |= {"backend": args.backend, "model": args.model}
    if args.question:
        fields["question"] = args.question
    if args.token_probability:
        fields["parser"] = "token_probability"
        fields["prompt"] = (
            fields["prompt"].partition("Think it over")[0]
            + "Verdict ("
            + " or ".join(fields["verdicts"])
            + "):"
        )
    fields["parameters"] = {
        n: json_value(f"--parameter {n}", v) for n, _, v in (p.partition("=") for p in args.parameter)
    }
    if args.backend in ("checkpoint", "reward") and Path(args.model).is_dir():
        fields["model"] = Path(args.model).resolve().name
        fields["parameters"]["sha256"] = weights_hash(Path(args.model))
    if args.backend == "reward":
        fields |= {"prompt": "", "verdicts": {}}
    return from_json(JudgeSpec, fields | {"dimensions": list(fields.get("dimensions", ()))})


def _list(args: argparse.Namespace) -> int:
    judges = client_of(args).judges()
    if not judges:
        print("no judges yet; `heedloop judge create` makes one")
    for judge in judges:
        c = judge.calls
        print(
            f"{judge.id}  {judge.spec.form} by {judge.spec.model}: {c.num_judged:,} judged, {c.num_unparsable:,} unparsable, "
            f"{c.num_failed:,} failed, {c.num_calls:,} calls, {c.cost:.4g} spent"
        )
    return 0


def _run(args: argparse.Namespace) -> int:
    client = client_of(args)
    spec = find_judge(client, args.judge)
    backend = backend_of(
        spec, url=args.endpoint, key_env=args.key_env, folder=args.folder, timeout_s=args.timeout
    )
    path = args.journal or Path(f"judge-{spec.id}.sqlite")
    journal = Journal(path, spec.id, Budget(args.budget_calls, args.budget_cost))
    prices = prices_of(args, spec.parameters)
    calls = PaidCalls(journal, prices, args.concurrency, args.attempts)
    worker = Worker(client, spec, backend, calls, example_texts(client, spec))
    why, ended = "", False
    try:
        with Progress("judging", args.sample or args.limit or 0, "items") as shown:
            if args.recheck:
                worker.recheck(_items(args, client, spec), utc_now().date().isoformat())
            else:
                worker.run(_items(args, client, spec, worker), shown.show)
            while args.follow is not None and not args.recheck:
                time.sleep(args.follow)
                worker.run(_items(args, client, spec, worker), shown.show)
        ended = True
    except OverBudget as err:
        why = f"the budget is used up: {err}"
    except BackendError as err:
        raise ValueError(str(err)) from None
    finally:
        calls, cost = journal.spent()
        journal.close()
        parts = ", ".join(f"{n:,} {name}" for name, n in sorted(worker.counts.items()) if n)
        print(f"{parts or _nothing(args, ended)}; {calls:,} calls, {cost:.4g} spent in all")
        for kind, reason in sorted(worker.reasons.items()):
            print(f"  {kind}: {reason}")
    if why:
        print(f"stopped: {why}", file=sys.stderr)
    return 1 if why else 0


def _nothing(args: argparse.Namespace, ended: bool) -> str:
    """Why nothing is counted: the run broke off, or nothing matches, which by default means of the last 30 days."""
    if not ended:
        return "nothing was judged"
    everything = args.queue or args.filter_since
    return "nothing to judge" + ("" if everything else " among the answers of the last 30 days (--since)")


def _items(
    args: argparse.Namespace, client: Client, spec: JudgeSpec, worker: Worker | None = None
) -> Iterator[Item]:
    """The items that were chosen; a worker leaves those out that it judged before, where a call alone is an item."""
    if args.queue:
        return queue_items(client, find_queue(client, args.queue), spec)
    calls = chosen_calls(client, spec.form, filters_of(args), sample=args.sample, seed=args.seed)
    num = args.sample if args.limit is None else min(args.limit, args.sample or args.limit)
    if spec.form in ("session", "pairwise"):
        return islice(read_items(client, spec, calls, args.references), num)
    calls = islice(calls, num)
    return read_items(client, spec, calls if worker is None else worker.not_judged(calls), args.references)


def _card(args: argparse.Namespace) -> int:
    client = client_of(args)
    chosen = filters_of(args) | ({"name": args.name} if args.name else {})
    card = client.judge_card(find_judge(client, args.judge).id, **chosen)
    print(json.dumps(to_json(card), indent=2) if args.json else card_text(card))
    return 0


def card_text(card: JudgeCard) -> str:
    """The card in a few lines."""
    lines = [f"{card.judge_id} about {card.question}: {card.state}", *(f"  {r}" for r in card.reasons)]
    lines.append(f"  {card.num_judged:,} judged, {card.num_audits:,} audited")
    for label, value in (
        ("judge's own rate", card.judge_rate),
        ("annotators' rate", card.people_rate),
        ("combined", card.combined),
        ("agreement", card.agreement),
        ("annotators with each other", card.people_agreement),
        ("sensitivity", card.sensitivity),
        ("specificity", card.specificity),
        ("effect of length", card.length_effect),
        ("effect of its own family", card.own_family),
    ):
        lines.append(f"  {label}: {interval_text(value)}")
    if card.worth is not None:
        lines.append(f"  these {card.num_audits:,} labels are worth {card.worth:,.0f} with the judge")
    if card.labels_left is not None:
        lines.append(f"  labels left to ±{card.half_width:.0%}: {card.labels_left:,}")
    if card.drift is not None:
        since = f" since {card.drift.since:%Y-%m-%d}" if card.drift.since else ""
        lines.append(f"  drift: {card.drift.state}{since}")
    if card.deferral is not None:
        lines.append(f"  {_deferral(card.deferral)}")
    if len(card.guidelines) > 1:
        lines += [
            f"  agreement under {g.guideline}: {interval_text(g.agreement)} ({g.num_audits:,} audits)"
            for g in card.guidelines
        ]
    return "\n".join(lines)


def _deferral(found: Deferral) -> str:
    if found.threshold is None:
        return f"no threshold at which it may decide alone (error at most {found.max_error:.0%})"
    return f"may decide alone from a confidence of {found.threshold:.2f}: {found.share:.0%} of what it judged"


def _improve(args: argparse.Namespace) -> int:
    client = client_of(args)
    return judge_improve.run_with(client, find_judge(client, args.judge), args)


def _compare(args: argparse.Namespace) -> int:
    client = client_of(args)
    ours, theirs = (find_judge(client, j).id for j in (args.judge, args.other))
    print(comparison_text(ours, theirs, client.compare_judges(ours, theirs)))
    return 0
