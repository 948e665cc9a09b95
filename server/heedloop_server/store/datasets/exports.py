"""Reading everything that filters take, a page at a time, so that no export holds more than a page in memory.

Pages follow the list's own order by position, not by number: what comes in meanwhile moves nothing, and nothing is missed or doubled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from heedloop.schema import Call
from heedloop_server.filters import CallFilters
from heedloop_server.store.call_rows import rows_of_calls
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.feedback import StoredFeedback, list_feedback
from heedloop_server.store.quality.summaries import judgements_of
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row, list_calls

ExportedCall = tuple[Call, Mapping[str, Any]]
"""A call, and a summary of the feedback on it (`num_feedback`, `thumb`, `flags`, `has_correction`)."""

CALLS_PER_PAGE, MOST_PER_PAGE = 500, 2_000
"""Calls of the first page, and of any: a page costs three queries, whose ids stay below the 128 KiB of one value."""
PAGE_CHARS = 16_000_000
"""Characters of text that a page is to hold at most, by what the calls of the page before held."""
FEEDBACK_PER_PAGE = 5_000


def pages_of_calls(
    project: ProjectStore, filters: CallFilters, *, after: tuple[datetime, str, str] | None = None
) -> Iterator[list[ExportedCall]]:
    """The calls that match, newest first, those behind one where it is named; the period's end is fixed at the start."""
    since, until = filters.period()
    fixed = filters.model_copy(update={"since": since, "until": until})
    limit = CALLS_PER_PAGE
    while rows := list_calls(project, fixed, limit=limit, after=after):
        keys = [(r["start_time"], r["trace_id_hex"], r["span_id_hex"]) for r in rows]
        judged = judgements_of(project, [k[1:] for k in keys])
        times = {(trace, span): at for at, trace, span in keys}
        read = rows_of_calls(project, CALL_COLUMNS, times)
        num_chars = sum(len(value) for row in read for value in row.values() if isinstance(value, str))
        result = {(c.trace_id, c.span_id): c for c in map(call_from_row, read)}
        # a call that was erased between the two queries is left out
        yield [(result[k[1:]], judged[k[1:]]) for k in keys if k[1:] in result]
        if len(rows) < limit:
            return
        after = keys[-1]
        of_size = PAGE_CHARS * len(rows) // max(1, num_chars)
        limit = max(1, min(4 * limit, of_size, MOST_PER_PAGE))


def pages_of_feedback(project: ProjectStore, filters: dict[str, Any]) -> Iterator[list[StoredFeedback]]:
    """The feedback that matches as it counts now, newest first."""
    after: tuple[datetime, str] | None = None
    while result := list_feedback(project, filters, limit=FEEDBACK_PER_PAGE, after=after):
        yield result
        if len(result) < FEEDBACK_PER_PAGE:
            return
        after = (result[-1].feedback.created_at, str(result[-1].feedback_id))
