"""Processor time of the loader per span, from the log to the table: what can be compared on a machine that others use too.

    python benchmarks/ingest_cpu.py [--segments 5] [--requests 400] [--decoders 1]

Loads segments of requests with 50 spans into an embedded store on a temporary folder, merges included. The best segment counts: the
first also starts the processes, and others' load only adds.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from heedloop_server.ingest.decoders import Decoders
from heedloop_server.ingest.loader import SpanLoader
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import TRACES, LoggedRequest, pack
from heedloop_server.ingest.segments import Segment, framed, new_segment_path
from heedloop_server.store.open import open_store
from ingest_load import Patched, bodies, cpu_s

SPANS = 50


def segment(folder: Path, number: int, patched: list[Patched], requests: int) -> Segment:
    """A sealed segment of requests, none of whose spans came before."""
    path, marker = new_segment_path(folder, number)
    now_us = time.time_ns() // 1000
    with path.open("wb") as file:
        for i in range(requests):
            payload = random.choice(patched).fresh()
            record = LoggedRequest(TRACES, "default", now_us + i, SPANS, payload)
            file.writelines(framed(marker, pack(record)))
    return Segment(path, number, path.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400, help="requests a segment")
    parser.add_argument("--decoders", type=int, default=1)
    args = parser.parse_args()
    patched = [Patched(b) for b in bodies(64, SPANS, scope="another")]
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, decoders = open_store(f"chdb://{folder}/store", threads=2), Decoders(args.decoders)
        loader = SpanLoader(
            store,
            server_id="benchmark",
            quarantine=Quarantine(folder),
            on_feedback=lambda project, feedback: None,
            on_names=lambda project, names: None,
            decoders=decoders,
        )
        for number in range(1, args.segments + 1):
            sealed = segment(folder, number, patched, args.requests)
            before = cpu_s(os.getpid())
            loader.enter(sealed, loader.load(sealed))
            costs.append((cpu_s(os.getpid()) - before) / args.requests / SPANS * 1e6)
        decoders.close()
        store.close()
    listed = " ".join(f"{c:.0f}" for c in costs)
    print(f"{min(costs):.0f} µs of processor time a span (segments: {listed})")


if __name__ == "__main__":
    main()
