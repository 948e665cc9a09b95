"""Decoding, limits and answers of the OTLP routes."""

import contextlib
import gzip
import json
import zlib

import pyarrow as pa
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from heedloop_server.errors import ServerError, TooLarge, Unavailable, Unreadable, UnsupportedMedia
from heedloop_server.ingest.otlp import (
    MAX_OBJECTS,
    check_spans,
    count_log_records,
    decompress,
    encode_error,
    encode_success,
    encoding_of,
    parse_logs,
    parse_traces,
)

LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("", bytes),
        ("GZIP", gzip.compress),
    ],
)
def test_every_content_encoding(encoding, encode):
    assert decompress(encode(b"body" * 100), encoding, limit=LIMIT) == b"body" * 100


def test_gzip_of_several_members_is_read_whole():
    assert decompress(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", limit=LIMIT) == b"ab"


def test_a_bomb_stops_at_the_limit():
    bomb = gzip.compress(b"\0" * (200 << 20))
    assert len(bomb) < 300_000
    with pytest.raises(TooLarge):
        decompress(bomb, "gzip", limit=LIMIT)
    with pytest.raises(TooLarge):
        decompress(b"\0" * (LIMIT + 1), "", limit=LIMIT)
    assert len(decompress(gzip.compress(b"\0" * LIMIT), "gzip", limit=LIMIT)) == LIMIT


def test_many_small_members_stop_at_the_limit_too():
    with pytest.raises(TooLarge):
        decompress(gzip.compress(b"\0" * 1000) * 2000, "gzip", limit=LIMIT)


@pytest.mark.parametrize(
    "body",
    [b"x", gzip.compress(b"abc" * 100)[:-1], gzip.compress(b"abc")[:5]],
    ids=["no gzip", "end missing", "header only"],
)
def test_broken_compression_is_unreadable(body):
    with pytest.raises(Unreadable):
        decompress(body, "gzip", limit=LIMIT)


def test_unknown_media_is_named():
    with pytest.raises(UnsupportedMedia, match="text/plain"):
        encoding_of("text/plain")
    with pytest.raises(UnsupportedMedia, match="br"):
        decompress(b"", "br", limit=LIMIT)
    assert encoding_of("application/json; charset=utf-8") == "json"


def _deep(depth: int) -> bytes:
    """A span with an attribute nested so deep, as protobuf bytes."""
    value = b"\x0a\x01x"
    for _ in range(depth):
        value = b"\x2a" + _size(inner := b"\x0a" + _size(value) + value) + inner
    attribute = b"\x0a\x01k\x12" + _size(value) + value
    span = b"\x4a" + _size(attribute) + attribute
    scope = b"\x12" + _size(span) + span
    resource = b"\x12" + _size(scope) + scope
    return b"\x0a" + _size(resource) + resource


def _size(body: bytes) -> bytes:
    n, out = len(body), bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def test_attributes_nested_ten_thousand_deep_are_refused_not_crashed_on():
    assert (
        parse_traces(_deep(3), "protobuf").resource_spans[0].scope_spans[0].spans[0].attributes[0].key == "k"
    )
    with pytest.raises(Unreadable):
        parse_traces(_deep(10_000), "protobuf")
    value = '{"arrayValue":{"values":[' * 10_000 + "]}}" * 10_000
    deep = (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":' + value + "}]}]}]}]}"
    )
    with pytest.raises(Unreadable):
        parse_traces(deep.encode(), "json")


def test_invalid_utf8_is_refused():
    with pytest.raises(Unreadable):
        parse_traces(_deep(0).replace(b"x", b"\xff"), "protobuf")


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(body):
    for parse in (parse_traces, parse_logs):
        for encoding in ("protobuf", "json"):
            with contextlib.suppress(Unreadable):
                check_spans(parse(body, encoding)) if parse is parse_traces else parse(body, encoding)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceSpans",
                    "scopeSpans",
                    "spans",
                    "attributes",
                    "key",
                    "value",
                    "stringValue",
                    "intValue",
                    "traceId",
                    "spanId",
                    "startTimeUnixNano",
                    "kind",
                    "status",
                    "events",
                    "links",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_json_crashes_the_decoder(body):
    with contextlib.suppress(Unreadable):
        parse_traces(json.dumps(body).encode(), "json")


def test_partial_success_reads_back():
    answer = ExportTraceServiceResponse.FromString(encode_success("protobuf", rejected=300, message="why"))
    assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (300, "why")
    assert encode_success("protobuf") == b""
    assert json.loads(encode_success("json", rejected=3, message="why")) == {
        "partialSuccess": {"rejectedSpans": "3", "errorMessage": "why"}
    }


@pytest.mark.parametrize(
    ("error", "code"), [(Unreadable("no"), 3), (Unavailable("later"), 14), (ServerError("?"), 2)]
)
def test_errors_are_google_rpc_status(error, code):
    status = Status.FromString(encode_error("protobuf", error))
    assert (status.code, status.message) == (code, error.message)
    assert json.loads(encode_error("json", error)) == {"code": code, "message": error.message}


def test_unknown_fields_are_no_reason_to_refuse():
    request = ExportTraceServiceRequest()
    assert parse_traces(request.SerializeToString() + b"\xf8\x3f\x01", "protobuf") is not None
    assert parse_traces(b'{"resourceSpans": [], "futureField": {"x": 1}}', "json") is not None


def _compressed(codec: str, data: bytes) -> bytes:
    if codec == "snappy":
        return pa.Codec("snappy").compress(data, asbytes=True)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("codec", ["zstd", "lz4", "snappy"])
def test_other_compressions_are_read_within_the_limit(codec: str) -> None:
    data = b"words " * 100_000
    body = _compressed(codec, data)
    assert decompress(body, codec, limit=LIMIT) == data
    with pytest.raises(TooLarge):
        decompress(body, codec, limit=len(data) - 1)
    for broken in (body[: len(body) // 2], b"\xff" * 40):
        with pytest.raises((Unreadable, TooLarge)):
            decompress(broken, codec, limit=LIMIT)


def test_a_framed_snappy_stream_is_read() -> None:
    parts = [b"a" * 70_000, b"b" * 10]
    framed = b"\xff\x06\x00\x00sNaPpY"
    for part in parts:
        block = b"\0\0\0\0" + _compressed("snappy", part)
        framed += b"\0" + len(block).to_bytes(3, "little") + block
    framed += b"\x01" + (4 + 3).to_bytes(3, "little") + b"\0\0\0\0raw"
    assert decompress(framed, "snappy", limit=LIMIT) == b"".join(parts) + b"raw"


def test_a_body_of_many_members_is_read_and_of_too_many_refused() -> None:
    member = gzip.compress(b"x")
    assert decompress(member * 5_000 + b"\0" * 100, "gzip", limit=LIMIT) == b"x" * 5_000
    with pytest.raises(Unreadable, match="members"):
        decompress(member * 20_000, "gzip", limit=LIMIT)


def test_bad_spans_among_good_ones_are_taken_out_in_order() -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for i in range(300_000):  # deleting them one by one would take minutes
        spans.add(trace_id=bytes([1] * 16) if i % 3 == 0 else b"", span_id=(i + 1).to_bytes(8, "big"))
    checked = check_spans(request)
    assert (checked.num_spans, dict(checked.rejected)) == (100_000, {"bad_trace_id": 200_000})
    assert [int.from_bytes(s.span_id, "big") for s in spans[:3]] == [1, 4, 7]


@pytest.mark.parametrize(
    "one",
    [b"\x0a\x00", b"\x0a\x02\x12\x00", b"\x0a\x04\x12\x02\x12\x00"],
    ids=["resources", "scopes", "records"],
)
def test_more_objects_than_any_client_sends_are_refused_before_they_are_looked_at(one: bytes) -> None:
    fits, too_many = MAX_OBJECTS // 3, MAX_OBJECTS + 1
    assert check_spans(parse_traces(one * fits, "protobuf")).num_spans == 0
    assert count_log_records(parse_logs(one * fits, "protobuf")) == (fits if len(one) == 6 else 0)
    with pytest.raises(TooLarge, match="smaller batches"):
        check_spans(parse_traces(one * too_many, "protobuf"))
    with pytest.raises(TooLarge, match="smaller batches"):
        count_log_records(parse_logs(one * too_many, "protobuf"))
    with pytest.raises(Unreadable, match="smaller batches"):
        parse_traces(b'{"resourceSpans": [%s{}]}' % (b"{}," * MAX_OBJECTS), "json")
