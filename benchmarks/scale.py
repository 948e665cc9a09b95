"""How costs grow with the size of a store: the table of docs/scale.md, each operation at each size, and its growth exponent.

    python benchmarks/scale.py overview --calls 100000 1000000 [--minutes 20] [--rounds 9] [--viewers 10]
    python benchmarks/scale.py export snapshot erase --calls 30000 100000

Every operation goes through HTTP to a `heedloop serve` of its own on a folder that the engine itself fills: calls spread over the
last minutes (`--minutes`) or 30 days, one in nine rated. Times are medians; the exponent is the slope of log time over log size
between the smallest and the largest (0: the cost does not grow, 1: it grows as the store does). Memory is the server's own.
"""

from __future__ import annotations

import argparse
import math
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import requests

import ingest_load
from dashboard import BATCH, FEEDBACK, SPANS, columns, p50_p95, serve
from heedloop.client import Client
from heedloop.schema import THUMB, Author, Feedback, Target, format_time, utc_now

EVERY = 9
"""One call in so many is rated."""


def fill(folder: Path, calls: int, period_s: float) -> None:
    """Calls of the last `period_s` seconds and their ratings, as merged parts hold them."""
    from heedloop_server.store.open import open_store
    from heedloop_server.store.spans import STORED_COLUMNS

    store = open_store(f"chdb://{(folder / 'clickhouse').absolute()}", num_clients=2, threads=2)
    chosen = columns(calls, period_s)
    for first in range(0, calls, BATCH):
        store.command(SPANS.format(**chosen, first=first, num=min(BATCH, calls - first)))
    rated = calls // EVERY
    for first in range(0, rated, BATCH):
        store.command(FEEDBACK.format(**chosen, every=EVERY, first=first, num=min(BATCH, rated - first)))
    for projection in ("minutes", "by_call"):
        store.command(f"ALTER TABLE feedback MATERIALIZE PROJECTION {projection}", mutations_sync=2)
    for form in ("JSONEachRow", "Parquet"):  # what an export's speed is compared with
        rows = min(calls, 100_000)
        select = f"SELECT {', '.join(STORED_COLUMNS)} FROM spans LIMIT {rows}"
        with store.client("read") as client:
            took = seconds(lambda: client.raw_query(select, fmt=form))  # noqa: B023  # it is called at once
        print(f"  the engine alone, {form}: {rows / took:,.0f} calls/s", flush=True)
    store.close()


class Server:
    """A server on a filled folder, and what is asked of it."""

    def __init__(self, folder: Path, calls: int) -> None:
        self.calls = calls
        self.process, self.url = serve(folder, folder / "key")
        self.key = (folder / "key").read_text(encoding="utf-8").strip()
        self.client = Client(self.url, self.key)

    def memory_mb(self, name: str = "VmRSS") -> float:
        """Memory of the server's process."""
        return memory_mb(self.process.pid, name)

    def get(self, path: str, **parameters: object) -> requests.Response:
        """A GET with the key, its body left to the caller."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return requests.get(self.url + path, params=parameters, headers=headers, stream=True, timeout=900)


def memory_mb(pid: int, name: str) -> float:
    """Memory of a process; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def overview(server: Server, args: argparse.Namespace) -> dict[str, float]:
    """The quality page's question: alone, each time another; by viewers who each ask the same once a second, beside nothing
    and beside 2,000 spans and ten thumbs a second."""
    wait_until_counted(server)
    alone = [
        seconds(lambda: server.client.quality_overview(since=other_period())) for _ in range(args.rounds)
    ]
    result = {"overview p50": statistics.median(alone)}
    result[f"overview p95, {args.viewers} viewers"] = viewers_p95(server, args.viewers, args.rounds)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        sender = server.client.create_key("sender", ["ingest", "feedback"]).key
        for num in (args.viewers, 5 * args.viewers):
            load = pool.submit(send_load, server.url, sender, args.rounds + 2.0)
            result[f"overview p95, {num} viewers beside load"] = viewers_p95(server, num, args.rounds)
            result[f"feedback p99 beside {num} viewers and load"] = load.result()
    return result


def viewers_p95(server: Server, num: int, rounds: int) -> float:
    """The 95th percentile of what `num` viewers wait who ask once a second, for so many seconds."""
    taken: list[float] = []
    stop = time.monotonic() + rounds

    def viewer(number: int) -> None:
        time.sleep(number / num)
        while time.monotonic() < stop:
            taken.append(seconds(lambda: server.get("/v1/quality/overview").content))
            time.sleep(max(0.0, 1 - taken[-1]))

    with ThreadPoolExecutor(num) as pool:
        list(pool.map(viewer, range(num)))
    return p50_p95(taken)[1]


def send_load(url: str, key: str, duration_s: float) -> float:
    """Send 2,000 spans a second of four clients and ten thumbs a second; the 99th percentile of what a thumb takes."""
    target = ingest_load.Target(int(url.rsplit(":", 1)[1]), {"Authorization": f"Bearer {key}"})
    load, thumbs = ingest_load.Load("spans"), ingest_load.Load("thumbs")
    made = [ingest_load.Patched(body) for body in ingest_load.bodies(8, 50)]
    ingest_load.send(target, load, thumbs, made, connections=4, spans=50, seconds=duration_s, rate=2_000)
    print(f"  {load.acknowledged:,} spans acknowledged, {load.refused} requests refused", flush=True)
    return sorted(thumbs.latencies_ms)[math.ceil(0.99 * len(thumbs.latencies_ms)) - 1] / 1000


def wait_until_counted(server: Server) -> None:
    """Ask until two answers in a row take about as long: what was just filled is counted in the background."""
    before, now = math.inf, seconds(lambda: server.client.quality_overview(since=other_period()))
    for _ in range(12):
        time.sleep(6)
        before, now = now, seconds(lambda: server.client.quality_overview(since=other_period()))
        if now > 0.8 * before:
            return


def other_period() -> str:
    """The beginning of a period that nobody asked for before: no response of another question is shown again."""
    return format_time(utc_now() - timedelta(days=30))


def export(server: Server, args: argparse.Namespace) -> dict[str, float]:
    """All calls in two formats, alone and beside thumbs; `fill` says what the engine's own SELECT of the same columns takes."""
    taken = {"feedback p99, quiet": feedback_p99(server, time.monotonic() + 5)}
    for form in ("jsonl", "parquet"):
        before = server.memory_mb()
        taken[f"export of calls, {form}"] = seconds(lambda: read_export(server, form))  # noqa: B023  # called at once
        rate = server.calls / taken[f"export of calls, {form}"]
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(seconds, lambda: [read_export(server, form) for _ in range(args.rounds)])  # noqa: B023
            taken[f"feedback p99, beside exports as {form}"] = feedback_p99(server, math.inf, again)
        growth = server.memory_mb("VmHWM") - before
        print(f"  {form}: {rate:,.0f} calls/s; memory {before:.0f} MB, peak + {growth:.0f} MB", flush=True)
    return taken


def read_export(server: Server, form: str) -> None:
    """Read an export to its end."""
    with server.get("/v1/calls/export", format=form) as response:
        response.raise_for_status()
        for _ in response.iter_content(1 << 20):
            pass


def snapshot(server: Server, _: argparse.Namespace) -> dict[str, float]:
    """A snapshot of everything, the memory that it left the server with, and what a thumb takes before and beside it."""
    quiet = feedback_p99(server, time.monotonic() + 5)
    before = server.memory_mb()
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(seconds, lambda: server.client.create_snapshot("all"))
        watched = pool.submit(peak_of_child_mb, server, made)
        beside = feedback_p99(server, math.inf, made)
    peak = f"its own process {watched.result():.0f} MB"
    print(f"  memory {before:.0f} MB before, peak {server.memory_mb('VmHWM'):.0f} MB, {peak}", flush=True)
    return {
        "snapshot": made.result(),
        "feedback p99, quiet": quiet,
        "feedback p99, beside the snapshot": beside,
    }


def peak_of_child_mb(server: Server, work: Future[float]) -> float:
    """The most that a process below the server's held while the work went on, looked at five times a second."""
    peak = 0.0
    while not wait([work], timeout=0.2).done:
        command = ["pgrep", "-P", str(server.process.pid)]
        children = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
        peak = max([peak, *(memory_mb(int(pid), "VmHWM") for pid in children)])
    return peak


def feedback_p99(server: Server, until: float, work: Future[float] | None = None) -> float:
    """The 99th percentile of ten thumbs a second until a time, or until the work is done."""
    client, taken = Client(server.url, server.key), list[float]()
    while time.monotonic() < until and not (work and work.done()):
        thumb = Feedback(
            "rating",
            Target(trace_id=secrets.token_hex(16)),
            value=1.0,
            scale=THUMB,
            author=Author("end_user", "u"),
        )
        taken.append(seconds(lambda: client.send_feedback([thumb])))  # noqa: B023  # it is called at once
        time.sleep(max(0.0, 0.1 - taken[-1]))
    return sorted(taken)[math.ceil(0.99 * len(taken)) - 1]


def erase(server: Server, _: argparse.Namespace) -> dict[str, float]:
    """One of 20,000 users: until no read finds them, and until the tables do not hold them."""
    begin = time.perf_counter()
    receipt = server.client.erase(user_id="user-17")
    unseen = time.perf_counter() - begin
    while any(server.client.erasure(receipt.erasure_id).left.values()):
        time.sleep(0.2)
    return {"erasure: unseen": unseen, "erasure: removed": time.perf_counter() - begin}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


OPERATIONS = {"overview": overview, "export": export, "snapshot": snapshot, "erase": erase}


def exponent(sizes: list[int], taken: list[float]) -> float:
    """Slope of log time over log size between the smallest and the largest."""
    return math.log(taken[-1] / taken[0]) / math.log(sizes[-1] / sizes[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operations", nargs="*", choices=[*OPERATIONS, []], default=[])
    parser.add_argument("--calls", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(
        "--minutes", type=float, default=30 * 24 * 60, help="the calls are of the last minutes"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fill is not None:
        fill(args.fill, args.calls[0], args.minutes * 60)
        return
    rows: dict[str, list[float]] = {}
    for calls in args.calls:
        with tempfile.TemporaryDirectory(prefix="heedloop-scale-") as scratch:
            command = [sys.executable, __file__, "--fill", scratch, "--calls", str(calls)]
            subprocess.run([*command, "--minutes", str(args.minutes)], check=True)
            server = Server(Path(scratch), calls)
            try:
                for name in args.operations or OPERATIONS:
                    for row, taken in OPERATIONS[name](server, args).items():
                        rows.setdefault(row, []).append(taken)
                        print(f"  {calls:,} calls, {row}: {taken:.2f} s", flush=True)
            finally:
                server.process.terminate()
                server.process.wait(60)
    print(f"| seconds, {args.minutes:g} minutes | {' | '.join(f'{c:,}' for c in args.calls)} | exponent |")
    for row, taken in rows.items():
        grows = f"{exponent(args.calls, taken):.2f}" if len(taken) > 1 else ""
        print(f"| {row} | {' | '.join(f'{t:.3f}' for t in taken)} | {grows} |")


if __name__ == "__main__":
    main()
