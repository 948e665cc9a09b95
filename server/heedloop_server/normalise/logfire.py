"""Logfire's own provider instrumentation: standard names now, `request_data` / `response_data` in its first version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from heedloop.schema import Call, Message
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import read_messages
from heedloop_server.normalise.payload import read_request, read_response
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.tool_calls import read_tool_calls
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_number, as_text, read_object

_NS_PER_S = 1_000_000_000
_TYPE = "logfire.span_type"


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from an instrumented request, or from the log-span that ends a streamed one."""
    attrs = span.attrs
    request = attrs.get("request_data")
    embeds = attrs.get("gen_ai.operation.name") == "embeddings"
    read_request(draft, request, embeddings=embeds)
    response = read_object(attrs.get("response_data"))
    if response:
        _read_response(draft, response, embeds)
    draft.add_usage(read_usage(attrs.get("gen_ai.usage.raw")))
    if attrs.get("logfire.span_type") == "log":
        draft.stream = True
        seconds = as_number(attrs.get("duration"))
        draft.duration_ns = int(seconds * _NS_PER_S) if seconds and 0 < seconds < 86_400 else None


def _read_response(draft: Draft, response: dict[str, Any], embeds: bool) -> None:
    """The first version's summary: `message` and `usage`, or `combined_chunk_content` of a stream."""
    draft.add_usage(read_usage(response.get("usage")))
    if embeds:
        return
    if isinstance(response.get("message"), dict):
        draft.output_messages = draft.output_messages or read_messages([response["message"]], "assistant")
    elif isinstance(response.get("combined_chunk_content"), str):
        calls = tuple(read_tool_calls(response.get("tool_calls")))
        text = as_text(response["combined_chunk_content"])
        draft.output_messages = draft.output_messages or (Message("assistant", text, tool_calls=calls),)
    read_response(draft, response)


def is_request_half(span: SpanView, draft: Draft) -> bool:
    """True for the span of a streamed request, which ends before the first token: the log-span is the call.

    Logfire exports a streamed call as two spans in two traces without a shared id. This half holds no answer, no usage
    and no error; a call that was not streamed holds one of them.
    """
    return (
        span.attrs.get("logfire.span_type") == "span"
        and "request_data" in span.attrs
        and not (draft.output_messages or draft.usage.input or draft.response_id or draft.finish_reasons)
        and span.status_code != 2
        and "gen_ai.usage.raw" not in span.attrs
    )


def with_stream_ids(spans: list[SpanView], calls: list[Call]) -> list[Call]:
    """The calls with response ids for the log-spans that end streamed requests, where the client's own span has one.

    A client that makes spans itself (anthropic 2) makes its span inside the half of the request, in another trace than
    the log-span: only the half, with the same model and question, says that both are one provider call.
    """
    halves = {key: c for key, c in zip(map(_key, spans), calls, strict=True) if _is_half(c)}
    inner = [c for c in calls if c.response_id and (c.trace_id, c.parent_span_id) in halves]
    ends = [c for c in calls if c.operation and not c.response_id and c.attributes.get(_TYPE) == "log"]
    ids: dict[tuple[str, str], str | None] = {}
    for call in sorted(inner, key=lambda c: c.start_time):
        half = halves[call.trace_id, call.parent_span_id or ""]
        end = next((e for e in sorted(ends, key=lambda e: e.start_time) if _ends(half, e, ids)), None)
        if end is not None:
            ids[end.trace_id, end.span_id] = call.response_id
    return (
        [replace(c, response_id=ids.get((c.trace_id, c.span_id), c.response_id)) for c in calls]
        if ids
        else calls
    )


def _key(span: SpanView) -> tuple[str, str]:
    return span.trace_id, span.span_id


def _is_half(call: Call) -> bool:
    return not call.operation and call.attributes.get(_TYPE) == "span" and "request_data" in call.attributes


def _ends(half: Call, end: Call, paired: Collection[tuple[str, str]]) -> bool:
    return (
        (end.trace_id, end.span_id) not in paired
        and end.start_time >= half.start_time
        and (end.model_requested, end.input_messages) == (half.model_requested, half.input_messages)
    )
