"""Counted-before answers: which hours and days of a view need not be counted again, and one SQL source of rows for all.

`answer_cells` (migration 0021) holds a row per hour and per day of a project with arrays of cells. A row is good where its prints
are those that the hour has now; whatever is not good (the running hour, hours with late arrivals, the ends of a period that
are no whole hours, filters that a cell does not know) is counted from `spans` and `feedback` as they are. So the sum is always
that of the rows, and its cost grows with the hours and the kinds of answers in view rather than with the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import USER

__all__ = [
    "ANSWER_CHARS",
    "CELL_FIELDS",
    "FEEDBACK_PRINT",
    "SPAN_PRINT",
    "Plan",
    "cell_rows",
    "make_plan",
    "ranges_condition",
    "read_hour_fingerprints",
]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MAX_RANGES = 48
"""Stretches counted from the rows in one query; where there are more, the whole period is."""

_CHARS = (
    "multiIf({chars} = 0, 'none', {chars} <= 200, 'up to 200', {chars} <= 1000, '201 to 1,000', 'over 1,000')"
)
ANSWER_CHARS = ("none", "up to 200", "201 to 1,000", "over 1,000")

CELL_FIELDS: dict[str, tuple[str, str]] = {
    **{n: (n, n) for n in ("model", "prompt_name", "prompt_version", "service", "environment")},
    "is_answer": ("call_is_answer", "is_answer"),
    "status": ("call_status", "status"),
    "answer_chars": (_CHARS.format(chars="call_answer_chars"), _CHARS.format(chars="lengthUTF8(answer)")),
    "user": (USER.replace("{time}", "call_time"), USER.replace("{time}", "start_time")),
    "tags": ("call_tags", "tags"),
    "metadata": ("call_metadata", "metadata"),
}
"""What a cell is told apart by: name -> its expression over `feedback` and over `spans`."""

# these must be, word for word, the projections of migration 0021: any other expression reads the rows
SPAN_HOUR, FEEDBACK_HOUR = "toStartOfHour(start_time, 'UTC')", "toStartOfHour(call_time, 'UTC')"
SPAN_PRINT = (
    "sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, "
    "service, environment, tags, sampling_probability))"
)
FEEDBACK_PRINT = (
    "sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, "
    "prompt_version, service, environment, call_tags, call_probability))"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a period is counted: good days and hours from their cells, half-open ranges from the rows."""

    days: tuple[datetime, ...] = ()
    hours: tuple[datetime, ...] = ()
    ranges: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def has_cells(self) -> bool:
        return bool(self.days or self.hours)


@dataclass(frozen=True)
class Fingerprints:
    """Of each hour with rows: (print of `spans`, print of `feedback`); and the cells' rows by (grain, start)."""

    hours: Mapping[datetime, tuple[int, int]] = field(default_factory=dict[datetime, tuple[int, int]])
    cells: Mapping[tuple[str, datetime], tuple[int, int, frozenset[str]]] = field(
        default_factory=dict[tuple[str, datetime], tuple[int, int, frozenset[str]]]
    )

    @cached_property
    def days(self) -> dict[datetime, tuple[int, int]]:
        """Of each day with rows, in order, its prints: the sums of its hours'."""
        found: dict[datetime, tuple[int, int]] = {}
        for hour, (spans, feedback) in sorted(self.hours.items()):
            day = hour.replace(hour=0)
            before = found.get(day, (0, 0))
            found[day] = (before[0] + spans) % 2**64, (before[1] + feedback) % 2**64
        return found

    def good(self, grain: str, start: datetime, keys: frozenset[str]) -> bool:
        """Whether the cells of an hour or day are those of its rows and know these metadata keys."""
        cell = self.cells.get((grain, start))
        now = (self.days if grain == "day" else self.hours).get(start, (0, 0))
        return cell is not None and cell[:2] == now and not (cell[2] & keys)


def read_hour_fingerprints(project: ProjectStore, since: datetime, until: datetime) -> Fingerprints:
    """The prints of the hours that a period touches, and of the cells that are there for it."""
    rows = project.rows(
        f"""
        SELECT 'spans' AS part, {SPAN_HOUR} AS hour, {SPAN_PRINT} AS print, toUInt64(0) AS other, emptyArrayString() AS dropped
        FROM spans
        WHERE project_id = {{project:String}} AND {_hour_between(SPAN_HOUR)}
        GROUP BY hour
        UNION ALL
        SELECT 'feedback', {FEEDBACK_HOUR} AS hour, {FEEDBACK_PRINT}, toUInt64(0), emptyArrayString()
        FROM feedback
        WHERE project_id = {{project:String}} AND {_hour_between(FEEDBACK_HOUR)}
        GROUP BY hour
        UNION ALL
        SELECT toString(grain), start, span_print, feedback_print, dropped
        FROM answer_cells FINAL
        WHERE project_id = {{project:String}} AND {_hour_between("start")}
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
    prints: Fingerprints, since: datetime, until: datetime, *, keys: Iterable[str] = (), days: bool = True
) -> Plan:
    """Good days (where `days` are wanted), good hours of the others, and what is left as ranges.

    Args:
        keys: metadata keys that the question needs.
    """
    wanted = frozenset(keys)
    good_days: list[datetime] = []
    good_hours: list[datetime] = []
    left: list[tuple[datetime, datetime]] = []
    for day in prints.days:
        if day + DAY <= since or day >= until:
            continue
        if days and since <= day and day + DAY <= until and prints.good("day", day, wanted):
            good_days.append(day)
            continue
        for hour in (day + i * HOUR for i in range(24)):
            if hour not in prints.hours or hour + HOUR <= since or hour >= until:
                continue
            if since <= hour and hour + HOUR <= until and prints.good("hour", hour, wanted):
                good_hours.append(hour)
            else:
                left.append((max(hour, since), min(hour + HOUR, until)))
    ranges = _joined(left)
    if len(ranges) > MAX_RANGES:
        return Plan(ranges=((since, until),))
    return Plan(tuple(good_days), tuple(good_hours), ranges)


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
            f"({column} >= {{from{i}:DateTime64(6,'UTC')}} AND {column} < {{to{i}:DateTime64(6,'UTC')}})"
        )
    return f"({' OR '.join(parts)})" if parts else "0"


def cell_rows(plan: Plan, columns: Sequence[str], where: str, params: dict[str, Any]) -> str:
    """A query of the good cells: `at` (the start of their hour or day), `what`, the columns asked for.

    Args:
        columns: of `CELL_FIELDS`, and sums such as `num`; those that `where` needs must be among them.
        where: a condition over `what` and them.
    """
    params |= {"days": _stamps(plan.days), "hours": _stamps(plan.hours)}
    read = "".join(f", cell_{c}" for c in columns)
    unfold = ", ".join(f"cell_{c} AS {c}" for c in ("what", *columns))
    chosen = "".join(f", {c}" for c in columns)
    return f"""
        SELECT toDateTime64(start, 6, 'UTC') AS at, what{chosen}
        FROM (
            SELECT start, cell_what{read}
            FROM answer_cells FINAL
            WHERE project_id = {{project:String}}
              AND (grain = 'day' AND toUnixTimestamp(start) IN {{days:Array(UInt32)}}
                   OR grain = 'hour' AND toUnixTimestamp(start) IN {{hours:Array(UInt32)}})
        )
        ARRAY JOIN {unfold}
        WHERE {where}"""  # noqa: S608


def _stamps(times: Sequence[datetime]) -> list[int]:
    return [_seconds(t) for t in times]
