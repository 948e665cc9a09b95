"""Tags that users give calls later: rows of their own next to the spans, which are never rewritten."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from heedloop.schema import utc_now
from heedloop_server.errors import Invalid
from heedloop_server.store.call_rows import Key
from heedloop_server.store.connection import ProjectStore

MAX_ADDED = 20_000
"""Added tags of a project: each query that shows or groups by tags holds them in memory."""

_SETS = """(
    SELECT (groupArray(tagged), groupArray(tags))
    FROM (
        SELECT
            cityHash64(trace_id, span_id) AS tagged,
            arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
        FROM added_tags FINAL
        WHERE project_id = {project:String} AND NOT is_removed
        GROUP BY tagged
    ))"""
_ADDED = f"transform(cityHash64(trace_id, span_id), {_SETS}.1, {_SETS}.2, '')"


def with_added(column: str) -> str:
    """The tags of a row of `spans` or `feedback`, those that were added later among them.

    A lookup in two constant arrays: a join would keep the engine from reading by time, and most rows have nothing to join.
    """
    added = f"arrayFilter(t -> t != '', splitByChar(char(0), {_ADDED}))"
    return f"arrayDistinct(arrayConcat({column}, {added}))"


def has_tag(column: str, bound: str) -> str:
    """The condition that a row has a tag, sent or added; `bound` is the name of the parameter that holds it."""
    return f"""(has({column}, {{{bound}:String}}) OR (trace_id, span_id) IN (
        SELECT
            trace_id,
            span_id
        FROM added_tags FINAL
        WHERE project_id = {{project:String}} AND tag = {{{bound}:String}} AND NOT is_removed
    ))"""  # noqa: S608


# FINAL, so that a merge of two versions does not make an hour stale
FINGERPRINT = "sum(cityHash64(trace_id, span_id, tag, version))"
MINUTE = "toStartOfMinute(call_time, 'UTC')"


def change_tags(
    project: ProjectStore,
    calls: Mapping[Key, datetime],
    *,
    add: Sequence[str],
    remove: Sequence[str],
    author_id: str,
) -> None:
    """Add tags to calls and take added ones off; what is so already stays as it is.

    Args:
        calls: key -> start time, of stored spans.

    Raises:
        Invalid: the project would hold more than `MAX_ADDED`.
    """
    held, num_held = _held(project, calls), _num_held(project)
    added = [(key, tag) for key in calls for tag in add if (key, tag) not in held]
    removed = [(key, tag) for key in calls for tag in remove if (key, tag) in held]
    if added and num_held + len(added) - len(removed) > MAX_ADDED:
        raise Invalid(
            f"a project holds at most {MAX_ADDED:,} added tags and has {num_held:,}; remove some first",
            field="add",
        )
    at, version = utc_now(), time.time_ns()
    rows = [
        {
            "trace_id": bytes.fromhex(key[0]),
            "span_id": bytes.fromhex(key[1]),
            "tag": tag,
            "call_time": calls[key],
            "is_removed": is_removed,
            "author_id": author_id,
            "at": at,
            "version": version,
        }
        for pairs, is_removed in ((added, False), (removed, True))
        for key, tag in pairs
    ]
    if rows:
        project.insert("added_tags", rows, **project.lasting)


def _held(project: ProjectStore, calls: Iterable[Key]) -> set[tuple[Key, str]]:
    """The added tags of some calls."""
    rows = project.rows(
        """
        SELECT
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span,
            tag
        FROM added_tags FINAL
        WHERE project_id = {project:String}
          AND NOT is_removed
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
        """,
        {"traces": sorted({trace for trace, _ in calls})},
        **project.fresh,
    )
    return {((r["trace"], r["span"]), r["tag"]) for r in rows}


def _num_held(project: ProjectStore) -> int:
    row = project.row(
        "SELECT count() AS n FROM added_tags FINAL WHERE project_id = {project:String} AND NOT is_removed",
        **project.fresh,
    )
    return int(row["n"]) if row else 0
