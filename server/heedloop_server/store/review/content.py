"""The answers that reviewers see: whole calls by their ids and start times, and models' feedback on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from heedloop.schema import Call, Feedback, from_json
from heedloop_server.store.call_rows import IDS, Key, rows_of_calls
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row


def calls_at(project: ProjectStore, wanted: Iterable[tuple[Key, datetime]]) -> dict[Key, Call]:
    """Key -> call, of those that are stored; the start times lead straight to the rows."""
    times = dict(wanted)
    result = _by_key(rows_of_calls(project, CALL_COLUMNS, times))
    # sent again with another start time: found by the trace id's index instead
    missing = {k: t for k, t in times.items() if k not in result}
    return result | {k: c for k, c in _calls_of_traces(project, missing).items() if k in missing}


def question_previews(project: ProjectStore, wanted: Iterable[tuple[Key, datetime]]) -> dict[Key, str]:
    """Key -> the beginning of the question, of the calls that are stored, for lists of them."""
    columns = f"{IDS}, substringUTF8(question, 1, 200) AS question_text"
    return {
        (r["trace"], r["span"]): r["question_text"] for r in rows_of_calls(project, columns, dict(wanted))
    }


def _calls_of_traces(project: ProjectStore, keys: Iterable[Key]) -> dict[Key, Call]:
    traces = sorted({t for t, _ in keys})
    if not traces:
        return {}
    rows = project.rows(
        f"""
        SELECT {CALL_COLUMNS}
        FROM spans FINAL
        WHERE project_id = {{project:String}}
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{traces:Array(String)}})), 16))
        ORDER BY start_time
        """,  # noqa: S608
        {"traces": traces},
    )
    return _by_key(rows)


def _by_key(rows: Iterable[Row]) -> dict[Key, Call]:
    return {(c.trace_id, c.span_id): c for c in map(call_from_row, rows)}


def find_targets(project: ProjectStore, keys: Sequence[Key]) -> dict[Key, datetime]:
    """Key -> start time, of the spans that are stored."""
    result: dict[Key, datetime] = {}
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
        result |= {(r["trace"], r["span"]): r["at"] for r in rows if (r["trace"], r["span"]) in wanted}
    return result


_MAX_IDS = 3_000
"""Ids in one query, below the 128 KiB that ClickHouse's HTTP interface takes as one value."""


def model_feedback(project: ProjectStore, keys: Sequence[Key]) -> list[tuple[Key, Feedback]]:
    """The feedback of models and code on these answers, the oldest first."""
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
    result = [((r["trace"], r["span"]), from_json(Feedback, json.loads(r["record"]))) for r in rows]
    return [f for f in result if f[0] in wanted]
