"""OTLP/JSON -> the protobuf messages, by OTLP 1.11's rules: hex ids, int64 as text or number, unknown fields ignored.

Written by hand because protobuf's own JSON reader takes ids for base64 and costs a third of a millisecond per span.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop_server.normalise.values import scrub

MAX_OBJECTS = 500_000
"""Resources, scopes and spans (or log records) of one request, together."""
_MAX_DEPTH = 64
_BASE64_IDS = (12, 24)
"""Characters of a span id and of a trace id in base64."""


class MalformedJson(ValueError):
    """The body is no OTLP/JSON: no JSON at all, or a field of the wrong type. The message names the field."""


def traces_from_json(body: bytes) -> ExportTraceServiceRequest:
    """The request that an OTLP/JSON traces body says; raises `MalformedJson`."""
    request = ExportTraceServiceRequest()
    for entry in _objects(_known(_load(body), ("resourceSpans",)), "resourceSpans"):
        resource_spans = request.resource_spans.add()
        _resource(resource_spans, entry)
        for scoped in _objects(_known(entry, ("resource", "scopeSpans", "schemaUrl")), "scopeSpans"):
            scope_spans = resource_spans.scope_spans.add()
            _scope(scope_spans, _known(scoped, ("scope", "spans", "schemaUrl")))
            for span in _objects(scoped, "spans"):
                _span(scope_spans.spans.add(), span)
    return request


def logs_from_json(body: bytes) -> ExportLogsServiceRequest:
    """The request that an OTLP/JSON logs body says; raises `MalformedJson`."""
    request = ExportLogsServiceRequest()
    for entry in _objects(_known(_load(body), ("resourceLogs",)), "resourceLogs"):
        resource_logs = request.resource_logs.add()
        _resource(resource_logs, entry)
        for scoped in _objects(_known(entry, ("resource", "scopeLogs", "schemaUrl")), "scopeLogs"):
            scope_logs = resource_logs.scope_logs.add()
            _scope(scope_logs, _known(scoped, ("scope", "logRecords", "schemaUrl")))
            for record in _objects(scoped, "logRecords"):
                _record(scope_logs.log_records.add(), record)
    return request


def check_metrics_json(body: bytes) -> None:
    """Raises `MalformedJson` where a body is no OTLP/JSON metrics request; it is looked at no further than its own keys."""
    _known(_load(body), ("resourceMetrics",))


def _known(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The object, where it is empty or any of its keys is one of these; unknown ones beside them are OTLP of the future."""
    if value and not any(n in value for n in names):
        found = ", ".join(sorted(value)[:5])
        raise MalformedJson(f"none of the keys ({found[:200]}) is known; expected {', '.join(names)}")
    return value


def _load(body: bytes) -> dict[str, Any]:
    try:
        loaded = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise MalformedJson(f"the body is no JSON: {err}") from None
    if not isinstance(loaded, dict):
        raise MalformedJson("the body must be a JSON object")
    if _OTHER_KEYS.search(body):
        loaded = _renamed(loaded)
    return scrub(loaded) if b"\\ud" in body or b"\\uD" in body else loaded


def _renamed(value: Any) -> Any:
    """The same JSON with keys as OTLP 1.11 has them; nothing but OTLP's own fields are keys."""
    if isinstance(value, dict):
        return {_CAMEL.get(k, k): _renamed(v) for k, v in value.items()}
    return [_renamed(v) for v in value] if isinstance(value, list) else value


_NAMES = (
    *(
        "resourceSpans",
        "scopeSpans",
        "resourceLogs",
        "scopeLogs",
        "logRecords",
        "resourceMetrics",
        "schemaUrl",
    ),
    *(
        "traceId",
        "spanId",
        "parentSpanId",
        "traceState",
        "startTimeUnixNano",
        "endTimeUnixNano",
        "timeUnixNano",
    ),
    *("observedTimeUnixNano", "severityNumber", "severityText", "eventName", "stringValue", "intValue"),
    *("doubleValue", "boolValue", "arrayValue", "kvlistValue", "bytesValue"),
)
_CAMEL = {re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", n): n for n in _NAMES} | {
    # OTLP before 0.15
    "instrumentationLibrarySpans": "scopeSpans",
    "instrumentationLibraryLogs": "scopeLogs",
    "instrumentationLibrary": "scope",
    "instrumentation_library_spans": "scopeSpans",
    "instrumentation_library_logs": "scopeLogs",
    "instrumentation_library": "scope",
}
"""Keys that protobuf's own writer uses where it keeps the fields' names (snake case), and older ones -> today's."""
_OTHER_KEYS = re.compile(b"|".join(b'"%s"' % k.encode() for k in _CAMEL))


def _objects(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = parent.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(f, dict) for f in found):
        raise MalformedJson(f"{key} must be a list of objects")
    if len(found) > MAX_OBJECTS:
        raise MalformedJson(f"{key} has more than {MAX_OBJECTS:,} objects; send smaller batches")
    return found


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    found = parent.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise MalformedJson(f"{key} must be an object")
    return found


def _text(parent: dict[str, Any], key: str) -> str:
    found = parent.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise MalformedJson(f"{key} must be text")
    return found


def _id(parent: dict[str, Any], key: str) -> bytes:
    text = _text(parent, key)
    try:
        if text.endswith("=") and len(text) in _BASE64_IDS:  # what protobuf's own writer makes of ids
            return base64.b64decode(text, validate=True)
        return bytes.fromhex(text)
    except ValueError:
        raise MalformedJson(f"{key} must be hexadecimal") from None


def _int(parent: dict[str, Any], key: str, low: int = 0, high: int = 2**64 - 1) -> int:
    found = parent.get(key)
    if found is None:
        return 0
    try:
        value = int(found) if not isinstance(found, (bool, float)) or found == int(found) else None
    except (ValueError, TypeError, OverflowError):
        value = None
    if value is None or not low <= value <= high:
        raise MalformedJson(f"{key} must be a whole number from {low} to {high}")
    return value


def _enum(parent: dict[str, Any], key: str, names: Any) -> int:
    """An enum's number; its name is accepted as well, which some clients send."""
    found = parent.get(key)
    if isinstance(found, str) and not found.isdecimal():
        return dict(names.items()).get(found, 0)
    return _int(parent, key, 0, 2**31 - 1)


def _resource(target: Any, entry: dict[str, Any]) -> None:
    _attributes(target.resource.attributes, _object(entry, "resource"))
    target.schema_url = _text(entry, "schemaUrl")


def _scope(target: Any, entry: dict[str, Any]) -> None:
    scope = _object(entry, "scope")
    target.scope.name, target.scope.version = _text(scope, "name"), _text(scope, "version")
    _attributes(target.scope.attributes, scope)
    target.schema_url = _text(entry, "schemaUrl")


def _span(target: Any, span: dict[str, Any]) -> None:
    target.trace_id = _id(span, "traceId")
    target.span_id = _id(span, "spanId")
    target.parent_span_id = _id(span, "parentSpanId")
    target.trace_state = _text(span, "traceState")
    target.flags = _int(span, "flags", 0, 2**32 - 1)
    target.name = _text(span, "name")
    target.kind = _enum(span, "kind", type(target).SpanKind)
    target.start_time_unix_nano = _int(span, "startTimeUnixNano")
    target.end_time_unix_nano = _int(span, "endTimeUnixNano")
    _attributes(target.attributes, span)
    status = _object(span, "status")
    if status:
        target.status.message = _text(status, "message")
        target.status.code = _enum(status, "code", type(target.status).StatusCode)
    for event in _objects(span, "events"):
        added = target.events.add(name=_text(event, "name"), time_unix_nano=_int(event, "timeUnixNano"))
        _attributes(added.attributes, event)
    for link in _objects(span, "links"):
        added = target.links.add(trace_id=_id(link, "traceId"), span_id=_id(link, "spanId"))
        added.trace_state = _text(link, "traceState")
        _attributes(added.attributes, link)


def _record(target: Any, record: dict[str, Any]) -> None:
    target.time_unix_nano = _int(record, "timeUnixNano")
    target.observed_time_unix_nano = _int(record, "observedTimeUnixNano")
    target.severity_number = _int(record, "severityNumber", 0, 2**31 - 1)
    target.severity_text = _text(record, "severityText")
    target.event_name = _text(record, "eventName")
    target.trace_id = _id(record, "traceId")
    target.span_id = _id(record, "spanId")
    if _object(record, "body"):
        _value(target.body, record["body"], 0)
    _attributes(target.attributes, record)


def _attributes(target: Any, parent: dict[str, Any]) -> None:
    for entry in _objects(parent, "attributes"):
        added = target.add(key=_text(entry, "key"))
        value = entry.get("value")
        if value:
            _value(added.value, value, 0)


def _value(target: Any, value: Any, depth: int) -> None:
    """Fills an `AnyValue`. A value without a known field stays unset."""
    if not isinstance(value, dict):
        raise MalformedJson('an attribute\'s value must be an object such as {"stringValue": …}')
    if depth > _MAX_DEPTH:
        raise MalformedJson(f"values are nested deeper than {_MAX_DEPTH}")
    if "stringValue" in value:
        target.string_value = _text(value, "stringValue")
    elif "intValue" in value:
        target.int_value = _int(value, "intValue", -(2**63), 2**63 - 1)
    elif "doubleValue" in value:
        target.double_value = _double(value["doubleValue"])
    elif "boolValue" in value:
        target.bool_value = value["boolValue"] in (True, "true")
    elif "arrayValue" in value:
        target.array_value.SetInParent()
        for inner in _objects(_object(value, "arrayValue"), "values"):
            _value(target.array_value.values.add(), inner, depth + 1)
    elif "kvlistValue" in value:
        target.kvlist_value.SetInParent()
        for entry in _objects(_object(value, "kvlistValue"), "values"):
            added = target.kvlist_value.values.add(key=_text(entry, "key"))
            _value(added.value, entry.get("value") or {}, depth + 1)
    elif "bytesValue" in value:
        target.bytes_value = _bytes(value)


def _double(found: Any) -> float:
    try:
        return float(found)
    except (ValueError, TypeError, OverflowError):
        raise MalformedJson("doubleValue must be a number") from None


def _bytes(value: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(_text(value, "bytesValue"), validate=True)
    except ValueError:
        raise MalformedJson("bytesValue must be base64") from None
