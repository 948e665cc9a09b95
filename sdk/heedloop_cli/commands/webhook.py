"""`heedloop webhook [ADDRESS | off]`: where the server tells of every new feedback."""

from __future__ import annotations

import argparse

from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors

HELP = "push every new feedback to an address, signed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "address",
        nargs="?",
        metavar="ADDRESS",
        help="the address, or off; shows what is set where none is given",
    )
    parser.add_argument("--imports", action="store_true", help="push imported feedback too: one request each")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """0 where it is shown or set."""
    return with_plain_errors(args, _webhook)


def _webhook(args: argparse.Namespace) -> int:
    client = client_of(args)
    wanted = None if args.address == "off" else {"url": args.address, "imports": args.imports}
    found = client.update_project(feedback_webhook=wanted) if args.address else client.project()
    hook = found.feedback_webhook
    if hook is None:
        print(f"{found.project}: new feedback is pushed nowhere")
        return 0
    print(f"{found.project}: new feedback is pushed to {hook.url}{', imported too' if hook.imports else ''}")
    print(
        f"  {hook.num_waiting:,} waiting, {hook.num_failed:,} failed{f': {hook.last_error}' if hook.last_error else ''}"
    )
    if found.webhook_secret:
        print(f"  secret {found.webhook_secret} (signs each request; shown this once)")
    return 0
