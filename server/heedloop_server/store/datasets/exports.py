"""Reading everything that filters take, a block at a time, so that no export holds more than a block in memory.

Blocks follow the list's own order by position, not by number: what comes in meanwhile moves nothing, and nothing is missed or doubled.
The engine makes each block of calls, as columns of Arrow or as lines of JSON: none of them becomes an object.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pyarrow as pa

from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ArrowTable, ProjectStore
from heedloop_server.store.datasets.exported_calls import (
    ARROW_COLUMNS,
    CALLS,
    FEEDBACK_OF_PERIOD,
    LINE,
    SUMMARIES,
)
from heedloop_server.store.feedback import StoredFeedback, list_feedback
from heedloop_server.store.quality.candidates import is_judged, of_page
from heedloop_server.store.quality.hourly import listed
from heedloop_server.store.spans import (
    STORED_COLUMNS,
    TAGS,
    Position,
    candidate_conditions,
    version_conditions,
)

MAX_CALLS = 20_000
"""Calls of a block at most."""
BLOCK_BYTES = 16_000_000
"""Bytes of text in a block at most, but for its last call."""
FEEDBACK_PER_PAGE = 5_000

_TURN = threading.BoundedSemaphore(1)
"""Blocks are made one at a time, so that several exports leave ingestion and feedback the engine and its clients."""
_COLUMNS = {"arrow": ARROW_COLUMNS, "line": f"{LINE} AS line"}
_JSON_SETTINGS = {
    "output_format_json_escape_forward_slashes": 0,
    "output_format_json_quote_64bit_integers": 0,
}


@dataclass(frozen=True, slots=True)
class CallBlock:
    """Some calls, newest first: the columns of `CALLS`, or one column of lines."""

    rows: ArrowTable

    def lines(self) -> bytes:
        """The lines of JSON, each with its end."""
        return b"".join(_texts(chunk) for chunk in self.rows["line"].chunks)

    def batches(self) -> list[Any]:
        """The calls as record batches of `CALLS`."""
        return self.rows.cast(CALLS).to_batches()


def _texts(column: Any) -> bytes:
    """The texts of a column in one: as they lie in memory, one after the other."""
    column = column.cast(pa.large_binary())
    ends = memoryview(column.buffers()[1]).cast("q")
    first, last = ends[column.offset], ends[column.offset + len(column)]
    return column.buffers()[2][first:last].to_pybytes() if last > first else b""


def blocks_of_calls(
    project: ProjectStore,
    filters: CallFilters,
    *,
    columns: Literal["arrow", "line"] = "arrow",
    after: Position | None = None,
) -> Iterator[CallBlock]:
    """The calls that match, newest first, those behind one where it is named; the period's end is fixed at the start."""
    since, until = filters.period()
    fixed = filters.model_copy(update={"since": since, "until": until})
    while True:
        with _TURN:
            bounds = _bounds(project, fixed, after)
            if bounds is None:
                return
            block = _block(project, fixed, after, bounds, columns)
        yield CallBlock(block)
        after = bounds.last


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The start of a block's newest call, and its last one."""

    newest: datetime
    last: Position


_SIZE = " + ".join(
    f"length({n})" for n in ("answer", "input_messages", "output_messages", "tool_definitions", "params")
)


def _bounds(project: ProjectStore, filters: CallFilters, after: Position | None) -> _Bounds | None:
    """The block behind a position, or None where nothing is left."""
    where, params = candidate_conditions(filters, after)
    row = project.rows(
        f"""
        SELECT
            count() AS num,
            max(start_time) AS newest,
            min((start_time, trace_id, span_id)) AS last,
            last.1 AS at,
            lower(hex(last.2)) AS trace,
            lower(hex(last.3)) AS span
        FROM (
            SELECT
                start_time,
                trace_id,
                span_id,
                sum(size) OVER (ORDER BY start_time DESC, trace_id DESC, span_id DESC ROWS UNBOUNDED PRECEDING) - size AS before
            FROM (
                SELECT
                    start_time,
                    trace_id,
                    span_id,
                    {_SIZE} + arraySum(x -> length(x), embedding_inputs) + arraySum(x -> length(x), mapValues(attributes)) AS size
                FROM spans
                WHERE {where}
                ORDER BY start_time DESC, trace_id DESC, span_id DESC
                LIMIT {{most:UInt32}}
            )
        )
        WHERE before < {{bytes:UInt64}}
        """,  # noqa: S608
        {**params, "most": MAX_CALLS, "bytes": BLOCK_BYTES},
    )[0]
    return _Bounds(row["newest"], (row["at"], row["trace"], row["span"])) if row["num"] else None


def _block(
    project: ProjectStore,
    filters: CallFilters,
    after: Position | None,
    bounds: _Bounds,
    columns: Literal["arrow", "line"],
) -> ArrowTable:
    """The calls whose newest version matches, from behind `after` to the block's end.

    PREWHERE is by the table's key, which all versions share: with FINAL nothing else could be asked before the texts of whole
    granules are read.
    """
    of_block = filters.model_copy(
        update={"since": bounds.last[0], "until": bounds.newest + timedelta(microseconds=1)}
    )
    candidates, params = candidate_conditions(of_block, after)
    where, of_version = version_conditions(of_block)
    at, trace, span = bounds.last
    return project.arrow(
        f"""
        SELECT
            {_COLUMNS[columns]}
        FROM (
            SELECT
                {listed(TAGS if n == "tags" else n for n in STORED_COLUMNS)}
            FROM spans FINAL
            PREWHERE (start_time, trace_id, span_id) IN (
                SELECT
                    start_time,
                    trace_id,
                    span_id
                FROM spans
                WHERE {candidates}
                  AND (start_time, trace_id, span_id)
                      >= ({{last_time:DateTime64(6,'UTC')}}, unhex({{last_trace:String}}), unhex({{last_span:String}}))
            )
            WHERE {of_page(where, FEEDBACK_OF_PERIOD) if is_judged(filters) else where}
        ) AS stored
        LEFT JOIN ({SUMMARIES}
        ) AS said
            ON stored.trace_id = judged_trace
           AND stored.span_id = judged_span
        ORDER BY stored.start_time DESC, stored.trace_id DESC, stored.span_id DESC
        """,  # noqa: S608
        {**params, **of_version, "last_time": at, "last_trace": trace, "last_span": span},
        **_JSON_SETTINGS,
        join_use_nulls=0,
    )


def pages_of_feedback(project: ProjectStore, filters: dict[str, Any]) -> Iterator[list[StoredFeedback]]:
    """The feedback that matches as it counts now, newest first."""
    after: tuple[datetime, str] | None = None
    while result := list_feedback(project, filters, limit=FEEDBACK_PER_PAGE, after=after):
        yield result
        if len(result) < FEEDBACK_PER_PAGE:
            return
        after = (result[-1].feedback.created_at, str(result[-1].feedback_id))
