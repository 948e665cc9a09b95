"""The feedback on the calls of one page, and the values that filters offer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from heedloop_server.filters import CallFilters
from heedloop_server.store.call_rows import IDS, stamps
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import THUMBS, conditions
from heedloop_server.store.quality.hourly import FEEDBACK_OF_TIMES
from heedloop_server.store.quality.rows import SHORT, View, answer_source, expression

FACETS = ("model", "prompt_name", "prompt_version", "service", "environment", "tag", "flag")
"""What `facet_values` can list."""

_MAX_VALUES = 1_000


_UNJUDGED = {"num_feedback": 0, "thumb": None, "flags": [], "has_correction": False}


def judgements_of(
    project: ProjectStore, calls: Sequence[tuple[str, str]], times: Sequence[datetime] | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """(trace id, span id) -> `num_feedback`, `thumb`, `flags`, `has_correction`, for each of the calls.

    Args:
        times: when the calls started, in any order; with them a page costs the same however much feedback there is.
    """
    if not calls:
        return {}
    params: dict[str, Any] = {"traces": sorted({t for t, _ in calls})}
    if times is not None:
        params["times"] = stamps(times)
    rows = project.rows(
        f"""
        SELECT
            {IDS},
            count() AS num_feedback,
            if(countIf({THUMBS}) > 0, argMaxIf(score, (version, feedback_id), {THUMBS}), NULL) AS thumb,
            arraySort(groupUniqArrayIf(label, kind = 'flag')) AS flags,
            countIf(kind = 'correction') > 0 AS has_correction
        FROM {"feedback FINAL" if times is None else FEEDBACK_OF_TIMES}
        WHERE project_id = {{project:String}}
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{traces:Array(String)}})), 16))
        GROUP BY
            trace,
            span
        """,  # noqa: S608
        params,
    )
    judged = {
        (r["trace"], r["span"]): {
            "num_feedback": r["num_feedback"],
            "thumb": None if r["thumb"] is None else int(r["thumb"]),
            "flags": list(r["flags"]),
            "has_correction": bool(r["has_correction"]),
        }
        for r in rows
    }
    return {call: judged.get(call, _UNJUDGED) for call in calls}


def facet_values(project: ProjectStore, field: str, filters: CallFilters) -> list[Row]:
    """The values of one of `FACETS` with how many calls (or flags) have each, most frequent first, empty ones left out."""
    if field == "flag":
        return _flag_values(project, *conditions(filters))
    params: dict[str, Any] = {"max": _MAX_VALUES}
    value = expression(field, params, "key")
    source = answer_source(project, View(filters), value.columns)
    return project.rows(
        f"""
        SELECT
            {value.sql} AS value,
            sum(num) AS count
        FROM (
            {source.sql}
        )
        GROUP BY value
        HAVING value != ''
        ORDER BY count DESC, value
        LIMIT {{max:UInt32}}
        """,  # noqa: S608
        {**source.params, **params},
        **SHORT,
    )


def _flag_values(project: ProjectStore, where: str, params: dict[str, Any]) -> list[Row]:
    return project.rows(
        f"""
        SELECT
            label AS value,
            count() AS count
        FROM feedback FINAL
        WHERE project_id = {{project:String}} AND kind = 'flag'
          AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM spans WHERE {where})
        GROUP BY value
        ORDER BY count DESC, value
        LIMIT {{max:UInt32}}
        """,  # noqa: S608
        {**params, "max": _MAX_VALUES},
    )
