"""`heedloop review create | change | member | fill | gold | guideline | progress | generate | export | import`: review queues from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedloop._rest import json_entries
from heedloop.responses import Queue
from heedloop_cli.commands import review_exchange, review_generate, review_settings
from heedloop_cli.commands.call_filters import add_filters, filters_of
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.json_text import json_file
from heedloop_cli.commands.names import find_judge, find_queue

HELP = (
    "make, fill and follow review queues; generate answers to compare; exchange judgements with other tools"
)

SOURCES = (
    "filter",
    "sample",
    "audit",
    "disagreement",
    "low_confidence",
    "same_prompt",
    "sessions",
    "targets",
)
_PLACING = ("limit", "size", "seed", "kind", "judge", "answers_per_item", "priority", "assign", "calibration")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(
        dest="what",
        required=True,
        metavar="create | change | member | fill | gold | guideline | progress | generate | export | import",
    )
    _add_create(commands.add_parser("create", help="make a queue from a file of questions"))
    _add_fill(commands.add_parser("fill", help="add items to a queue"))
    change = commands.add_parser("change", help="change a queue's settings")
    change.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    review_settings.add_settings(change)
    add_connection(change)
    member = commands.add_parser("member", help="an annotator's groups and languages, replaced whole")
    member.add_argument("author", help="the annotator's author id")
    member.add_argument("--group", action="append", default=[], help="may be repeated")
    member.add_argument(
        "--language", action="append", default=[], help="one that they read; none: all of them"
    )
    add_connection(member)
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
    parser.add_argument("--guideline", type=Path, help="a file with the guideline's text")
    review_settings.add_settings(parser)
    add_connection(parser)


def _add_fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    parser.add_argument("--source", choices=SOURCES, default="filter")
    parser.add_argument("--limit", type=int, help="most items (1,000)")
    parser.add_argument("--size", type=int, help="sample: how many to draw")
    parser.add_argument("--seed", help="sample: draws the same ones again")
    parser.add_argument("--kind", help="disagreement: user_annotator, model_human, judge_human or annotators")
    parser.add_argument(
        "--judge", help="audit: a judge, by id or name; disagreement, low_confidence: the model's author id"
    )
    parser.add_argument("--answers-per-item", type=int, help="same_prompt: 2 to 8")
    parser.add_argument("--targets", type=Path, help="targets: JSON, a list of items, each a list of answers")
    parser.add_argument("--priority", type=int, help="-100 to 100; a greater one comes first")
    parser.add_argument(
        "--assign", action="append", metavar="WHO", help="offer them to this annotator, or group:NAME, alone"
    )
    parser.add_argument("--calibration", metavar="ROUND", help="every annotator judges them, in this round")
    add_filters(parser)
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """0 where it is done."""
    work = {
        "create": _create,
        "change": _change,
        "member": _member,
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
    settings = review_settings.settings_of(args)
    if args.guideline:
        settings["guideline"] = {"text": args.guideline.read_text(encoding="utf-8")}
    queue = client_of(args).create_review_queue(args.name, json_file(args.questions), **settings)
    print(f"{queue.queue_id}  {queue.name}: {len(queue.questions)} questions. Fill it: heedloop review fill")
    return 0


def _change(args: argparse.Namespace) -> int:
    client = client_of(args)
    settings = review_settings.settings_of(args)
    if not settings:
        raise ValueError("nothing to change: name a setting, see heedloop review change --help")
    queue = client.change_review_queue(find_queue(client, args.queue), **settings)
    print(f"{queue.queue_id}  {queue.name}: changed {', '.join(sorted(settings))}")
    return 0


def _member(args: argparse.Namespace) -> int:
    member = client_of(args).set_team_member(args.author, groups=args.group, languages=args.language)
    print(f"{member.author_id}: groups {_listed(member.groups)}, languages {_listed(member.languages)}")
    return 0


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _fill(args: argparse.Namespace) -> int:
    client = client_of(args)
    how: dict[str, Any] = {n: v for n in _PLACING if (v := getattr(args, n)) is not None}
    if args.source == "targets":
        if args.targets is None:
            raise ValueError("--source targets needs --targets FILE")
        how["items"] = json_file(args.targets)
    else:
        how["filters"] = filters_of(args)
    if args.source == "audit" and args.judge:
        how["judge"] = find_judge(client, args.judge).id
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
