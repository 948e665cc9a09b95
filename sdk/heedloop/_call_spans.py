"""Calls as one OTLP request, in the attributes that the SDK itself writes (docs/spans.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from heedloop import attributes as names
from heedloop.schema import Call

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
    if call.parent_span_id:
        span.parent_span_id = bytes.fromhex(call.parent_span_id)
    if call.status == "error":
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = call.error_message or ""
    span.attributes.extend(_attributes(call))
    return span


def _attributes(call: Call) -> Iterable[KeyValue]:
    """What the call's fields say, and the raw attributes under other names."""
    own = {k: v for k, v in _named(call).items() if v not in (None, "", (), [])}
    if call.output_messages and not call.output_text:
        # Messages without a text are read as "not recorded"; this says that the answer was empty.
        own[names.OUTPUT] = ""
    for name, value in {**call.attributes, **own}.items():
        yield KeyValue(key=name, value=_any_value(value))


def _named(call: Call) -> dict[str, Any]:
    tools = names.tool_definition_parts(call.tool_definitions)
    return {
        names.OPERATION_NAME: call.operation,
        names.ANSWER: call.is_answer,
        names.INPUT_MESSAGES: json.dumps(names.messages_parts(call.input_messages), ensure_ascii=False),
        names.OUTPUT_MESSAGES: json.dumps(names.messages_parts(call.output_messages), ensure_ascii=False),
        names.TOOL_DEFINITIONS: json.dumps(tools, ensure_ascii=False) if tools else None,
        names.PROVIDER_NAME: call.provider,
        names.REQUEST_MODEL: call.model_requested,
        names.RESPONSE_MODEL: call.model_answered,
        names.RESPONSE_ID: call.response_id,
        names.REQUEST_STREAM: call.stream or None,
        names.CONVERSATION_ID: call.session_id,
        names.USER_ID: call.user_id,
        names.PROMPT_NAME: call.prompt_name,
        names.PROMPT_VERSION: call.prompt_version,
        names.TAGS: call.tags,
        names.FINISH_REASONS: call.finish_reasons,
        "http.response.status_code": call.http_status,
        names.COST: call.cost,
        names.SAMPLING_PROBABILITY: call.sampling_probability if call.sampling_probability < 1 else None,
        **{attribute: getattr(call.usage, field) for field, attribute in names.USAGE_ATTRIBUTES.items()},
        **{names.REQUEST_PREFIX + k: v for k, v in call.params.items()},
    }


def _any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, (list, tuple)):
        entries = cast(Sequence[Any], value)
        return AnyValue(array_value=ArrayValue(values=[_any_value(v) for v in entries]))
    return AnyValue(string_value=value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
