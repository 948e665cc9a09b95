"""Google's ADK: standard names, and in its first schema the raw request and response beside them."""

from __future__ import annotations

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.payload import read_request, read_response
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.values import read_object

_NAME = "gcp.vertex.agent."


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from `gcp.vertex.agent.llm_request` and `llm_response`."""
    request = read_object(span.attrs.get(_NAME + "llm_request"))
    read_request(draft, request)
    # gen_ai.system is the framework's own name, also where LiteLLM asks another provider
    if draft.provider is None and str(draft.model_requested).startswith("gemini"):
        draft.provider = "gcp.gemini"
    read_response(draft, span.attrs.get(_NAME + "llm_response"))
