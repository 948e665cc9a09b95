"""The loader with and without the engine's road: the same rows, the same ledger, the same feedback bound, also when a crash repeats it."""

import random
import struct
import zlib
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from test_simple_spans import NOW_US, PLAIN, messages, request_of

from heedloop_server.ingest.loader import SpanLoader
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import LOGS, TRACES, LoggedRequest, pack
from heedloop_server.ingest.segments import Segment
from heedloop_server.store.admin.ledger import Tally, read_tally
from heedloop_server.testing import temporary_store

ERASED = b"e" * 16
NO_ENGINE = 10**9


def requests_of(rng: random.Random) -> list[LoggedRequest]:
    """What comes in an hour: our spans and others', resends, an erased trace, content in logs, relatives, two projects."""
    made: list[LoggedRequest] = []
    sent: list[bytes] = []

    def add(payload: bytes, num: int, signal: int = TRACES) -> None:
        made.append(LoggedRequest(signal, rng.choice("pq"), NOW_US + len(made), num, payload, {}))

    for _ in range(60):
        spans = [_span(rng) for _ in range(rng.randint(1, 4))]
        payload = request_of(*spans, scope=rng.choice(("heedloop", "heedloop", "other"))).SerializeToString()
        sent.append(payload)
        add(payload, len(spans))
        if rng.random() < 0.15:
            add(rng.choice(sent), len(spans))
        if rng.random() < 0.2:
            add(_content(rng, spans[0]["_trace"], spans[0]["_span"]), 0, LOGS)
    rng.shuffle(made)
    return [
        LoggedRequest(r.signal, r.project, NOW_US + i, _num(r), r.payload, {}) for i, r in enumerate(made)
    ]


def _num(request: LoggedRequest) -> int:
    if request.signal == LOGS:
        return 0
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    parsed = ExportTraceServiceRequest.FromString(request.payload)
    return sum(len(s.spans) for r in parsed.resource_spans for s in r.scope_spans)


def _span(rng: random.Random) -> dict:
    one = {**PLAIN, "_trace": ERASED if rng.random() < 0.05 else rng.randbytes(16), "_span": rng.randbytes(8)}
    one["_start"] = NOW_US * 1000 - rng.randint(1, 10**12)
    if rng.random() < 0.2:
        one["gen_ai.response.id"] = f"r{rng.randint(0, 5)}"
    if rng.random() < 0.2:
        del one["gen_ai.output.messages"]
    if rng.random() < 0.1:
        one["app.odd"] = {"a": 1}
    return one


def _content(rng: random.Random, trace: bytes, span: bytes) -> bytes:
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(trace_id=trace, span_id=span, time_unix_nano=NOW_US * 1000)
    )
    record.event_name = "gen_ai.client.inference.operation.details"
    said = messages(("assistant", f"from logs {rng.random()}"))
    record.attributes.add(key="gen_ai.output.messages").value.string_value = said
    return request.SerializeToString()


def write_segments(folder: Path, requests: list[LoggedRequest], size: int) -> list[Segment]:
    segments = []
    for number, first in enumerate(range(0, len(requests), size)):
        path = folder / f"{number:012d}.log"
        bodies = [pack(r) for r in requests[first : first + size]]
        path.write_bytes(b"".join(struct.pack("<II", len(b), zlib.crc32(b)) + b for b in bodies))
        segments.append(Segment(path, number, path.stat().st_size))
    return segments


def load(
    segments: list[Segment], folder: Path, *, engine_from: int, times: int = 1
) -> tuple[list, dict, set]:
    """(rows as they count, ledger by project, names told)."""
    told: set[tuple[str, str]] = set()
    with temporary_store() as store:
        at = {"erasure_id": "x", "at": "2026-01-01 00:00:00"}
        store.command(
            "INSERT INTO erased_traces (project_id, trace_id, erasure_id, at) SELECT arrayJoin(['p', 'q']), {t:FixedString(16)}, {erasure_id:String}, {at:String}",
            {"t": ERASED.decode(), **at},
        )
        loader = SpanLoader(
            store,
            server_id="s",
            quarantine=Quarantine(folder),
            on_feedback=lambda project, given: None,
            on_names=lambda project, names: told.update((project, n) for n in names()),
            engine_from_spans=engine_from,
        )
        for segment in segments:
            for _ in range(times):
                tallies = loader.load(segment)
            loader.enter(segment, tallies)
        rows = store.rows(
            "SELECT * EXCEPT ingested_at, if(attributes['heedloop.from_logs'] = '', ingested_at, toDateTime64(0, 6, 'UTC')) AS arrived "
            "FROM spans FINAL ORDER BY project_id, start_time, trace_id, span_id"
        )
        ledger: dict[str, Tally] = {p: read_tally(store.project(p), "spans") for p in "pq"}
    return rows, ledger, told


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("times", [1, 2])
def test_both_roads_store_count_and_tell_the_same(tmp_path: Path, seed: int, times: int) -> None:
    segments = write_segments(tmp_path, requests_of(random.Random(seed)), 40)
    reference, counted, told = load(segments, tmp_path, engine_from=NO_ENGINE, times=3 - times)
    rows, ledger, names = load(segments, tmp_path, engine_from=1, times=times)
    assert len(rows) > 80
    for ours, theirs in zip(rows, reference, strict=True):
        assert ours == theirs
    assert ledger == counted
    assert all(t.balances for t in ledger.values())
    assert sum(t.rejected for t in ledger.values()) > 0
    assert sum(t.duplicate for t in ledger.values()) > 0
    assert names == told


def test_what_the_engine_cannot_read_python_does(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, requests_of(random.Random(1)), 40)
    reference, counted, _ = load(segments, tmp_path, engine_from=NO_ENGINE)
    # no folder for the file that the engine reads
    rows, ledger, _ = load(segments, tmp_path / "missing" / "too", engine_from=1)
    assert rows == reference
    assert ledger == counted
