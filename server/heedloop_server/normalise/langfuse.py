"""Langfuse SDKs (Python 3 and later, JavaScript): `langfuse.observation.*`, content and usage as JSON."""

from __future__ import annotations

from typing import Any

from heedloop_server.normalise.context import cost_in
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import one_turn, read_messages, with_system
from heedloop_server.normalise.params import caller_params, read_params
from heedloop_server.normalise.payload import answer_messages, embedding_texts, read_response
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.tool_definitions import definitions_in_request, read_definitions
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_name, as_text, as_texts, read_json, read_object

_NAME = "langfuse.observation."
_ITEMS = ("message", "function_call", "reasoning")  # of the Responses API
_METADATA = "langfuse.observation.metadata."


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a generation or embedding."""
    attrs = span.attrs
    embeds = attrs.get(_NAME + "type") == "embedding"
    _read_models(attrs, draft)
    given = read_object(attrs.get(_NAME + "model.parameters"))
    draft.add_params(caller_params(read_params(given), given))
    draft.add_usage(read_usage(attrs.get(_NAME + "usage_details")))
    if draft.cost is None:
        draft.cost = cost_in(attrs.get(_NAME + "cost_details"))
    if embeds:
        value = read_json(attrs.get(_NAME + "input"))
        value = value.get("input", value) if isinstance(value, dict) else value
        draft.embedding_inputs = draft.embedding_inputs or embedding_texts(value)
    else:
        _read_messages(attrs, draft)
    if str(attrs.get(_NAME + "level")).upper() == "ERROR":
        draft.failed = True
        draft.error_message = draft.error_message or as_name(attrs.get(_NAME + "status_message"))
    draft.finish_reasons = draft.finish_reasons or as_texts(read_json(attrs.get(_METADATA + "finish_reason")))
    if read_json(attrs.get(_METADATA + "object")) == "response":  # what is left of a streamed response
        draft.response_id = draft.response_id or as_name(attrs.get(_METADATA + "id"))
    # only streams say when their first token came
    draft.stream = draft.stream or attrs.get(_NAME + "completion_start_time") is not None


def _read_models(attrs: dict[str, Any], draft: Draft) -> None:
    """The models: `model.name` is the answered one of a call that succeeded, the requested one of a call that failed."""
    named = as_name(attrs.get(_NAME + "model.name"))
    requested = as_name(attrs.get(_METADATA + "ls_model_name"))
    draft.provider = draft.provider or provider_id(attrs.get(_METADATA + "ls_provider"))
    if draft.model_requested is None:
        draft.model_requested = requested or named
    if draft.model_answered is None and str(attrs.get(_NAME + "level")).upper() != "ERROR":
        draft.model_answered = named


def _is_definition(message: Any) -> bool:
    """True for a tool that LangChain's handler writes as a message after the conversation."""
    content = message.get("content") if isinstance(message, dict) and message.get("role") == "tool" else None
    return isinstance(content, dict) and content.get("type") == "function" and "function" in content


def _read_messages(attrs: dict[str, Any], draft: Draft) -> None:
    if not draft.input_messages:
        value = read_json(attrs.get(_NAME + "input"))
        if isinstance(value, dict):
            draft.tool_definitions = draft.tool_definitions or definitions_in_request(value)
        if isinstance(value, dict) and "messages" not in value and "input" in value:
            value = value["input"]
        if isinstance(value, list):
            offered = [v for v in value if _is_definition(v)]
            value = [v for v in value if not _is_definition(v)]
            draft.tool_definitions = draft.tool_definitions or read_definitions(
                [v["content"] for v in offered]
            )
        draft.input_messages = read_messages(value)
        if draft.input_messages and _METADATA + "tools" in attrs:  # the rest of a Responses request
            instructions = as_name(attrs.get(_METADATA + "instructions"))
            draft.input_messages = with_system(instructions, draft.input_messages)
    if draft.output_messages:
        return
    value = read_json(attrs.get(_NAME + "output"))
    if isinstance(value, dict) and not ({"choices", "output", "generations", "candidates"} & set(value)):
        draft.output_messages = answer_messages(value) or read_messages(as_text(value), "assistant")
    elif isinstance(value, dict):
        read_response(draft, value)
    else:
        items = isinstance(value, list) and any(
            isinstance(v, dict) and v.get("type") in _ITEMS for v in value
        )
        messages = read_messages(value, "assistant")
        draft.output_messages = one_turn(messages) if items else messages
