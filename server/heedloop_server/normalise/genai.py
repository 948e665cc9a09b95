"""The OpenTelemetry GenAI conventions, all four generations: attributes now and before, span and log events.

What every other client sends beside its own names lands here as well, so this reader runs last and fills the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from heedloop.schema import Message, ToolCall, Usage
from heedloop_server.normalise.aliases import (
    INPUTS,
    NO_NAMES,
    OUTPUT_TOOL_CALLS,
    OUTPUTS,
    PLAIN_INPUTS,
    PLAIN_OUTPUTS,
    RESPONSE_IDS,
    TOKEN_NAMES,
)
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.indexed import unflatten
from heedloop_server.normalise.messages import read_messages, with_system
from heedloop_server.normalise.params import add_format, caller_params, read_params
from heedloop_server.normalise.payload import conversation, read_response
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.shape import Shape, shape_of
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.tool_calls import read_tool_calls
from heedloop_server.normalise.tool_definitions import definitions_in_attributes
from heedloop_server.normalise.usage import including_cache, read_usage
from heedloop_server.normalise.values import (
    as_count,
    as_flag,
    as_known,
    as_name,
    as_text,
    as_texts,
    read_json,
    read_object,
)

OPERATION_DETAILS = "gen_ai.client.inference.operation.details"
_ROLE_OF_EVENT = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "choice",
}


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a span's standard attributes and its message events."""
    read_attributes(span.attrs, draft, span.shape)
    if span.events:
        _read_events(span, draft)


def read_attributes(attrs: Mapping[str, Any], draft: Draft, shape: Shape | None = None) -> None:
    """Fills a draft from standard attributes, of a span or of a log record."""
    get = attrs.get
    shape = shape or shape_of(attrs)
    if draft.provider is None:
        draft.provider = provider_id(get("gen_ai.provider.name")) or provider_id(get("gen_ai.system"))
    if draft.model_requested is None:
        draft.model_requested = as_known(get("gen_ai.request.model"))
    if draft.model_answered is None:
        draft.model_answered = as_known(get("gen_ai.response.model"))
    for name in RESPONSE_IDS:
        if draft.response_id is None and name in attrs:
            draft.response_id = _response_id(name, attrs[name])
    if not draft.finish_reasons:
        reasons = get("gen_ai.response.finish_reasons") or get("gen_ai.response.finish_reason")
        found = as_texts(reasons or get("anthropic.message.stop_reason"))
        draft.finish_reasons = tuple(r for r in found if r.lower() not in NO_NAMES) if found else ()
    draft.stream = draft.stream or _streams(attrs)
    _read_params(attrs, draft, shape)
    _read_usage(attrs, draft, shape)
    _read_messages(attrs, draft)
    if shape.has_tools and not draft.tool_definitions:
        draft.tool_definitions = definitions_in_attributes(attrs)


_PROMPT_OF_MANY = re.compile(r"-\d+$")


def _response_id(name: str, value: Any) -> str | None:
    found = as_known(value)
    if (
        found and name == "gen_ai.request.id" and found.startswith("cmpl-")
    ):  # vLLM numbers the prompts of one completion
        return _PROMPT_OF_MANY.sub("", found)
    return found


def _streams(attrs: Mapping[str, Any]) -> bool:
    for key in (
        "gen_ai.request.stream",
        "gen_ai.is_streaming",
        "llm.is_streaming",
        "gen_ai.request.is_stream",
    ):
        flag = attrs.get(key)
        if flag is not None:
            return as_flag(flag) is True
    # only a streamed answer has a first chunk
    return "gen_ai.response.time_to_first_chunk" in attrs


def _read_params(attrs: Mapping[str, Any], draft: Draft, shape: Shape) -> None:
    if shape.request:
        given = {field: attrs[name] for name, field in shape.request}
        params = read_params(given)
        is_openlit = attrs.get("telemetry.sdk.name") == "openlit"
        draft.add_params(caller_params(params, given, seed=0) if is_openlit else params)
    output_type = attrs.get("gen_ai.output.type")
    if output_type == "json":
        add_format(draft.params, output_type)


def _read_usage(attrs: Mapping[str, Any], draft: Draft, shape: Shape) -> None:
    counts = [as_count(attrs[name]) if name else None for name in shape.tokens]
    if None in counts:  # where the best name holds no number, another may
        counts = [_count_of(attrs, i) if c is None and shape.tokens[i] else c for i, c in enumerate(counts)]
    if counts[0] is not None or counts[1] is not None:
        total = as_count(attrs.get("gen_ai.usage.total_tokens"))
        draft.add_usage(including_cache(Usage(*counts), total=total))
    for name in shape.usages:
        draft.add_usage(read_usage(attrs[name]))


def _count_of(attrs: Mapping[str, Any], field: int) -> int | None:
    return next((c for n in TOKEN_NAMES[field] if (c := as_count(attrs.get(n))) is not None), None)


def _read_messages(attrs: Mapping[str, Any], draft: Draft) -> None:
    get = attrs.get
    known = draft.input_messages
    if not known or not has_question(known):
        question = next((value for name in INPUTS if (value := get(name))), None)
        questions = with_system(get("gen_ai.system_instructions"), read_messages(question))
        draft.input_messages = _with_question(known, questions) if known else questions
    if not draft.output_messages:
        output = next((value for name in OUTPUTS if (value := get(name))), None)
        # an answer whose parts the client left out says nothing: another attribute or event may
        draft.output_messages = nonempty_messages(read_messages(output, "assistant"))
        if not draft.finish_reasons and output is not None:
            draft.finish_reasons = _reasons_in(output)
    if OUTPUT_TOOL_CALLS in attrs:
        _add_tool_calls(draft, tuple(read_tool_calls(attrs[OUTPUT_TOOL_CALLS])))


def _add_tool_calls(draft: Draft, calls: tuple[ToolCall, ...]) -> None:
    """Adds the tool calls of an answer whose text stands in another place."""
    if calls and not any(m.tool_calls for m in draft.output_messages):
        *others, last = draft.output_messages or (Message("assistant", ""),)
        draft.output_messages = (*others, replace(last, tool_calls=calls))


def read_plain(attrs: Mapping[str, Any], draft: Draft) -> None:
    """Fills what is still missing from attributes that hold whatever a span was given and gave: JSON, or plain text.

    An object that is no provider's response is the answer where output was counted: JSON, as the app asked for.
    """
    if not draft.input_messages:
        values = (_plain_value(attrs[name]) for name in PLAIN_INPUTS if name in attrs)
        found = (conversation(v) if isinstance(v, dict) else read_messages(v) for v in values)
        draft.input_messages = next((m for m in found if m), ())
    for value in [_plain_value(attrs[name]) for name in PLAIN_OUTPUTS if name in attrs]:
        if draft.output_messages:
            return
        if not isinstance(value, dict):
            draft.output_messages = read_messages(value, "assistant")
            continue
        read_response(draft, value)
        if not (draft.output_messages or draft.failed) and draft.usage.output:
            draft.output_messages = (Message("assistant", as_text(value)),)


def _plain_value(value: Any) -> Any:
    """A value, out of the object with its type that LangWatch puts it in."""
    parsed = read_json(value)
    return parsed["value"] if isinstance(parsed, dict) and set(parsed) == {"type", "value"} else parsed


def nonempty_messages(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages of an answer; none where all are empty, which is what clients send of a call that failed."""
    if not messages or messages[0].text:
        return messages
    return messages if any(m.text or m.tool_calls or m.media or m.reasoning for m in messages) else ()


def has_question(messages: tuple[Message, ...]) -> bool:
    """True where there is more than system instructions, which some clients put in another place than the conversation."""
    return any(not m.is_instruction for m in messages)


def _with_question(known: tuple[Message, ...], questions: tuple[Message, ...]) -> tuple[Message, ...]:
    """A conversation after the system instructions that are known already; what is known where that is more."""
    return known if has_question(known) else known + tuple(m for m in questions if m not in known)


def _reasons_in(output: Any) -> tuple[str, ...]:
    """The finish reasons inside output messages, where older instrumentations put them."""
    if isinstance(output, str) and "finish_reason" not in output:
        return ()
    parsed = read_json(output)
    if not isinstance(parsed, list):
        return ()
    found = (as_name(m.get("finish_reason")) for m in parsed if isinstance(m, dict))
    return tuple(r for r in found if r)


def read_indexed(span: SpanView, draft: Draft) -> None:
    """Fills a draft from the numbered attributes `gen_ai.prompt.N.*` and `gen_ai.completion.N.*` (Traceloop to 0.4x)."""
    if not draft.input_messages:
        prompts = [p for p in unflatten(span.attrs, "gen_ai.prompt.") if isinstance(p, dict)]
        draft.input_messages = tuple(m for p in prompts for m in read_messages([{"role": "user", **p}]))
    completions = [c for c in unflatten(span.attrs, "gen_ai.completion.") if isinstance(c, dict)]
    if not draft.output_messages:
        draft.output_messages = tuple(
            m for c in completions for m in read_messages([{"role": "assistant", **c}], "assistant")
        )
    if not draft.finish_reasons:
        draft.finish_reasons = tuple(
            as_text(c["finish_reason"]) for c in completions if c.get("finish_reason")
        )


# ------------------------------------------------------------------------------------------------------- events


def _read_events(span: SpanView, draft: Draft) -> None:
    message_events = [(e.name, e.attrs) for e in span.events if e.name in _ROLE_OF_EVENT]
    if message_events:
        read_event_messages(message_events, draft)
    for event in span.events:
        if event.name == OPERATION_DETAILS:
            read_attributes(event.attrs, draft)
        elif event.name == "gen_ai.content.prompt" and not draft.input_messages:
            draft.input_messages = read_messages(event.attrs.get("gen_ai.prompt"))
        elif event.name == "gen_ai.content.completion" and not draft.output_messages:
            draft.output_messages = read_messages(event.attrs.get("gen_ai.completion"), "assistant")


def is_message_event(name: str) -> bool:
    """True for the events of conventions up to 1.36 that hold one message each."""
    return name in _ROLE_OF_EVENT


def read_event_messages(events: Iterable[tuple[str, Mapping[str, Any]]], draft: Draft) -> None:
    """Fills a draft from message events, in order: (event name, body or attributes)."""
    questions: list[Message] = []
    answered: list[Message] = []
    reasons: list[str] = []
    for name, sent in events:
        role = _ROLE_OF_EVENT[name]
        inner = sent.get("gen_ai.event.content")  # Azure's instrumentations put the body into one attribute
        body = {**sent, **read_object(inner)} if inner is not None else sent
        if role == "choice":
            answered += _choice(body)
            reason = as_name(body.get("finish_reason"))
            reasons += [reason] if reason else []
        else:
            nonempty_messages = read_messages([{"role": role, **_message_of(body, role)}], role)
            # Bedrock's instrumentation sends a tool's result as an event of its own and in the user's message again
            questions += [
                m for m in nonempty_messages if not (m.tool_call_id and m.role == "tool" and m in questions)
            ]
    draft.input_messages = _with_question(draft.input_messages, tuple(questions))
    draft.output_messages = draft.output_messages or tuple(answered)
    draft.finish_reasons = draft.finish_reasons or tuple(reasons)


def _choice(body: Mapping[str, Any]) -> tuple[Message, ...]:
    message = read_json(body.get("message"))
    if message is None:
        message = {k: body[k] for k in ("content", "tool_calls", "parts") if k in body}
    if isinstance(message, dict):
        return read_messages([{"role": "assistant", **message}], "assistant") if message else ()
    return read_messages(message, "assistant")


def _message_of(body: Mapping[str, Any], role: str) -> dict[str, Any]:
    """A message event's body as a message; Google's contents (`parts`) and plain text among them."""
    message = dict(body)
    content = read_json(message.get("content"))
    if isinstance(content, dict) and ("parts" in content or "role" in content):
        message.update(content)
        if "parts" in content:
            message.pop("content", None)
    if role != "user" or message.get("role") in (None, "model"):
        message["role"] = role
    return message
