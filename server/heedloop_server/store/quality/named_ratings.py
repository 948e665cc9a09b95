"""Named ratings: scales, categories and thumbs under any name, by users, annotators and models.

An answer's value under a name is the mean of its ratings, each the newest of its author, or the category that most of
them chose. A value on another scale than the newest is moved to the newest scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import BY_PEOPLE_FIRST, SHARE
from heedloop_server.store.quality.hourly import listed
from heedloop_server.store.quality.rows import (
    BUCKET_START,
    Bucket,
    View,
    expression,
    feedback_columns,
    judged_condition,
)

MAX_NAMES = 200
MAX_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class NamedRating:
    """What ratings there are under one name: the newest one's scale, and how many."""

    name: str
    categories: tuple[str, ...]
    low: float
    high: float
    is_thumb: bool
    num_ratings: int
    num_answers: int
    author_kinds: tuple[str, ...]


@dataclass(slots=True)
class RatedGroup:
    """Answers of a group by their value: number -> answers of numeric ratings, category -> answers of the others."""

    numbers: dict[float, int]
    categories: dict[str, int]
    num_ratings: int = 0


def list_named_ratings(project: ProjectStore, filters: CallFilters) -> list[NamedRating]:
    """The names under which the calls of the filters were rated, the most ratings first."""
    params: dict[str, Any] = {"limit": MAX_NAMES}
    where, author = _where(filters, params)
    rows = project.rows(
        f"""
        SELECT
            name,
            argMax(JSONExtract(record, 'scale', 'categories', 'Array(String)'), version) AS categories,
            argMax(JSONExtractFloat(record, 'scale', 'min'), version) AS low,
            argMax(JSONExtractFloat(record, 'scale', 'max'), version) AS high,
            min(is_thumb) AS all_thumbs,
            count() AS num_ratings,
            uniqExact(trace_id, span_id) AS num_answers,
            arraySort(groupUniqArray(toString(author_kind))) AS author_kinds
        FROM feedback FINAL
        WHERE {where}
          AND kind = 'rating'
          {author}
        GROUP BY name
        ORDER BY
            num_ratings DESC,
            name
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        params,
    )
    return [
        NamedRating(
            r["name"],
            tuple(r["categories"]),
            float(r["low"]),
            float(r["high"]),
            bool(r["all_thumbs"]),
            int(r["num_ratings"]),
            int(r["num_answers"]),
            tuple(r["author_kinds"]),
        )
        for r in rows
    ]


def rated_groups(
    project: ProjectStore, filters: CallFilters, rating: NamedRating, field: str | None
) -> dict[str, RatedGroup]:
    """Value of a field (any that quality groups by; `''` where none is asked for) -> its answers by their rating.

    Raises:
        Invalid: the field is none to group by.
    """
    params: dict[str, Any] = {}
    result = _grouped(project, filters, rating, *_field(field, params), params)
    return dict(sorted(result.items(), key=lambda g: (-g[1].num_ratings, g[0])))


def rated_over_time(
    project: ProjectStore,
    filters: CallFilters,
    rating: NamedRating,
    bucket: Bucket,
) -> dict[datetime, RatedGroup]:
    """Start of each hour, day or week with ratings (by the time of the answer, UTC) -> its answers by their rating."""
    sql = f"toString(toUnixTimestamp({BUCKET_START[bucket]}))"
    result = _grouped(project, filters, rating, sql, [], {})
    return {datetime.fromtimestamp(int(at), tz=timezone.utc): g for at, g in sorted(result.items())}


def _field(field: str | None, params: dict[str, Any]) -> tuple[str, list[str]]:
    """The SQL of a field to group by, over columns that an answer's feedback has copied; and these, one value of each."""
    if field is None:
        return "''", []
    value = expression(field, params, "group_key")
    return value.sql, [f"any({feedback_columns(c)}) AS {c}" for c in sorted(value.columns)]


def _where(filters: CallFilters, params: dict[str, Any]) -> tuple[str, str]:
    """The conditions on feedback on the calls of the filters, and on its authors."""
    where = judged_condition(View(filters), params)
    if filters.author_kind is None:
        return where, f"AND {BY_PEOPLE_FIRST}"
    params["named_by"] = filters.author_kind
    return where, "AND author_kind = {named_by:String}"


def _grouped(
    project: ProjectStore,
    filters: CallFilters,
    rating: NamedRating,
    group: str,
    copied: Sequence[str],
    params: dict[str, Any],
) -> dict[str, RatedGroup]:
    params |= {"named": rating.name, "low": rating.low, "high": rating.high, "limit": MAX_ROWS}
    where, author = _where(filters, params)
    rows = project.rows(
        f"""
        SELECT
            {group} AS place,
            number,
            category,
            count() AS num,
            sum(ratings) AS num_ratings
        FROM (
            SELECT
                any(call_time) AS at,
                round({{low:Float64}} + avg({SHARE}) * ({{high:Float64}} - {{low:Float64}}), 6) AS number,
                topKIf(1)(label, label != '')[1] AS category,
                {listed(["count() AS ratings", *copied])}
            FROM feedback FINAL
            WHERE {where}
              AND kind = 'rating'
              AND name = {{named:String}}
              {author}
            GROUP BY
                trace_id,
                span_id
        )
        GROUP BY
            place,
            number,
            category
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        params,
    )
    result: dict[str, RatedGroup] = {}
    for row in rows:
        _add(result.setdefault(row["place"], RatedGroup({}, {})), row)
    return result


def _add(group: RatedGroup, row: Row) -> None:
    num = int(row["num"])
    group.num_ratings += int(row["num_ratings"])
    if row["category"]:
        group.categories[row["category"]] = group.categories.get(row["category"], 0) + num
    elif row["number"] is not None:
        number = float(row["number"])
        group.numbers[number] = group.numbers.get(number, 0) + num


# ------------------------------------------------------------------------------------------------- flags and marks


def count_marks(project: ProjectStore, filters: CallFilters, field: str | None) -> list[Mapping[str, Any]]:
    """Per value of a field: `place, num_answers, num_chars` of its judged answers, and `marks` (name, category,
    number of flags and marked ranges, number of answers that have one).

    Only judgements of the kinds of authors that the filters name are looked at; all but the app's users where they name none.
    """
    params: dict[str, Any] = {
        "by": [filters.author_kind] if filters.author_kind else ["annotator", "model", "code"]
    }
    group, copied = _field(field, params)
    where = judged_condition(View(filters), params)
    rows = project.rows(
        f"""
        SELECT
            {group} AS place,
            count() AS num_answers,
            sum(chars) AS num_chars,
            sumMap(mapFromArrays(marks, arrayMap(m -> toUInt64(1), marks))) AS num_having,
            sumMap(mapFromArrays(marks, arrayMap(m -> toUInt64(countEqual(every, m)), marks))) AS num_marks
        FROM (
            SELECT
                any(call_answer_chars) AS chars,
                groupArrayIf(concat(name, '\x1f', label), kind = 'flag') AS every,
                {listed(["arrayDistinct(every) AS marks", *copied])}
            FROM feedback FINAL
            WHERE {where}
              AND author_kind IN {{by:Array(String)}}
            GROUP BY
                trace_id,
                span_id
        )
        GROUP BY place
        ORDER BY
            num_answers DESC,
            place
        LIMIT 500
        """,  # noqa: S608
        params,
    )
    return [r | {n: _by_name(r[n]) for n in ("num_having", "num_marks")} for r in rows]


def _by_name(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """(name, category) -> number, from the query's texts of both."""
    return {
        (name, label): int(num) for key, num in counts.items() for name, _, label in [key.partition("\x1f")]
    }
