"""The answers that reviewers see: whole calls by their ids and start times, and what models said about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from heedloop.schema import Call, Feedback, from_json
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row

__all__ = ["calls_at", "find_targets", "model_feedback", "question_previews"]

Key = tuple[str, str]
"""Trace id and span id, hexadecimal."""


def calls_at(project: ProjectStore, wanted: Iterable[tuple[Key, datetime]]) -> dict[Key, Call]:
    """Key -> call, of those that are stored; the start times lead straight to the rows."""
    times = dict(wanted)
    found = _calls(project, "start_time IN {times:Array(DateTime64(6,'UTC'))}", times)
    # sent again with another start time: found by the trace id's index instead
    missing = {k: t for k, t in times.items() if k not in found}
    return found | (_calls(project, "1", missing) if missing else {})


def question_previews(project: ProjectStore, wanted: Iterable[tuple[Key, datetime]]) -> dict[Key, str]:
    """Key -> the beginning of what was asked, of the calls that are stored, for lists of them."""
    columns = (
        "lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span, substringUTF8(question, 1, 200) AS asked"
    )
    rows = _rows(project, columns, "start_time IN {times:Array(DateTime64(6,'UTC'))}", dict(wanted))
    return {(r["trace"], r["span"]): r["asked"] for r in rows}


def _calls(project: ProjectStore, when: str, times: dict[Key, datetime]) -> dict[Key, Call]:
    calls = (call_from_row(r) for r in _rows(project, CALL_COLUMNS, when, times))
    return {(c.trace_id, c.span_id): c for c in calls if (c.trace_id, c.span_id) in times}


def _rows(project: ProjectStore, columns: str, when: str, times: dict[Key, datetime]) -> list[Row]:
    if not times:
        return []
    return project.rows(
        f"""
        SELECT {columns}
        FROM spans FINAL
        WHERE project_id = {{project:String}}
          AND {when}
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{traces:Array(String)}})), 16))
          AND span_id IN (SELECT toFixedString(unhex(arrayJoin({{spans:Array(String)}})), 8))
        ORDER BY start_time
        """,  # noqa: S608
        {
            "times": [t.strftime("%Y-%m-%d %H:%M:%S.%f") for t in times.values()],
            "traces": sorted({t for t, _ in times}),
            "spans": sorted({s for _, s in times}),
        },
    )


def find_targets(project: ProjectStore, keys: Sequence[Key]) -> dict[Key, datetime]:
    """Key -> start time, of the spans that are stored."""
    found: dict[Key, datetime] = {}
    wanted = set(keys)
    for first in range(0, len(keys), _MAX_IDS):
        rows: list[Row] = project.rows(
            """
            SELECT
                lower(hex(trace_id)) AS trace,
                lower(hex(span_id)) AS span,
                max(start_time) AS at
            FROM spans
            WHERE project_id = {project:String}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
            GROUP BY trace_id, span_id
            """,
            {"traces": sorted({t for t, _ in keys[first : first + _MAX_IDS]})},
        )
        found |= {(r["trace"], r["span"]): r["at"] for r in rows if (r["trace"], r["span"]) in wanted}
    return found


_MAX_IDS = 3_000
"""Ids in one query, below the 128 KiB that ClickHouse's HTTP interface takes as one value."""


def model_feedback(project: ProjectStore, keys: Sequence[Key]) -> list[tuple[Key, Feedback]]:
    """What models and code said about these answers, the oldest first."""
    rows = project.rows(
        """
        SELECT
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span,
            record
        FROM feedback FINAL
        WHERE project_id = {project:String}
          AND author_kind IN ('model', 'code')
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
        ORDER BY created_at
        """,
        {"traces": sorted({t for t, _ in keys})},
    )
    wanted = set(keys)
    found = [((r["trace"], r["span"]), from_json(Feedback, json.loads(r["record"]))) for r in rows]
    return [f for f in found if f[0] in wanted]
