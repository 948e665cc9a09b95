"""Rows of `spans` by the ids and start times of their calls: the times lead straight to the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from heedloop_server.store.connection import ProjectStore, Row

Key = tuple[str, str]
"""Trace id and span id, hexadecimal."""
MAX_CALLS = 1_000
"""Calls in one query: their ids and times stay below the 128 KiB that ClickHouse's HTTP interface takes as one value."""
IDS = "lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span"
"""The columns of a call's key."""


def rows_of_calls(
    project: ProjectStore,
    columns: str,
    times: Mapping[Key, datetime],
    params: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The columns of those of the calls that are stored, in no order.

    Args:
        columns: SQL over `spans`, with what it binds in `params`.
        times: the start time of each call.
    """
    keys = sorted(times)
    found: list[Row] = []
    for first in range(0, len(keys), MAX_CALLS):
        part = keys[first : first + MAX_CALLS]
        found += project.rows(
            f"""
            SELECT
                {columns}
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND start_time IN {{times:Array(DateTime64(6,'UTC'))}}
              AND (lower(hex(trace_id)), lower(hex(span_id))) IN (
                  SELECT arrayJoin(arrayZip({{traces:Array(String)}}, {{spans:Array(String)}}))
              )
            """,  # noqa: S608
            {
                **(params or {}),
                "times": stamps(times[k] for k in part),
                "traces": [trace for trace, _ in part],
                "spans": [span for _, span in part],
            },
        )
    return found


def stamps(times: Iterable[datetime]) -> list[str]:
    """Distinct times in order, as they are bound to an `Array(DateTime64(6,'UTC'))`."""
    return sorted({at.strftime("%Y-%m-%d %H:%M:%S.%f") for at in times})
