"""`heedloop demo`: the whole loop on this machine, in minutes, without network or keys."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

HELP = "the whole loop on this machine: serve, judge, train, serve better (simulated users, a small model)"

INTRO = """\
heedloop demo, seed {seed}

  Real:       the model (made and pre-trained here, now), the SDK, the server, the snapshots, the training, the statistics.
  Simulated:  the users (ids sim-…, environment "demo (simulated)"), their feedback, and the 14 days it is spread over.
              They rate about 40 of 100 answers; in production it is 1 to 3, and this takes weeks instead of minutes.
  The base model reads text with bad habits on purpose. Of 100 answers in it {wrong} state a wrong fact, {promise} make a
              forbidden promise, {rude} are rude and {ramble} ramble. It is small: it knows one invented shop and nothing else.
  The trainer sees only what the server returns.
"""


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
        help="about how long to take on two quiet cores, 1.5 to 30 (3.5)",
    )
    parser.add_argument(
        "--fast", action="store_true", help="two layers, a few steps: proves the road, not the learning"
    )
    parser.add_argument(
        "--data", type=Path, help="folder to keep everything in; a temporary one where not given"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the loop, print the report, and keep the dashboard up unless told not to."""
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
    with _folder(args.data) as folder:
        try:
            return _run_in(folder, args)
        except RuntimeError as err:
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


def _run_in(folder: Path, args: argparse.Namespace) -> int:
    from heedloop.client import Client
    from heedloop_trainer.demo.loop import Keys, run_loop
    from heedloop_trainer.demo.plan import FULL_MINUTES, fast_plan, full_plan
    from heedloop_trainer.demo.processes import start_dashboard, start_server
    from heedloop_trainer.demo.report import render
    from heedloop_trainer.demo.stopwatch import Stopwatch

    _prepare_torch()
    print(_intro(args.seed), flush=True)
    plan = fast_plan(args.seed) if args.fast else full_plan(args.seed, minutes=args.minutes or FULL_MINUTES)
    with start_server(folder / "data", folder / "first-key") as server:
        stopwatch = Stopwatch(server.cpu_seconds)
        with stopwatch.lap("starting the server"):
            server.wait_until_ready("/readyz")
            keys = Keys.make(Client(server.url, (folder / "first-key").read_text().strip()))
        report = run_loop(plan, seed=args.seed, url=server.url, keys=keys, folder=folder, stopwatch=stopwatch)
        print(render(report), flush=True)
        if args.report is not None:
            args.report.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
        if args.no_serve:
            return 0
        with start_dashboard(server.url, keys.dashboard, folder=folder) as dashboard:
            dashboard.wait_until_ready("/")
            _show_address(dashboard.url, keys.dashboard)
            with contextlib.suppress(KeyboardInterrupt):
                dashboard.wait()
    return 0


def _intro(seed: int) -> str:
    from heedloop_trainer.demo.world import HABITS

    def share(name: str) -> str:
        found = sorted({round(100 * getattr(habits, name)) for habits in HABITS.values()})
        return " to ".join(map(str, found))

    wrong = round(100 * (1 - HABITS["v2"].right_fact))
    return INTRO.format(
        seed=seed, wrong=wrong, promise=share("promise"), rude=share("rude"), ramble=share("ramble")
    )


def _prepare_torch() -> None:
    """Small models are slower on many threads than on four; and nobody needs a bar for writing a small file."""
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(4, os.cpu_count() or 1))


def _show_address(url: str, key: str) -> None:
    print(f"\nThe dashboard with all of this: {url}")
    print(f"Its key, shown this once, in case it asks: {key}")
    print("Ctrl-C ends.", flush=True)
