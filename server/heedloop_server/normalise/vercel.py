"""Vercel AI SDK up to 6, and 7 in its legacy mode: `ai.*`; the call is the span whose operation ends in `do…`."""

from __future__ import annotations

from typing import Any

from heedloop.schema import Message, Usage
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import read_messages
from heedloop_server.normalise.params import read_params
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.tool_calls import read_tool_calls
from heedloop_server.normalise.usage import including_cache
from heedloop_server.normalise.values import as_count, as_name, as_text, as_texts, read_json


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a doGenerate, doStream or doEmbed span."""
    attrs = span.attrs
    draft.provider = draft.provider or provider_id(attrs.get("ai.model.provider"))
    draft.model_requested = draft.model_requested or as_name(attrs.get("ai.model.id"))
    draft.model_answered = draft.model_answered or as_name(attrs.get("ai.response.model"))
    draft.response_id = draft.response_id or as_name(attrs.get("ai.response.id"))
    draft.finish_reasons = draft.finish_reasons or as_texts(
        attrs.get("ai.response.finishReason") or attrs.get("ai.finishReason")
    )
    draft.stream = draft.stream or str(attrs.get("ai.operationId")).endswith("doStream")
    size = len("ai.settings.")
    draft.add_params(read_params({k[size:]: v for k, v in attrs.items() if k.startswith("ai.settings.")}))
    _read_usage(attrs, draft)
    if "ai.values" in attrs or "ai.value" in attrs:
        values = attrs.get("ai.values") or [attrs.get("ai.value")]
        draft.embedding_inputs = (
            tuple(as_text(read_json(v)) for v in values) if isinstance(values, list) else ()
        )
    else:
        _read_messages(attrs, draft)


def _read_usage(attrs: dict[str, Any], draft: Draft) -> None:
    def count(*names: str) -> int | None:
        found = (as_count(attrs.get("ai.usage." + n)) for n in names)
        return next((f for f in found if f is not None), None)

    usage = Usage(
        count("inputTokens", "promptTokens", "tokens"),
        count("outputTokens", "completionTokens"),
        count("cachedInputTokens", "inputTokenDetails.cacheReadTokens"),
        count("inputTokenDetails.cacheWriteTokens"),
        count("reasoningTokens", "outputTokenDetails.reasoningTokens"),
    )
    draft.add_usage(including_cache(usage, total=count("totalTokens")))


def _read_messages(attrs: dict[str, Any], draft: Draft) -> None:
    if not draft.input_messages:
        draft.input_messages = read_messages(attrs.get("ai.prompt.messages") or attrs.get("ai.prompt"))
    if draft.output_messages:
        return
    text = as_text(_answered(attrs, "text") or _answered(attrs, "object"))
    calls = tuple(read_tool_calls(_answered(attrs, "toolCalls")))
    reasoning = as_name(_answered(attrs, "reasoning"))
    if text or calls or reasoning:
        draft.output_messages = (Message("assistant", text, reasoning, calls),)


def _answered(attrs: dict[str, Any], name: str) -> Any:
    """A part of the answer, under `ai.response.` or, before version 4, `ai.result.`."""
    value = attrs.get("ai.response." + name)
    return attrs.get("ai.result." + name) if value is None else value
