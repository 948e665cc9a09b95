"""What a span's parent or child in the same request says about it: one request often holds a whole family."""

from __future__ import annotations

from dataclasses import replace

from heedloop.schema import Call
from heedloop_server.normalise import litellm
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.usage import read_usage


def settle(spans: list[SpanView], calls: list[Call]) -> list[Call]:
    """The calls (one per span, in the spans' order) after their relatives have been asked."""
    if any(c.attributes.get("heedloop.answer") == "true" for c in calls):
        calls = _inside_answers(calls)
    if any(s.name == litellm.RAW_REQUEST for s in spans):
        calls = _with_raw_requests(spans, calls)
    return calls


def _inside_answers(calls: list[Call]) -> list[Call]:
    """A call inside a decorated answer is a part of that answer: a person rates the whole."""
    by_id = {(c.trace_id, c.span_id): c for c in calls}

    def enclosed(call: Call) -> bool:
        seen: set[str] = {call.span_id}
        parent = call.parent_span_id
        while parent and parent not in seen:
            seen.add(parent)
            found = by_id.get((call.trace_id, parent))
            if found is None:
                return False
            if found.attributes.get("heedloop.answer") == "true":
                return True
            parent = found.parent_span_id
        return False

    return [replace(c, is_answer=False) if c.is_answer and enclosed(c) else c for c in calls]


def _with_raw_requests(spans: list[SpanView], calls: list[Call]) -> list[Call]:
    """LiteLLM replaces the provider's response id by its own; the provider's is on the raw child span."""
    raw = {
        (s.trace_id, s.parent_span_id): s
        for s in spans
        if s.name == litellm.RAW_REQUEST and s.scope == "litellm"
    }
    out: list[Call] = []
    for call in calls:
        child = raw.get((call.trace_id, call.span_id)) if call.operation else None
        if child is not None:
            usage = (
                call.usage if call.usage.input is not None else read_usage(litellm.raw_usage_object(child))
            )
            call = replace(call, response_id=litellm.raw_response_id(child) or call.response_id, usage=usage)
        out.append(call)
    return out
