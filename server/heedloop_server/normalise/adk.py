"""Google's ADK: standard names, and in its first schema the raw request and response beside them."""

from __future__ import annotations

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.payload import read_request, read_response
from heedloop_server.normalise.span import SpanView

_NAME = "gcp.vertex.agent."


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from `gcp.vertex.agent.llm_request` and `llm_response`."""
    read_request(draft, span.attrs.get(_NAME + "llm_request"))
    read_response(draft, span.attrs.get(_NAME + "llm_response"))
