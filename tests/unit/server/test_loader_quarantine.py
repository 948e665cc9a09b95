"""Whatever one record does to the loader, every other one is stored, the bad one is kept and counted, and the ledger balances."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from temporary_stores import temporary_store

from heedloop_server.errors import Unavailable
from heedloop_server.ingest import decode as decode_module
from heedloop_server.ingest import loader as loader_module
from heedloop_server.ingest.loader import SpanLoader
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import LOGS, TRACES, LoggedRequest, pack
from heedloop_server.ingest.segments import Segment, framed, new_segment_path
from heedloop_server.store.admin.ledger import Tally, read_tally
from heedloop_server.store.connection import Store, StoreError
from heedloop_server.store.span_rows import SENT_START

NOW_US = time.time_ns() // 1000
MONTH_NS = 30 * 86_400 * 10**9


@pytest.fixture(scope="module")
def opened() -> Iterator[Store]:
    with temporary_store() as one:
        yield one


@pytest.fixture
def store(opened: Store) -> Iterator[Store]:
    """The one store, emptied afterwards, and without what a test made it refuse."""
    yield opened
    for name in ("no_poison", "closed", "heavy"):
        opened.command(f"ALTER TABLE spans DROP CONSTRAINT IF EXISTS {name}")
    for table in ("spans", "contents", "ledger"):
        opened.command(f"TRUNCATE TABLE {table}")


def traces_of(*names: str, starts: list[int] | None = None, parent: bytes = b"") -> LoggedRequest:
    """A request of project p with a span for each name."""
    rng = random.Random(repr((names, parent)))
    request = ExportTraceServiceRequest()
    for i, name in enumerate(names):
        spans = request.resource_spans.add().scope_spans.add().spans
        one = spans.add(
            trace_id=rng.randbytes(16), span_id=rng.randbytes(8), name=name, parent_span_id=parent
        )
        one.start_time_unix_nano = starts[i] if starts else NOW_US * 1000
    return LoggedRequest(TRACES, "p", NOW_US, len(names), request.SerializeToString(), {})


def segment_of(folder: Path, *requests: LoggedRequest) -> Segment:
    path, marker = new_segment_path(folder, 1)
    numbered = [
        LoggedRequest(r.signal, r.project, NOW_US + i, r.num_accepted, r.payload, r.rejected)
        for i, r in enumerate(requests)
    ]
    path.write_bytes(b"".join(b for r in numbered for b in framed(marker, pack(r))))
    return Segment(path, 1, path.stat().st_size)


def loader_of(store: Store, folder: Path) -> SpanLoader:
    return SpanLoader(
        store,
        server_id="s",
        quarantine=Quarantine(folder),
        on_feedback=lambda project, given: None,
        on_names=lambda project, names: None,
    )


def load(store: Store, folder: Path, *requests: LoggedRequest) -> Tally:
    """The project's ledger after a segment with the requests was loaded twice, as after a crash."""
    segment, loader = segment_of(folder, *requests), loader_of(store, folder)
    for _ in range(2):
        loader.enter(segment, loader.load(segment))
    tally = read_tally(store.project("p"), "spans")
    assert tally.received == tally.stored + tally.rejected + tally.duplicate
    return tally


def names_in(store: Store) -> list[str]:
    return [
        r["name"] for r in store.rows("SELECT name FROM spans FINAL WHERE project_id = 'p' ORDER BY name")
    ]


def refuse(store: Store, *names: str) -> None:
    """Let the store refuse every block that has a span with one of these names."""
    listed = ", ".join(f"'{n}'" for n in names)
    store.command(f"ALTER TABLE spans ADD CONSTRAINT no_poison CHECK name NOT IN ({listed})")


@pytest.mark.parametrize("num_good", [0, 1, 60])
def test_a_span_that_the_store_refuses_is_found_among_all(
    store: Store, tmp_path: Path, num_good: int
) -> None:
    refuse(store, "poison", "venom")
    good = [f"good {i:02}" for i in range(num_good)]
    requests = [traces_of("poison", *good[:20]), traces_of(*good[20:], "venom"), traces_of("last")]
    tally = load(store, tmp_path, *requests)
    assert names_in(store) == [*good, "last"]
    assert (tally.stored, tally.reasons) == (num_good + 1, {"not_stored": 2})
    kept = list(Quarantine(tmp_path))
    assert [(k.project, k.reason) for k in kept] == [("p", "not_stored")] * 2
    assert {k.path.read_bytes().count(b"poison") + k.path.read_bytes().count(b"good") for k in kept} == {0, 1}
    assert all("CONSTRAINT" in k.error.upper() for k in kept)


@pytest.mark.parametrize("error", [OverflowError("too big"), KeyError("x"), MemoryError(), StopIteration()])
@pytest.mark.parametrize("place", ["normalise_traces", "calls_to_arrow", "join_with_stored"])
def test_a_span_that_our_own_code_fails_at_is_found_wherever_it_fails(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    module = loader_module if place == "join_with_stored" else decode_module
    real = getattr(module, place)

    def failing(*args):
        subject = args[-1]
        if place == "calls_to_arrow":
            subject = args = (list(subject),)
        elif place == "join_with_stored":
            subject = subject.rows["name"].to_pylist()
        if "poison" in repr(subject):
            raise error
        return real(*args)

    monkeypatch.setattr(module, place, failing)
    tally = load(store, tmp_path, traces_of("a", "poison", "b"), traces_of("c"), traces_of("poison"))
    assert names_in(store) == ["a", "b", "c"]
    assert (tally.stored, tally.reasons) == (3, {"not_normalised": 2})


def test_a_log_record_that_cannot_be_read_holds_no_other_up(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = decode_module.normalise_logs

    def failing(request):
        if "poison" in repr(request):
            raise ValueError("odd")
        return real(request)

    monkeypatch.setattr(decode_module, "normalise_logs", failing)
    logs = ExportLogsServiceRequest()
    for name in ("good", "poison", "good too"):
        record = logs.resource_logs.add().scope_logs.add().log_records.add(trace_id=bytes([7] * 16))
        record.span_id, record.time_unix_nano = bytes([len(name)] * 8), NOW_US * 1000
        record.event_name = "gen_ai.client.inference.operation.details"
        said = f'[{{"role": "assistant", "parts": [{{"type": "text", "content": "{name}"}}]}}]'
        record.attributes.add(key="gen_ai.output.messages").value.string_value = said
    tally = load(
        store, tmp_path, LoggedRequest(LOGS, "p", 1, 0, logs.SerializeToString(), {}), traces_of("a")
    )
    assert store.rows("SELECT count() AS n FROM contents FINAL") == [{"n": 2}]
    assert (tally.stored, tally.reasons) == (1, {"not_normalised": 1})


def test_a_body_that_is_no_request_and_one_of_another_version_are_kept(store: Store, tmp_path: Path) -> None:
    segment = segment_of(
        tmp_path, LoggedRequest(TRACES, "p", 1, 3, b"\xff\xff", {"bad_span_id": 2}), traces_of("a")
    )
    marker = bytes.fromhex(segment.path.stem.partition("-")[2])
    with segment.path.open("ab") as file:
        file.write(b"".join(framed(marker, b"from the future")))
    tallies = loader_of(store, tmp_path).load(segment)
    assert (tallies["p"].stored, tallies["p"].reasons) == (1, {"not_normalised": 3, "bad_span_id": 2})
    assert sorted(k.reason for k in Quarantine(tmp_path)) == ["not_normalised", "unreadable"]


def test_nothing_is_set_aside_while_the_store_refuses_everybody(store: Store, tmp_path: Path) -> None:
    store.command("ALTER TABLE spans ADD CONSTRAINT closed CHECK name = 'nothing'")
    segment, loader = segment_of(tmp_path, traces_of("a", "b")), loader_of(store, tmp_path)
    for _ in range(10):
        with pytest.raises(StoreError):
            loader.load(segment)
    assert list(Quarantine(tmp_path)) == []
    store.command("ALTER TABLE spans DROP CONSTRAINT closed")
    assert loader.load(segment)["p"].stored == 2


def test_a_store_that_says_later_to_one_record_is_asked_some_times_before_it_is_set_aside(
    store: Store, tmp_path: Path
) -> None:
    segment, loader = segment_of(tmp_path, traces_of("a", "poison")), loader_of(store, tmp_path)
    # too long a sleep is "too slow", which is worth another try as a rule
    store.command("ALTER TABLE spans ADD CONSTRAINT heavy CHECK if(name = 'poison', sleepEachRow(4), 0) = 0")
    refusals = 0
    for _ in range(10):
        try:
            tally = loader.load(segment)["p"]
            break
        except Unavailable:
            refusals += 1
    assert refusals == 4
    assert (tally.stored, tally.reasons) == (1, {"not_stored": 1})


def test_spans_of_many_months_and_absurd_clocks_are_stored_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "MAX_MONTHS", 3)
    now = NOW_US * 1000
    starts = [now - i * MONTH_NS for i in range(8)] + [0, 1, 2**63 - 1, 2**64 - 1, now + 400 * MONTH_NS]
    request = traces_of(*(f"{i:03}" for i in range(len(starts))), starts=starts)
    tally = load(store, tmp_path, request, request)
    assert (tally.stored, tally.duplicate, tally.rejected) == (len(starts), len(starts), 0)
    assert len(names_in(store)) == len(starts)
    row = store.rows("SELECT start_time, attributes FROM spans FINAL WHERE name = '012'")[0]
    assert abs(row["start_time"].timestamp() - NOW_US / 1e6) < 1
    assert row["attributes"][SENT_START].startswith("20")


@pytest.mark.parametrize("parent", [b"\x01", b"\x02" * 16, b"\x00" * 8])
def test_a_parent_id_of_any_length_is_no_poison(store: Store, tmp_path: Path, parent: bytes) -> None:
    tally = load(store, tmp_path, traces_of("a", parent=parent))
    assert (tally.stored, tally.rejected) == (1, 0)
    assert names_in(store) == ["a"]
