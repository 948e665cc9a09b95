"""Claude Code's own tracing: `claude_code.llm_request` spans, whose counts have no prefix and leave cached tokens out of the input."""

from __future__ import annotations

from heedloop.schema import Usage
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.span import STATUS_ERROR, SpanView
from heedloop_server.normalise.usage import including_cache
from heedloop_server.normalise.values import as_count, as_flag, as_known, as_name, as_texts


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from an `llm_request` span."""
    attrs = span.attrs
    if attrs.get("span.type") != "llm_request":
        return
    draft.provider = draft.provider or "anthropic"
    draft.model_requested = draft.model_requested or as_known(attrs.get("model"))
    draft.finish_reasons = draft.finish_reasons or as_texts(attrs.get("stop_reason"))
    counts = [
        as_count(attrs.get(name))
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
    ]
    draft.add_usage(including_cache(Usage(*counts), excludes=True))
    if as_flag(attrs.get("success")) is False or span.status_code == STATUS_ERROR:
        draft.failed = True
        draft.error_message = draft.error_message or as_name(attrs.get("error"))
        draft.http_status = draft.http_status or as_count(attrs.get("status_code")) or None
