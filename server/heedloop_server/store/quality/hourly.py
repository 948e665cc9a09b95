"""Aggregates of answers and of feedback by minute, hour and day, used where their fingerprint matches the rows.

`answer_aggregates` (migration 0026) holds, for the answers and for the feedback of a project, a row per minute, hour and day with arrays
of aggregates. A row is fresh where its fingerprint is the one that the rows have now; whatever is stale (the running minute, minutes
with late arrivals, the ends of a period that are no whole minutes, filters that the aggregates do not know) is counted from `spans`
and `feedback` as they are. So the sum is always that of the rows, and its cost grows with the hours and the kinds of answers in view
rather than with the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from heedloop_server.store import added_tags
from heedloop_server.store.added_tags import with_added
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import USER

Part = Literal["answers", "feedback"]
Grain = Literal["minute", "hour", "day"]
PARTS: tuple[Part, ...] = ("answers", "feedback")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LENGTH: dict[Grain, timedelta] = {"minute": MINUTE, "hour": HOUR, "day": DAY}
START: dict[Grain, str] = {
    "minute": "{at}",
    "hour": "toStartOfHour({at}, 'UTC')",
    "day": "toStartOfDay({at}, 'UTC')",
}
"""The start of the grain that the start of a minute is in."""
MAX_RANGES = 48
"""Stretches counted from the rows in one query, and hours looked at by minute; where there are more, the whole period is read."""

_CHARS = (
    "multiIf({chars} = 0, 'none', {chars} <= 200, 'up to 200', {chars} <= 1000, '201 to 1,000', 'over 1,000')"
)

CELL_FIELDS: dict[str, tuple[str, str]] = {
    **{n: (n, n) for n in ("model", "prompt_name", "prompt_version", "service", "environment")},
    "is_answer": ("call_is_answer", "is_answer"),
    "status": ("call_status", "status"),
    "answer_chars": (_CHARS.format(chars="call_answer_chars"), _CHARS.format(chars="lengthUTF8(answer)")),
    "user": (USER.replace("{time}", "call_time"), USER.replace("{time}", "start_time")),
    "tags": (with_added("call_tags"), with_added("tags")),
    "metadata": ("call_metadata", "metadata"),
}
"""What aggregates are grouped by: name -> its expression over `feedback` and over `spans`."""

# these must be, word for word, the projections of migration 0026: any other expression reads the rows
SPAN_MINUTE, FEEDBACK_MINUTE = "toStartOfMinute(start_time, 'UTC')", "toStartOfMinute(call_time, 'UTC')"
SPAN_FINGERPRINT = (
    "sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, "
    "service, environment, tags, sampling_probability))"
)
FEEDBACK_FINGERPRINT = (
    "sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, "
    "prompt_version, service, environment, call_tags, call_probability))"
)

Prints = dict[datetime, int]
"""Start -> fingerprint of the rows that begin then; 2^64 is 0."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a part of a period is counted: fresh aggregates, and half-open ranges from the rows.

    Attributes:
        name: of its parameters, where a query has those of two plans.
    """

    days: tuple[datetime, ...] = ()
    hours: tuple[datetime, ...] = ()
    minutes: tuple[datetime, ...] = ()
    ranges: tuple[tuple[datetime, datetime], ...] = ()
    name: str = ""

    @property
    def has_cells(self) -> bool:
        return bool(self.days or self.hours or self.minutes)

    @property
    def is_read(self) -> bool:
        """False where aggregates are all that is counted."""
        return bool(self.ranges) or not self.has_cells


@dataclass(frozen=True)
class Fingerprints:
    """Of each part, the fingerprints of its hours, of the minutes of `detailed` hours, and those that the aggregates were made of.

    Attributes:
        cells: (part, grain, start) -> (fingerprint, metadata keys that the aggregates do not know).
    """

    hours: Mapping[Part, Prints] = field(default_factory=lambda: {p: Prints() for p in PARTS})
    cells: dict[tuple[Part, Grain, datetime], tuple[int, frozenset[str]]] = field(
        default_factory=dict[tuple[Part, Grain, datetime], tuple[int, frozenset[str]]]
    )
    minutes: Mapping[Part, Prints] = field(default_factory=lambda: {p: Prints() for p in PARTS})
    detailed: set[datetime] = field(default_factory=set[datetime])

    @cached_property
    def days(self) -> Mapping[Part, Prints]:
        """The fingerprint of each day with rows, in order: the sum of its hours'."""
        sums: dict[Part, Prints] = {p: {} for p in PARTS}
        for part, hours in self.hours.items():
            for hour, fingerprint in sorted(hours.items()):
                day = hour.replace(hour=0)
                sums[part][day] = (sums[part].get(day, 0) + fingerprint) % 2**64
        return sums

    def is_fresh(self, part: Part, grain: Grain, start: datetime, keys: frozenset[str] = frozenset()) -> bool:
        """Whether an aggregate is that of its rows and knows these metadata keys."""
        cell = self.cells.get((part, grain, start))
        rows = {"minute": self.minutes, "hour": self.hours, "day": self.days}[grain][part]
        return cell is not None and cell[0] == rows.get(start, 0) and not (cell[1] & keys)


def read_hour_fingerprints(project: ProjectStore, since: datetime, until: datetime) -> Fingerprints:
    """The fingerprints of the hours that a period touches, and of the hourly and daily aggregates that there are of it."""
    result = Fingerprints()
    first = since.replace(minute=0, second=0, microsecond=0)
    between = "{at} >= toDateTime({first:UInt32}, 'UTC') AND {at} <= toDateTime({last:UInt32}, 'UTC')"
    params = {"first": _seconds(first), "last": _seconds(until)}
    _read(project, result, "hour", between, ("hour", "day"), params)
    return result


def read_minutes(project: ProjectStore, fingerprints: Fingerprints, since: datetime, until: datetime) -> None:
    """Add the minutes of the hours of a period that cannot be taken whole: those that it cuts and those whose aggregates are stale.

    At most the `MAX_RANGES` newest: of more, the rows are read anyway.
    """
    hours = {h for part in PARTS for h in fingerprints.hours[part] if h + HOUR > since and h < until}
    wanted = sorted(
        h
        for h in hours - fingerprints.detailed
        if h < since
        or h + HOUR > until
        or any(h in fingerprints.hours[p] and not fingerprints.is_fresh(p, "hour", h) for p in PARTS)
    )[-MAX_RANGES:]
    if not wanted:
        return
    fingerprints.detailed.update(wanted)
    between = "toStartOfHour({at}, 'UTC') IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}), 'UTC'))"
    _read(project, fingerprints, "minute", between, ("minute",), {"hours": [_seconds(h) for h in wanted]})


def _read(
    project: ProjectStore,
    result: Fingerprints,
    grain: Grain,
    between: str,
    cells: Sequence[Grain],
    params: Mapping[str, Any],
) -> None:
    rows = project.rows(
        f"""
        SELECT
            part,
            grain,
            start,
            print,
            dropped
        FROM (
            {fingerprint_rows(grain, "project_id = {project:String}", between, cells)}
        )
        """,  # noqa: S608
        params,
    )
    prints = result.minutes if grain == "minute" else result.hours
    for r in rows:
        if r["grain"] == "rows":
            of_part = prints[r["part"]]
            of_part[r["start"]] = (of_part.get(r["start"], 0) + int(r["print"])) % 2**64
        else:
            result.cells[r["part"], r["grain"], r["start"]] = int(r["print"]), frozenset(r["dropped"])


def fingerprint_rows(grain: Grain, where: str, between: str, cells: Sequence[Grain]) -> str:
    """The fingerprints of rows (`grain` is then `rows`) and of aggregates: part, grain, project_id, start, print, dropped.

    Args:
        grain: what the rows are summed by.
        where: a condition over the columns that all tables have.
        between: a condition over `{at}`, the start of a minute or of an aggregate.
        cells: grains of the aggregates.
    """
    sources = [
        f"""
            SELECT
                '{part}' AS part,
                'rows' AS grain,
                project_id,
                {START[grain].format(at=minute)} AS start,
                {fingerprint} AS print,
                emptyArrayString() AS dropped
            FROM {table}
            WHERE {where}
              AND {between.replace("{at}", minute)}
            GROUP BY
                project_id,
                start"""  # noqa: S608
        for part, table, minute, fingerprint in (
            ("answers", "spans", SPAN_MINUTE, SPAN_FINGERPRINT),
            ("feedback", "feedback", FEEDBACK_MINUTE, FEEDBACK_FINGERPRINT),
            *((p, "added_tags FINAL", added_tags.MINUTE, added_tags.FINGERPRINT) for p in PARTS),
        )
    ]
    aggregates = f"""
            SELECT
                toString(part),
                toString(grain),
                project_id,
                start,
                print,
                dropped
            FROM answer_aggregates FINAL
            WHERE {where}
              AND grain IN ({", ".join(f"'{g}'" for g in cells)})
              AND {between.replace("{at}", "start")}"""  # noqa: S608
    return "\n            UNION ALL".join((*sources, aggregates))


def _seconds(at: datetime) -> int:
    """Unix time within what a DateTime can hold: 1970 to 2106."""
    return min(max(int(at.timestamp()), 0), 2**32 - 1)


def make_plans(
    fingerprints: Fingerprints,
    since: datetime,
    until: datetime,
    *,
    keys: Iterable[str] = (),
    days: bool = True,
) -> tuple[Plan, Plan]:
    """The plans of the answers and of the feedback, which are one where both are counted in the same way.

    Args:
        keys: metadata keys that the question needs.
        days: whether whole days may be taken.
    """
    wanted = frozenset(keys)
    answers, feedback = (_plan(fingerprints, part, since, until, wanted, days) for part in PARTS)
    return answers, answers if answers == feedback else replace(feedback, name="feedback_")


def _plan(
    fingerprints: Fingerprints, part: Part, since: datetime, until: datetime, keys: frozenset[str], days: bool
) -> Plan:
    """Fresh days, fresh hours of the others, fresh minutes of the others, and what is left as ranges."""
    fresh: dict[Grain, list[datetime]] = {"day": [], "hour": [], "minute": []}
    left: list[tuple[datetime, datetime]] = []

    def uses(grain: Grain, start: datetime) -> bool:
        end = start + LENGTH[grain]
        is_used = since <= start and end <= until and fingerprints.is_fresh(part, grain, start, keys)
        if is_used:
            fresh[grain].append(start)
        return is_used

    def in_view(prints: Prints, starts: Iterable[datetime], length: timedelta) -> Iterable[datetime]:
        return (at for at in starts if at in prints and at + length > since and at < until)

    for day in in_view(fingerprints.days[part], fingerprints.days[part], DAY):
        if days and uses("day", day):
            continue
        for hour in in_view(fingerprints.hours[part], (day + i * HOUR for i in range(24)), HOUR):
            if uses("hour", hour):
                continue
            if hour not in fingerprints.detailed:
                left.append((max(hour, since), min(hour + HOUR, until)))
                continue
            for minute in in_view(fingerprints.minutes[part], (hour + i * MINUTE for i in range(60)), MINUTE):
                if not uses("minute", minute):
                    left.append((max(minute, since), min(minute + MINUTE, until)))
    ranges = joined_ranges(left)
    if len(ranges) > MAX_RANGES and fingerprints.detailed:
        return _plan(replace(fingerprints, detailed=set()), part, since, until, keys, days)
    if len(ranges) > MAX_RANGES:
        return Plan(ranges=((since, until),))
    return Plan(tuple(fresh["day"]), tuple(fresh["hour"]), tuple(fresh["minute"]), ranges)


def joined_ranges(ranges: Sequence[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    """Ranges in order, those that touch being one."""
    out: list[tuple[datetime, datetime]] = []
    for start, end in ranges:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return tuple(out)


def ranges_condition(
    ranges: Sequence[tuple[datetime, datetime]], column: str, params: dict[str, Any], *, name: str = ""
) -> str:
    """The condition that a time lies in one of the ranges; fills `params`, whose names begin with `name`."""
    parts: list[str] = []
    for i, (start, end) in enumerate(ranges):
        first, last = f"{name}from{i}", f"{name}to{i}"
        params |= {first: start, last: end}
        parts.append(
            f"{column} >= {{{first}:DateTime64(6,'UTC')}} AND {column} < {{{last}:DateTime64(6,'UTC')}}"
        )
    return f"({' OR '.join(parts)})" if parts else "0"


def cell_rows(
    plan: Plan,
    parts: Sequence[Part],
    selected: str,
    columns: Sequence[str],
    where: str,
    params: dict[str, Any],
) -> str:
    """The fresh aggregates of a plan; fills `params`.

    Args:
        parts: those whose aggregates the plan is of.
        selected: what is read besides `at`, the start of the minute, hour or day.
        columns: of `CELL_FIELDS`, and sums such as `num`: those that `selected` and `where` need.
        where: a condition over `what` and them.
    """
    fresh: list[str] = []
    for grain, times in (("day", plan.days), ("hour", plan.hours), ("minute", plan.minutes)):
        if times:
            bound = f"{plan.name}{grain}s"
            params[bound] = [_seconds(t) for t in times]
            fresh.append(f"grain = '{grain}' AND toUnixTimestamp(start) IN {{{bound}:Array(UInt32)}}")
    arrays = [f"cell_{c}" for c in ("what", *columns)]
    unfolded = [f"cell_{c} AS {c}" for c in ("what", *columns)]
    return f"""
        SELECT
            toDateTime64(start, 6, 'UTC') AS at,
            {selected}
        FROM (
            SELECT
                start,
                {listed(arrays)}
            FROM answer_aggregates FINAL
            WHERE project_id = {{project:String}}
              AND part IN ({", ".join(repr(p) for p in parts)})
              AND ({" OR ".join(fresh)})
        )
        ARRAY JOIN
            {listed(unfolded)}
        WHERE {where}"""  # noqa: S608


def newest_feedback(where: str) -> str:
    """The newest version of each feedback on the calls that `where` chooses by their time; `is_deleted` ones are among them.

    It is read by the projection that has feedback by the time of its call (`by_call` of migration 0021), which cannot be asked
    for the newest version: that is found among the few.
    """
    return f"""
            SELECT
                {listed(_PROJECTED)}
            FROM feedback
            WHERE project_id = {{project:String}}
              AND {where}
            ORDER BY
                version DESC,
                received_at DESC
            LIMIT 1 BY feedback_id"""  # noqa: S608


_PROJECTED = (
    "project_id", "call_time", "feedback_id", "trace_id", "span_id", "kind", "name", "score", "label", "is_thumb",
    "has_comment", "author_kind", "sampling_probability", "model", "prompt_name", "prompt_version", "service",
    "environment", "user_id", "session_id", "received_at", "version", "is_deleted", "call_is_answer", "call_status",
    "call_tags", "call_metadata", "call_answer_chars", "call_probability",
)  # fmt: skip
"""The columns of that projection."""


def listed(expressions: Iterable[str]) -> str:
    """Expressions of a SELECT, one on a line."""
    return ",\n".join(expressions)


FEEDBACK_OF_TIMES = f"""(
            SELECT *
            FROM (
                {newest_feedback("call_time IN {times:Array(DateTime64(6,'UTC'))}")}
            )
            WHERE NOT is_deleted
        )"""  # noqa: S608
"""The feedback on calls that started at the bound `times`, as it counts now."""
