"""The loader's rows, ledger and names are the same whichever process decodes, whatever is joined at once, and when a crash repeats it."""

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from temporary_stores import temporary_store

from heedloop_server.ingest import decoders as decoders_module
from heedloop_server.ingest.decoders import Decoders
from heedloop_server.ingest.loader import SpanLoader
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import LOGS, TRACES, LoggedRequest, pack
from heedloop_server.ingest.segments import Segment
from heedloop_server.store import joins as joins_module
from heedloop_server.store.admin.ledger import Tally, read_tally

ERASED = b"e" * 16
NOW_US = 1_800_000_000_000_000


def messages(role: str, text: str) -> str:
    """A conversation of one message, as the standard has it."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


PLAIN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.input.messages": messages("user", 'Wo ist "es"?\n/tmp é 👍'),
    "gen_ai.output.messages": messages("assistant", "Hier.\tSo."),
    "gen_ai.usage.input_tokens": 12,
    "user.id": "u 1",
}


def request_of(*spans: dict[str, Any], scope: str) -> ExportTraceServiceRequest:
    """Spans (their attributes, with fields of the span under names that start with `_`) as one export."""
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    scope_spans.scope.name = scope
    for fields in spans:
        one = scope_spans.spans.add(
            trace_id=fields["_trace"],
            span_id=fields["_span"],
            parent_span_id=fields.get("_parent", b""),
            start_time_unix_nano=fields["_start"],
            end_time_unix_nano=fields["_start"] + 4_000_000,
        )
        for name, value in fields.items():
            if not name.startswith("_"):
                kind = {str: "string_value", bool: "bool_value", int: "int_value"}[type(value)]
                setattr(one.attributes.add(key=name).value, kind, value)
    return request


def requests_of(rng: random.Random) -> list[LoggedRequest]:
    """What comes in an hour: our spans and others', resends, an erased trace, content in logs, relatives, two projects."""
    made: list[LoggedRequest] = []
    known: list[dict[str, Any]] = []

    def add(payload: bytes, signal: int = TRACES) -> None:
        made.append(LoggedRequest(signal, rng.choice("pq"), 0, 0, payload, {}))

    for _ in range(60):
        spans = [_span(rng, known) for _ in range(rng.randint(1, 4))]
        known += spans
        payload = request_of(*spans, scope=rng.choice(("heedloop", "other"))).SerializeToString()
        add(payload)
        if rng.random() < 0.15:
            add(rng.choice([m.payload for m in made if m.signal == TRACES]))
        if rng.random() < 0.2:
            add(_content(rng, spans[0]["_trace"], spans[0]["_span"]), LOGS)
    rng.shuffle(made)
    return [
        LoggedRequest(r.signal, r.project, NOW_US + i, _num(r), r.payload, {}) for i, r in enumerate(made)
    ]


def _num(request: LoggedRequest) -> int:
    if request.signal == LOGS:
        return 0
    parsed = ExportTraceServiceRequest.FromString(request.payload)
    return sum(len(s.spans) for r in parsed.resource_spans for s in r.scope_spans)


def _span(rng: random.Random, known: list[dict[str, Any]]) -> dict[str, Any]:
    """A call or a span around calls, now and then inside one of the known spans."""
    one: dict[str, Any] = {**PLAIN} if rng.random() < 0.7 else {"session.id": "s 1", "http.method": "GET"}
    one |= {"_trace": ERASED if rng.random() < 0.05 else rng.randbytes(16), "_span": rng.randbytes(8)}
    one["_start"] = NOW_US * 1000 - rng.randint(1, 10**10)
    if known and rng.random() < 0.5:
        outer = rng.choice(known)
        one |= {"_trace": outer["_trace"], "_parent": outer["_span"], "_start": outer["_start"]}
    if rng.random() < 0.2:
        one["gen_ai.response.id"] = f"r{rng.randint(0, 5)}"
    if rng.random() < 0.2:
        one.pop("gen_ai.output.messages", None)
    if rng.random() < 0.1:
        one["heedloop.answer"] = True
    return one


def _content(rng: random.Random, trace: bytes, span: bytes) -> bytes:
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(trace_id=trace, span_id=span, time_unix_nano=NOW_US * 1000)
    )
    record.event_name = "gen_ai.client.inference.operation.details"
    said = messages("assistant", f"from logs {rng.random()}")
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
    requests: list[LoggedRequest], folder: Path, *, at_once: int = 40, times: int = 1, num_decoders: int = 0
) -> tuple[list[dict[str, Any]], dict[str, Tally], set[tuple[str, str]]]:
    """(rows, ledger by project, names that feedback may wait for)."""
    segments = write_segments(folder, requests, at_once)
    names_of: set[tuple[str, str]] = set()
    decoders = Decoders(num_decoders)
    with temporary_store() as store:
        store.command(
            "INSERT INTO erased_traces (project_id, trace_id, erasure_id, at) SELECT arrayJoin(['p', 'q']), {t:FixedString(16)}, {erasure_id:String}, {at:String}",
            {"t": ERASED.decode(), "erasure_id": "x", "at": "2026-01-01 00:00:00"},
        )
        loader = SpanLoader(
            store,
            server_id="s",
            quarantine=Quarantine(folder),
            on_feedback=lambda project, feedback: None,
            on_names=lambda project, names: names_of.update((project, n) for n in names()),
            decoders=decoders,
        )
        for segment in segments:
            tallies = [loader.load(segment) for _ in range(times)]
            loader.enter(segment, tallies[-1])
        rows = store.rows(
            "SELECT * EXCEPT ingested_at FROM spans FINAL ORDER BY project_id, start_time, trace_id, span_id"
        )
        ledger: dict[str, Tally] = {p: read_tally(store.project(p), "spans") for p in "pq"}
    decoders.close()
    return rows, ledger, names_of


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_left_as_they_are_are_those_that_a_join_of_all_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    requests = requests_of(random.Random(seed))
    loaded = load(requests, tmp_path)
    monkeypatch.setattr(joins_module, "_related", lambda rows, traces, responses: [True] * len(rows))
    rows, ledger, names = load(requests, tmp_path)
    assert len(rows) > 80
    for ours, theirs in zip(loaded[0], rows, strict=True):
        assert ours == theirs
    assert loaded[1:] == (ledger, names)
    assert all(t.received == t.stored + t.rejected + t.duplicate for t in ledger.values())
    assert sum(t.rejected for t in ledger.values()) > 0
    assert sum(t.duplicate for t in ledger.values()) > 0


def test_a_segment_that_is_loaded_again_after_a_crash_changes_nothing(tmp_path: Path) -> None:
    requests = requests_of(random.Random(5))
    assert load(requests, tmp_path, times=2) == load(requests, tmp_path)


@pytest.fixture
def everything_apart(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the processes decode also what is small, in small parts, and fail at what a Python expression over `r`, a request, finds."""

    def fail_at(expression: str) -> None:
        monkeypatch.setattr(decoders_module, "_HERE_BYTES", 0)
        monkeypatch.setattr(decoders_module, "PART_BYTES", 4_000)
        program = (
            "import os, sys; from heedloop_server.ingest import decoders as d; real = d.decode; "
            f"d.decode = lambda requests: os._exit(9) if any({expression} for r in requests) else real(requests); "
            "d.serve(int(sys.argv[1]))"
        )
        monkeypatch.setattr(decoders_module, "_START", program)

    return fail_at


def test_processes_decode_as_the_server_does(tmp_path: Path, everything_apart: Callable[[str], None]) -> None:
    requests = requests_of(random.Random(7))
    here = load(requests, tmp_path)
    everything_apart("False")
    assert load(requests, tmp_path, num_decoders=2) == here


def test_a_process_that_dies_is_replaced_and_nothing_is_lost(
    tmp_path: Path, everything_apart: Callable[[str], None]
) -> None:
    requests = requests_of(random.Random(8))
    here = load(requests, tmp_path)
    mark = tmp_path / "died"
    # the first process that sees the first request dies, the one after it finds the mark and goes on
    everything_apart(
        f"r.received_us == {NOW_US} and not os.path.exists({str(mark)!r}) and not open({str(mark)!r}, 'w').close()"
    )
    assert load(requests, tmp_path, num_decoders=1) == here
    assert mark.exists()
    assert list(Quarantine(tmp_path)) == []


def test_a_record_that_ends_every_process_is_kept_aside_alone(
    tmp_path: Path, everything_apart: Callable[[str], None]
) -> None:
    spans = [{**PLAIN, "_trace": bytes([9] * 15 + [i]), "_span": bytes(7) + bytes([i + 1])} for i in range(4)]
    spans = [{**s, "_start": NOW_US * 1000} for s in spans]
    spans[1]["user.id"] = "poison"
    payloads = [request_of(*some, scope="other").SerializeToString() for some in (spans[:3], spans[3:])]
    requests = [LoggedRequest(TRACES, "p", NOW_US + i, n, payloads[i], {}) for i, n in enumerate((3, 1))]
    everything_apart("b'poison' in r.payload")
    rows, ledger, _ = load(requests, tmp_path, num_decoders=1)
    assert len(rows) == 3
    assert (ledger["p"].stored, ledger["p"].reasons) == (3, {"not_normalised": 1})
    (kept,) = Quarantine(tmp_path)
    assert b"poison" in kept.path.read_bytes()
