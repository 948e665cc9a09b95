"""LiteLLM's `otel` callback: standard names on the request span, details as Python reprs in `metadata.*`."""

from __future__ import annotations

from dataclasses import replace

from heedloop.schema import Call
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.payload import read_response
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.tool_definitions import definitions_in_request
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_name, read_json

RAW_REQUEST = "raw_gen_ai_request"


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a `litellm_request` span (or one with the generation's own name)."""
    attrs = span.attrs
    draft.add_usage(read_usage(attrs.get("metadata.usage_object")))
    model = as_name(attrs.get("litellm.provider.model"))
    if draft.provider is None and model and "/" in model and not attrs.get("gen_ai.system"):
        draft.provider = model.partition("/")[0]


def with_raw_request(call: Call, raw: SpanView) -> Call:
    """The call with what only its raw child span knows: the provider's own id, tool calls, cached tokens."""
    prefix = next(
        (k[: k.index(".", 4) + 1] for k in raw.attrs if k.startswith("llm.") and k.count(".") >= 2), ""
    )
    if not prefix:
        return call
    payload = {k[len(prefix) :]: read_json(v) for k, v in raw.attrs.items() if k.startswith(prefix)}
    draft = Draft()
    tools = call.tool_definitions or definitions_in_request(payload)
    read_response(draft, payload, embeddings=call.operation == "embeddings")
    said_more = any(m.tool_calls for m in draft.output_messages) or not call.output_messages
    return replace(
        call,
        response_id=draft.response_id or call.response_id,
        output_messages=draft.output_messages if said_more else call.output_messages,
        tool_definitions=tools,
        usage=call.usage if call.usage.input is not None else draft.usage,
    )
