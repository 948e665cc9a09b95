"""LangSmith's OpenTelemetry mode: `langsmith.*`, with LangChain's or the provider's JSON in `gen_ai.prompt/completion`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import read_messages
from heedloop_server.normalise.params import read_params
from heedloop_server.normalise.payload import read_request, read_response
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_flag, as_name, read_json, read_object

_METADATA = "langsmith.metadata."
_LS_PARAMS = ("ls_temperature", "ls_max_tokens", "ls_stop")


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a span of the kind `llm`."""
    attrs = span.attrs
    size = len(_METADATA)
    metadata = {k[size:]: v for k, v in attrs.items() if k.startswith(_METADATA)}
    embeds = metadata.get("ls_model_type") == "embedding" or attrs.get("langsmith.span.kind") == "embedding"
    draft.provider = draft.provider or provider_id(metadata.get("ls_provider"))
    draft.model_requested = (
        draft.model_requested
        or as_name(attrs.get("gen_ai.request.model"))
        or as_name(metadata.get("ls_model_name"))
    )
    draft.stream = draft.stream or as_flag(metadata.get("stream")) is True
    draft.add_params(read_params(metadata))
    read_langchain(metadata, draft)
    request = read_object(attrs.get("gen_ai.prompt"))
    read_request(
        draft,
        request.get("kwargs") if isinstance(request.get("kwargs"), dict) else request,
        embeddings=embeds,
    )
    _read_completion(draft, attrs.get("gen_ai.completion"), embeds)
    draft.add_usage(read_usage(metadata.get("usage_metadata")))


def read_langchain(metadata: Mapping[str, Any], draft: Draft) -> None:
    """Fills a draft from what LangChain says of a model in a run's metadata: `ls_temperature`, `ls_provider` …"""
    draft.add_params(read_params({k[3:]: metadata[k] for k in _LS_PARAMS if k in metadata}))
    draft.provider = draft.provider or provider_id(metadata.get("ls_provider"))


def _read_completion(draft: Draft, value: object, embeds: bool) -> None:
    completion = read_json(value)
    if not isinstance(completion, dict):
        draft.output_messages = draft.output_messages or read_messages(completion, "assistant")
        return
    output = completion.get("output")
    if isinstance(output, dict) and not {"choices", "generations", "id"} & set(completion):
        completion = output
    elif isinstance(output, str):
        draft.output_messages = draft.output_messages or read_messages(output, "assistant")
        return
    read_response(draft, completion, embeddings=embeds)
