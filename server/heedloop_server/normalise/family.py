"""What a span's relatives in the same request say about it: one request often holds a whole family."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import attrgetter

from heedloop.schema import Call, Message, ToolCall
from heedloop_server.normalise import litellm, logfire
from heedloop_server.normalise.duplicates import fold
from heedloop_server.normalise.heedloop_sdk import ANSWER, is_own
from heedloop_server.normalise.span import SpanView

_CONTEXT_OF = attrgetter("session_id", "user_id", "tags")
_Context = tuple[str | None, str | None, tuple[str, ...]]


def resolve_family(spans: list[SpanView], calls: list[Call]) -> list[Call]:
    """The calls (one per span, in the spans' order) after their relatives have been asked."""
    if litellm.RAW_REQUEST in {s.name for s in spans}:
        calls = _with_raw_requests(spans, calls)
    if any(scope.startswith("logfire") for scope in {s.resource.scope for s in spans}):
        calls = logfire.with_stream_ids(spans, calls)
    if sum(bool(c.operation) for c in calls) > 1:
        calls = fold(_with_call_ids(calls))
    calls = in_context(calls)
    if any(c.attributes.get(ANSWER) == "true" for c in calls):
        calls = _inside_answers(calls)
    return calls


def in_context(calls: list[Call]) -> list[Call]:
    """Calls with the session, user and tags of the spans around them: agents' frameworks put them on the agent alone.

    Spans of heedloop's own SDK carry their own, which are right whatever is around them.
    """
    if not any(not c.operation and (c.session_id or c.user_id or c.tags) for c in calls):
        return calls
    by_id = {(c.trace_id, c.span_id): c for c in calls}
    known: dict[tuple[str, str], _Context] = {}
    return [_with_context(c, by_id, known) if c.operation and c.parent_span_id else c for c in calls]


def _with_context(
    call: Call, by_id: Mapping[tuple[str, str], Call], known: dict[tuple[str, str], _Context]
) -> Call:
    """`known`: what was found for spans before; with it, ten thousand spans within each other are walked through once."""
    own = _CONTEXT_OF(call)
    if all(own) or is_own(call.attributes):
        return call
    path: dict[tuple[str, str], Call] = {}
    place = (call.trace_id, call.span_id)
    while place not in known and place not in path and (span := by_id.get(place)) is not None:
        path[place] = span
        place = (call.trace_id, span.parent_span_id or "")
    found: _Context = known.get(place, (None, None, ()))
    for inner, span in reversed(path.items()):
        session, user, tags = _CONTEXT_OF(span)
        found = known[inner] = (session or found[0], user or found[1], tags or found[2])
    if found == own:
        return call
    return replace(call, session_id=found[0], user_id=found[1], tags=found[2])


def _inside_answers(calls: list[Call]) -> list[Call]:
    """A call inside a decorated answer is a part of that answer: a person rates the whole."""
    by_id = {(c.trace_id, c.span_id): c for c in calls}

    known: dict[tuple[str, str], bool] = {}

    def enclosed(call: Call) -> bool:
        path: list[tuple[str, str]] = []
        own, place = (call.trace_id, call.span_id), (call.trace_id, call.parent_span_id or "")
        passed = {own}
        while place not in known and place not in passed and (outer := by_id.get(place)) is not None:
            if outer.attributes.get(ANSWER) == "true":
                known[place] = True
                break
            passed.add(place)
            path.append(place)
            place = (call.trace_id, outer.parent_span_id or "")
        known.update(dict.fromkeys(path, known.get(place, False)))
        return known.get(place, False)

    return [replace(c, is_answer=False) if c.is_answer and enclosed(c) else c for c in calls]


def _with_raw_requests(spans: list[SpanView], calls: list[Call]) -> list[Call]:
    """LiteLLM puts its own id in the place of the provider's and drops tool calls; its raw child span has both."""
    raw = {(s.trace_id, s.parent_span_id): s for s in spans if s.name == litellm.RAW_REQUEST}
    return [
        litellm.with_raw_request(c, raw[c.trace_id, c.span_id])
        if c.operation and (c.trace_id, c.span_id) in raw
        else c
        for c in calls
    ]


# ------------------------------------------------------------------------------------------------ tool call ids


def _with_call_ids(calls: list[Call]) -> list[Call]:
    """Tool calls under the id by which their result refers to them.

    The Responses API gives a tool call an id of its own as an item (`fc_…`) beside the id of the call (`call_…`), and
    some clients keep the wrong one of an answer. The next request repeats the tool call under the right one.
    """
    if not any(_has_item_id(c) for c in calls):
        return calls
    ids = {
        _call_identity(t): t.id
        for c in calls
        for t in _input_tool_calls(c)
        if t.id and not t.id.startswith("fc_")
    }
    return [
        replace(c, output_messages=tuple(_renamed(m, ids) for m in c.output_messages))
        if _has_item_id(c)
        else c
        for c in calls
    ]


def _has_item_id(call: Call) -> bool:
    return any(t.id and t.id.startswith("fc_") for m in call.output_messages for t in m.tool_calls)


def _input_tool_calls(call: Call) -> Iterator[ToolCall]:
    for message in call.input_messages:
        yield from message.tool_calls


def _call_identity(call: ToolCall) -> tuple[str, str]:
    try:
        return call.name, json.dumps(json.loads(call.arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return call.name, call.arguments


def _renamed(message: Message, ids: Mapping[tuple[str, str], str | None]) -> Message:
    renamed = tuple(
        replace(t, id=ids.get(_call_identity(t), t.id)) if t.id and t.id.startswith("fc_") else t
        for t in message.tool_calls
    )
    return replace(message, tool_calls=renamed) if renamed != message.tool_calls else message
