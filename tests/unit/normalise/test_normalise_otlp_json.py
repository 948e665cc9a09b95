"""OTLP/JSON says the same as protobuf."""

import base64
import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop_server.ingest.otlp_json import MalformedJson, logs_from_json, traces_from_json


def to_otlp_json(request: Any) -> bytes:
    """OTLP/JSON by protobuf's own writer, with ids in hex as OTLP wants them."""

    def with_hex_ids(value: Any) -> Any:
        if isinstance(value, list):
            return [with_hex_ids(v) for v in value]
        if isinstance(value, dict):
            ids = ("traceId", "spanId", "parentSpanId")
            return {k: base64.b64decode(v).hex() if k in ids else with_hex_ids(v) for k, v in value.items()}
        return value

    return json.dumps(with_hex_ids(json_format.MessageToDict(request))).encode()


def test_every_field_comes_through(span: Any, request_of: Any) -> None:
    attributes = {
        "a": "é",
        "b": -7,
        "c": 0.5,
        "d": True,
        "e": ["x", 1, {"y": None}],
        "f": {"g": "h"},
        "h": b"\x00",
        "i": 2**62,
        "j": [],
    }
    sent = span(
        attributes,
        ids=(7, 8, 9),
        name="n",
        status=(2, "boom"),
        events=(("exception", {"exception.message": "m"}),),
        links=((5, 6),),
    )
    sent.kind, sent.trace_state, sent.flags = 3, "a=b", 257
    request = request_of(sent, scope="lib", resource={"service.name": "shop"})
    read = traces_from_json(to_otlp_json(request))
    # an element without a value in an array is an empty object in JSON, and stays one
    assert read == request


@given(st.binary(max_size=300))
def test_what_protobuf_reads_survives_json(body: bytes) -> None:
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except Exception:
        return
    request.DiscardUnknownFields()
    again = traces_from_json(to_otlp_json(request))
    assert len(again.resource_spans) == len(request.resource_spans)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"resourceSpans": 7}',
        b'{"resourceSpans": [7]}',
        b'{"resourceSpans": [{"scopeSpans": {}}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 7}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "1e99"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e400}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "a", "value": "b"}]}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "a", "value": {"doubleValue": []}}]}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "a", "value": {"bytesValue": "?"}}]}]}]}]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_malformed_body_is_named(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        traces_from_json(body)


def test_deep_values_are_refused() -> None:
    value: Any = {"intValue": 1}
    for _ in range(100):
        value = {"arrayValue": {"values": [value]}}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "a", "value": value}]}]}]}]}
    with pytest.raises(MalformedJson, match="nested"):
        traces_from_json(json.dumps(body).encode())


def test_lenient_where_the_rules_are() -> None:
    span = {
        "traceId": "AB" * 16,
        "spanId": "cd" * 8,
        "kind": "SPAN_KIND_CLIENT",
        "status": {"code": "STATUS_CODE_ERROR"},
        "startTimeUnixNano": 5,
        "unknown": {"field": [1]},
        "attributes": [
            {"key": "a", "value": {"intValue": "17"}},
            {"key": "b"},
            {"key": "c", "value": {"stringValue": "\ud83d"}},
        ],
    }
    read = traces_from_json(
        json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}], "more": 1}).encode()
    )
    found = read.resource_spans[0].scope_spans[0].spans[0]
    assert (found.trace_id.hex(), found.kind, found.status.code, found.start_time_unix_nano) == (
        "ab" * 16,
        3,
        2,
        5,
    )
    assert found.attributes[0].value.int_value == 17
    assert found.attributes[1].value.WhichOneof("value") is None
    assert found.attributes[2].value.string_value == "\ufffd"


def test_logs() -> None:
    record = {
        "timeUnixNano": "5",
        "eventName": "gen_ai.choice",
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "body": {"kvlistValue": {"values": [{"key": "message", "value": {"stringValue": "x"}}]}},
    }
    read = logs_from_json(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode())
    found = read.resource_logs[0].scope_logs[0].log_records[0]
    assert (found.event_name, found.time_unix_nano, found.span_id.hex()) == ("gen_ai.choice", 5, "cd" * 8)
    assert found.body.kvlist_value.values[0].key == "message"


def test_protobufs_own_json_is_read_with_its_names_and_ids(span: Any, request_of: Any) -> None:
    request = request_of(
        span({"gen_ai.operation.name": "chat", "n": 7, "l": [1, "a"]}, ids=(3, 4, 5)), scope="s"
    )
    request.resource_spans[0].scope_spans[0].spans[0].ClearField("status")
    body = json_format.MessageToJson(request, preserving_proto_field_name=True).encode()
    assert b"trace_id" in body
    assert traces_from_json(body) == request


def test_the_names_of_otlp_before_0_15_are_read() -> None:
    one = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "x"}
    body = {
        "resourceSpans": [
            {"instrumentationLibrarySpans": [{"instrumentationLibrary": {"name": "old"}, "spans": [one]}]}
        ]
    }
    scope = traces_from_json(json.dumps(body).encode()).resource_spans[0].scope_spans[0]
    assert (scope.scope.name, scope.spans[0].name) == ("old", "x")


@pytest.mark.parametrize(
    "body",
    [
        {"spans": []},
        {"resourceLogs": []},
        {"resourceSpans": [{"spans": []}]},
        {"resourceSpans": [{"scopeSpans": [{"logs": []}]}]},
    ],
)
def test_a_body_of_which_no_key_is_known_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedJson, match="none of the keys"):
        traces_from_json(json.dumps(body).encode())
    assert not traces_from_json(b"{}").resource_spans
