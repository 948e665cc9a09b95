"""Lists of calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from heedloop.responses.calls import CallsPage, CallSummary, KnownCall, KnownCalls, TaggedCalls
from heedloop.schema import SchemaError, Target, Usage
from heedloop_server.filters import CallFilters
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AnyStore, ReadProject
from heedloop_server.store.added_tags import change_tags
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.feedback import find_calls
from heedloop_server.store.quality.summaries import judgements_of
from heedloop_server.store.review.content import find_targets
from heedloop_server.store.spans import Order, list_calls

router = Router()


class CallQuery(CallFilters):
    """Filters with a page."""

    limit: Annotated[int, Query(ge=1, le=500)] = 50
    cursor: str | None = None
    order: Order = "newest"


class NamedCall(BaseModel):
    """A call by its span or by its provider's response id."""

    model_config = ConfigDict(extra="forbid")

    trace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    span_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    response_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None


@router.get("/v1/calls")
def get_calls(project: ReadProject, query: Annotated[CallQuery, Query()]) -> CallsPage:
    """Call summaries, newest first where no other order is asked for."""
    rows = list_calls(project, query, limit=query.limit, after=_after(query.cursor), order=query.order)
    calls = summaries_with_feedback(project, rows)
    last = calls[-1] if len(calls) == query.limit else None
    return CallsPage(
        calls=calls,
        next_cursor=write_cursor(last.start_time, last.trace_id, last.span_id) if last else None,
    )


def summaries_with_feedback(project: ProjectStore, rows: Sequence[Row]) -> list[CallSummary]:
    """Summaries from rows of `SUMMARY_COLUMNS`, with what was said of each call."""
    keys = [(r["trace_id_hex"], r["span_id_hex"]) for r in rows]
    judged = judgements_of(project, keys, [r["start_time"] for r in rows])
    return [CallSummary(**summary_values(r), **judged[k]) for r, k in zip(rows, keys, strict=True)]


class CallNames(BaseModel):
    """Which calls are meant, at most 10,000: each as a feedback's target names it."""

    model_config = ConfigDict(extra="forbid")

    calls: Annotated[list[NamedCall], Field(max_length=10_000)]


@router.post("/v1/calls/known")
def post_known(project: ReadProject, body: CallNames) -> KnownCalls:
    """Which of the named calls are stored; an import asks before it sends them."""
    targets = [Target(**named.model_dump(exclude_none=True)) for named in body.calls]
    found = find_calls(project, targets)
    known = [(i, found[t.key]) for i, t in enumerate(targets) if t.key in found]
    return KnownCalls(calls=[KnownCall(index=i, trace_id=c.trace_id, span_id=c.span_id) for i, c in known])


TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
SpanId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Tag = Annotated[
    str,
    Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
]


class CallId(BaseModel):
    """A call."""

    model_config = ConfigDict(extra="forbid")

    trace_id: TraceId
    span_id: SpanId


class TagChange(BaseModel):
    """Tags to add to calls, and added ones to take off; at most 1,000 calls and 20 tags each way."""

    model_config = ConfigDict(extra="forbid")

    calls: Annotated[list[CallId], Field(min_length=1, max_length=1_000)]
    add: Annotated[list[Tag], Field(max_length=20)] = []
    remove: Annotated[list[Tag], Field(max_length=20)] = []

    @model_validator(mode="after")
    def _says_what(self) -> TagChange:
        if not self.add and not self.remove:
            raise ValueError("name tags in add or in remove")
        if both := sorted({*self.add} & {*self.remove}):
            raise ValueError(f"{both[0]!r} stands in add and in remove")
        return self


@router.post("/v1/calls/tags")
def post_tags(
    store: AnyStore,
    who: Annotated[Principal, Depends(require("feedback", "review", "admin"))],
    body: TagChange,
) -> TaggedCalls:
    """Add tags to calls, or take added ones off. A tag that the app sent stays; the calls' hours are counted again."""
    project = store.project(who.project)
    keys = list(dict.fromkeys((c.trace_id, c.span_id) for c in body.calls))
    found = find_targets(project, keys)
    add, remove = (list(dict.fromkeys(t.strip() for t in tags)) for tags in (body.add, body.remove))
    change_tags(project, found, add=add, remove=remove, author_id=who.author)
    return TaggedCalls(num_calls=len(found), num_unknown=len(keys) - len(found))


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
