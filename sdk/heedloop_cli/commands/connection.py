"""What every command that talks to a server needs: its address, its key, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from heedloop.client import ApiError, Client
from heedloop_cli.commands.progress import JobProgress


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add `--url` and `--api-key`."""
    parser.add_argument("--url", help="the server's address; HEEDLOOP_URL, else http://127.0.0.1:8321")
    parser.add_argument(
        "--api-key", help="a key of the project; better in HEEDLOOP_API_KEY, where no process list shows it"
    )


def client_of(args: argparse.Namespace) -> Client:
    """The client that the arguments name."""
    client = Client(args.url, args.api_key, timeout_s=300)
    client.on_job = JobProgress().show
    return client


def with_plain_errors(args: argparse.Namespace, work: Callable[[argparse.Namespace], int]) -> int:
    """Run a command's work; what the server or the disk refuses becomes one sentence and the status 2."""
    try:
        return work(args)
    except ApiError as err:
        hint = ""
        if err.status == 401 and not (args.api_key or os.environ.get("HEEDLOOP_API_KEY")):
            hint = " Set HEEDLOOP_API_KEY to a key of the project (`heedloop serve` prints the first one)."
        print(f"heedloop: {err}{hint}", file=sys.stderr)
    except (OSError, ValueError) as err:
        print(f"heedloop: {err}", file=sys.stderr)
    return 2
