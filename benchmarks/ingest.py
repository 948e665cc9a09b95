"""How many spans a second are acknowledged and stored, how long an answer takes, and what it costs.

    python benchmarks/ingest.py [--seconds 5] [--out FILE]

Starts a real server on a temporary folder and loads it from this process over keep-alive connections, with request bodies made
beforehand, on the same machine. A span counts as stored when the ledger and the table both say so. In the same run: (a) the raw Arrow
insert of the same rows into the same table, one thread, and (b) the bare protobuf decoding.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop.client import Client

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "integration"))

from server_process import ServerProcess, wait_for  # noqa: E402
from server_requests import span, traces_request  # noqa: E402

WORDS = [
    "the",
    "order",
    "you",
    "asked",
    "about",
    "left",
    "our",
    "house",
    "on",
    "Monday",
    "and",
    "should",
    "be",
    "with",
    "you",
    "within",
    "four",
    "days",
    "if",
    "it",
    "is",
    "late",
    "please",
    "write",
    "again",
    "we",
    "will",
    "send",
    "another",
    "at",
    "no",
    "cost",
    "or",
    "give",
    "your",
    "money",
    "back",
    "whichever",
    "you",
    "like",
    "better",
    "thank",
    "you",
    "for",
    "waiting",
]


@dataclass
class Load:
    """What one load run gave."""

    name: str
    acknowledged: int
    wall_s: float
    stored_s: float
    latencies_ms: list[float]
    cpu_s: float
    rss_mb: float
    refused: int

    def row(self) -> str:
        ordered = sorted(self.latencies_ms) or [0.0]
        p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        spans = max(1, self.acknowledged)
        return (
            f"| {self.name} | {self.acknowledged / self.wall_s:,.0f} | {self.acknowledged / self.stored_s:,.0f} | {p50:.1f} | {p99:.1f} "
            f"| {self.cpu_s / spans * 1e6:,.0f} | {self.rss_mb:,.0f} | {self.refused} |"
        )


def text(count: int) -> str:
    return " ".join(random.choices(WORDS, k=count))


def bodies(num: int, spans: int) -> list[bytes]:
    """Requests of about 1.1 KB a span; ids are patched in before each sending, so that no span comes twice."""
    return [
        traces_request(
            (span(
                question=text(50), answer=text(80), user__id=f"user-{random.randrange(2000)}", gen_ai__prompt__name="support",
                gen_ai__prompt__version="7", gen_ai__usage__input_tokens=180, gen_ai__usage__output_tokens=90,
                gen_ai__conversation__id=uuid.uuid4().hex,
            )
            for _ in range(spans)
            ),
            scope="heedloop",
        ).SerializeToString()
        for _ in range(num)
    ]  # fmt: skip


class Patched:
    """A body whose span and trace ids are replaced for every sending: the bytes before an id are known."""

    def __init__(self, body: bytes) -> None:
        self.body = bytearray(body)
        parsed = ExportTraceServiceRequest.FromString(body)
        ids = [
            (s.trace_id, s.span_id) for r in parsed.resource_spans for sc in r.scope_spans for s in sc.spans
        ]
        self.places = [(body.index(t), body.index(s)) for t, s in ids]

    def fresh(self) -> bytes:
        for trace, one in self.places:
            self.body[trace : trace + 16] = random.randbytes(16)
            self.body[one : one + 8] = random.randbytes(8)
        return bytes(self.body)


async def exporter(
    port: int,
    key: str,
    made: list[Patched],
    end: float,
    pause_s: float,
    result: Load,
    per: int,
    path: str = "/v1/traces",
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    kind = "application/x-protobuf" if path == "/v1/traces" else "application/json"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\nContent-Length: "
    due = time.perf_counter() + random.random() * pause_s
    while time.perf_counter() < end:
        if pause_s:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due += pause_s
        body = random.choice(made).fresh() if isinstance(made[0], Patched) else _feedback()
        began = time.perf_counter()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if answer.startswith(b"HTTP/1.1 200"):
            result.latencies_ms.append((time.perf_counter() - began) * 1e3)
            result.acknowledged += per
        else:
            result.refused += 1
            await asyncio.sleep(0.05)
    writer.close()


def _feedback() -> bytes:
    target = {"trace_id": random.randbytes(16).hex(), "span_id": random.randbytes(8).hex()}
    return json.dumps(
        {
            "kind": "rating",
            "value": 1,
            "target": target,
            "author": {"kind": "end_user", "id": uuid.uuid4().hex},
        }
    ).encode()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / 100
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_cpu_s(int(c)) for c in children)


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(status.split("VmRSS:")[1].split()[0]) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_rss_mb(int(c)) for c in children)


def run(
    server: ServerProcess,
    name: str,
    *,
    connections: int,
    spans: int,
    seconds: float,
    rate: float = 0.0,
    feedback: bool = False,
) -> tuple[Load, Load]:
    """One load; `rate` in spans a second, 0 for as fast as answers come. `feedback` posts ten judgements a second beside it."""
    made = [Patched(b) for b in bodies(64 if spans > 1 else 512, spans)]
    client: Client = server.client()
    pid = server.process.pid
    load = Load(name, 0, 0, 0, [], 0, 0, 0)
    beside = Load(name + ", feedback beside it", 0, 0, 0, [], 0, 0, 0)
    before, cpu = client.ledger()["stored"], _cpu_s(pid)

    async def go() -> None:
        end = time.perf_counter() + seconds
        pause = connections * spans / rate if rate else 0.0
        tasks = [exporter(server.port, server.key, made, end, pause, load, spans) for _ in range(connections)]
        if feedback:
            tasks.append(exporter(server.port, server.key, [None], end, 0.1, beside, 1, "/v1/feedback"))  # type: ignore[list-item]
        await asyncio.gather(*tasks)

    began = time.perf_counter()
    asyncio.run(go())
    load.wall_s = time.perf_counter() - began
    load.rss_mb = _rss_mb(pid)
    wait_for(lambda: client.ledger()["pending"] == 0, what="the log to be empty", timeout_s=300)
    load.stored_s = time.perf_counter() - began
    load.cpu_s = _cpu_s(pid) - cpu
    stored = client.ledger()["stored"] - before
    assert stored == load.acknowledged, (stored, load.acknowledged)
    beside.wall_s = beside.stored_s = load.wall_s
    return load, beside


def floor(seconds: float) -> list[str]:
    """(a) the raw Arrow insert of the same rows, (b) the bare decoding, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "ingest.py"), "--floor", str(seconds)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def _floor(seconds: float) -> None:
    from datetime import datetime, timezone

    from heedloop_server.normalise import normalise_request
    from heedloop_server.store.connection import open_store
    from heedloop_server.store.spans import calls_to_arrow

    requests = [Patched(b) for b in bodies(400, 50)]
    parsed = [ExportTraceServiceRequest.FromString(p.fresh()) for p in requests]
    began = time.process_time()
    for p in requests:
        ExportTraceServiceRequest.FromString(bytes(p.body))
    decode = len(requests) * 50 / (time.process_time() - began)
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
        f"(b) bare protobuf decoding: {decode:,.0f} spans/s of one core; the Python normaliser: {normalise:,.0f} spans/s of one core"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--floor", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.floor:
        return _floor(args.floor)
    size = len(bodies(1, 50)[0]) // 50
    lines = [
        f"Spans of {size:,} B, {args.seconds:g} s a row; server and load generator on the same machine.",
        "",
    ]
    lines += [f"- {line}" for line in floor(args.seconds)]
    lines += [
        "",
        "| load | acknowledged/s | stored/s | p50 ms | p99 ms | server CPU µs/span | RSS MB | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder), env={"HEEDLOOP_SEAL_AFTER_S": "0.3"}).start()
        for name, connections, spans, rate, beside in (
            ("1 exporter, 50 spans a request", 1, 50, 0, False),
            ("8 exporters, 50 spans a request", 8, 50, 0, False),
            ("64 exporters, 50 spans a request", 64, 50, 0, False),
            ("8 exporters, 1 span a request", 8, 1, 0, False),
            ("8 exporters at 2,000 spans/s", 8, 50, 2_000, True),
            ("8 exporters at 10,000 spans/s", 8, 50, 10_000, True),
        ):
            load, feedback = run(
                server,
                name,
                connections=connections,
                spans=spans,
                seconds=args.seconds,
                rate=rate,
                feedback=beside,
            )
            lines.append(load.row())
            if beside:
                lines.append(feedback.row())
            print(lines[-1], file=sys.stderr)
        server.stop()
    report = "\n".join(lines) + "\n"
    print(report)
    if args.out:
        args.out.write_text(report)
    return None


if __name__ == "__main__":
    main()
