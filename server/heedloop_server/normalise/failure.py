"""Whether a call failed, what its error says, and the HTTP status: from the status, attributes, exception or message."""

from __future__ import annotations

import re
from typing import Any

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.span import STATUS_ERROR, STATUS_OK, SpanView
from heedloop_server.normalise.values import as_count, as_name

_HTTP_ATTRIBUTES = ("http.response.status_code", "http.status_code", "error.code", "http.response.status")
_IN_MESSAGE = re.compile(
    r"(?:\b(?:status[ _]?code|error[ _]?code|code|status|http(?:/\d(?:\.\d)?)?)\b\W{0,4}|^\s*|^\w*(?:Error|Exception): )"
    r"([45]\d\d)\b",
    re.IGNORECASE,
)
_MAX_SEARCHED = 2_000


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft's failure, error message and HTTP status."""
    attrs = span.attrs
    exception = span.exception() if span.events else {}
    status = _http_status(attrs)
    if draft.failed or _failed(span, exception, status, draft):
        draft.failed = True
        draft.error_message = draft.error_message or _message(span, exception)
        status = status or _status_in(draft.error_message, as_name(exception.get("exception.message")))
    draft.http_status = draft.http_status or status


def _failed(span: SpanView, exception: dict[str, Any], http_status: int | None, draft: Draft) -> bool:
    """True where the call failed: said by the status, or by an error where the status says nothing."""
    if span.status_code == STATUS_ERROR:
        return True
    if span.status_code == STATUS_OK:
        return False
    if span.attrs.get("error.type") or (http_status or 0) >= 400:
        return True
    return bool(exception) and not draft.output_messages


def _message(span: SpanView, exception: dict[str, Any]) -> str | None:
    """The error's message: the exception's where it says more than the status does."""
    attrs = span.attrs
    exception_text = as_name(exception.get("exception.message")) or as_name(attrs.get("exception.message"))
    status_text = span.status_message.strip()
    if exception_text and exception_text not in status_text:
        return (
            exception_text
            if not status_text or len(exception_text) > len(status_text) or status_text in exception_text
            else f"{status_text}\n{exception_text}"
        )
    return (
        status_text
        or as_name(attrs.get("error.message"))
        or as_name(attrs.get("error.type"))
        or as_name(exception.get("exception.type"))
    )


def _http_status(attrs: dict[str, Any]) -> int | None:
    for name in _HTTP_ATTRIBUTES:
        if name in attrs:
            code = as_count(attrs[name])
            if code is not None and 100 <= code <= 599:
                return code
    return None


def _status_in(*messages: str | None) -> int | None:
    """The HTTP status that an error message names, such as 429 in `Error code: 429 - Rate limit reached`."""
    for message in messages:
        match = _IN_MESSAGE.search(message[:_MAX_SEARCHED]) if message else None
        if match:
            return int(match[1])
    return None
