"""How many spans a second are acknowledged and stored, how long an answer takes, and what it costs.

    python benchmarks/ingest.py [--seconds 5] [--phoenix VENV] [--mlflow VENV] [--minutes MINUTES] [--out FILE]

Starts a real server on a temporary folder and loads it from this process over keep-alive connections, with request bodies made
beforehand, on the same machine. "Stored" counts until the ledger says that every acknowledged span is in the table. In the same
run: (a) the raw Arrow insert of the same rows into the same table, from one thread, (b) the bare protobuf decoding, and (c)
Phoenix and MLflow under the same load, each from its own environment:

    uv venv phoenix && uv pip install --python phoenix/bin/python arize-phoenix

The whole takes about four minutes, with both peers. `--minutes 10` runs nothing but ten minutes at 10,000 spans/s with ten judgements a
second, and samples the server's memory every half minute.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest_load import Load, Patched, ServerProcess, Target, bodies, cpu_s, rss_mb, send
from ingest_peers import PEERS, run_peer

HERE = Path(__file__).parent

ROWS = (
    # name, connections, spans a request, spans a second (0: as fast as answers come), judgements beside it
    ("1 exporter, 50 spans a request", 1, 50, 0, False),
    ("8 exporters, 50 spans a request", 8, 50, 0, False),
    ("64 exporters, 50 spans a request", 64, 50, 0, False),
    ("1 exporter, 1 span a request", 1, 1, 0, False),
    ("8 exporters, 1 span a request", 8, 1, 0, False),
    ("64 exporters, 1 span a request", 64, 1, 0, False),
    ("8 exporters at 2,000 spans/s", 8, 50, 2_000, True),
    ("8 exporters at 10,000 spans/s", 8, 50, 10_000, True),
)
HEAD = (
    "| load | acknowledged/s | stored/s | p50 ms | p99 ms | server CPU µs/span | RSS MB | refused |\n"
    "|---|---|---|---|---|---|---|---|"
)


def run(
    server: ServerProcess,
    name: str,
    *,
    connections: int,
    spans: int,
    seconds: float,
    rate: float = 0.0,
    judged: bool = False,
    scope: str = "heedloop",
) -> list[Load]:
    """One load on a running server, until all of it is stored; a second row for the judgements beside it."""
    made = [Patched(b) for b in bodies(64 if spans > 1 else 512, spans, scope=scope)]
    client, pid = server.client(), server.process.pid
    load, beside = Load(name), Load(name + ", feedback beside it") if judged else None
    before, cpu, began = client.ledger().stored, cpu_s(pid), time.perf_counter()
    target = Target(server.port, server.headers())
    send(target, load, beside, made, connections=connections, spans=spans, seconds=seconds, rate=rate)
    load.rss_mb = rss_mb(pid)
    while _waits(server.folder / "data" / "log") or client.ledger().pending:
        time.sleep(0.1)
    load.stored_s = time.perf_counter() - began
    load.cpu_s = cpu_s(pid) - cpu
    stored = client.ledger().stored - before
    if stored != load.acknowledged:
        raise AssertionError(f"{load.acknowledged} spans were acknowledged and {stored} stored")
    return [load] if beside is None else [load, beside]


def _waits(log: Path) -> bool:
    """True while the log has records; asking the ledger for it takes milliseconds of what is measured."""
    try:
        return any(p.stat().st_size for p in log.glob("*.log"))
    except FileNotFoundError:  # just loaded
        return True


def soak(server: ServerProcess, minutes: float) -> list[str]:
    """One load of 10,000 spans/s with ten judgements a second, and the server's memory every half minute of it."""
    sizes: list[float] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(30):
            sizes.append(rss_mb(server.process.pid))
            print(f"{len(sizes) / 2:g} min: {sizes[-1]:,.0f} MB", file=sys.stderr)

    watch = threading.Thread(target=sample)
    watch.start()
    try:
        shape = {"connections": 8, "spans": 50, "rate": 10_000, "judged": True}
        loads = run(server, f"{minutes:g} min at 10,000 spans/s", seconds=minutes * 60, **shape)
    finally:
        over.set()
        watch.join()
    listed = ", ".join(f"{s:,.0f}" for s in sizes)
    return [HEAD, *(load.row() for load in loads), "", f"Memory of the server every 30 s (MB): {listed}"]


def floor(seconds: float) -> list[str]:
    """(a) the raw Arrow insert of the same rows, (b) the bare decoding, in a process of its own."""
    command = [sys.executable, str(HERE / "ingest.py"), "--floor", str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _floor(seconds: float) -> None:
    from datetime import datetime, timezone

    from heedloop_server.normalise import normalise_request
    from heedloop_server.store.open import open_store
    from heedloop_server.store.span_rows import calls_to_arrow

    parsed = [ExportTraceServiceRequest.FromString(Patched(b).fresh()) for b in bodies(400, 50)]
    sent = [p.SerializeToString() for p in parsed]
    began = time.process_time()
    for body in sent:
        ExportTraceServiceRequest.FromString(body)
    decode = len(sent) * 50 / (time.process_time() - began)
    began = time.process_time()
    calls = [c for p in parsed for c in normalise_request(p)]
    normalise = len(calls) / (time.process_time() - began)
    now = datetime.now(timezone.utc)
    rows = calls_to_arrow(("default", c, now) for c in calls)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"chdb://{folder}", threads=2)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            store.insert_arrow("spans", rows)
            count += len(rows)
        raw = count / (time.perf_counter() - began)
        store.close()
    print(f"(a) raw Arrow insert of the same rows, into the same table: {raw:,.0f} rows/s")
    print(
        f"(b) bare protobuf decoding: {decode:,.0f} spans/s of one core; the normaliser: {normalise:,.0f} spans/s of one core"
    )


def measure(args: argparse.Namespace) -> list[str]:
    """The lines of the report, said on standard error as they come."""
    lines: list[str] = []

    def say(*new: str) -> None:
        lines.extend(new)
        print("\n".join(new), file=sys.stderr)

    size = len(bodies(1, 50)[0]) // 50
    say(f"Spans of {size:,} B, {args.seconds:g} s a row; server and load generator on the same machine.", "")
    say(*(f"- {line}" for line in floor(args.seconds)), "", HEAD)
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder), env={"HEEDLOOP_SEAL_AFTER_S": "0.3"}).start()
        for name, connections, spans, rate, judged in ROWS:
            shape = {"connections": connections, "spans": spans, "rate": rate, "judged": judged}
            say(*(load.row() for load in run(server, name, seconds=args.seconds, **shape)))
        name = "8 exporters, 50 spans a request, of another client"
        say(run(server, name, connections=8, spans=50, seconds=args.seconds, scope="another")[0].row())
        server.stop()
    for name in PEERS:
        if environment := getattr(args, name):
            say(run_peer(name, environment, seconds=args.seconds).row())
    return lines


def measure_soak(minutes: float) -> list[str]:
    """The soak alone, on a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder), env={"HEEDLOOP_SEAL_AFTER_S": "0.3"}).start()
        lines = soak(server, minutes)
        server.stop()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--phoenix", type=Path, metavar="VENV", help="environment with arize-phoenix")
    parser.add_argument("--mlflow", type=Path, metavar="VENV", help="environment with mlflow")
    parser.add_argument("--minutes", type=float, default=0.0, help="only the load of this many minutes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--floor", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.floor:
        _floor(args.floor)
        return
    report = "\n".join(measure_soak(args.minutes) if args.minutes else measure(args)) + "\n"
    print(report)
    if args.out:
        args.out.write_text(report)


if __name__ == "__main__":
    main()
