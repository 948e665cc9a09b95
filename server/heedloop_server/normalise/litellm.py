"""LiteLLM's `otel` callback: standard names on the request span, details as Python reprs in `metadata.*`."""

from __future__ import annotations

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_name, read_object

RAW_REQUEST = "raw_gen_ai_request"


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a `litellm_request` span (or one with the generation's own name)."""
    attrs = span.attrs
    draft.add_usage(read_usage(attrs.get("metadata.usage_object")))
    model = as_name(attrs.get("litellm.provider.model"))
    if draft.provider is None and model and "/" in model and not attrs.get("gen_ai.system"):
        draft.provider = model.partition("/")[0]
    embeds = as_name(attrs.get("llm.request.type")) in ("embedding", "aembedding")
    if not embeds and "gen_ai.output.messages" not in attrs:
        read_raw = read_object(attrs.get("hidden_params"))
        draft.response_id = draft.response_id or as_name(read_raw.get("response_id"))


def raw_response_id(span: SpanView) -> str | None:
    """The provider's own response id on the child span `raw_gen_ai_request`, under `llm.<provider>.id`."""
    for key, value in span.attrs.items():
        if key.startswith("llm.") and key.endswith(".id") and key.count(".") == 2:
            return as_name(value)
    return None


def raw_usage_object(span: SpanView) -> object:
    """The provider's own usage on the child span, under `llm.<provider>.usage`; None where it has none."""
    for key, value in span.attrs.items():
        if key.startswith("llm.") and key.endswith(".usage"):
            return value
    return None
