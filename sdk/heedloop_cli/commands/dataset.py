"""`heedloop dataset create | list | show | export`: datasets frozen from feedback."""

from __future__ import annotations

import argparse
import json
from typing import Any

from heedloop.schema import format_time, to_json
from heedloop_cli.commands import export
from heedloop_cli.commands.call_filters import add_filters, filters_of
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.dataset_page import page
from heedloop_cli.commands.export import find_id

HELP = "freeze feedback into a dataset, look at it, export it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="create | list | show | export")
    create = commands.add_parser("create", help="freeze what there is now")
    create.add_argument("name", help="what to call it")
    add_filters(create)
    create.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a rule, value in JSON, such as seed=3 or consensus=majority; may be repeated",
    )
    create.add_argument("--as-of", help="as the feedback stood then, such as 2026-03-01T00:00:00Z")
    add_connection(create)
    listed = commands.add_parser("list", help="all snapshots, newest first")
    add_connection(listed)
    show = commands.add_parser("show", help="counts, contributors, baselines, what it supports")
    show.add_argument("snapshot", help="a snapshot's id, the beginning of one, or its name")
    show.add_argument("--json", action="store_true", help="the whole report as JSON")
    add_connection(show)
    export.add_arguments(commands.add_parser("export", help=export.HELP))


def run(args: argparse.Namespace) -> int:
    """0 where it is done."""
    if args.what == "export":
        return export.run(args)
    return with_plain_errors(args, {"create": _create, "list": _list, "show": _show}[args.what])


def _create(args: argparse.Namespace) -> int:
    client = client_of(args)
    rules = dict(_rule(text) for text in args.rule)
    snapshot = client.create_snapshot(args.name, filters=filters_of(args), rules=rules, as_of=args.as_of)
    print("\n".join(page(client.snapshot(snapshot.id))))
    return 0


def _rule(text: str) -> tuple[str, Any]:
    name, sep, value = text.partition("=")
    if not sep or not name:
        raise ValueError(f"--rule {text!r}: write it as NAME=VALUE, such as seed=3")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a plain word needs no quotes


def _list(args: argparse.Namespace) -> int:
    snapshots = client_of(args).snapshots()
    if not snapshots:
        print("no snapshots yet; `heedloop dataset create NAME` makes one")
    for s in snapshots:
        counts = {form: sum(by_split.values()) for form, by_split in s.num_rows.items()}
        held = ", ".join(f"{n:,} {form}" for form, n in counts.items() if n) or "no rows"
        print(f"{s.id[:12]}  {format_time(s.created_at)[:19]}Z  {s.name}: {held}")
    return 0


def _show(args: argparse.Namespace) -> int:
    client = client_of(args)
    snapshot = client.snapshot(find_id(client, args.snapshot))
    print(
        json.dumps(to_json(snapshot), indent=2, ensure_ascii=False)
        if args.json
        else "\n".join(page(snapshot))
    )
    return 0
