"""The background job that fills `answer_aggregates` for minutes, hours and days that are over, and again for those that changed.

Writing a row twice, from two servers, or for an hour that changes meanwhile is harmless: a row says by its fingerprint what it
was counted from, and is only used while that is the one of the rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.filters import PRODUCTION
from heedloop_server.store.quality.hourly import (
    CELL_FIELDS,
    DAY,
    HOUR,
    LENGTH,
    Fingerprints,
    Grain,
    Part,
    Prints,
    fingerprint_rows,
    joined_ranges,
    listed,
    newest_feedback,
    ranges_condition,
    read_minutes,
)

WAIT = timedelta(seconds=60)
"""An hour is counted when it has been over for this long; until then its minutes are."""
WAIT_MINUTE = timedelta(seconds=2)
RECENT = timedelta(hours=2)
"""Minutes are counted as they fill for so long; later a changed hour is counted by those of its minutes that changed."""
FEW_PROJECTS, MANY_SPANS = 8, 5_000
"""With more projects than this, minutes are counted in those that had so many spans in the last two hours."""
MAX_KEY_VALUES = 20
MAX_KEYS = 4
MAX_COMBINATIONS = 256

_COLUMNS = tuple(CELL_FIELDS)
_SUMS = ("num", "num_up", "sum_w", "sum_w2", "sum_wy", "sum_w2y", "extra_w", "extra_w2")
_ARRAYS = ("what", *_COLUMNS, *_SUMS)
_TARGETS = (
    "project_id", "part", "grain", "start", "print", "dropped", *(f"cell_{c}" for c in _ARRAYS), "made_at",
)  # fmt: skip
_FIRST = datetime(1970, 1, 2, tzinfo=timezone.utc)

Stale = dict[Part, Prints]
"""Of each part, start -> the fingerprint of rows that no aggregate was made of; 0 where there are none any more."""


def roll_up(store: Store, *, after: str = "", budget_s: float = 3.0, now: datetime | None = None) -> str:
    """Count the hours and days that changed, project by project from the one after `after`, for about `budget_s` seconds.

    Returns the last project that was looked at: where the next round goes on, so that no project waits for ever.
    """
    end = time.monotonic() + budget_s
    until = (now or datetime.now(timezone.utc)) - WAIT
    hours, days = (_stale(store, grain, _FIRST, until) for grain in ("hour", "day"))
    names = sorted(hours.keys() | days.keys())
    last = after
    for name in [n for n in names if n > after] + [n for n in names if n <= after]:
        _count_days(store.project(name), hours.get(name, {}), days.get(name, {}), end)
        last = name
        if time.monotonic() > end:
            break
    return last


def roll_up_project(project: ProjectStore, *, now: datetime | None = None) -> int:
    """Count the hours and days of a project whose aggregates are stale; returns how many days it counted in."""
    until = (now or datetime.now(timezone.utc)) - WAIT
    hours, days = (
        _stale(project.store, grain, _FIRST, until, project=project.project).get(project.project, {})
        for grain in ("hour", "day")
    )
    return _count_days(project, hours, days)


def roll_up_minutes(store: Store, *, now: datetime | None = None) -> None:
    """Count the minutes of the last two hours that are over and have changed.

    Where that is so in many projects, in those alone that have many answers: reading a few from their rows costs less than counting
    them first, every minute, by statements of each project.
    """
    at = now or datetime.now(timezone.utc)
    stale = _stale(store, "minute", at - RECENT, at - WAIT_MINUTE)
    counted = stale.keys() if len(stale) <= FEW_PROJECTS else stale.keys() & _busy(store, at - RECENT)
    for name in counted:
        for part, prints in stale[name].items():
            _count(store.project(name), part, "minute", prints)


def _busy(store: Store, since: datetime) -> set[str]:
    """The projects with so many spans since then that an aggregate saves reading them."""
    rows = store.rows(
        """
        SELECT project_id
        FROM spans
        WHERE start_time >= {since:DateTime64(6,'UTC')}
        GROUP BY project_id
        HAVING count() >= {many:UInt32}
        """,
        {"since": since, "many": MANY_SPANS},
    )
    return {r["project_id"] for r in rows}


def _stale(
    store: Store, grain: Grain, since: datetime, until: datetime, *, project: str | None = None
) -> dict[str, Stale]:
    """Project -> what of a grain ended by `until` and has no fresh aggregates, by one query over all projects."""
    between = "{at} >= toDateTime({first:UInt32}, 'UTC') AND {at} < toDateTime({last:UInt32}, 'UTC')"
    where = "1" if project is None else "project_id = {project:String}"
    rows = store.rows(
        f"""
        SELECT
            project_id,
            part,
            start,
            sumIf(print, grain = 'rows') AS rows_print
        FROM (
            {fingerprint_rows(grain, where, between, (grain,))}
        )
        GROUP BY
            project_id,
            part,
            start
        HAVING rows_print != sumIf(print, grain != 'rows') OR countIf(grain != 'rows') = 0
        """,  # noqa: S608
        {"first": int(since.timestamp()), "last": _floor(until, LENGTH[grain]), "project": project or ""},
    )
    result: dict[str, Stale] = {}
    for r in rows:
        result.setdefault(r["project_id"], {}).setdefault(r["part"], {})[r["start"]] = int(r["rows_print"])
    return result


def _floor(at: datetime, length: timedelta) -> int:
    seconds = int(length.total_seconds())
    return int(at.timestamp()) // seconds * seconds


def _count_days(project: ProjectStore, hours: Stale, days: Stale, end: float = float("inf")) -> int:
    """Count stale hours, and the days that are over from them, the newest day first; returns how many days it counted in."""
    changed = {h.replace(hour=0) for prints in (*hours.values(), *days.values()) for h in prints}
    for i, day in enumerate(sorted(changed, reverse=True)):
        if time.monotonic() > end:
            return i
        for part, prints in hours.items():
            _count_hours(project, part, {h: p for h, p in prints.items() if day <= h < day + DAY})
        for part, prints in days.items():
            if day in prints:
                _sum_up(project, part, "day", day)
    return len(changed)


def _count_hours(project: ProjectStore, part: Part, prints: Prints) -> None:
    """Count hours of one day: those that have minutes by what of them changed, the others from their rows."""
    if not prints:
        return
    known = Fingerprints(hours={"answers": prints, "feedback": prints})
    read_minutes(project, known, min(prints), max(prints) + HOUR)
    counted = {at.replace(minute=0) for p, _, at in known.cells if p == part} & prints.keys()
    stale = {
        at: known.minutes[part].get(at, 0)
        for at in {*known.minutes[part], *(at for p, _, at in known.cells if p == part)}
        if at.replace(minute=0) in counted and not known.is_fresh(part, "minute", at)
    }
    _count(project, part, "minute", stale)
    for hour in counted:
        _sum_up(project, part, "hour", hour)
    _count(project, part, "hour", {h: p for h, p in prints.items() if h not in counted})


def _count(project: ProjectStore, part: Part, grain: Grain, prints: Prints) -> None:
    """Write aggregates of minutes, or of hours of one day, from the rows; empty ones where all of those were erased.

    Args:
        prints: what their rows had for a fingerprint before they are counted.
    """
    if not prints:
        return
    starts, params = sorted(prints), dict[str, Any]()
    ranges = joined_ranges([(at, at + LENGTH[grain]) for at in starts])
    rows = ranges_condition(ranges, "start_time" if part == "answers" else "call_time", params)
    kept, dropped = _metadata_keys(project, part, rows, params)
    params |= {
        "kept": kept,
        "dropped": dropped,
        "starts": [int(at.timestamp()) for at in starts],
        "prints": [prints[at] for at in starts],
    }
    sources = (_answers,) if part == "answers" else (_thumbs, _kinds, _flags)
    cells = "\n        UNION ALL".join(of(rows, grain) for of in sources)
    project.store.command(
        f"""
        INSERT INTO answer_aggregates ({listed(_TARGETS)})
        SELECT
            {{project:String}},
            '{part}',
            '{grain}',
            start,
            {{prints:Array(UInt64)}}[indexOf({{starts:Array(UInt32)}}, toUnixTimestamp(start))],
            {{dropped:Array(String)}},
            {listed(f"array_{c}" for c in _ARRAYS)},
            now64(6)
        FROM (SELECT toDateTime(arrayJoin({{starts:Array(UInt32)}}), 'UTC') AS start) AS wanted
        LEFT JOIN (
            SELECT
                start,
                {listed(f"groupArray({c}) AS array_{c}" for c in _ARRAYS)}
            FROM (
                {cells}
            )
            GROUP BY start
        ) AS counted USING (start)
        """,  # noqa: S608
        {**params, "project": project.project},
        do_not_merge_across_partitions_select_final=1,
    )


_NO_RATINGS = {s: "toUInt64(0)" if s == "num_up" else "0." for s in _SUMS}
_GROUPED = [f"d_{c}" for c in _COLUMNS]


def _cells(what: str, sums: Mapping[str, str], source: str, *, by: Sequence[str] = ()) -> str:
    """The aggregates of each start: `what` with its sums, those that are not given being 0."""
    columns = [f"d_{c} AS {c}" for c in _COLUMNS]
    return f"""
        SELECT
            start,
            {what} AS what,
            {listed([*columns, *(f"{sql} AS {name}" for name, sql in {**_NO_RATINGS, **sums}.items())])}
        FROM (
            {source}
        )
        GROUP BY
            {listed(["start", *by, *_GROUPED])}"""  # noqa: S608


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


def _start(column: str, grain: Grain) -> str:
    return f"toStartOf{grain.title()}({column}, 'UTC') AS start"


def _answers(ranges: str, grain: Grain) -> str:
    answers = f"""
            SELECT
                {_start("start_time", grain)},
                sampling_probability AS p,
                {_dimensions(1)}
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND {PRODUCTION}
              AND {ranges}"""  # noqa: S608
    return _cells(
        "'answer'", {"num": "count()", "sum_w": "sum(1 / p)", "sum_w2": "sum(1 / (p * p))"}, answers
    )


def _feedback(ranges: str, grain: Grain, only: str) -> str:
    """The feedback on the ranges' calls as it counts now."""
    return f"""
            SELECT
                {_start("call_time", grain)},
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
              AND {PRODUCTION}
              AND {only}"""  # noqa: S608


def _thumbs(ranges: str, grain: Grain) -> str:
    newest = f"""
            SELECT
                any(start) AS start,
                author_kind,
                argMax(ifNull(score, 0) > 0.5, (version, feedback_id)) AS up,
                argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
                any(call_probability) AS p,
                {listed(f"any({d}) AS {d}" for d in _GROUPED)}
            FROM (
                {_feedback(ranges, grain, "is_thumb AND name = 'thumb'")}
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


def _kinds(ranges: str, grain: Grain) -> str:
    return _cells("concat('kind ', kind)", {"num": "count()"}, _feedback(ranges, grain, "1"), by=["kind"])


def _flags(ranges: str, grain: Grain) -> str:
    flagged = f"""
            SELECT
                any(start) AS start,
                label,
                {listed(f"any({d}) AS {d}" for d in _GROUPED)}
            FROM (
                {_feedback(ranges, grain, "kind = 'flag'")}
            )
            GROUP BY
                label,
                cityHash64(trace_id, span_id)"""  # noqa: S608
    return _cells("concat('flag ', label)", {"num": "count()"}, flagged, by=["label"])


def _metadata_keys(
    project: ProjectStore, part: Part, ranges: str, params: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """The metadata keys that cells are told apart by, those with the fewest values; and the others, which they do not know."""
    metadata, table = ("metadata", "spans") if part == "answers" else ("call_metadata", "feedback")
    rows = project.rows(
        f"""
        SELECT
            key,
            uniq({metadata}[key]) AS num_values
        FROM (
            SELECT
                {metadata},
                arrayJoin(mapKeys({metadata})) AS key
            FROM {table}
            WHERE project_id = {{project:String}}
              AND {PRODUCTION}
              AND {ranges}
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


def _sum_up(project: ProjectStore, part: Part, grain: Grain, start: datetime) -> None:
    """Write the aggregates of an hour from its minutes', or a day's from its hours'.

    Their fingerprint is the sum of those, so that a missing one makes them stale.
    """
    dimensions = [
        "mapFilter((k, v) -> NOT has(unknown, k), metadata) AS d_metadata"
        if c == "metadata"
        else f"{c} AS d_{c}"
        for c in _COLUMNS
    ]
    finer = "hour" if grain == "day" else "minute"
    sources = f"""FROM answer_aggregates FINAL
            WHERE project_id = {{project:String}}
              AND part = '{part}'
              AND grain = '{finer}'
              AND print != 0
              AND start >= toDateTime({{first:UInt32}}, 'UTC') AND start < toDateTime({{last:UInt32}}, 'UTC')"""
    sums = [f"s_{c}" for c in _SUMS]
    project.store.command(
        f"""
        INSERT INTO answer_aggregates ({listed(_TARGETS)})
        WITH (
            SELECT (sum(print), arraySort(groupUniqArrayArray(dropped)))
            {sources}
        ) AS whole
        SELECT
            {{project:String}},
            '{part}',
            '{grain}',
            toDateTime({{first:UInt32}}, 'UTC'),
            whole.1,
            whole.2,
            {listed(f"groupArray({n})" for n in ("what", *_GROUPED, *sums))},
            now64(6)
        FROM (
            SELECT
                what,
                {listed([*dimensions, *(f"sum({c}) AS s_{c}" for c in _SUMS)])}
            FROM (
                SELECT
                    whole.2 AS unknown,
                    *
                {sources}
            )
            ARRAY JOIN
                {listed(f"cell_{c} AS {c}" for c in _ARRAYS)}
            GROUP BY
                {listed(["what", *_GROUPED])}
        )
        """,  # noqa: S608
        {
            "first": int(start.timestamp()),
            "last": int((start + LENGTH[grain]).timestamp()),
            "project": project.project,
        },
    )
