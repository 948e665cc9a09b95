"""Spans in few words: `span(**attributes)` is the protobuf span, `call(**attributes)` the call it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from heedloop.schema import Call
from heedloop_server.normalise import normalise_request

START_NS = 1_795_257_768_181_648_176


def set_value(target: AnyValue, value: Any) -> None:
    """Fills an `AnyValue` from a Python value."""
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        for k, v in value.items():
            set_value(target.kvlist_value.values.add(key=k).value, v)
    elif value is not None:
        target.array_value.SetInParent()
        for v in value:
            set_value(target.array_value.values.add(), v)


def make_request(
    *spans: Span, scope: str = "", resource: Mapping[str, Any] | None = None
) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in (resource or {}).items():
        set_value(resource_spans.resource.attributes.add(key=key).value, value)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = scope
    scope_spans.spans.extend(spans)
    return request


def make_span(
    attributes: Mapping[str, Any],
    *,
    ids: tuple[int, int, int] = (1, 1, 0),
    name: str = "",
    status: tuple[int, str] = (0, ""),
    events: tuple[tuple[str, Mapping[str, Any]], ...] = (),
    links: tuple[tuple[int, int], ...] = (),
) -> Span:
    """A span; `ids` are trace, span and parent (0 for a root)."""
    trace, own, parent = ids
    span = Span(name=name, trace_id=trace.to_bytes(16, "big"), span_id=own.to_bytes(8, "big"))
    if parent:
        span.parent_span_id = parent.to_bytes(8, "big")
    span.start_time_unix_nano, span.end_time_unix_nano = START_NS, START_NS + 5_000_000
    span.status.code, span.status.message = status
    for key, value in attributes.items():
        set_value(span.attributes.add(key=key).value, value)
    for event_name, fields in events:
        event = span.events.add(name=event_name, time_unix_nano=START_NS + 1)
        for key, value in fields.items():
            set_value(event.attributes.add(key=key).value, value)
    for link_trace, link_span in links:
        span.links.add(trace_id=link_trace.to_bytes(16, "big"), span_id=link_span.to_bytes(8, "big"))
    return span


@pytest.fixture
def span() -> Callable[..., Span]:
    return make_span


@pytest.fixture
def request_of() -> Callable[..., ExportTraceServiceRequest]:
    return make_request


@pytest.fixture
def call() -> Callable[..., Call]:
    def normalised(attributes: Mapping[str, Any], *, scope: str = "", **fields: Any) -> Call:
        (found,) = normalise_request(make_request(make_span(attributes, **fields), scope=scope))
        return found

    return normalised
