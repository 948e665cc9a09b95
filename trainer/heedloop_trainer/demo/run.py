"""The demo in a folder: its server, the loop, the report, and the dashboard over all of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from heedloop.client import Client
from heedloop_cli.processes import start_dashboard, start_server
from heedloop_trainer.demo.loop import Keys, run_loop
from heedloop_trainer.demo.plan import FULL_MINUTES, fast_plan, full_plan
from heedloop_trainer.demo.report import render
from heedloop_trainer.demo.stopwatch import Stopwatch
from heedloop_trainer.demo.world import HABITS, SHARES

INTRO = """\
heedloop demo, seed {seed}

  Real:       the model (made and pre-trained here, now), the SDK, the server, the snapshots, the training, the statistics.
  Simulated:  the users (ids sim-…, environment "demo (simulated)"), their feedback, and the 14 days it is spread over.
              They rate about 40 of 100 answers; in production it is 1 to 3, and this takes weeks instead of minutes.
  The base model reads text with bad habits on purpose. Of 100 answers in it {wrong} state a wrong fact, {promise} make a
              forbidden promise, {rude} are rude and {ramble} ramble. It is small: it knows one invented shop and nothing else.
  The trainer sees only what the server returns.
"""


def run_in(folder: Path, args: argparse.Namespace) -> int:
    """Run the loop and print its report; 0 when it is done."""
    _prepare_torch()
    print(intro(args.seed), flush=True)
    plan = fast_plan(args.seed) if args.fast else full_plan(args.seed, minutes=args.minutes or FULL_MINUTES)
    with start_server(folder / "data", folder / "first-key", HEEDLOOP_ALERT_EVERY_S="1") as server:
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


def intro(seed: int) -> str:
    """What is real and what is simulated; the habits are those of the whole text, whatever prompt stands before an answer."""

    def of_100(name: str) -> int:
        return round(100 * sum(SHARES[v] * getattr(habits, name) for v, habits in HABITS.items()))

    return INTRO.format(
        seed=seed,
        wrong=100 - of_100("right_fact"),
        promise=of_100("promise"),
        rude=of_100("rude"),
        ramble=of_100("ramble"),
    )


def _prepare_torch() -> None:
    """Small models are slower on many threads than on four; and nobody needs a bar for writing a small file."""
    transformers_logging.disable_progress_bar()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(4, os.cpu_count() or 1))


def _show_address(url: str, key: str) -> None:
    print(f"\nThe dashboard with all of this: {url}")
    print(f"Its key, shown this once, in case it asks: {key}")
    print("Ctrl-C ends.", flush=True)
