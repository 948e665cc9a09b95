"""Reading everything that filters take, a page at a time, so that no export holds more than a page in memory.

Pages follow the list's own order by position, not by number: what comes in meanwhile moves nothing, and nothing is missed or doubled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from heedloop.schema import Call
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.feedback import StoredFeedback, list_feedback
from heedloop_server.store.quality.summaries import judgements_of
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row, list_calls

__all__ = ["ExportedCall", "pages_of_calls", "pages_of_feedback"]

ExportedCall = tuple[Call, Mapping[str, Any]]
"""A call, and what was said of it (`num_feedback`, `thumb`, `flags`, `has_correction`)."""

CALLS_PER_PAGE = 500
FEEDBACK_PER_PAGE = 5_000


def pages_of_calls(project: ProjectStore, filters: CallFilters) -> Iterator[list[ExportedCall]]:
    """The calls that match, newest first; the period's end is settled at the start."""
    since, until = filters.period()
    settled = filters.model_copy(update={"since": since, "until": until})
    after: tuple[datetime, str, str] | None = None
    while rows := list_calls(project, settled, limit=CALLS_PER_PAGE, after=after):
        keys = [(r["start_time"], r["trace_id_hex"], r["span_id_hex"]) for r in rows]
        judged = judgements_of(project, [k[1:] for k in keys])
        found = {(c.trace_id, c.span_id): c for c in _whole(project, keys)}
        # a call that was erased between the two queries is left out
        yield [(found[k[1:]], judged[k[1:]]) for k in keys if k[1:] in found]
        if len(rows) < CALLS_PER_PAGE:
            return
        after = keys[-1]


def _whole(project: ProjectStore, keys: list[tuple[datetime, str, str]]) -> list[Call]:
    rows: list[Row] = project.rows(
        f"""
        SELECT {CALL_COLUMNS}
        FROM spans FINAL
        WHERE project_id = {{project:String}}
          AND start_time IN {{times:Array(DateTime64(6,'UTC'))}}
          AND concat(lower(hex(trace_id)), lower(hex(span_id))) IN {{ids:Array(String)}}
        """,  # noqa: S608
        {
            "times": [at.strftime("%Y-%m-%d %H:%M:%S.%f") for at, _, _ in keys],
            "ids": [trace + span for _, trace, span in keys],
        },
    )
    return [call_from_row(r) for r in rows]


def pages_of_feedback(project: ProjectStore, filters: dict[str, Any]) -> Iterator[list[StoredFeedback]]:
    """The feedback that matches as it counts now, newest first."""
    after: tuple[datetime, str] | None = None
    while found := list_feedback(project, filters, limit=FEEDBACK_PER_PAGE, after=after):
        yield found
        if len(found) < FEEDBACK_PER_PAGE:
            return
        after = (found[-1].feedback.created_at, str(found[-1].feedback_id))
