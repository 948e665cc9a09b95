"""The OpenTelemetry GenAI conventions, all four generations: attributes now and before, span and log events.

What every other client sends beside its own names lands here as well, so this reader runs last and fills the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from heedloop.schema import Message, Usage
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.indexed import unflatten
from heedloop_server.normalise.messages import read_messages, with_system
from heedloop_server.normalise.params import add_format, read_params
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.usage import including_cache
from heedloop_server.normalise.values import (
    as_count,
    as_flag,
    as_name,
    as_text,
    as_texts,
    read_json,
    read_object,
)

OPERATION_DETAILS = "gen_ai.client.inference.operation.details"
_REQUEST = "gen_ai.request."
_ROLE_OF_EVENT = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "choice",
}
_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
_OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
)
_CACHE_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cached_tokens",
    "cache_read_input_tokens",
)
_CACHE_WRITE = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "cache_creation_input_tokens",
    "cache_write_input_tokens",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
)


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a span's standard attributes and its message events."""
    read_attributes(span.attrs, draft)
    if span.events:
        _read_events(span, draft)


def read_attributes(attrs: Mapping[str, Any], draft: Draft) -> None:
    """Fills a draft from standard attributes, of a span or of a log record."""
    get = attrs.get
    if draft.provider is None:
        draft.provider = provider_id(get("gen_ai.provider.name")) or provider_id(get("gen_ai.system"))
    if draft.model_requested is None:
        draft.model_requested = as_name(get("gen_ai.request.model"))
    if draft.model_answered is None:
        draft.model_answered = as_name(get("gen_ai.response.model"))
    if draft.response_id is None:
        draft.response_id = as_name(get("gen_ai.response.id"))
    if not draft.finish_reasons:
        reasons = get("gen_ai.response.finish_reasons") or get("gen_ai.response.finish_reason")
        draft.finish_reasons = as_texts(reasons or get("anthropic.message.stop_reason"))
    draft.stream = draft.stream or _streams(attrs)
    _read_params(attrs, draft)
    _read_usage(attrs, draft)
    _read_messages(attrs, draft)


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


def _read_params(attrs: Mapping[str, Any], draft: Draft) -> None:
    size = len(_REQUEST)
    given = {k[size:]: v for k, v in attrs.items() if k.startswith(_REQUEST)}
    for key in ("gen_ai.openai.request.", "openai.request."):
        if key + "response_format" in attrs or key + "seed" in attrs or key + "reasoning_effort" in attrs:
            given |= {k[len(key) :]: v for k, v in attrs.items() if k.startswith(key)}
    if given:
        draft.add_params(read_params(given))
    output_type = attrs.get("gen_ai.output.type")
    if output_type == "json":
        add_format(draft.params, output_type)


def _read_usage(attrs: Mapping[str, Any], draft: Draft) -> None:
    usage = Usage(
        _count(attrs, _INPUT_TOKENS),
        _count(attrs, _OUTPUT_TOKENS),
        _count(attrs, _CACHE_READ),
        _count(attrs, _CACHE_WRITE),
        _count(attrs, _REASONING),
    )
    if usage.input is not None or usage.output is not None:
        total = as_count(attrs.get("gen_ai.usage.total_tokens"))
        draft.add_usage(including_cache(usage, total=total))


def _count(attrs: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = attrs.get(name)
        if value is not None:
            return as_count(value)
    return None


def _read_messages(attrs: Mapping[str, Any], draft: Draft) -> None:
    get = attrs.get
    if not draft.input_messages:
        messages = read_messages(get("gen_ai.input.messages"))
        draft.input_messages = with_system(get("gen_ai.system_instructions"), messages)
    if not draft.output_messages:
        output = get("gen_ai.output.messages")
        messages = read_messages(output, "assistant")
        # an answer whose parts the client left out says nothing: another attribute or event may
        draft.output_messages = (
            messages if any(m.text or m.tool_calls or m.media or m.reasoning for m in messages) else ()
        )
        if not draft.finish_reasons and output is not None:
            draft.finish_reasons = _reasons_in(output)


def _reasons_in(output: Any) -> tuple[str, ...]:
    """The finish reasons inside output messages, where older instrumentations put them."""
    parsed = read_json(output)
    if not isinstance(parsed, list):
        return ()
    return tuple(
        m["finish_reason"] for m in parsed if isinstance(m, dict) and as_name(m.get("finish_reason"))
    )


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
    told = [(e.name, e.attrs) for e in span.events if e.name in _ROLE_OF_EVENT]
    if told:
        read_event_messages(told, draft)
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
    asked: list[Message] = []
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
            asked += read_messages([{"role": role, **_message_of(body, role)}], role)
    draft.input_messages = draft.input_messages or tuple(asked)
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
