"""`heedloop cases make | list | download`: what users and reviewers said, as tests for the next release."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from heedloop.schema import to_json
from heedloop_cli.commands.call_filters import add_filters, filters_of
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors

HELP = "make corrections, flags and adjudicated judgements into cases that an app's tests and evaluations run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="make | list | download")
    make = commands.add_parser("make", help="a new version of a set, where something has changed")
    make.add_argument("name", help="of the set: a to z, 0 to 9, _ and -")
    make.add_argument(
        "--least-f1",
        type=float,
        default=0.5,
        help="token F1 with a correction that an answer must reach (0.5)",
    )
    make.add_argument("--ask-judge", default="", metavar="QUESTION", help="a judge's question for every case")
    add_filters(make)
    add_connection(make)
    add_connection(commands.add_parser("list", help="all versions of all sets"))
    download = commands.add_parser("download", help="the file that the app's tests read")
    download.add_argument("name")
    download.add_argument("--version", type=int, help="the newest where not given")
    download.add_argument("--to", type=Path, help="file to write (cases/NAME.jsonl)")
    add_connection(download)


def run(args: argparse.Namespace) -> int:
    """Run one of the sub-commands."""
    return with_plain_errors(args, {"make": _make, "list": _list, "download": _download}[args.what])


def _make(args: argparse.Namespace) -> int:
    made = client_of(args).make_cases(
        args.name, filters=filters_of(args), least_f1=args.least_f1, judge=args.ask_judge
    )
    print(f"{made.name}@{made.version}: {made.num_cases:,} cases; heedloop cases download {made.name}")
    return 0


def _list(args: argparse.Namespace) -> int:
    found = client_of(args).case_sets()
    if not found:
        print("no case set yet; `heedloop cases make NAME` makes one")
    for one in found:
        print(f"{one.name}@{one.version}  {one.num_cases:,} cases of {one.created_at:%Y-%m-%d %H:%M}")
    return 0


def _download(args: argparse.Namespace) -> int:
    path: Path = args.to or Path("cases") / f"{args.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    cases = list(client_of(args).iter_cases(args.name, version=args.version))
    lines = [json.dumps(to_json(c), ensure_ascii=False, sort_keys=True) for c in cases]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(cases):,} cases in {path}")
    return 0
