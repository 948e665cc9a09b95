"""`heedloop review create | fill | gold | guideline | progress | generate | export | import`: review queues from the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from heedloop._rest import json_entries
from heedloop.client import Client
from heedloop.responses import Queue
from heedloop_cli.commands import review_exchange, review_generate
from heedloop_cli.commands.call_filters import add_filters, filters_of
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors

__all__ = ["HELP", "add_arguments", "find_queue", "run"]

HELP = (
    "make, fill and follow review queues; generate answers to compare; exchange judgements with other tools"
)

SOURCES = ("filter", "sample", "disagreement", "low_confidence", "same_prompt", "targets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(
        dest="what",
        required=True,
        metavar="create | fill | gold | guideline | progress | generate | export | import",
    )
    _add_create(commands.add_parser("create", help="make a queue from a file of questions"))
    _add_fill(commands.add_parser("fill", help="add items to a queue"))
    gold = commands.add_parser("gold", help="add items whose right answers are known")
    gold.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    gold.add_argument("file", type=Path, help="JSON Lines: targets, answers, training, why (docs/review.md)")
    add_connection(gold)
    guideline = commands.add_parser("guideline", help="give a queue a new version of its guideline")
    guideline.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    guideline.add_argument("file", type=Path, help="the text, as Markdown")
    guideline.add_argument("--send-back", action="store_true", help="ask again for what was judged before")
    add_connection(guideline)
    progress = commands.add_parser("progress", help="how far the queues are")
    progress.add_argument("queue", nargs="?", help="only this one")
    add_connection(progress)
    generate = commands.add_parser(
        "generate", help="several answers to one prompt, from a model, to be ranked"
    )
    add_filters(generate, model="of_model")
    review_generate.add_arguments(generate)
    add_connection(generate)
    review_exchange.add_export(commands.add_parser("export", help=review_exchange.EXPORT_HELP))
    review_exchange.add_import(commands.add_parser("import", help=review_exchange.IMPORT_HELP))


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what to call it")
    parser.add_argument(
        "--questions", type=Path, required=True, help="JSON: a list of questions (docs/review.md)"
    )
    parser.add_argument("--description", default="")
    parser.add_argument("--guideline", type=Path, help="a file with the guideline's text")
    parser.add_argument("--judgements", type=int, default=1, help="annotators per item (1)")
    parser.add_argument(
        "--lease-s", type=int, default=1800, help="seconds an item is kept for its annotator (1800)"
    )
    parser.add_argument("--gold-share", type=float, default=0.0, help="share of gold items, 0 to 0.5 (0)")
    parser.add_argument("--due", help="when it should be done, such as 2026-12-01T00:00:00Z")
    parser.add_argument(
        "--show", action="append", default=[], metavar="FACT", help="a fact of the call to show"
    )
    parser.add_argument("--annotator", action="append", default=[], metavar="ID", help="who may work in it")
    parser.add_argument("--suggestions", action="store_true", help="show what models said about the answers")
    add_connection(parser)


def _add_fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    parser.add_argument("--source", choices=SOURCES, default="filter")
    parser.add_argument("--limit", type=int, help="most items (1,000)")
    parser.add_argument("--size", type=int, help="sample: how many to draw")
    parser.add_argument("--seed", help="sample: draws the same ones again")
    parser.add_argument("--kind", help="disagreement: user_annotator, model_human, judge_human or annotators")
    parser.add_argument("--judge", help="disagreement, low_confidence: the model's author id")
    parser.add_argument("--answers-per-item", type=int, help="same_prompt: 2 to 8")
    parser.add_argument("--targets", type=Path, help="targets: JSON, a list of items, each a list of answers")
    add_filters(parser)
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """0 where it is done."""
    work = {
        "create": _create,
        "fill": _fill,
        "gold": _gold,
        "guideline": _guideline,
        "progress": _progress,
        "generate": _generate,
        "export": _export,
        "import": _import,
    }
    return with_plain_errors(args, work[args.what])


def _create(args: argparse.Namespace) -> int:
    settings: dict[str, Any] = {
        "description": args.description,
        "judgements_per_item": args.judgements,
        "lease_s": args.lease_s,
        "gold_share": args.gold_share,
        "show": args.show,
        "annotators": args.annotator,
        "suggestions": args.suggestions,
    }
    if args.due:
        settings["due_at"] = args.due
    if args.guideline:
        settings["guideline"] = {"text": args.guideline.read_text(encoding="utf-8")}
    queue = client_of(args).create_review_queue(args.name, _json(args.questions), **settings)
    print(f"{queue.queue_id}  {queue.name}: {len(queue.questions)} questions. Fill it: heedloop review fill")
    return 0


def _fill(args: argparse.Namespace) -> int:
    client = client_of(args)
    settings = {n: getattr(args, n) for n in ("limit", "size", "seed", "kind", "judge", "answers_per_item")}
    how: dict[str, Any] = {n: v for n, v in settings.items() if v is not None}
    if args.source == "targets":
        if args.targets is None:
            raise ValueError("--source targets needs --targets FILE")
        how["items"] = _json(args.targets)
    else:
        how["filters"] = filters_of(args)
    done = client.fill_review_queue(find_queue(client, args.queue), args.source, **how)
    response = f"{done.added:,} added, {done.known:,} there already, of {done.matching:,} that match"
    print(response + (f"; {len(done.missing):,} answers are not stored" if done.missing else ""))
    return 0


def _gold(args: argparse.Namespace) -> int:
    client = client_of(args)
    done = client.add_gold(find_queue(client, args.queue), json_entries(args.file.read_bytes()))
    print(f"{done.added:,} added, {done.known:,} items that were there are gold now")
    return 0


def _guideline(args: argparse.Namespace) -> int:
    client = client_of(args)
    text = args.file.read_text(encoding="utf-8")
    queue = client.set_guideline(find_queue(client, args.queue), text, send_back=args.send_back)
    print(f"version {queue.guideline.version} of the guideline of {queue.name}")
    return 0


def _progress(args: argparse.Namespace) -> int:
    client = client_of(args)
    wanted = [client.review_queue(find_queue(client, args.queue))] if args.queue else client.review_queues()
    if not wanted:
        print("no queues yet; `heedloop review create NAME --questions FILE` makes one")
    for queue in wanted:
        print(_line(queue))
    return 0


def _line(queue: Queue) -> str:
    head = f"{queue.queue_id}  {queue.name} ({queue.status})"
    counts = queue.counts
    if counts is None:
        return f"{head}: {queue.mine.done:,} done, {queue.mine.remaining:,} left for you"
    due = f", due {queue.due_at:%Y-%m-%d}" if queue.due_at else ""
    return (
        f"{head}: {counts.done:,} of {counts.items:,} items done, {counts.judgements:,} judgements, "
        f"{counts.leased:,} being judged, {counts.skipped:,} skips, {counts.gold:,} gold{due}"
    )


def _generate(args: argparse.Namespace) -> int:
    client = client_of(args)
    return review_generate.run(args, client, find_queue(client, args.queue), filters_of(args))


def _export(args: argparse.Namespace) -> int:
    client = client_of(args)
    return review_exchange.export(args, client, find_queue(client, args.queue))


def _import(args: argparse.Namespace) -> int:
    client = client_of(args)
    return review_exchange.import_file(args, client, find_queue(client, args.queue))


def find_queue(client: Client, name_or_id: str) -> str:
    """The id of the queue with this id, the beginning of one, or name; raises `ValueError` where it is none or several."""
    queues = client.review_queues()
    for matches in (
        [q.queue_id for q in queues if q.queue_id == name_or_id],
        [q.queue_id for q in queues if q.name == name_or_id],
        [q.queue_id for q in queues if q.queue_id.startswith(name_or_id)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ValueError(
                f"{name_or_id!r} names {len(matches)} queues: {', '.join(matches[:5])}; give the id"
            )
    raise ValueError(f"there is no queue {name_or_id!r}; `heedloop review progress` lists them")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as err:
        raise ValueError(f"{path} is no JSON: {err}") from None
