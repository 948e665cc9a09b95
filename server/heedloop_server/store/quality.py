"""Counts of answers and of their ratings: every aggregate of the quality pages, made in ClickHouse.

The rating of an answer is the newest thumb that an author of the asked-for kind left on it. Where the rows come from, counted
before or not, is `store.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, cast

from heedloop_server.quality.counts import Answers, Group, Ratings
from heedloop_server.store.cells import ranges_condition
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import conditions
from heedloop_server.store.sources import (
    GROUP_FIELDS,
    Expression,
    Source,
    View,
    answer_source,
    expression,
    flag_source,
    kind_source,
    sample_source,
    thumb_source,
)

__all__ = [
    "GROUP_FIELDS",
    "Bucket",
    "Metric",
    "View",
    "count_by",
    "count_days",
    "count_flags",
    "count_grid",
    "count_kinds",
    "count_over_time",
    "count_raters",
    "count_sample",
    "count_total",
    "design_weights",
    "first_seen",
    "measured",
    "measured_total",
    "releases",
]

Bucket = Literal["hour", "day", "week"]
Metric = Literal["rate", "coverage", "errors"]
MAX_GROUPS = 500

_START = {
    "hour": "toStartOfHour(at, 'UTC')",
    "day": "toStartOfDay(at, 'UTC')",
    "week": "toDateTime(toStartOfWeek(at, 1, 'UTC'), 'UTC')",
}
_RATED = """
    sum(num) AS total,
    sum(num_up) AS total_up,
    sum(sum_w) AS w,
    sum(sum_w2) AS w2,
    sum(sum_wy) AS wy,
    sum(sum_w2y) AS w2y,
    sum(extra_w) AS more,
    sum(extra_w2) AS more2"""
_GIVEN = "sum(num) AS total, sum(sum_w) AS w, sum(sum_w2) AS w2"


def _ratings(row: Row) -> Ratings:
    sums = (float(row[n]) for n in ("w", "w2", "wy", "w2y", "more", "more2"))
    return Ratings(int(row["total"]), int(row["total_up"]), *sums)


def _answers(row: Row) -> Answers:
    return Answers(int(row["total"]), float(row["w"]), float(row["w2"]))


def _columns(groups: Mapping[str, Expression]) -> tuple[set[str], set[str]]:
    """The columns and the metadata keys that groups need."""
    return {c for e in groups.values() for c in e.columns}, {k for e in groups.values() for k in e.keys}


def _grouped(
    project: ProjectStore,
    view: View,
    groups: Mapping[str, Expression],
    params: dict[str, Any],
    *,
    values: Sequence[str] | None = None,
    days: bool = True,
) -> dict[tuple[Any, ...], Group]:
    """Groups by the named expressions.

    With `value0` among the names, at most `MAX_GROUPS` groups: of the given values only, or those with most answers.
    """
    columns, keys = _columns(groups)
    answers = answer_source(project, view, columns, keys=keys, days=days)
    given = {
        k: _answers(r) for k, r in _count(project, answers, _GIVEN, groups, params, values, largest=True)
    }
    if "value0" in groups and values is None:
        values = sorted({key[0] for key in given})
    thumbs = thumb_source(project, view, columns, keys=keys, days=days)
    rated = {k: _ratings(r) for k, r in _count(project, thumbs, _RATED, groups, params, values)}
    kept = given.keys() if len(given) >= MAX_GROUPS else given.keys() | rated.keys()
    return {k: Group(given.get(k, Answers()), rated.get(k, Ratings())) for k in sorted(kept, key=str)}


def _count(
    project: ProjectStore,
    source: Source,
    sums: str,
    groups: Mapping[str, Expression],
    params: Mapping[str, Any],
    values: Sequence[str] | None,
    *,
    largest: bool = False,
) -> list[tuple[tuple[Any, ...], Row]]:
    """(group, sums) of a source; of some values of the first group only, where they are given."""
    chosen = "".join(f"{e.sql} AS {name}, " for name, e in groups.items())
    by = f"GROUP BY {', '.join(groups)}" if groups else ""
    only = "HAVING value0 IN {values:Array(String)}" if groups and values is not None else ""
    limit = "ORDER BY total DESC LIMIT {limit:UInt32}" if largest and "value0" in groups else ""
    rows = project.rows(
        f"SELECT {chosen}{sums} FROM ({source.sql}) {by} {only} {limit}",  # noqa: S608
        {**source.params, **params, "values": list(values or ()), "limit": MAX_GROUPS},
        do_not_merge_across_partitions_select_final=1,
    )
    return [(tuple(r[n] for n in groups), r) for r in rows if int(r["total"])]


def count_total(project: ProjectStore, view: View) -> Group:
    """All answers of the view."""
    return _grouped(project, view, {}, {}).get((), Group())


def count_over_time(project: ProjectStore, view: View, bucket: Bucket) -> dict[datetime, Group]:
    """Groups by the start of their hour, day or week (from Monday), UTC; buckets without answers are left out."""
    start = Expression(_START[bucket], frozenset())
    groups = _grouped(project, view, {"bucket": start}, {}, days=bucket != "hour")
    return {key[0]: group for key, group in groups.items()}


def count_by(
    project: ProjectStore, view: View, fields: Sequence[str], *, values: Sequence[str] | None = None
) -> dict[tuple[str, ...], Group]:
    """Groups by the values of one or two fields, those with the most answers first, at most `MAX_GROUPS`.

    With `values`, only groups whose first field holds one of them.

    Raises:
        Invalid: a field is none to group by.
    """
    params: dict[str, Any] = {}
    groups = {f"value{i}": expression(f, params, f"key{i}") for i, f in enumerate(fields)}
    found = _grouped(project, view, groups, params, values=values)
    ordered = sorted(found.items(), key=lambda g: (-g[1].num_answers, g[0]))
    return dict(ordered[:MAX_GROUPS])


def count_days(
    project: ProjectStore, view: View, field: str, values: Sequence[str] | None = None
) -> dict[str, dict[date, tuple[int, int]]]:
    """Value -> day (UTC) -> (thumbs up, ratings), for the given values of a field, or for all."""
    params: dict[str, Any] = {}
    groups = {
        "value0": expression(field, params, "key0"),
        "day": Expression("toDate(at, 'UTC')", frozenset()),
    }
    columns, keys = _columns(groups)
    thumbs = thumb_source(project, view, columns, keys=keys)
    days: dict[str, dict[date, tuple[int, int]]] = {v: {} for v in values or ()}
    for (value, day), row in _count(project, thumbs, _RATED, groups, params, values):
        days.setdefault(value, {})[day] = (int(row["total_up"]), int(row["total"]))
    return days


def count_grid(
    project: ProjectStore, view: View, field: str, bucket: Bucket
) -> dict[tuple[datetime, str], Group]:
    """Groups by the start of their hour, day or week and the value of a field, without a limit."""
    params: dict[str, Any] = {}
    groups = {"bucket": Expression(_START[bucket], frozenset()), "value": expression(field, params, "key0")}
    return cast(
        dict[tuple[datetime, str], Group], _grouped(project, view, groups, params, days=bucket != "hour")
    )


def first_seen(
    project: ProjectStore, view: View, field: str, hours: Mapping[str, datetime]
) -> dict[str, datetime]:
    """Value -> the moment of its first answer within the hour in which it came up."""
    if not hours:
        return {}
    params: dict[str, Any] = {"values": list(hours)}
    where, more = conditions(view.filters)
    value = expression(field, params, "key0").sql
    ranges = [
        (at, at + timedelta(hours=1))
        for at in sorted({h.replace(minute=0, second=0, microsecond=0) for h in hours.values()})
    ]
    rows = project.rows(
        f"""
        SELECT value, min(at) AS first
        FROM (SELECT {value} AS value, start_time AS at FROM spans WHERE {where} AND {ranges_condition(ranges, "start_time", params)})
        WHERE value IN {{values:Array(String)}}
        GROUP BY value
        """,  # noqa: S608
        {**params, **more},
    )
    return {r["value"]: r["first"] for r in rows}


def measured(
    project: ProjectStore, view: View, metric: Metric, bucket: Bucket
) -> dict[datetime, tuple[int, int]]:
    """Start of each bucket -> (good ones, all): thumbs up of ratings, rated of answers, answers without an error of answers."""
    if metric != "errors":
        found = count_over_time(project, view, bucket)
        return {at: _good(group, metric) for at, group in found.items()}
    out: dict[datetime, tuple[int, int]] = {}
    for (at, status), group in count_grid(project, view, "status", bucket).items():
        good, num = out.get(at, (0, 0))
        out[at] = (good + (group.num_answers if status != "error" else 0), num + group.num_answers)
    return out


def measured_total(project: ProjectStore, view: View, metric: Metric) -> tuple[int, int]:
    """(good ones, all) of the whole view."""
    if metric != "errors":
        return _good(count_total(project, view), metric)
    found = {status: group.num_answers for (status,), group in count_by(project, view, ["status"]).items()}
    num = sum(found.values())
    return num - found.get("error", 0), num


def _good(group: Group, metric: Metric) -> tuple[int, int]:
    if metric == "coverage":
        return group.ratings.num, group.num_answers
    return group.ratings.num_up, group.ratings.num


def _named(project: ProjectStore, source: Source) -> dict[str, int]:
    rows = project.rows(
        f"""
        SELECT
            name,
            sum(num) AS total
        FROM ({source.sql})
        GROUP BY name
        ORDER BY total DESC, name
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**source.params, "limit": MAX_GROUPS},
    )
    return {r["name"]: int(r["total"]) for r in rows}


def count_kinds(project: ProjectStore, view: View) -> dict[str, int]:
    """Kind of feedback -> how many pieces of it the answers of the view got, from anybody."""
    return _named(project, kind_source(project, view))


def count_flags(project: ProjectStore, view: View) -> dict[str, int]:
    """Category -> how many answers of the view were flagged with it, most first."""
    return _named(project, flag_source(project, view))


def releases(project: ProjectStore, view: View) -> list[tuple[datetime, str, str]]:
    """(first seen, field, value) of prompt versions and models that came up within the period.

    A value is new where the equal period before does not have it; those of the first hour ever are no releases. The time is that of
    the hour where the hour was counted before.
    """
    since, until = view.filters.period()
    wide = View(
        view.filters.model_copy(update={"since": since - (until - since), "until": until}), view.author_kind
    )
    source = answer_source(project, wide, ("model", "prompt_version"), days=False)
    rows = project.rows(
        f"""
        SELECT
            pair.1 AS field,
            pair.2 AS value,
            min(earliest) AS first_seen
        FROM (
            SELECT
                earliest,
                arrayJoin([('prompt_version', toString(prompt_version)), ('model', toString(model))]) AS pair
            FROM (
                SELECT
                    prompt_version,
                    model,
                    min(at) AS earliest
                FROM ({source.sql})
                GROUP BY
                    prompt_version,
                    model
            )
        )
        WHERE value != ''
        GROUP BY
            field,
            value
        ORDER BY
            first_seen,
            field
        """,  # noqa: S608
        source.params,
        do_not_merge_across_partitions_select_final=1,
    )
    first_ever = {
        f: min(r["first_seen"] for r in rows if r["field"] == f) for f in {r["field"] for r in rows}
    }
    return [
        (r["first_seen"], r["field"], r["value"])
        for r in rows
        if since <= r["first_seen"] and r["first_seen"] - first_ever[r["field"]] >= timedelta(hours=1)
    ]


def count_raters(project: ProjectStore, view: View) -> dict[str, Group]:
    """Answers of new and of returning users: `new` on the day of a user's first call of all, else `returning`."""
    groups = count_by(project, view, ["user"])
    return {v: groups[v,] for v in ("new", "returning") if (v,) in groups}


def count_sample(project: ProjectStore, view: View) -> Ratings:
    """Thumbs by annotators on answers that were drawn for review with a known probability."""
    rows = _count(project, sample_source(view), _RATED, {}, {}, None)
    return _ratings(rows[0][1]) if rows else Ratings()


def design_weights(project: ProjectStore) -> tuple[float, float] | None:
    """The smallest and the largest weight of all drawn answers of the project; None where nothing was drawn."""
    row = project.row(
        """
        SELECT
            min(sampling_probability) AS least,
            max(sampling_probability) AS most
        FROM feedback
        WHERE project_id = {project:String} AND sampling_probability > 0
        """
    )
    if row is None or row["least"] is None:
        return None
    return 1 / float(row["most"]), 1 / float(row["least"])


def num_calls(project: ProjectStore, view: View) -> int:
    """How many calls the lists show for a view."""
    where, params = conditions(view.filters)
    row = project.row(f"SELECT count() AS n FROM spans FINAL WHERE {where}", params)  # noqa: S608
    return int(row["n"]) if row else 0
