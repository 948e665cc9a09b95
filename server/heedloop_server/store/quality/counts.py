"""Counts of answers and of their ratings: every number of the quality pages, made in ClickHouse.

The rating of an answer is the newest thumb that an author of the wanted kind left on it. Where the rows come from, fresh
aggregates or `spans` and `feedback`, is `rows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from heedloop_server.statistics.counts import Answers, Group, Ratings
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import PRODUCTION, conditions
from heedloop_server.store.quality.hourly import listed, ranges_condition
from heedloop_server.store.quality.rows import (
    BUCKET_START,
    SHORT,
    Expression,
    answer_source,
    expression,
    feedback_source,
    group_source,
    read_fingerprints,
    sample_source,
)
from heedloop_server.store.quality.rows import Bucket as Bucket
from heedloop_server.store.quality.rows import View as View

Metric = Literal["rate", "coverage", "errors"]
MAX_GROUPS = 500
MAX_BUCKETS = 2000
"""Whole buckets of a period; one that begins within a bucket touches one more."""

_RATED = """sumIf(num, rated) AS total,
            sum(num_up) AS total_up,
            sumIf(sum_w, rated) AS w,
            sumIf(sum_w2, rated) AS w2,
            sum(sum_wy) AS wy,
            sum(sum_w2y) AS w2y,
            sum(extra_w) AS more,
            sum(extra_w2) AS more2"""
_NO_LIMIT = 1_000_000


def _ratings(row: Row) -> Ratings:
    sums = (float(row[n]) for n in ("w", "w2", "wy", "w2y", "more", "more2"))
    return Ratings(int(row["total"]), int(row["total_up"]), *sums)


def _group(row: Row) -> Group:
    answers = Answers(int(row["given"]), float(row["given_w"]), float(row["given_w2"]))
    return Group(answers, _ratings(row))


Groups = dict[tuple[str, ...], Group]
"""Groups by the values of their fields."""


def _count(
    project: ProjectStore,
    view: View,
    groupings: Mapping[str, Sequence[Expression]],
    params: Mapping[str, Any],
    *,
    values: Sequence[str] | None = None,
    days: bool = True,
    limit: int = MAX_GROUPS,
) -> dict[str, Groups]:
    """Several groupings of a view's answers by one query: planning a query takes longer than running it.

    Args:
        groupings: name -> the none, one or two expressions to group by.
        values: only groups whose first value is one of these.
        limit: most groups of a grouping, those with the most answers.
    """
    expressions = [e for group in groupings.values() for e in group]
    columns = {c for e in expressions for c in e.columns}
    keys = {k for e in expressions for k in e.keys}
    source = group_source(project, view, columns, keys=keys, days=days)
    unfolded = listed(_unfolded(name, expressions) for name, expressions in groupings.items())
    only = "WHERE place.2[1] IN {values:Array(String)}" if values is not None else ""
    rows = project.rows(
        f"""
        SELECT
            place.1 AS name,
            place.2 AS key,
            sumIf(num, NOT rated) AS given,
            sumIf(sum_w, NOT rated) AS given_w,
            sumIf(sum_w2, NOT rated) AS given_w2,
            {_RATED}
        FROM (
            SELECT
                *,
                arrayJoin(arrayConcat({unfolded})) AS place
            FROM (
                {source.sql}
            )
        )
        {only}
        GROUP BY place
        HAVING given OR total
        ORDER BY
            given DESC,
            total DESC,
            key
        LIMIT {{limit:UInt32}} BY name
        """,  # noqa: S608
        {**source.params, **params, "values": list(values or ()), "limit": limit},
        **SHORT,
    )
    out: dict[str, Groups] = {name: {} for name in groupings}
    for row in rows:
        out[row["name"]][tuple(row["key"])] = _group(row)
    return out


def _unfolded(name: str, expressions: Sequence[Expression]) -> str:
    """An array of (name, values) of a row, one for each group that the row is in."""
    if not expressions:
        return f"[('{name}', emptyArrayString())]"
    first, *others = (e.values for e in expressions)
    if not others:
        return f"arrayMap(a -> ('{name}', [a]), {first})"
    return f"arrayFlatten(arrayMap(a -> arrayMap(b -> ('{name}', [a, b]), {others[0]}), {first}))"


def _bucket(bucket: Bucket) -> Expression:
    return Expression(f"toString(toUnixTimestamp({BUCKET_START[bucket]}))", frozenset())


def _time(value: str) -> datetime:
    return datetime.fromtimestamp(int(value), tz=timezone.utc)


def _ordered(groups: Groups) -> Groups:
    """Those with the most answers first, estimated where calls were sampled."""
    return dict(sorted(groups.items(), key=lambda g: (-g[1].num_answers, g[0]))[:MAX_GROUPS])


def count_total(project: ProjectStore, view: View) -> Group:
    """All answers of the view."""
    return _count(project, view, {"total": ()}, {})["total"].get((), Group())


def count_with_before(project: ProjectStore, view: View) -> tuple[Group, Group]:
    """All answers of the view, and of the equal period before."""
    look_back(project, view)
    return count_total(project, view), count_total(project, before(view))


def look_back(project: ProjectStore, view: View) -> None:
    """Read the fingerprints of the view's period and of the one before it at once, for all that follows."""
    read_fingerprints(project, _with_before(view))


def _with_before(view: View) -> View:
    since, until = view.filters.period()
    return view.over(since - (until - since), until)


def before(view: View) -> View:
    """The view of the period of equal length before."""
    since, until = view.filters.period()
    return view.over(since - (until - since), since)


def count_over_time(project: ProjectStore, view: View, bucket: Bucket) -> dict[datetime, Group]:
    """Groups by the start of their hour, day or week (from Monday), UTC; buckets without answers are left out."""
    groupings = {"time": (_bucket(bucket),)}
    result = _count(project, view, groupings, {}, days=bucket != "hour", limit=_NO_LIMIT)
    return {_time(at): group for (at,), group in result["time"].items()}


def count_by(
    project: ProjectStore, view: View, fields: Sequence[str], *, values: Sequence[str] | None = None
) -> Groups:
    """Groups by the values of one or two fields, those with the most answers first, at most `MAX_GROUPS`.

    With `values`, only groups whose first field holds one of them.

    Raises:
        Invalid: a field is none to group by.
    """
    params: dict[str, Any] = {}
    keys = [expression(f, params, f"key{i}") for i, f in enumerate(fields)]
    return _ordered(_count(project, view, {"groups": keys}, params, values=values)["groups"])


def count_each(
    project: ProjectStore, view: View, fields: Sequence[str]
) -> tuple[Group, dict[str, dict[str, Group]]]:
    """All answers of the view; and per field its groups, those with the most answers first.

    Raises:
        Invalid: a field is none to group by.
    """
    params: dict[str, Any] = {}
    groupings = {f"field{i}": (expression(f, params, f"key{i}"),) for i, f in enumerate(fields)}
    result = _count(project, view, {"total": (), **groupings}, params)
    by = {f: {v: g for (v,), g in _ordered(result[f"field{i}"]).items()} for i, f in enumerate(fields)}
    return result["total"].get((), Group()), by


@dataclass(frozen=True, slots=True)
class Overview:
    """What the quality page counts of one period; groups with the most answers first."""

    total: Group
    over_time: dict[datetime, Group]
    versions: Groups
    models: Groups
    segments: Groups


def count_overview(project: ProjectStore, view: View, bucket: Bucket, segment: str) -> Overview:
    """All answers, by time, by prompt version, by model, and by a field with the prompt version.

    Raises:
        Invalid: the segment is no field to group by.
    """
    params: dict[str, Any] = {}
    version = expression("prompt_version", params, "")
    groupings = {
        "total": (),
        "time": (_bucket(bucket),),
        "versions": (version,),
        "models": (expression("model", params, ""),),
        "segments": (expression(segment, params, "key"), version),
    }
    result = _count(project, view, groupings, params, days=bucket != "hour", limit=MAX_BUCKETS + 1)
    over_time = {_time(at): group for (at,), group in result["time"].items()}
    groups = (_ordered(result[name]) for name in ("versions", "models", "segments"))
    return Overview(result["total"].get((), Group()), over_time, *groups)


def count_grid(
    project: ProjectStore, view: View, field: str, bucket: Bucket
) -> dict[tuple[datetime, str], Group]:
    """Groups by the start of their hour, day or week and the value of a field, without a limit."""
    params: dict[str, Any] = {}
    groupings = {"grid": (_bucket(bucket), expression(field, params, "key"))}
    result = _count(project, view, groupings, params, days=bucket != "hour", limit=_NO_LIMIT)
    return {(_time(at), value): group for (at, value), group in result["grid"].items()}


def first_call(project: ProjectStore) -> datetime | None:
    """When the project's first call began; None without any."""
    row = project.row(
        """
        SELECT start_time AS first
        FROM spans
        WHERE project_id = {project:String}
        ORDER BY start_time
        LIMIT 1
        """
    )
    return row["first"] if row else None


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
        SELECT
            value,
            min(at) AS first
        FROM (
            SELECT
                {value} AS value,
                start_time AS at
            FROM spans
            WHERE {where}
              AND {ranges_condition(ranges, "start_time", params)}
        )
        WHERE value IN {{values:Array(String)}}
        GROUP BY value
        """,  # noqa: S608
        {**params, **more},
    )
    return {r["value"]: r["first"] for r in rows}


def measured(
    project: ProjectStore, view: View, metric: Metric, bucket: Bucket
) -> dict[datetime, tuple[int, int]]:
    """Start of each bucket -> (counted ones, all): thumbs up of ratings, rated of answers, errors of answers."""
    if metric != "errors":
        result = count_over_time(project, view, bucket)
        return {at: _counted(group, metric) for at, group in result.items()}
    out: dict[datetime, tuple[int, int]] = {}
    for (at, status), group in count_grid(project, view, "status", bucket).items():
        errors, num = out.get(at, (0, 0))
        out[at] = (errors + (group.num_answers if status == "error" else 0), num + group.num_answers)
    return out


def measured_total(project: ProjectStore, view: View, metric: Metric) -> tuple[int, int]:
    """(counted ones, all) of the whole view."""
    if metric != "errors":
        return _counted(count_total(project, view), metric)
    result = {status: group.num_answers for (status,), group in count_by(project, view, ["status"]).items()}
    return result.get("error", 0), sum(result.values())


def _counted(group: Group, metric: Metric) -> tuple[int, int]:
    if metric == "coverage":
        return group.ratings.num, group.num_answers
    return group.ratings.num_up, group.ratings.num


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """Kind of feedback -> how many pieces of it, from all authors; category -> how many answers were flagged with it, most first."""

    kinds: dict[str, int]
    flags: dict[str, int]


def count_feedback(project: ProjectStore, view: View) -> FeedbackCounts:
    """Counts of the feedback on the answers of the view."""
    source = feedback_source(project, view)
    rows = project.rows(
        f"""
        SELECT
            name,
            sum(num) AS total
        FROM (
            {source.sql}
        )
        GROUP BY name
        ORDER BY
            startsWith(name, 'kind ') DESC,
            total DESC,
            name
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**source.params, "limit": MAX_GROUPS},
        **SHORT,
    )
    named = [(str(r["name"]).partition(" "), int(r["total"])) for r in rows]
    kinds, flags = ({n[2]: total for n, total in named if n[0] == what} for what in ("kind", "flag"))
    return FeedbackCounts(kinds, flags)


def releases(project: ProjectStore, view: View) -> list[tuple[datetime, str, str]]:
    """(first seen, field, value) of prompt versions and models that came up within the period.

    A value is new where the equal period before does not have it; those of the first hour ever are no releases. The time is that of
    the hour where it comes from an aggregate.
    """
    since, _ = view.filters.period()
    source = answer_source(project, _with_before(view), ("model", "prompt_version"), days=False)
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
                FROM (
                    {source.sql}
                )
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
        **SHORT,
    )
    first_ever = {
        f: min(r["first_seen"] for r in rows if r["field"] == f) for f in {r["field"] for r in rows}
    }
    return [
        (r["first_seen"], r["field"], r["value"])
        for r in rows
        if since <= r["first_seen"] and r["first_seen"] - first_ever[r["field"]] >= timedelta(hours=1)
    ]


def count_sample(project: ProjectStore, view: View) -> Ratings:
    """Thumbs by annotators on answers that were drawn for review with a known probability."""
    source = sample_source(view)
    row = project.row(
        f"""
        SELECT
            {_RATED}
        FROM (
            SELECT
                *,
                true AS rated
            FROM (
                {source.sql}
            )
        )
        """,  # noqa: S608
        source.params,
        **SHORT,
    )
    return _ratings(row) if row else Ratings()


def design_weights(project: ProjectStore) -> tuple[float, float] | None:
    """The smallest and the largest weight of all drawn answers of the project; None where nothing was drawn."""
    row = project.row(
        """
        SELECT
            min(sampling_probability) AS least,
            max(sampling_probability) AS most
        FROM feedback
        WHERE project_id = {project:String} AND sampling_probability > 0
          AND """
        + PRODUCTION
    )
    if row is None or row["least"] is None:
        return None
    return 1 / float(row["most"]), 1 / float(row["least"])
