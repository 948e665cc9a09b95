"""Hourly and daily aggregates of answers, used where their fingerprint matches the rows.

`answer_cells` (migration 0021) holds a row per hour and per day of a project with arrays of aggregates. A row is fresh where its
fingerprints are those that the hour has now; whatever is stale (the running hour, hours with late arrivals, the ends of a period
that are no whole hours, filters that the aggregates do not know) is counted from `spans` and `feedback` as they are. So the sum is
always that of the rows, and its cost grows with the hours and the kinds of answers in view rather than with the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import USER

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MAX_RANGES = 48
"""Stretches counted from the rows in one query; where there are more, the whole period is."""

_CHARS = (
    "multiIf({chars} = 0, 'none', {chars} <= 200, 'up to 200', {chars} <= 1000, '201 to 1,000', 'over 1,000')"
)

CELL_FIELDS: dict[str, tuple[str, str]] = {
    **{n: (n, n) for n in ("model", "prompt_name", "prompt_version", "service", "environment")},
    "is_answer": ("call_is_answer", "is_answer"),
    "status": ("call_status", "status"),
    "answer_chars": (_CHARS.format(chars="call_answer_chars"), _CHARS.format(chars="lengthUTF8(answer)")),
    "user": (USER.replace("{time}", "call_time"), USER.replace("{time}", "start_time")),
    "tags": ("call_tags", "tags"),
    "metadata": ("call_metadata", "metadata"),
}
"""What aggregates are grouped by: name -> its expression over `feedback` and over `spans`."""

# these must be, word for word, the projections of migration 0021: any other expression reads the rows
SPAN_HOUR, FEEDBACK_HOUR = "toStartOfHour(start_time, 'UTC')", "toStartOfHour(call_time, 'UTC')"
SPAN_FINGERPRINT = (
    "sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, "
    "service, environment, tags, sampling_probability))"
)
FEEDBACK_FINGERPRINT = (
    "sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, "
    "prompt_version, service, environment, call_tags, call_probability))"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a period is counted: fresh days and hours from their aggregates, half-open ranges from the rows."""

    days: tuple[datetime, ...] = ()
    hours: tuple[datetime, ...] = ()
    ranges: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def has_cells(self) -> bool:
        return bool(self.days or self.hours)


@dataclass(frozen=True)
class Fingerprints:
    """Of each hour with rows: (fingerprint of `spans`, of `feedback`); and the aggregates' own by (grain, start)."""

    hours: Mapping[datetime, tuple[int, int]] = field(default_factory=dict[datetime, tuple[int, int]])
    cells: Mapping[tuple[str, datetime], tuple[int, int, frozenset[str]]] = field(
        default_factory=dict[tuple[str, datetime], tuple[int, int, frozenset[str]]]
    )

    @cached_property
    def days(self) -> dict[datetime, tuple[int, int]]:
        """Of each day with rows, in order, its fingerprints: the sums of its hours'."""
        sums: dict[datetime, tuple[int, int]] = {}
        for hour, (spans, feedback) in sorted(self.hours.items()):
            day = hour.replace(hour=0)
            before = sums.get(day, (0, 0))
            sums[day] = (before[0] + spans) % 2**64, (before[1] + feedback) % 2**64
        return sums

    def is_fresh(self, grain: str, start: datetime, keys: frozenset[str]) -> bool:
        """Whether the aggregates of an hour or day are those of its rows and know these metadata keys."""
        cell = self.cells.get((grain, start))
        now = (self.days if grain == "day" else self.hours).get(start, (0, 0))
        return cell is not None and cell[:2] == now and not (cell[2] & keys)


def read_hour_fingerprints(project: ProjectStore, since: datetime, until: datetime) -> Fingerprints:
    """The fingerprints of the hours that a period touches, and of the aggregates that there are of it."""
    rows = project.rows(
        f"""
        SELECT
            'spans' AS part,
            {SPAN_HOUR} AS hour,
            {SPAN_FINGERPRINT} AS print,
            toUInt64(0) AS other,
            emptyArrayString() AS dropped
        FROM spans
        WHERE project_id = {{project:String}}
          AND {_hour_between(SPAN_HOUR)}
        GROUP BY hour
        UNION ALL
        SELECT
            'feedback',
            {FEEDBACK_HOUR} AS hour,
            {FEEDBACK_FINGERPRINT},
            toUInt64(0),
            emptyArrayString()
        FROM feedback
        WHERE project_id = {{project:String}}
          AND {_hour_between(FEEDBACK_HOUR)}
        GROUP BY hour
        UNION ALL
        SELECT
            toString(grain),
            start,
            span_print,
            feedback_print,
            dropped
        FROM answer_cells FINAL
        WHERE project_id = {{project:String}}
          AND {_hour_between("start")}
        """,  # noqa: S608
        {"first": _seconds(since.replace(minute=0, second=0, microsecond=0)), "last": _seconds(until)},
    )
    spans: dict[datetime, int] = {}
    feedback: dict[datetime, int] = {}
    cells: dict[tuple[str, datetime], tuple[int, int, frozenset[str]]] = {}
    for r in rows:
        if r["part"] == "spans":
            spans[r["hour"]] = int(r["print"])
        elif r["part"] == "feedback":
            feedback[r["hour"]] = int(r["print"])
        else:
            cells[r["part"], r["hour"]] = int(r["print"]), int(r["other"]), frozenset(r["dropped"])
    return Fingerprints(
        {h: (spans.get(h, 0), feedback.get(h, 0)) for h in spans.keys() | feedback.keys()}, cells
    )


def _hour_between(hour: str) -> str:
    return f"{hour} >= toDateTime({{first:UInt32}}, 'UTC') AND {hour} <= toDateTime({{last:UInt32}}, 'UTC')"


def _seconds(at: datetime) -> int:
    """Unix time within what a DateTime can hold: 1970 to 2106."""
    return min(max(int(at.timestamp()), 0), 2**32 - 1)


def make_plan(
    fingerprints: Fingerprints,
    since: datetime,
    until: datetime,
    *,
    keys: Iterable[str] = (),
    days: bool = True,
) -> Plan:
    """Fresh days (where `days` are wanted), fresh hours of the others, and what is left as ranges.

    Args:
        keys: metadata keys that the question needs.
    """
    wanted = frozenset(keys)
    fresh_days: list[datetime] = []
    fresh_hours: list[datetime] = []
    left: list[tuple[datetime, datetime]] = []
    for day in fingerprints.days:
        if day + DAY <= since or day >= until:
            continue
        if days and since <= day and day + DAY <= until and fingerprints.is_fresh("day", day, wanted):
            fresh_days.append(day)
            continue
        for hour in (day + i * HOUR for i in range(24)):
            if hour not in fingerprints.hours or hour + HOUR <= since or hour >= until:
                continue
            if since <= hour and hour + HOUR <= until and fingerprints.is_fresh("hour", hour, wanted):
                fresh_hours.append(hour)
            else:
                left.append((max(hour, since), min(hour + HOUR, until)))
    ranges = _joined(left)
    if len(ranges) > MAX_RANGES:
        return Plan(ranges=((since, until),))
    return Plan(tuple(fresh_days), tuple(fresh_hours), ranges)


def _joined(ranges: Sequence[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    out: list[tuple[datetime, datetime]] = []
    for start, end in ranges:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return tuple(out)


def ranges_condition(ranges: Sequence[tuple[datetime, datetime]], column: str, params: dict[str, Any]) -> str:
    """The condition that a time lies in one of the ranges; fills `params`."""
    parts: list[str] = []
    for i, (start, end) in enumerate(ranges):
        params |= {f"from{i}": start, f"to{i}": end}
        parts.append(
            f"{column} >= {{from{i}:DateTime64(6,'UTC')}} AND {column} < {{to{i}:DateTime64(6,'UTC')}}"
        )
    return f"({' OR '.join(parts)})" if parts else "0"


def cell_rows(plan: Plan, selected: str, columns: Sequence[str], where: str, params: dict[str, Any]) -> str:
    """The fresh aggregates of a plan; fills `params`.

    Args:
        selected: what is read besides `at`, the start of the hour or day.
        columns: of `CELL_FIELDS`, and sums such as `num`: those that `selected` and `where` need.
        where: a condition over `what` and them.
    """
    params |= {"days": _stamps(plan.days), "hours": _stamps(plan.hours)}
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
            FROM answer_cells FINAL
            WHERE project_id = {{project:String}}
              AND (grain = 'day' AND toUnixTimestamp(start) IN {{days:Array(UInt32)}}
                   OR grain = 'hour' AND toUnixTimestamp(start) IN {{hours:Array(UInt32)}})
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


def _stamps(times: Sequence[datetime]) -> list[int]:
    return [_seconds(t) for t in times]
