"""Hostile telemetry through the HTTP door of a real server: each is answered as the rules say, none stops it, nothing else is lost,
and the ledger balances afterwards. With the embedded store and through ClickHouse's HTTP client."""

import gzip
import json
import random
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from forked_server import ForkedServer
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from server_process import ServerProcess, ShimProcess, wait_for
from server_requests import span, traces_request

from heedloop.client import NotFound
from heedloop.responses import Trace

PROTOBUF = {"Content-Type": "application/x-protobuf"}
NUM_MUTATED = 120


@pytest.fixture(scope="module", params=["embedded", "http"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A real server; at the end it must stop gracefully, its ledger balanced and nothing put aside as not normalised."""
    folder = tmp_path_factory.mktemp(request.param)
    shim = ShimProcess(folder / "clickhouse") if request.param == "http" else None
    one = ForkedServer(folder, *(["--store", shim.dsn] if shim else [])).start()
    yield one
    ledger = _settled(one)
    assert "not_normalised" not in ledger.rejected_reasons, ledger
    assert not (folder / "data/log/quarantine").exists() or not list(
        (folder / "data/log/quarantine").iterdir()
    )
    assert one.stop() == 0
    if shim:
        shim.stop()


def _post(server: ServerProcess, body: bytes, path: str = "/v1/traces", **headers: str) -> requests.Response:
    sent = {**server.headers(), **PROTOBUF, **headers}
    return requests.post(server.url + path, data=body, headers=sent, timeout=60)


def _settled(server: ServerProcess) -> dict:
    def found() -> dict | None:
        ledger = server.client().ledger()
        total = ledger.stored + ledger.rejected + ledger.duplicate + ledger.pending
        assert ledger.received == total, ledger
        return None if ledger.pending else ledger

    return wait_for(found, what="the ledger to settle", timeout_s=60)


def _seen(server: ServerProcess, trace_id: str) -> Trace:
    def found() -> Trace | None:
        try:
            return server.client().trace(trace_id)
        except NotFound:
            return None

    return wait_for(found, what=f"trace {trace_id}", timeout_s=60)


def _takes_more(server: ServerProcess) -> None:
    """The next ordinary span is taken and found."""
    trace_id = uuid.uuid4().hex
    assert _post(server, traces_request([span(trace_id=trace_id)]).SerializeToString()).status_code == 200
    assert len(_seen(server, trace_id).spans) == 1


def _memory_bytes(server: ServerProcess) -> int:
    with Path(f"/proc/{server.process.pid}/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_compressed_bombs_are_refused_and_fill_no_memory(server: ServerProcess) -> None:
    before = _memory_bytes(server)
    zeros = b"\0" * (64 << 20)
    inner = gzip.compress(zeros)
    bombs = {
        "gzip": [
            inner * 16,
            gzip.compress(inner * 16),
        ],  # a gigabyte in members; a bomb in a bomb is no protobuf
        "deflate": [zlib.compress(zeros + zeros)],
    }
    statuses = {
        coding: [_post(server, b, **{"Content-Encoding": coding}).status_code for b in given]
        for coding, given in bombs.items()
    }
    assert statuses == {"gzip": [413, 400], "deflate": [413]}
    assert _memory_bytes(server) - before < 300 << 20
    _takes_more(server)


def test_attributes_nested_ten_thousand_deep_are_refused_in_both_encodings(server: ServerProcess) -> None:
    value = b"\x0a\x01x"
    for _ in range(10_000):
        inner = b"\x0a" + _size(value) + value
        value = b"\x2a" + _size(inner) + inner
    body = b"\x0a\x01k\x12" + _size(value) + value
    for tag in (b"\x4a", b"\x12", b"\x12", b"\x0a"):
        body = tag + _size(body) + body
    assert _post(server, body).status_code == 400
    nested = '{"arrayValue":{"values":[' * 10_000 + "]}}" * 10_000
    text = (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":' + nested + "}]}]}]}]}"
    )
    refused = _post(server, text.encode(), **{"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (400, 3)
    _takes_more(server)


def _size(body: bytes) -> bytes:
    n, out = len(body), bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def test_nesting_that_is_allowed_is_kept(server: ServerProcess) -> None:
    trace_id = uuid.uuid4().hex
    one = span(trace_id=trace_id)
    value = AnyValue(string_value="deep")
    for _ in range(20):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    one.attributes.add(key="app.nested").value.CopyFrom(value)
    assert _post(server, traces_request([one]).SerializeToString()).status_code == 200
    assert "deep" in _seen(server, trace_id).spans[0].attributes["app.nested"]


def test_values_of_five_megabytes_come_back_whole(server: ServerProcess) -> None:
    trace_id = uuid.uuid4().hex
    big = "é\u0000🦉" + "x" * 5_000_000
    one = span(trace_id=trace_id, answer="y" * 5_000_000)
    one.attributes.add(key="app.big").value.string_value = big
    assert (
        _post(
            server,
            gzip.compress(traces_request([one]).SerializeToString(), 1),
            **{"Content-Encoding": "gzip"},
        ).status_code
        == 200
    )
    call = _seen(server, trace_id).spans[0]
    assert call.attributes["app.big"] == big
    assert len(call.output_messages[0].text) == 5_000_000


def test_invalid_utf8_is_refused_whole_and_a_lone_surrogate_is_survived(server: ServerProcess) -> None:
    body = traces_request([span(answer="MARK")]).SerializeToString()
    assert _post(server, body.replace(b"MARK", b"M\xff\xfeK")).status_code == 400
    trace_id = uuid.uuid4().hex
    one = {
        "traceId": trace_id,
        "spanId": "ab" * 8,
        "name": "a\\ud800b",
        "startTimeUnixNano": str(time.time_ns()),
    }
    text = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}).replace("\\\\ud800", "\\ud800")
    answer = _post(server, text.encode(), **{"Content-Type": "application/json"})
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert _seen(server, trace_id).spans[0].name.startswith("a")
    _takes_more(server)


def test_zero_short_and_doubled_ids(server: ServerProcess) -> None:
    before = _settled(server)
    trace_id = uuid.uuid4().hex
    twice = span(trace_id=trace_id, span_id="ab" * 8)
    other = span(trace_id=trace_id, span_id="ab" * 8, answer="another word under the same ids")
    other.start_time_unix_nano = twice.start_time_unix_nano
    zero, short = span(), span()
    zero.trace_id, short.span_id = bytes(16), b"abc"
    answer = _post(server, traces_request([twice, twice, other, zero, short]).SerializeToString())
    assert answer.status_code == 200
    assert answer.content[2:4] == b"\x08\x02"
    assert len(_seen(server, trace_id).spans) == 1
    after = _settled(server)
    grown = {
        n: getattr(after, n) - getattr(before, n) for n in ("received", "stored", "rejected", "duplicate")
    }
    assert grown == {"received": 5, "stored": 1, "rejected": 2, "duplicate": 2}


@pytest.mark.parametrize("year", [1970, 1971, 2026, 2262, 2500])
def test_times_from_1970_to_beyond_2262_lose_nothing(server: ServerProcess, year: int) -> None:
    trace_id = uuid.uuid4().hex
    start = min((year - 1970) * 31_556_952 * 10**9, 2**64 - 6_000_000)
    backwards = span(trace_id=trace_id, start_ns=start)
    backwards.end_time_unix_nano = max(0, start - 10**9)  # ends before it starts
    assert _post(server, traces_request([backwards]).SerializeToString()).status_code == 200
    call = _seen(server, trace_id).spans[0]
    assert call.duration_ns == 0
    told = time.strftime("%Y", time.gmtime(start / 1e9))
    assert f"{call.start_time:%Y}" in (told, time.strftime("%Y", time.gmtime()))


@pytest.mark.slow
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_a_trace_of_fifty_thousand_spans_comes_back_whole(server: ServerProcess) -> None:
    trace_id = uuid.uuid4().hex
    start = time.time_ns()
    for first in range(0, 50_000, 10_000):
        many = [
            span(trace_id=trace_id, span_id=f"{i + 1:016x}", start_ns=start + i * 1000, answer="a")
            for i in range(first, first + 10_000)
        ]
        assert _post(server, traces_request(many).SerializeToString()).status_code == 200
    _settled(server)
    answer = requests.get(f"{server.url}/v1/traces/{trace_id}", headers=server.headers(), timeout=240)
    spans = answer.json()["spans"]
    assert [s["span_id"] for s in spans] == [f"{i + 1:016x}" for i in range(50_000)]


def test_mutated_requests_are_stored_or_refused_and_never_break_anything(server: ServerProcess) -> None:
    """Flipped, cut, doubled and spliced bodies: 200 or 400, and the ledger knows each span that was acknowledged."""
    dice = random.Random(20_261_121)
    whole = [
        traces_request(
            [span(user__id="fuzz", gen_ai__usage__input_tokens=7) for _ in range(3)]
        ).SerializeToString()
        for _ in range(5)
    ]
    statuses = set()
    with requests.Session() as session:
        session.headers.update({**server.headers(), **PROTOBUF})
        for _ in range(NUM_MUTATED):
            body = _mutated(dice, dice.choice(whole), dice.choice(whole))
            path = dice.choice(["/v1/traces", "/v1/traces", "/v1/logs"])
            statuses.add(session.post(server.url + path, data=body, timeout=60).status_code)
    assert statuses == {200, 400}
    _settled(server)
    _takes_more(server)


def _mutated(dice: random.Random, body: bytes, other: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(changed))
        match dice.randrange(5):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                changed[at] = dice.choice([0, 1, 127, 128, 255])
            case 2:
                del changed[at : at + dice.randint(1, 8)]
            case 3:
                changed[at:at] = other[at : at + dice.randint(1, 40)]
            case _:
                changed += other
        changed = changed or bytearray(b"\0")
    return bytes(changed)
