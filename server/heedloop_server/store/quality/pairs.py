"""Counts for the comparison of two values of a field: ratings by day, and within the values of other fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality.rows import SHORT, View, expression, thumb_source

MAX_STRATA = 20_000
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class DayCount:
    """Ratings of one day (UTC) of answers that have these values of a field: several where the field is the tag."""

    values: frozenset[str]
    day: date
    num_up: int
    num: int


def count_days(project: ProjectStore, view: View, field: str) -> list[DayCount]:
    """Ratings by day and by value of a field; by the whole set of tags where the field is the tag."""
    params: dict[str, Any] = {}
    value = expression(field, params, "key")
    source = thumb_source(project, view, value.columns, keys=value.keys)
    rows = project.rows(
        f"""
        SELECT
            held,
            day,
            sum(num) AS total,
            sum(num_up) AS total_up
        FROM (
            SELECT
                arraySort({value.values}) AS held,
                toDate(at, 'UTC') AS day,
                num,
                num_up
            FROM (
                {source.sql}
            )
        )
        GROUP BY
            held,
            day
        ORDER BY total DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**source.params, **params, "limit": _NO_LIMIT},
        **SHORT,
    )
    return [DayCount(frozenset(r["held"]), r["day"], int(r["total_up"]), int(r["total"])) for r in rows]


def days_of_pair(counts: Sequence[DayCount], a: str, b: str) -> tuple[PairDays, PairDays]:
    """Day -> (thumbs up, ratings) of two values, without the answers that have both."""
    sides: tuple[PairDays, PairDays] = ({}, {})
    for c in counts:
        if (a in c.values) == (b in c.values):
            continue
        side = sides[0 if a in c.values else 1]
        up, num = side.get(c.day, (0, 0))
        side[c.day] = (up + c.num_up, num + c.num)
    return sides


PairDays = dict[date, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of a field against one or more others, and the days of either side of which ratings are compared."""

    field: str
    a: str
    b: tuple[str, ...]
    days_a: frozenset[date]
    days_b: frozenset[date]


Strata = dict[tuple[str, ...], list[list[int]]]
"""Value of a field, or set of tags, with the day where asked for -> [[thumbs up, thumbs down] of A, of B]."""


def count_strata(
    project: ProjectStore, view: View, pair: Pair, fields: Sequence[str], *, by_day: bool = False
) -> dict[str, Strata]:
    """The pair's compared ratings within the values of each of some fields, each field by itself; the largest first.

    The strata of a field share no rating: those of the tag are whole sets of tags.

    Raises:
        Invalid: a field is none to group by.
    """
    params: dict[str, Any] = {}
    strata = [expression(f, params, f"key{i}") for i, f in enumerate(fields)]
    side = expression(pair.field, params, "side_key")
    columns = {c for e in (side, *strata) for c in e.columns}
    keys = {k for e in (side, *strata) for k in e.keys}
    source = thumb_source(project, view, columns, keys=keys)
    day = ", [toString(day)]" if by_day else ", emptyArrayString()"
    places = ", ".join(f"({i}, arrayConcat(arraySort({e.values}){day}))" for i, e in enumerate(strata))
    rows = project.rows(
        f"""
        SELECT
            place.1 AS name,
            place.2 AS stratum,
            has_b,
            sum(num) AS total,
            sum(num_up) AS total_up
        FROM (
            SELECT
                has({side.values}, {{a:String}}) AS has_a,
                hasAny({side.values}, {{b:Array(String)}}) AS has_b,
                toDate(at, 'UTC') AS day,
                num,
                num_up,
                arrayJoin([{places}]) AS place
            FROM (
                {source.sql}
            )
        )
        WHERE has_a != has_b
          AND has(if(has_a, {{days_a:Array(Date)}}, {{days_b:Array(Date)}}), day)
        GROUP BY
            name,
            stratum,
            has_b
        ORDER BY total DESC
        LIMIT {{limit:UInt32}} BY name
        """,  # noqa: S608
        {
            **source.params,
            **params,
            "a": pair.a,
            "b": list(pair.b),
            "days_a": sorted(pair.days_a),
            "days_b": sorted(pair.days_b),
            "limit": MAX_STRATA,
        },
        **SHORT,
    )
    result: dict[str, Strata] = {f: {} for f in fields}
    for r in rows:
        table = result[fields[int(r["name"])]].setdefault(tuple(r["stratum"]), [[0, 0], [0, 0]])
        table[1 if r["has_b"] else 0] = [int(r["total_up"]), int(r["total"]) - int(r["total_up"])]
    return result
