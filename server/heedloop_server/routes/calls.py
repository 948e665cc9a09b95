"""Lists of calls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query

from heedloop.responses.calls import CallsPage, CallSummary
from heedloop.schema import SchemaError, Usage
from heedloop_server.filters import CallFilters
from heedloop_server.http.auth import scoped
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.responses import Router
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.quality.summaries import judgements_of
from heedloop_server.store.spans import list_calls

router = Router()

Reader = Annotated[ProjectStore, Depends(scoped("read"))]


class CallQuery(CallFilters):
    """Filters with a page."""

    limit: Annotated[int, Query(ge=1, le=500)] = 50
    cursor: str | None = None


@router.get("/v1/calls")
def get_calls(project: Reader, query: Annotated[CallQuery, Query()]) -> CallsPage:
    """Call summaries, newest first."""
    rows = list_calls(project, query, limit=query.limit, after=_after(query.cursor))
    keys = [(r["trace_id_hex"], r["span_id_hex"]) for r in rows]
    judged = judgements_of(project, keys, [r["start_time"] for r in rows])
    calls = [CallSummary(**summary_values(r), **judged[k]) for r, k in zip(rows, keys, strict=True)]
    last = calls[-1] if len(calls) == query.limit else None
    return CallsPage(
        calls=calls,
        next_cursor=write_cursor(last.start_time, last.trace_id, last.span_id) if last else None,
    )


def _after(cursor: str | None) -> tuple[datetime, str, str] | None:
    if cursor is None:
        return None
    at, ids = read_cursor(cursor, 2)
    trace_id, span_id = ids
    try:
        if len(bytes.fromhex(trace_id)) != 16 or len(bytes.fromhex(span_id)) != 8:
            raise ValueError
    except ValueError:
        raise SchemaError("cursor", "is no cursor of calls") from None
    return at, trace_id, span_id


_OPTIONAL = (
    "model",
    "provider",
    "prompt_name",
    "prompt_version",
    "user_id",
    "session_id",
    "error_message",
)


def summary_values(row: Row) -> dict[str, Any]:
    """What a `CallSummary` says of a call, without what was said of it."""
    kept = ("start_time", "duration_ns", "name", "service", "environment", "status", "cost")
    return {
        "trace_id": row["trace_id_hex"],
        "span_id": row["span_id_hex"],
        **{n: row[n] for n in kept},
        **{n: row[n] or None for n in _OPTIONAL},
        "tags": list(row["tags"]),
        "usage": Usage(row["input_tokens"], row["output_tokens"]),
        "input_preview": row["input_preview"],
        "output_preview": row["output_preview"],
    }
