"""What people said of the calls on one page, and the values that filters offer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import THUMBS, conditions
from heedloop_server.store.quality.rows import View, answer_source, expression

__all__ = ["FACETS", "facet_values", "judgements_of"]

FACETS = ("model", "prompt_name", "prompt_version", "service", "environment", "tag", "flag")
"""What `facet_values` can list."""

_MAX_VALUES = 1_000


_UNJUDGED = {"num_feedback": 0, "thumb": None, "flags": [], "has_correction": False}
_NEWEST = "feedback FINAL"
# by the projection that has feedback by the time of its call, which knows no newest version: found among the few
_OF_TIMES = """(
            SELECT *
            FROM (
                SELECT project_id, call_time, feedback_id, trace_id, span_id, kind, name, label, score, is_thumb, author_kind, received_at,
                    version, is_deleted
                FROM feedback
                WHERE project_id = {project:String} AND call_time IN {times:Array(DateTime64(6,'UTC'))}
                ORDER BY version DESC, received_at DESC
                LIMIT 1 BY feedback_id
            )
            WHERE NOT is_deleted
        )"""


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
        params["times"] = sorted({at.strftime("%Y-%m-%d %H:%M:%S.%f") for at in times})
    rows = project.rows(
        f"""
        SELECT
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span,
            count() AS num_feedback,
            if(countIf({THUMBS}) > 0, argMaxIf(score, (version, feedback_id), {THUMBS}), NULL) AS thumb,
            arraySort(groupUniqArrayIf(label, kind = 'flag')) AS flags,
            countIf(kind = 'correction') > 0 AS has_correction
        FROM {_NEWEST if times is None else _OF_TIMES}
        WHERE project_id = {{project:String}}
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{traces:Array(String)}})), 16))
        GROUP BY trace, span
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
        FROM ({source.sql})
        GROUP BY value
        HAVING value != ''
        ORDER BY count DESC, value
        LIMIT {{max:UInt32}}
        """,  # noqa: S608
        {**source.params, **params},
        do_not_merge_across_partitions_select_final=1,
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
