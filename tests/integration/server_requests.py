"""OTLP requests and feedback for the server's tests."""

import time
import uuid
from collections.abc import Iterable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from heedloop.schema import Author, Feedback, Target


def span(
    *,
    trace_id: str | None = None,
    span_id: str | None = None,
    start_ns: int | None = None,
    question: str = "How are you?",
    answer: str = "Fine.",
    **attributes: str | int | bool,
) -> Span:
    """A span as heedloop's SDK would send it."""
    at = time.time_ns() if start_ns is None else start_ns
    one = Span(
        trace_id=bytes.fromhex(trace_id or uuid.uuid4().hex),
        span_id=bytes.fromhex(span_id or uuid.uuid4().hex[:16]),
        name="answer",
        start_time_unix_nano=at,
        end_time_unix_nano=at + 5_000_000,
    )
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "model-a",
        "heedloop.answer": True,
        "gen_ai.input.messages": f'[{{"role":"user","parts":[{{"type":"text","content":"{question}"}}]}}]',
        "gen_ai.output.messages": f'[{{"role":"assistant","parts":[{{"type":"text","content":"{answer}"}}]}}]',
        **{k.replace("__", "."): v for k, v in attributes.items()},
    }
    for key, value in texts.items():
        kind = {bool: "bool_value", int: "int_value", str: "string_value"}[type(value)]
        setattr(one.attributes.add(key=key).value, kind, value)
    return one


def traces_request(
    spans: Iterable[Span], *, service: str = "app", scope: str = ""
) -> ExportTraceServiceRequest:
    """Spans as one export; `scope` names the instrumentation, `heedloop` is the SDK's."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    inner = resource.scope_spans.add()
    inner.scope.name = scope
    inner.spans.extend(spans)
    return request


def thumb(trace_id: str, span_id: str | None = None, value: int = 1, author: str = "u1", **more) -> Feedback:
    """A thumb of an end user."""
    return Feedback(
        kind="rating",
        target=Target(trace_id=trace_id, span_id=span_id),
        value=value,
        author=Author("end_user", author),
        **more,
    )
