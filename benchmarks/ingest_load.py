"""The load of benchmarks/ingest.py: request bodies made beforehand, sent over keep-alive connections from one process."""

import asyncio
import json
import random
import statistics
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integration"))

from server_process import ServerProcess
from server_requests import span, traces_request

__all__ = ["Load", "Patched", "ServerProcess", "Target", "bodies", "cpu_s", "rss_mb", "send"]

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
    """What one load gave.

    Attributes:
        acknowledged: spans (or feedbacks) that were answered with 200.
        stored_s: seconds from the first request until the server itself says that all of them are stored.
        cpu_s: processor time of the server and its children over that time.
    """

    name: str
    acknowledged: int = 0
    wall_s: float = 0.0
    stored_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    rss_mb: float = 0.0
    refused: int = 0

    def row(self) -> str:
        ordered = sorted(self.latencies_ms) or [0.0]
        p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        num = max(1, self.acknowledged)
        stored = f"{num / self.stored_s:,.0f}" if self.stored_s else ""
        cost = f"{self.cpu_s / num * 1e6:,.0f}" if self.cpu_s else ""
        memory = f"{self.rss_mb:,.0f}" if self.rss_mb else ""
        return f"| {self.name} | {num / self.wall_s:,.0f} | {stored} | {p50:.1f} | {p99:.1f} | {cost} | {memory} | {self.refused} |"


def text(count: int) -> str:
    return " ".join(random.choices(WORDS, k=count))


def bodies(num: int, spans: int, *, scope: str = "heedloop") -> list[bytes]:
    """Requests of about 1.2 KB a span in the form of our SDK, or with another scope of another client."""
    return [
        traces_request(
            [
                span(
                    question=text(50),
                    answer=text(80),
                    user__id=f"user-{random.randrange(2000)}",
                    gen_ai__prompt__name="support",
                    gen_ai__prompt__version="7",
                    gen_ai__usage__input_tokens=180,
                    gen_ai__usage__output_tokens=90,
                    gen_ai__conversation__id=uuid.uuid4().hex,
                )
                for _ in range(spans)
            ],
            scope=scope,
        ).SerializeToString()
        for _ in range(num)
    ]


class Patched:
    """A body whose ids are replaced and whose times are set to now for every sending, so that no span comes twice."""

    def __init__(self, body: bytes) -> None:
        self.body = bytearray(body)
        parsed = ExportTraceServiceRequest.FromString(body)
        spans = [s for r in parsed.resource_spans for sc in r.scope_spans for s in sc.spans]
        self.ids = [(body.index(s.trace_id), body.index(s.span_id)) for s in spans]
        self.times = [
            (_places(body, s.start_time_unix_nano), _places(body, s.end_time_unix_nano)) for s in spans
        ]

    def fresh(self) -> bytes:
        now = time.time_ns()
        start, end = (now - 5_000_000).to_bytes(8, "little"), now.to_bytes(8, "little")
        for (trace, one), (first, last) in zip(self.ids, self.times, strict=True):
            self.body[trace : trace + 16] = random.randbytes(16)
            self.body[one : one + 8] = random.randbytes(8)
            self.body[first : first + 8] = start
            self.body[last : last + 8] = end
        return bytes(self.body)


def _places(body: bytes, nanoseconds: int) -> int:
    return body.index(nanoseconds.to_bytes(8, "little"))


def feedback() -> bytes:
    """A thumb on a call that is not there (yet), which is the dearest kind."""
    target = {"trace_id": random.randbytes(16).hex(), "span_id": random.randbytes(8).hex()}
    author = {"kind": "end_user", "id": uuid.uuid4().hex}
    return json.dumps({"kind": "rating", "value": 1, "target": target, "author": author}).encode()


@dataclass
class Target:
    """Where requests go: a port on this machine, and the headers of every request."""

    port: int
    headers: dict[str, str]

    def head(self, path: str, kind: str) -> str:
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}"]
        return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in self.headers.items()), "Content-Length: "])


async def exporter(
    target: Target, made: list[Patched], end: float, pause_s: float, result: Load, per: int
) -> None:
    """Send a body, wait for its answer, and again; every `pause_s`, or at once."""
    head = target.head("/v1/traces", "application/x-protobuf")
    await _send(target, head, lambda: random.choice(made).fresh(), end, pause_s, result, per)


async def judge(target: Target, end: float, result: Load) -> None:
    """Ten judgements a second."""
    await _send(target, target.head("/v1/feedback", "application/json"), feedback, end, 0.1, result, 1)


async def _send(target, head, make, end, pause_s, result, per) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    due = time.perf_counter() + random.random() * pause_s
    while time.perf_counter() < end:
        if pause_s:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due += pause_s
        body = make()
        began = time.perf_counter()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in answer:
            await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
        if answer.startswith(b"http/1.1 200"):
            result.latencies_ms.append((time.perf_counter() - began) * 1e3)
            result.acknowledged += per
        else:
            result.refused += 1
            await asyncio.sleep(0.05)
    writer.close()


def send(
    target: Target,
    load: Load,
    beside: Load | None,
    made: list[Patched],
    *,
    connections: int,
    spans: int,
    seconds: float,
    rate: float,
) -> None:
    """Run a load; `rate` in spans a second, 0 for as fast as answers come; judgements beside it where `beside` counts them."""

    async def go() -> None:
        end = time.perf_counter() + seconds
        pause = connections * spans / rate if rate else 0.0
        tasks = [exporter(target, made, end, pause, load, spans) for _ in range(connections)]
        if beside is not None:
            tasks.append(judge(target, end, beside))
        await asyncio.gather(*tasks)

    began = time.perf_counter()
    asyncio.run(go())
    load.wall_s = time.perf_counter() - began
    if beside is not None:
        beside.wall_s = load.wall_s


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100 + sum(cpu_s(c) for c in _children(pid))


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024 + sum(rss_mb(c) for c in _children(pid))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(c) for c in (task / "children").read_text().split()]
        except FileNotFoundError:  # the thread ended
            continue
    return found
