"""Everything that filters take, streamed as JSON Lines, Parquet or Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from heedloop_server.errors import NotFound
from heedloop_server.filters import CallFilters
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import Jobs, ReadKey, ReadProject
from heedloop_server.jobs.kinds import Kind
from heedloop_server.routes.export_formats import MEDIA_TYPES, ExportFormat, write_calls, write_feedback
from heedloop_server.routes.feedback import FeedbackFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.exports import blocks_of_calls, pages_of_feedback
from heedloop_server.store.spans import trace_calls

router = Router()

EXPORT = Kind("export", "read")
"""A stream of its request: it is listed, and may be broken off, but not run again."""


_FILES: dict[str, Any] = {media: {"type": "string", "format": "binary"} for media in MEDIA_TYPES.values()}


class CallExport(CallFilters):
    """Filters with a format, and where to go on: `trace_id:span_id` of the last call that arrived."""

    format: ExportFormat = "jsonl"
    after: Annotated[str, Field(pattern="^[0-9a-f]{32}:[0-9a-f]{16}$")] | None = None


class FeedbackExport(FeedbackFilters):
    """Filters with a format."""

    format: ExportFormat = "jsonl"


@router.get("/v1/calls/export")
@responds(media=_FILES, also=[404])
def export_calls(
    jobs: Jobs, who: ReadKey, project: ReadProject, query: Annotated[CallExport, Query()]
) -> StreamingResponse:
    """Every call that matches, whole, with what was said of it; newest first. A broken transfer ends without its last chunk;
    `after` goes on behind the last call that arrived."""
    blocks = blocks_of_calls(
        project,
        query,
        columns="line" if query.format == "jsonl" else "arrow",
        after=None if query.after is None else _place(project, query.after),
    )
    pieces = jobs.watch("export", who, write_calls(_begun(blocks), query.format))
    return _streamed(pieces, query.format)


def _place(project: ProjectStore, key: str) -> tuple[datetime, str, str]:
    trace_id, _, span_id = key.partition(":")
    for call in trace_calls(project, trace_id):
        if call.span_id == span_id:
            return call.start_time, trace_id, span_id
    raise NotFound(f"there is no call {key} in this project; begin again without after")


@router.get("/v1/feedback/export")
@responds(media=_FILES)
def export_feedback(
    jobs: Jobs, who: ReadKey, project: ReadProject, query: Annotated[FeedbackExport, Query()]
) -> StreamingResponse:
    """Every feedback that matches, as it counts now; newest first. A broken transfer ends without its last chunk."""
    pages = pages_of_feedback(project, query.model_dump(exclude={"format"}))
    pieces = jobs.watch("export", who, write_feedback(_begun(pages), query.format))
    return _streamed(pieces, query.format)


def _begun(pages: Iterator[Any]) -> Iterator[Any]:
    """The pages, the first of which is read now: what is wrong is answered before the stream begins."""
    first = next(pages, None)
    return pages if first is None else chain([first], pages)


def _streamed(pieces: Iterator[bytes], fmt: ExportFormat) -> StreamingResponse:
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[fmt])
