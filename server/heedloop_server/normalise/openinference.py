"""OpenInference (Arize Phoenix): `llm.*`, `embedding.*`, with the raw request and response in `input/output.value`."""

from __future__ import annotations

from typing import Any

from heedloop.schema import Message, Usage
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.genai import nonempty_messages
from heedloop_server.normalise.indexed import nested, unflatten
from heedloop_server.normalise.langsmith import read_langchain
from heedloop_server.normalise.messages import read_messages
from heedloop_server.normalise.params import read_params
from heedloop_server.normalise.payload import conversation, read_request, read_response
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import STATUS_ERROR, SpanView
from heedloop_server.normalise.usage import including_cache
from heedloop_server.normalise.values import as_count, as_flag, as_name, as_texts, read_json, read_object

_TOKENS = "llm.token_count."


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from an LLM or EMBEDDING span."""
    attrs = span.attrs
    embeds = attrs.get("openinference.span.kind") == "EMBEDDING"
    draft.provider = (
        draft.provider or provider_id(attrs.get("llm.provider")) or provider_id(attrs.get("llm.system"))
    )
    # the response itself knows the model, the id and every choice's finish reason; the attributes may not
    read_response(draft, attrs.get("output.value"), embeddings=embeds)
    _read_models(attrs, draft)
    _read_usage(attrs, draft)
    if embeds:
        _read_embeddings(attrs, draft)
    else:
        _read_messages(attrs, draft)
    if not (draft.input_messages and draft.model_requested and "llm.invocation_parameters" in attrs):
        read_request(draft, attrs.get("input.value"), embeddings=embeds)
    _read_only_name(span, draft)
    if "metadata" in attrs:
        read_langchain(read_object(attrs["metadata"]), draft)
    if _unlinked(draft.input_messages):  # the request itself may have the ids that the attributes leave out
        raw = conversation(read_object(attrs.get("input.value")))
        if len(raw) == len(draft.input_messages) and not _unlinked(raw):
            draft.input_messages = raw


def _read_models(attrs: dict[str, Any], draft: Draft) -> None:
    """The models as far as their place tells which is which: `_read_only_name` has the rest."""
    given = read_object(
        attrs.get("llm.invocation_parameters") or attrs.get("embedding.invocation_parameters")
    )
    echo = "created_at" in given  # OpenAI Agents: what the response says of itself
    draft.add_params(read_params(given))
    draft.stream = draft.stream or as_flag(given.get("stream")) is True
    draft.model_requested = (
        draft.model_requested
        or as_name(attrs.get("llm.request.model_name"))
        or as_name(None if echo else given.get("model"))
        or as_name(given.get("model_name"))
        or as_name(given.get("model_id") or given.get("modelId"))
    )
    draft.model_requested = draft.model_requested or as_name(attrs.get("gen_ai.request.model"))
    draft.model_answered = (
        draft.model_answered
        or as_name(attrs.get("llm.response.model_name"))
        or as_name(attrs.get("gen_ai.response.model"))
    )


def _read_only_name(span: SpanView, draft: Draft) -> None:
    """`model_name` begins as the model asked for; some clients put the one that answered in its place.

    Where the response names that very model, it is the one that answered. Where nothing else says which it is, both are.
    """
    named = as_name(span.attrs.get("llm.model_name")) or as_name(span.attrs.get("embedding.model_name"))
    if draft.model_requested is None and named != draft.model_answered:
        draft.model_requested = named
    if draft.model_answered is None and span.status_code != STATUS_ERROR:
        draft.model_answered = named


def _read_usage(attrs: dict[str, Any], draft: Draft) -> None:
    def count(name: str) -> int | None:
        return as_count(attrs.get(_TOKENS + name))

    usage = Usage(
        count("prompt"),
        count("completion"),
        count("prompt_details.cache_read"),
        count("prompt_details.cache_write"),
        count("completion_details.reasoning"),
    )
    if usage == Usage():
        return
    draft.add_usage(including_cache(usage, total=count("total")))


def _read_messages(attrs: dict[str, Any], draft: Draft) -> None:
    if not draft.input_messages:
        draft.input_messages = read_messages(_listed(attrs, "llm.input_messages"))
    if not draft.output_messages:
        draft.output_messages = nonempty_messages(
            read_messages(_listed(attrs, "llm.output_messages"), "assistant")
        )
    draft.finish_reasons = draft.finish_reasons or as_texts(attrs.get("llm.finish_reason"))
    if not draft.input_messages:  # completions: texts without roles
        prompts = unflatten(attrs, "llm.prompts.") or as_texts(attrs.get("llm.prompts"))
        draft.input_messages = read_messages(
            [p.get("prompt", p) if isinstance(p, dict) else p for p in prompts]
        )
    if not draft.output_messages:
        choices = unflatten(attrs, "llm.choices.")
        draft.output_messages = read_messages(
            [c.get("completion", c) if isinstance(c, dict) else c for c in choices], "assistant"
        )


def _listed(attrs: dict[str, Any], name: str) -> list[Any]:
    """The messages under numbered names, or those of one attribute that holds them all."""
    return unflatten(attrs, name + ".") or nested(read_json(attrs.get(name)))


def _unlinked(messages: tuple[Message, ...]) -> bool:
    """True where a tool's result does not say which call it answers."""
    return any(m.role == "tool" and not m.tool_call_id for m in messages)


def _read_embeddings(attrs: dict[str, Any], draft: Draft) -> None:
    entries = [
        e.get("embedding", e) for e in unflatten(attrs, "embedding.embeddings.") if isinstance(e, dict)
    ]
    texts = [e["text"] for e in entries if isinstance(e, dict) and isinstance(e.get("text"), str)]
    draft.embedding_inputs = draft.embedding_inputs or tuple(texts)


def answers_nothing(span: SpanView, draft: Draft) -> bool:
    """True for a span of the kind LLM whose output is an object without an answer: a step before the call."""
    return (
        span.status_code != STATUS_ERROR
        and not (draft.output_messages or draft.finish_reasons or draft.response_id)
        and draft.usage == Usage()
        and bool(read_object(span.attrs.get("output.value")))
    )
