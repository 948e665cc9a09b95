"""`heedloop review export | import`: a queue's judgements out to another tool's file, and back in under their own annotators."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from heedloop.client import Client
from heedloop.responses import ImportResult
from heedloop_cli.commands.connection import add_connection

EXPORT_HELP = "write items with their judgements for another tool"
IMPORT_HELP = "store judgements that were made in another tool"
FORMATS = ("jsonl", "label_studio", "argilla")
_SHOWN = 20
"""Refused judgements that are printed; the rest is counted."""


def add_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    _add_queue_arguments(parser)
    parser.add_argument("--out", type=Path, help="the file (default: standard output)")
    parser.add_argument(
        "--settings",
        type=Path,
        help="write what the tool's project needs (labelling config, settings.json) to this file",
    )
    parser.add_argument(
        "--as-predictions",
        action="store_true",
        help="judgements as predictions, where annotators are no users of the tool",
    )
    parser.add_argument(
        "--pseudonyms", action="store_true", help="name annotators by what tells nobody who they are"
    )
    add_connection(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """The arguments of `import`."""
    _add_queue_arguments(parser)
    parser.add_argument("file", type=Path, help="a JSON array, or an object a line")
    add_connection(parser)


def _add_queue_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", help="a queue's id, the beginning of one, or its name")
    parser.add_argument("--format", choices=FORMATS, default="jsonl")
    parser.add_argument(
        "--user", action="append", default=[], metavar="ANNOTATOR=USER", type=_user,
        help="an annotator's user in the tool: an e-mail in Label Studio, a UUID in Argilla; may be repeated",
    )  # fmt: skip


def _user(text: str) -> tuple[str, str]:
    annotator, match, user = text.partition("=")
    if not match or not annotator or not user:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ANNOTATOR=USER")
    return annotator, user


def export(args: argparse.Namespace, client: Client, queue_id: str) -> int:
    """0 where the whole file is written; what breaks off leaves no file."""
    if args.settings is not None:
        if args.format == "jsonl":
            print("--settings is for --format label_studio or argilla: JSON Lines need none", file=sys.stderr)
            return 2
        args.settings.write_bytes(client.review_settings(queue_id, fmt=args.format))
    pieces = client.export_review(
        queue_id,
        fmt=args.format,
        pseudonyms=args.pseudonyms,
        users=dict(args.user),
        as_predictions=args.as_predictions,
    )
    if args.out is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return 0
    part = args.out.with_name(args.out.name + ".part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(args.out)
    finally:
        part.unlink(missing_ok=True)
    print(args.out)
    return 0


def import_file(args: argparse.Namespace, client: Client, queue_id: str) -> int:
    """0 where every judgement was taken, 1 where one was refused; each refused one is named."""
    done = client.import_review(queue_id, args.file.read_bytes(), fmt=args.format, users=dict(args.user))
    refused = [r for r in done.results if r.error is not None]
    for result in refused[:_SHOWN]:
        print(_refused(result), file=sys.stderr)
    if len(refused) > _SHOWN:
        print(f"and {len(refused) - _SHOWN:,} more", file=sys.stderr)
    print(
        f"{done.stored:,} stored, {done.duplicate:,} there already, {done.rejected:,} refused, "
        f"of {len(done.results):,} judgements"
    )
    return 1 if refused else 0


def _refused(result: ImportResult) -> str:
    who = f" by {result.annotator}" if result.annotator else ""
    return "" if result.error is None else f"{result.error.field}{who}: {result.error.message}"
