"""The background job that fills `answer_cells` for hours and days that are over, and again for those that changed.

Writing a row twice, from two servers, or for an hour that changes meanwhile is harmless: a row says by its fingerprints what it
was counted from, and is only used while they are those of the hour.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.quality.hourly import (
    CELL_FIELDS,
    DAY,
    HOUR,
    Fingerprints,
    listed,
    newest_feedback,
    ranges_condition,
    read_hour_fingerprints,
)

WAIT = timedelta(seconds=60)
"""An hour is counted when it has been over for this long; until then it is read from the rows."""
MAX_KEY_VALUES = 20
MAX_KEYS = 4
MAX_COMBINATIONS = 256

_COLUMNS = tuple(CELL_FIELDS)
_SUMS = ("num", "num_up", "sum_w", "sum_w2", "sum_wy", "sum_w2y", "extra_w", "extra_w2")
_ARRAYS = ("what", *_COLUMNS, *_SUMS)
_TARGETS = (
    "project_id", "grain", "start", "span_print", "feedback_print", "dropped", *(f"cell_{c}" for c in _ARRAYS), "made_at",
)  # fmt: skip
_FIRST = datetime(1970, 1, 2, tzinfo=timezone.utc)


def roll_up(store: Store, *, after: str = "", budget_s: float = 3.0, now: datetime | None = None) -> str:
    """Count what changed, project by project from the one after `after`, for about `budget_s` seconds.

    Returns the last project that was looked at: where the next round goes on, so that no project waits for ever.
    """
    end = time.monotonic() + budget_s
    rows = store.rows("SELECT DISTINCT project_id FROM projects FINAL ORDER BY project_id")
    names = [r["project_id"] for r in rows]
    last = after
    for name in [n for n in names if n > after] + [n for n in names if n <= after]:
        roll_up_project(store.project(name), end=end, now=now)
        last = name
        if time.monotonic() > end:
            break
    return last


def roll_up_project(project: ProjectStore, *, end: float = float("inf"), now: datetime | None = None) -> int:
    """Count the hours and days of a project whose cells are not good, the newest day first; returns how many days it counted in."""
    until = (now or datetime.now(timezone.utc)) - WAIT
    fingerprints = read_hour_fingerprints(project, _FIRST, until)
    stale = _stale_days(fingerprints, until)
    for i, day in enumerate(stale):
        if time.monotonic() > end:
            return i
        _count_day(project, fingerprints, day, until)
    return len(stale)


def _stale_days(fingerprints: Fingerprints, until: datetime) -> list[datetime]:
    known = {*fingerprints.hours, *(start for _, start in fingerprints.cells)}
    days = {h.replace(hour=0) for h in known if h + HOUR <= until and h >= _FIRST}
    return sorted(
        (d for d in days if _hours_to_count(fingerprints, d, until) or _day_is_due(fingerprints, d, until)),
        reverse=True,
    )


def _hours_to_count(fingerprints: Fingerprints, day: datetime, until: datetime) -> list[datetime]:
    hours = (day + i * HOUR for i in range(24))
    known = (
        h
        for h in hours
        if (h in fingerprints.hours or ("hour", h) in fingerprints.cells) and h + HOUR <= until
    )
    return [h for h in known if not fingerprints.is_fresh("hour", h, frozenset())]


def _day_is_due(fingerprints: Fingerprints, day: datetime, until: datetime) -> bool:
    return day + DAY <= until and not fingerprints.is_fresh("day", day, frozenset())


def _count_day(project: ProjectStore, fingerprints: Fingerprints, day: datetime, until: datetime) -> None:
    hours = _hours_to_count(fingerprints, day, until)
    filled = [h for h in hours if h in fingerprints.hours]
    # an hour whose every row was erased: its cells must not stay behind
    _empty(project, [("hour", h) for h in hours if h not in fingerprints.hours])
    if filled:
        _count_hours(project, fingerprints, filled)
    if day + DAY > until:
        return
    if fingerprints.days.get(day, (0, 0)) == (0, 0):
        _empty(project, [("day", day)])
    else:
        _sum_day(project, day)


def _empty(project: ProjectStore, rows: Sequence[tuple[str, datetime]]) -> None:
    now = datetime.now(timezone.utc)
    project.insert(
        "answer_cells",
        [{"grain": g, "start": at, "span_print": 0, "feedback_print": 0, "made_at": now} for g, at in rows],
    )


def _count_hours(project: ProjectStore, fingerprints: Fingerprints, hours: Sequence[datetime]) -> None:
    """Write the cells of some hours of one day."""
    params: dict[str, Any] = {}
    ranges = [(h, h + HOUR) for h in hours]
    kept, dropped = _metadata_keys(project, ranges)
    spans = ranges_condition(ranges, "start_time", params)
    feedback = ranges_condition(ranges, "call_time", params)
    params |= {
        "kept": kept,
        "dropped": dropped,
        "hours": [int(h.timestamp()) for h in hours],
        "span_prints": [fingerprints.hours[h][0] for h in hours],
        "feedback_prints": [fingerprints.hours[h][1] for h in hours],
    }
    cells = "\n        UNION ALL".join(
        (_answers(spans), _thumbs(feedback), _kinds(feedback), _flags(feedback))
    )
    project.store.command(
        f"""
        INSERT INTO answer_cells ({listed(_TARGETS)})
        SELECT
            {{project:String}},
            'hour',
            hour,
            {{span_prints:Array(UInt64)}}[indexOf({{hours:Array(UInt32)}}, toUnixTimestamp(hour))],
            {{feedback_prints:Array(UInt64)}}[indexOf({{hours:Array(UInt32)}}, toUnixTimestamp(hour))],
            {{dropped:Array(String)}},
            {listed(f"groupArray({c})" for c in _ARRAYS)},
            now64(6)
        FROM (
            {cells}
        )
        GROUP BY hour
        """,  # noqa: S608
        {**params, "project": project.project},
        do_not_merge_across_partitions_select_final=1,
    )


_NO_RATINGS = {s: "toUInt64(0)" if s == "num_up" else "0." for s in _SUMS}
_GROUPED = [f"d_{c}" for c in _COLUMNS]


def _cells(what: str, sums: Mapping[str, str], source: str, *, by: Sequence[str] = ()) -> str:
    """The aggregates of each hour: `what` with its sums, those that are not given being 0."""
    columns = [f"d_{c} AS {c}" for c in _COLUMNS]
    return f"""
        SELECT
            hour,
            {what} AS what,
            {listed([*columns, *(f"{sql} AS {name}" for name, sql in {**_NO_RATINGS, **sums}.items())])}
        FROM (
            {source}
        )
        GROUP BY
            {listed(["hour", *by, *_GROUPED])}"""  # noqa: S608


def _dimensions(place: int) -> str:
    """The columns of an aggregate over `feedback` (0) or `spans` (1), of metadata the kept keys."""
    result: list[str] = []
    for name, sides in CELL_FIELDS.items():
        sql = sides[place]
        if name == "metadata":
            sql = f"mapFilter((k, v) -> has({{kept:Array(String)}}, k), {sql})"
        # a name of its own: an alias that is a column's name would be taken for it in WHERE
        result.append(f"{sql} AS d_{name}")
    return listed(result)


def _answers(ranges: str) -> str:
    answers = f"""
            SELECT
                toStartOfHour(start_time, 'UTC') AS hour,
                sampling_probability AS p,
                {_dimensions(1)}
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND {ranges}"""  # noqa: S608
    return _cells(
        "'answer'", {"num": "count()", "sum_w": "sum(1 / p)", "sum_w2": "sum(1 / (p * p))"}, answers
    )


def _feedback(ranges: str, only: str) -> str:
    """The feedback on the hours' calls as it counts now."""
    return f"""
            SELECT
                toStartOfHour(call_time, 'UTC') AS hour,
                trace_id,
                span_id,
                feedback_id,
                kind,
                label,
                author_kind,
                score,
                version,
                sampling_probability,
                call_probability,
                {_dimensions(0)}
            FROM (
                {newest_feedback(ranges)}
            )
            WHERE NOT is_deleted
              AND {only}"""  # noqa: S608


def _thumbs(ranges: str) -> str:
    newest = f"""
            SELECT
                any(hour) AS hour,
                author_kind,
                argMax(ifNull(score, 0) > 0.5, (version, feedback_id)) AS up,
                argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
                any(call_probability) AS p,
                {listed(f"any({d}) AS {d}" for d in _GROUPED)}
            FROM (
                {_feedback(ranges, "is_thumb AND name = 'thumb'")}
            )
            GROUP BY
                author_kind,
                cityHash64(trace_id, span_id)"""  # noqa: S608
    sums = {
        "num": "count()",
        "num_up": "sum(up)",
        "sum_w": "sum(w)",
        "sum_w2": "sum(w * w)",
        "sum_wy": "sum(w * up)",
        "sum_w2y": "sum(w * w * up)",
        "extra_w": "sum(1 / p - 1)",
        "extra_w2": "sum(1 / (p * p) - 1)",
    }
    return _cells("concat('thumb ', author_kind)", sums, newest, by=["author_kind"])


def _kinds(ranges: str) -> str:
    return _cells("concat('kind ', kind)", {"num": "count()"}, _feedback(ranges, "1"), by=["kind"])


def _flags(ranges: str) -> str:
    flagged = f"""
            SELECT
                any(hour) AS hour,
                label,
                {listed(f"any({d}) AS {d}" for d in _GROUPED)}
            FROM (
                {_feedback(ranges, "kind = 'flag'")}
            )
            GROUP BY
                label,
                cityHash64(trace_id, span_id)"""  # noqa: S608
    return _cells("concat('flag ', label)", {"num": "count()"}, flagged, by=["label"])


def _metadata_keys(
    project: ProjectStore, ranges: Sequence[tuple[datetime, datetime]]
) -> tuple[list[str], list[str]]:
    """The metadata keys that cells are told apart by, those with the fewest values; and the others, which they do not know."""
    params: dict[str, Any] = {}
    spans, feedback = (ranges_condition(ranges, c, params) for c in ("start_time", "call_time"))
    rows = project.rows(
        f"""
        SELECT
            key,
            uniq(metadata[key]) AS num_values
        FROM (
            SELECT
                metadata,
                arrayJoin(mapKeys(metadata)) AS key
            FROM (
                SELECT metadata FROM spans WHERE project_id = {{project:String}} AND {spans}
                UNION ALL
                SELECT call_metadata FROM feedback WHERE project_id = {{project:String}} AND {feedback}
            )
        )
        GROUP BY key
        ORDER BY
            num_values,
            key
        """,  # noqa: S608
        params,
    )
    kept, combinations = list[str](), 1
    for r in rows:
        combinations *= int(r["num_values"]) + 1
        if r["num_values"] > MAX_KEY_VALUES or len(kept) == MAX_KEYS or combinations > MAX_COMBINATIONS:
            break
        kept.append(r["key"])
    return kept, sorted({r["key"] for r in rows} - set(kept))


def _sum_day(project: ProjectStore, day: datetime) -> None:
    """Write a day's cells, the sums of its hours'; its prints are theirs, so that a missing hour makes it no good."""
    dimensions = [
        "mapFilter((k, v) -> NOT has(unknown, k), metadata) AS d_metadata"
        if c == "metadata"
        else f"{c} AS d_{c}"
        for c in _COLUMNS
    ]
    hours = """FROM answer_cells FINAL
            WHERE project_id = {project:String}
              AND grain = 'hour'
              AND (span_print, feedback_print) != (0, 0)
              AND start >= toDateTime({day:UInt32}, 'UTC') AND start < toDateTime({day:UInt32} + 86400, 'UTC')"""
    sums = [f"s_{c}" for c in _SUMS]
    project.store.command(
        f"""
        INSERT INTO answer_cells ({listed(_TARGETS)})
        WITH (
            SELECT (sum(span_print), sum(feedback_print), arraySort(groupUniqArrayArray(dropped)))
            {hours}
        ) AS of_day
        SELECT
            {{project:String}},
            'day',
            toDateTime({{day:UInt32}}, 'UTC'),
            of_day.1,
            of_day.2,
            of_day.3,
            {listed(f"groupArray({n})" for n in ("what", *_GROUPED, *sums))},
            now64(6)
        FROM (
            SELECT
                what,
                {listed([*dimensions, *(f"sum({c}) AS s_{c}" for c in _SUMS)])}
            FROM (
                SELECT
                    of_day.3 AS unknown,
                    *
                {hours}
            )
            ARRAY JOIN
                {listed(f"cell_{c} AS {c}" for c in _ARRAYS)}
            GROUP BY
                {listed(["what", *_GROUPED])}
        )
        HAVING count() > 0
        """,  # noqa: S608
        {"day": int(day.timestamp()), "project": project.project},
    )
