"""Calls as one OTLP request, in the attributes that the SDK itself writes (docs/spans.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from heedloop import attributes as names
from heedloop.schema import Call

__all__ = ["otlp_request"]

SCOPE = "heedloop.import"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def otlp_request(calls: Iterable[Call]) -> bytes:
    """One `ExportTraceServiceRequest` with a resource per service."""
    request = ExportTraceServiceRequest()
    by_service: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        by_service.setdefault((call.service, call.environment), []).append(call)
    for (service, environment), of_service in by_service.items():
        resource = request.resource_spans.add()
        resource.resource.attributes.append(_text(names.SERVICE_NAME, service))
        if environment:
            resource.resource.attributes.append(_text(names.ENVIRONMENT, environment))
        scope = resource.scope_spans.add()
        scope.scope.name = SCOPE
        scope.spans.extend(_span(call) for call in of_service)
    return request.SerializeToString()


def _span(call: Call) -> Span:
    elapsed = call.start_time - _EPOCH
    start_ns = (elapsed.days * 86_400 + elapsed.seconds) * 10**9 + elapsed.microseconds * 1000
    span = Span(
        trace_id=bytes.fromhex(call.trace_id),
        span_id=bytes.fromhex(call.span_id),
        name=call.name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + call.duration_ns,
    )
    span.attributes.extend(_attributes(call))
    return span


def _attributes(call: Call) -> Iterable[KeyValue]:
    yield _text(names.OPERATION_NAME, call.operation)
    yield KeyValue(key=names.ANSWER, value=AnyValue(bool_value=call.is_answer))
    yield _text(
        names.INPUT_MESSAGES, json.dumps(names.messages_parts(call.input_messages), ensure_ascii=False)
    )
    yield _text(
        names.OUTPUT_MESSAGES, json.dumps(names.messages_parts(call.output_messages), ensure_ascii=False)
    )
    if call.output_messages and not call.output_text:
        # Messages without a text are read as "not recorded"; this says that the answer was empty.
        yield _text(names.OUTPUT, "")
    if call.tool_definitions:
        tools = names.tool_definition_parts(call.tool_definitions)
        yield _text(names.TOOL_DEFINITIONS, json.dumps(tools, ensure_ascii=False))
    optional = {
        names.RESPONSE_MODEL: call.model_answered,
        names.CONVERSATION_ID: call.session_id,
        names.USER_ID: call.user_id,
        names.PROMPT_NAME: call.prompt_name,
        names.PROMPT_VERSION: call.prompt_version,
        **call.attributes,
    }
    for name, value in optional.items():
        if value:
            yield _text(name, value)
    if call.tags:
        tags = ArrayValue(values=[AnyValue(string_value=t) for t in call.tags])
        yield KeyValue(key=names.TAGS, value=AnyValue(array_value=tags))


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
