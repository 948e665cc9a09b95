"""Counts of answers and of their ratings: every aggregate of the quality pages, made in ClickHouse.

The rating of an answer is the newest thumb that an author of the asked-for kind left on it. Rated answers are read from
`feedback` alone, which carries a copy of what is needed of the call; answers are counted in `spans`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from heedloop.schema import AuthorKind
from heedloop_server.errors import Invalid
from heedloop_server.filters import CallFilters
from heedloop_server.quality.counts import Answers, Group, Ratings
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import conditions

__all__ = [
    "GROUP_FIELDS",
    "Bucket",
    "View",
    "count_by",
    "count_days",
    "count_flags",
    "count_kinds",
    "count_over_time",
    "count_raters",
    "count_sample",
    "count_total",
    "judged_condition",
    "releases",
    "thumbs_query",
]

Bucket = Literal["hour", "day", "week"]
MAX_GROUPS = 500

_START = {
    "hour": "toStartOfHour({time}, 'UTC')",
    "day": "toStartOfDay({time}, 'UTC')",
    "week": "toDateTime(toStartOfWeek({time}, 1, 'UTC'), 'UTC')",
}
_LENGTH = (
    "multiIf({chars} = 0, '', {chars} <= 200, 'up to 200', {chars} <= 1000, '201 to 1,000', 'over 1,000')"
)

# field -> its expression over `feedback` and over `spans`
GROUP_FIELDS: dict[str, tuple[str, str]] = {
    **{f: (f, f) for f in ("model", "prompt_name", "prompt_version", "service", "environment", "user_id")},
    "status": ("call_status", "status"),
    "tag": ("arrayJoin(call_tags)", "arrayJoin(tags)"),
    "answer_chars": (_LENGTH.format(chars="call_answer_chars"), _LENGTH.format(chars="lengthUTF8(answer)")),
}
_METADATA_KEY = re.compile(r"metadata\.(.{1,128})", re.DOTALL)

_COPIED = ("model", "prompt_name", "prompt_version", "service", "environment", "user_id", "session_id")
_NEED_SPANS = ("rating", "flag", "has", "text", "min_duration_ms", "max_duration_ms", "min_cost", "max_cost")


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: the calls that `filters` take, as authors of one kind rated them."""

    filters: CallFilters
    author_kind: AuthorKind = "end_user"


def _expression(field: str, place: int, params: dict[str, Any], name: str) -> str:
    """The SQL of a group field over `feedback` (place 0) or `spans` (1); raises `Invalid` for an unknown one."""
    if field in GROUP_FIELDS:
        return GROUP_FIELDS[field][place]
    match = _METADATA_KEY.fullmatch(field)
    if match is None:
        known = ", ".join(GROUP_FIELDS)
        raise Invalid(f"{field[:80]!r} is no field to group by; use {known} or metadata.KEY", field="field")
    params[name] = match[1]
    return ("call_metadata", "metadata")[place] + f"[{{{name}:String}}]"


def judged_condition(view: View, params: dict[str, Any]) -> str:
    """The condition on `feedback` for feedback on the calls of a view, whoever said it; fills `params`."""
    filters = view.filters
    since, until = filters.period()
    params |= {"since": since, "until": until}
    parts = [
        "project_id = {project:String}",
        "call_time >= {since:DateTime64(6,'UTC')}",
        "call_time < {until:DateTime64(6,'UTC')}",
    ]
    for name in _COPIED:
        if getattr(filters, name) is not None:
            parts.append(f"{name} = {{{name}:String}}")
            params[name] = getattr(filters, name)
    if filters.answers_only:
        parts.append("call_is_answer")
    if filters.status is not None:
        parts.append("call_status = {status:String}")
        params["status"] = filters.status
    if filters.tag is not None:
        parts.append("has(call_tags, {tag:String})")
        params["tag"] = filters.tag
    if any(getattr(filters, name) is not None for name in _NEED_SPANS):
        where, more = conditions(filters)
        params |= more
        parts.append(f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM spans WHERE {where})")  # noqa: S608
    return "\n  AND ".join(parts)


def thumbs_query(
    view: View, groups: Mapping[str, str], params: dict[str, Any], *, drawn: bool = False
) -> str:
    """A query with one row per rated answer: `up`, `w`, `p` and the named expressions.

    Answers are told apart by a 64-bit hash of their ids: grouping by 24 bytes takes five times as long, and two of ten
    million answers share a hash with a probability of 3 in a million.
    """
    params["author_kind"] = view.author_kind
    # arrayJoin makes rows of an answer's tags: each is then a group of its own; every other expression is one per answer
    whole = {name: sql if "arrayJoin" in sql else f"any({sql})" for name, sql in groups.items()}
    chosen = "".join(f",\n        {sql} AS {name}" for name, sql in whole.items())
    apart = "".join(f", {name}" for name, sql in groups.items() if "arrayJoin" in sql)
    return f"""
    SELECT
        argMax(ifNull(score, 0) > 0.5, version) AS up,
        argMax(1 / ifNull(sampling_probability, 1), version) AS w,
        any(call_probability) AS p{chosen}
    FROM feedback FINAL
    WHERE {judged_condition(view, params)}
      AND is_thumb AND name = 'thumb' AND author_kind = {{author_kind:String}}{" AND sampling_probability IS NOT NULL" if drawn else ""}
    GROUP BY cityHash64(trace_id, span_id){apart}"""  # noqa: S608


_RATING_SUMS = """
    count() AS num,
    sum(up) AS num_up,
    sum(w) AS sum_w,
    sum(w * w) AS sum_w2,
    sum(w * up) AS sum_wy,
    sum(w * w * up) AS sum_w2y,
    sum(1 / p - 1) AS extra_w,
    sum(1 / (p * p) - 1) AS extra_w2"""
_ANSWER_SUMS = """
    count() AS num,
    sum(1 / sampling_probability) AS sum_w,
    sum(1 / (sampling_probability * sampling_probability)) AS sum_w2"""


def _ratings(row: Row) -> Ratings:
    return Ratings(
        int(row["num"]),
        int(row["num_up"]),
        *(float(row[n]) for n in ("sum_w", "sum_w2", "sum_wy", "sum_w2y", "extra_w", "extra_w2")),
    )


def _answers(row: Row) -> Answers:
    return Answers(int(row["num"]), float(row["sum_w"]), float(row["sum_w2"]))


def _grouped(
    project: ProjectStore,
    view: View,
    on_feedback: Mapping[str, str],
    on_spans: Mapping[str, str],
    params: dict[str, Any],
    *,
    values: Sequence[str] | None = None,
) -> dict[tuple[Any, ...], Group]:
    """Groups by the named expressions, which both sides have under the same names.

    With `value0` among the names, at most `MAX_GROUPS` groups: of the given values only, or those with most answers.
    """
    names = list(on_feedback)
    given = _count_answers(project, view, on_spans, params, values)
    if "value0" in names and values is None:
        values = sorted({key[0] for key in given})
    rated = _count_ratings(project, view, on_feedback, params, values)
    kept = given.keys() if len(given) >= MAX_GROUPS else given.keys() | rated.keys()
    return {k: Group(given.get(k, Answers()), rated.get(k, Ratings())) for k in sorted(kept, key=str)}


def _count_answers(
    project: ProjectStore,
    view: View,
    on_spans: Mapping[str, str],
    params: dict[str, Any],
    values: Sequence[str] | None,
) -> dict[tuple[Any, ...], Answers]:
    where, more = conditions(view.filters)
    chosen = "".join(f"{sql} AS {name}, " for name, sql in on_spans.items())
    rows = project.rows(
        f"SELECT {chosen}{_ANSWER_SUMS} FROM spans FINAL WHERE {where} {_by(on_spans, values, limit=True)}",  # noqa: S608
        {**params, **more, "values": list(values or ()), "limit": MAX_GROUPS},
        do_not_merge_across_partitions_select_final=1,
    )
    return {tuple(r[n] for n in on_spans): _answers(r) for r in rows}


def _count_ratings(
    project: ProjectStore,
    view: View,
    on_feedback: Mapping[str, str],
    params: dict[str, Any],
    values: Sequence[str] | None,
) -> dict[tuple[Any, ...], Ratings]:
    bound = dict(params)
    names = "".join(f"{n}, " for n in on_feedback)
    rows = project.rows(
        f"SELECT {names}{_RATING_SUMS} FROM ({thumbs_query(view, on_feedback, bound)}) {_by(on_feedback, values)}",  # noqa: S608
        {**bound, "values": list(values or ())},
    )
    return {tuple(r[n] for n in on_feedback): _ratings(r) for r in rows}


def _by(groups: Mapping[str, str], values: Sequence[str] | None, *, limit: bool = False) -> str:
    """GROUP BY the groups; of the values only, where they are given; the largest only, where there may be many."""
    if not groups:
        return ""
    only = "HAVING value0 IN {values:Array(String)}" if values is not None else ""
    largest = "ORDER BY num DESC LIMIT {limit:UInt32}" if limit and "value0" in groups else ""
    return f"GROUP BY {', '.join(groups)} {only} {largest}"


def count_total(project: ProjectStore, view: View) -> Group:
    """All answers of the view."""
    return _grouped(project, view, {}, {}, {}).get((), Group())


def count_over_time(project: ProjectStore, view: View, bucket: Bucket) -> dict[datetime, Group]:
    """Groups by the start of their hour, day or week (from Monday), UTC; buckets without answers are left out."""
    start = _START[bucket]
    groups = _grouped(
        project,
        view,
        {"bucket": start.format(time="call_time")},
        {"bucket": start.format(time="start_time")},
        {},
    )
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
    names = [f"value{i}" for i in range(len(fields))]
    on_feedback, on_spans = (
        {
            n: f"toString({_expression(f, place, params, f'key{i}')})"
            for i, (n, f) in enumerate(zip(names, fields, strict=True))
        }
        for place in (0, 1)
    )
    groups = _grouped(project, view, on_feedback, on_spans, params, values=values)
    ordered = sorted(groups.items(), key=lambda g: (-g[1].num_answers, g[0]))
    return dict(ordered[:MAX_GROUPS])


def count_days(
    project: ProjectStore, view: View, field: str, values: Sequence[str]
) -> dict[str, dict[date, tuple[int, int]]]:
    """Value -> day (UTC) -> (thumbs up, ratings), for the given values of a field."""
    params: dict[str, Any] = {}
    value = f"toString({_expression(field, 0, params, 'key0')})"
    thumbs = thumbs_query(view, {"value0": value, "day": "toDate(call_time, 'UTC')"}, params)
    rows = project.rows(
        f"""
        SELECT
            value0,
            day,
            count() AS num,
            sum(up) AS num_up
        FROM ({thumbs})
        WHERE value0 IN {{values:Array(String)}}
        GROUP BY
            value0,
            day
        """,  # noqa: S608
        {**params, "values": list(values)},
    )
    days: dict[str, dict[date, tuple[int, int]]] = {v: {} for v in values}
    for r in rows:
        days[r["value0"]][r["day"]] = (int(r["num_up"]), int(r["num"]))
    return days


def count_kinds(project: ProjectStore, view: View) -> dict[str, int]:
    """Kind of feedback -> how many pieces of it the answers of the view got, from anybody."""
    params: dict[str, Any] = {}
    where = judged_condition(view, params)
    rows = project.rows(
        f"""
        SELECT
            kind,
            count() AS num
        FROM feedback FINAL
        WHERE {where}
        GROUP BY kind
        """,  # noqa: S608
        params,
    )
    return {r["kind"]: int(r["num"]) for r in rows}


def count_flags(project: ProjectStore, view: View) -> dict[str, int]:
    """Category -> how many answers of the view were flagged with it, most first."""
    params: dict[str, Any] = {}
    where = judged_condition(view, params)
    rows = project.rows(
        f"""
        SELECT
            label,
            uniqExact(trace_id, span_id) AS num
        FROM feedback FINAL
        WHERE {where}
          AND kind = 'flag'
        GROUP BY label
        ORDER BY num DESC, label
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "limit": MAX_GROUPS},
    )
    return {r["label"]: int(r["num"]) for r in rows}


def releases(project: ProjectStore, view: View) -> list[tuple[datetime, str, str]]:
    """(first seen, field, value) of prompt versions and models that came up within the period.

    A value is new where the equal period before does not have it; the first value ever is no release.
    """
    since, until = view.filters.period()
    wide = view.filters.model_copy(update={"since": since - (until - since), "until": until})
    where, params = conditions(wide)
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
                    min(start_time) AS earliest  -- not AS start_time: the alias would reach into WHERE
                FROM spans
                WHERE {where}
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
        params,
    )
    first_ever = {
        f: min(r["first_seen"] for r in rows if r["field"] == f) for f in {r["field"] for r in rows}
    }
    return [
        (r["first_seen"], r["field"], r["value"])
        for r in rows
        if since <= r["first_seen"] and r["first_seen"] != first_ever[r["field"]]
    ]


def count_raters(project: ProjectStore, view: View) -> dict[str, Group]:
    """Answers of new and of returning users: `new` on the day of a user's first call of all, else `returning`."""
    params: dict[str, Any] = {}
    where, more = conditions(view.filters)
    inner = thumbs_query(view, {"author": "user_id", "day": "toDate(call_time, 'UTC')"}, params)
    first = """
        SELECT
            user_id,
            min(toDate(start_time, 'UTC')) AS first_day
        FROM spans
        WHERE project_id = {project:String} AND user_id != ''
        GROUP BY user_id"""
    rated = project.rows(
        f"""
        SELECT
            if(day = first_day, 'new', 'returning') AS value0,
            {_RATING_SUMS}
        FROM ({inner}) AS t
        INNER JOIN ({first}) AS f ON t.author = f.user_id
        GROUP BY value0
        """,  # noqa: S608
        params,
    )
    given = project.rows(
        f"""
        SELECT
            if(toDate(start_time, 'UTC') = first_day, 'new', 'returning') AS value0,
            {_ANSWER_SUMS}
        FROM (SELECT start_time, user_id, sampling_probability FROM spans FINAL WHERE {where}) AS s
        INNER JOIN ({first}) AS f ON s.user_id = f.user_id
        GROUP BY value0
        """,  # noqa: S608
        {**params, **more},
        do_not_merge_across_partitions_select_final=1,
    )
    ratings, answers = {r["value0"]: _ratings(r) for r in rated}, {r["value0"]: _answers(r) for r in given}
    return {
        v: Group(answers.get(v, Answers()), ratings.get(v, Ratings()))
        for v in ("new", "returning")
        if v in answers
    }


def count_sample(project: ProjectStore, view: View) -> Ratings:
    """Thumbs by annotators on answers that were drawn for review with a known probability."""
    params: dict[str, Any] = {}
    thumbs = thumbs_query(View(view.filters, "annotator"), {}, params, drawn=True)
    row = project.row(f"SELECT {_RATING_SUMS} FROM ({thumbs})", params)  # noqa: S608
    return _ratings(row) if row else Ratings()
