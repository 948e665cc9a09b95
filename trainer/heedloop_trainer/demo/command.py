"""`heedloop demo`: the whole loop on this machine, in minutes, without network or keys."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

HELP = "the whole loop on this machine: serve, judge, train, serve better (simulated users, a small model)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--no-serve", action="store_true", help="end after the report instead of serving the dashboard"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides models, questions and users (1)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=None,
        help="about how long to take on two quiet cores, 1.5 to 30 (4)",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="two layers, a few steps: shows that every part works, not that a model learns",
    )
    parser.add_argument(
        "--data", type=Path, help="folder to keep everything in; a temporary one where not given"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the loop, print the report, and serve the dashboard unless `--no-serve` is given."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Threads that spin while they wait make training ten times slower on a machine that has other things to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if args.minutes is not None and not 1.5 <= args.minutes <= 30:
        print(f"heedloop demo: --minutes {args.minutes:g} is not between 1.5 and 30")
        return 2
    if args.data is not None and args.data.exists() and any(args.data.iterdir()):
        print(f"heedloop demo: {args.data} is not empty; give another folder, or remove it")
        return 2
    from heedloop_trainer.demo.run import run_in

    with _folder(args.data) as folder:
        try:
            return run_in(folder, args)
        except (RuntimeError, TimeoutError) as err:
            print(f"\nheedloop demo: {err}", file=sys.stderr)
            return 1


@contextlib.contextmanager
def _folder(named: Path | None) -> Generator[Path]:
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="heedloop-demo-") as folder:
        yield Path(folder)
