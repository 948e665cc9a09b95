"""One SQL source of answers, of thumbs and of judgements for every count: good cells and, for the rest, the rows themselves.

A source is a query with a row per cell, or per answer that no good cell holds: `at`, the columns asked for, and the sums that
`heedloop_server.statistics.counts` is made of. Whoever counts groups it and needs not know where a row came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heedloop.schema import AuthorKind
from heedloop_server.errors import Invalid
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import LANGUAGE, LANGUAGE_KEYS, SHARE, cell_conditions, conditions
from heedloop_server.store.quality.hourly import (
    CELL_FIELDS,
    Fingerprints,
    Plan,
    cell_rows,
    make_plan,
    ranges_condition,
    read_hour_fingerprints,
)

__all__ = [
    "GROUP_FIELDS",
    "SHORT",
    "Expression",
    "Source",
    "View",
    "answer_source",
    "expression",
    "feedback_columns",
    "feedback_source",
    "group_source",
    "judged_condition",
    "newest_thumbs",
    "read_fingerprints",
    "sample_source",
    "thumb_source",
]

ANSWER_SUMS = ("num", "sum_w", "sum_w2")
RATING_SUMS = ("num", "num_up", "sum_w", "sum_w2", "sum_wy", "sum_w2y", "extra_w", "extra_w2")
_ZERO = {s: "toUInt64(0)" if s == "num_up" else "0." for s in RATING_SUMS}
_RAW_FIELDS = {"user_id": ("user_id", "user_id"), "session_id": ("session_id", "session_id")}
GROUP_FIELDS = ("model", "prompt_name", "prompt_version", "service", "environment", "user_id", "status", "tag",
                "answer_chars", "language", "user")  # fmt: skip
SHORT = {
    "do_not_merge_across_partitions_select_final": 1,
    # these queries run for milliseconds: compiling their expressions takes longer than it saves
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
}
"""Settings of a query over a source."""
_METADATA_KEY = re.compile(r"metadata\.(.{1,128})", re.DOTALL)

_NAMED = ("rating_name", "rating_below", "rating_above", "rating_value")
_COPIED = ("model", "prompt_name", "prompt_version", "service", "environment", "user_id", "session_id")


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: the calls that `filters` take, as authors of one kind rated them.

    With `rating` the ratings of that name count instead of thumbs: those that its own filters call low (`rating_below`,
    not `rating_above`, `rating_value`; else the lower half of the scale) as thumbs down, by any author unless `filters` name one.

    `memo` holds the prints of the periods asked about, for as long as one request lasts; views made by `over` share it.
    """

    filters: CallFilters
    author_kind: AuthorKind = "end_user"
    memo: dict[tuple[datetime, datetime], Fingerprints] = field(
        default_factory=dict[tuple[datetime, datetime], Fingerprints], compare=False, repr=False
    )

    rating: CallFilters | None = None

    @classmethod
    def of(cls, filters: CallFilters) -> View:
        """The view that a request's filters ask for: a named rating in them says what counts as the rating."""
        author_kind = filters.author_kind or "end_user"
        if filters.rating_name is None:
            return cls(filters, author_kind)
        # with `rating` they also choose the answers
        kept = filters if filters.rating is not None else filters.model_copy(update=dict.fromkeys(_NAMED))
        return cls(kept, author_kind, rating=filters)

    def over(self, since: datetime, until: datetime) -> View:
        """The same view of another period."""
        moved = self.filters.model_copy(update={"since": since, "until": until})
        return View(moved, self.author_kind, self.memo, self.rating)


@dataclass(frozen=True, slots=True)
class Expression:
    """A field to group by, over the columns of a source.

    Attributes:
        sql: the value, as text; may unfold an array, so that a row counts for each of its values.
        columns: what it needs of a source.
        keys: the metadata keys it needs.
        array: the array that `sql` unfolds, where it does.
    """

    sql: str
    columns: frozenset[str]
    keys: frozenset[str] = frozenset()
    array: str = ""

    @property
    def values(self) -> str:
        """An array of the row's values."""
        return self.array or f"[{self.sql}]"


@dataclass(frozen=True, slots=True)
class Source:
    """A query, and what it binds."""

    sql: str
    params: dict[str, Any]


def expression(name: str, params: dict[str, Any], bound: str) -> Expression:
    """The SQL of a field to group by; raises `Invalid` for an unknown one.

    Args:
        bound: name of the parameter that holds a metadata key; filled in `params`.
    """
    if name == "tag":
        return Expression(
            "toString(arrayJoin(tags))", frozenset({"tags"}), array="arrayMap(t -> toString(t), tags)"
        )
    if name == "language":
        return Expression(LANGUAGE, frozenset({"metadata"}), frozenset(LANGUAGE_KEYS))
    if name in GROUP_FIELDS:
        return Expression(f"toString({name})", frozenset({name}))
    match = _METADATA_KEY.fullmatch(name)
    if match is None:
        known = ", ".join(GROUP_FIELDS)
        raise Invalid(f"{name[:80]!r} is no field to group by; use {known} or metadata.KEY", field="field")
    params[bound] = match[1]
    return Expression(f"metadata[{{{bound}:String}}]", frozenset({"metadata"}), frozenset({match[1]}))


# ------------------------------------------------------------------------------------------------------------- sources


def read_fingerprints(project: ProjectStore, view: View) -> Fingerprints:
    """The prints of a view's period, read once a request: after those of a longer period, none within needs reading."""
    since, until = view.filters.period()
    for (first, last), prints in view.memo.items():
        if first <= since and until <= last:
            return prints
    found = view.memo[since, until] = read_hour_fingerprints(project, since, until)
    return found


def group_source(
    project: ProjectStore, view: View, columns: Iterable[str], *, keys: Iterable[str] = (), days: bool = True
) -> Source:
    """Recorded answers, and once more, as `rated` rows, those with a thumb of the view's kind of author: `RATING_SUMS`."""
    if _is_of_thumbs(view):
        return _twice(thumb_source(project, view, columns, keys=keys, days=days), sorted(columns))
    asked = _QueryPlan.of(project, view, columns, keys, days)
    params: dict[str, Any] = {"rated": f"thumb {view.author_kind}"}
    chosen = ", ".join(("at", "rated", *asked.columns, *RATING_SUMS))
    no_ratings = ", ".join(f"{_ZERO[s]} AS {s}" for s in RATING_SUMS if s not in ANSWER_SUMS)
    answers = f"SELECT *, false AS rated, {no_ratings} FROM ({_answer_rows(view, asked, params)})"  # noqa: S608
    thumbs = _thumb_sums(newest_thumbs(view, asked.plan, asked.columns, params), asked.columns)
    raw = f"SELECT {chosen} FROM ({answers}) UNION ALL SELECT {chosen} FROM (SELECT *, true AS rated FROM ({thumbs}))"  # noqa: S608
    which = "(what = 'answer' OR what = {rated:String})"
    return asked.union(raw, params, which, RATING_SUMS, more=", what != 'answer' AS rated")


def _twice(thumbs: Source, columns: Sequence[str]) -> Source:
    """Rated answers as answers, and once more as ratings."""
    chosen = "".join(f", {c}" for c in columns)
    renamed = ", ".join(f"{s} AS t_{s}" for s in RATING_SUMS)
    # as an answer each was recorded for sure and stands for itself: its sums are its number
    as_answer = {"num": "t_num", "sum_w": "toFloat64(t_num)", "sum_w2": "toFloat64(t_num)"}
    sums = [f"if(rated, t_{s}, {as_answer.get(s, _ZERO[s])}) AS {s}" for s in RATING_SUMS]
    return Source(
        f"""
        SELECT at, rated{chosen}, {", ".join(sums)}
        FROM (SELECT at{chosen}, {renamed}, arrayJoin([false, true]) AS rated FROM ({thumbs.sql}))""",  # noqa: S608
        thumbs.params,
    )


def answer_source(project: ProjectStore, view: View, columns: Iterable[str], *, days: bool = True) -> Source:
    """Recorded answers alone: `num` and the sums of one over their sampling probability."""
    if _is_of_thumbs(view):
        rated = thumb_source(project, view, columns, days=days)
        chosen = "".join(f", {c}" for c in sorted(columns))
        one = f"SELECT at{chosen}, num, toFloat64(num) AS sum_w, toFloat64(num) AS sum_w2 FROM ({rated.sql})"  # noqa: S608
        return Source(one, rated.params)
    asked = _QueryPlan.of(project, view, columns, (), days)
    params: dict[str, Any] = {}
    return asked.union(_answer_rows(view, asked, params), params, "what = 'answer'", ANSWER_SUMS)


def _answer_rows(view: View, asked: _QueryPlan, params: dict[str, Any]) -> str:
    where, more = conditions(view.filters)
    params |= more
    chosen = "".join(f", {_named(c, 1)}" for c in asked.columns)
    return f"""
        SELECT start_time AS at{chosen}, toUInt64(1) AS num, 1 / sampling_probability AS sum_w,
            1 / (sampling_probability * sampling_probability) AS sum_w2
        FROM spans FINAL
        WHERE {where} AND {ranges_condition(asked.plan.ranges, "start_time", params)}"""  # noqa: S608


def thumb_source(
    project: ProjectStore, view: View, columns: Iterable[str], *, keys: Iterable[str] = (), days: bool = True
) -> Source:
    """Rated answers by their newest thumb of the view's kind of author."""
    if _is_of_thumbs(view):
        everyone = View(view.filters.model_copy(update={"rating": None}), view.author_kind, view.memo)
        source = thumb_source(project, everyone, columns, keys=keys, days=days)
        return _only(source, str(view.filters.rating), sorted(columns))
    asked = _QueryPlan.of(project, view, columns, keys, days)
    params: dict[str, Any] = {"rated": f"thumb {view.author_kind}"}
    raw = _thumb_sums(newest_thumbs(view, asked.plan, asked.columns, params), asked.columns)
    return asked.union(raw, params, "what = {rated:String}", RATING_SUMS)


def _is_of_thumbs(view: View) -> bool:
    """True where the calls are chosen by the very thumbs that are counted, so that those alone need to be asked."""
    by = view.filters.author_kind or "end_user"
    return view.rating is None and view.filters.rating in ("up", "down", "any") and by == view.author_kind


_ONLY = {
    "up": ("b_num_up", "b_num_up", "b_sum_wy", "b_sum_w2y", "b_sum_wy", "b_sum_w2y"),
    "down": ("b_num - b_num_up", "toUInt64(0)", "b_sum_w - b_sum_wy", "b_sum_w2 - b_sum_w2y", "0.", "0."),
    "any": ("b_num", "b_num_up", "b_sum_w", "b_sum_w2", "b_sum_wy", "b_sum_w2y"),
}
"""Thumbs -> the sums of thumbs up, of thumbs down, or of both, over the sums of both."""


def _only(source: Source, rating: str, columns: Sequence[str]) -> Source:
    chosen = "".join(f", {c}" for c in columns)
    base = ", ".join(f"{s} AS b_{s}" for s in RATING_SUMS)
    sums = ", ".join(f"{sql} AS {name}" for sql, name in zip(_ONLY[rating], RATING_SUMS[:6], strict=True))
    return Source(
        f"""
        SELECT at{chosen}, {sums}, 0. AS extra_w, 0. AS extra_w2
        FROM (SELECT at{chosen}, {base} FROM ({source.sql}))
        WHERE {_ONLY[rating][0]} > 0""",  # noqa: S608
        source.params,
    )


def _thumb_sums(thumbs: str, columns: Sequence[str]) -> str:
    chosen = "".join(f", {c}" for c in columns)
    return f"""
        SELECT at{chosen}, toUInt64(1) AS num, toUInt64(up) AS num_up, w AS sum_w, w * w AS sum_w2, w * up AS sum_wy,
            w * w * up AS sum_w2y, 1 / p - 1 AS extra_w, 1 / (p * p) - 1 AS extra_w2
        FROM ({thumbs})"""  # noqa: S608


def sample_source(view: View) -> Source:
    """As `thumb_source`, of answers that annotators judged because they were drawn with a known probability."""
    params: dict[str, Any] = {}
    everything = Plan(ranges=(view.filters.period(),))
    annotators = View(view.filters, "annotator", rating=view.rating)
    return Source(_thumb_sums(newest_thumbs(annotators, everything, (), params, drawn=True), ()), params)


def feedback_source(project: ProjectStore, view: View) -> Source:
    """What anybody said of the view's calls: `name` is `kind X` (`num` pieces of feedback) or `flag X` (`num` answers flagged so)."""
    asked = _QueryPlan.of(project, view, (), (), True)
    params: dict[str, Any] = {}
    found = _judgements(view, asked.plan, (), "1", params)
    raw = f"""
        SELECT any(at) AS at, name, if(startsWith(name, 'flag '), uniqExact(answer), count()) AS num
        FROM (
            SELECT at, cityHash64(trace_id, span_id) AS answer,
                arrayJoin(if(kind = 'flag', ['kind flag', concat('flag ', label)], [concat('kind ', kind)])) AS name
            FROM ({found})
        )
        GROUP BY name"""  # noqa: S608
    which = "(startsWith(what, 'kind ') OR startsWith(what, 'flag '))"
    return asked.union(raw, params, which, ("num",), more=", what AS name")


@dataclass(frozen=True, slots=True)
class _QueryPlan:
    """A question to a source: its columns in order, how its period is counted, and the filters over cells."""

    columns: tuple[str, ...]
    plan: Plan
    where: str
    filter_columns: frozenset[str]
    params: dict[str, Any]

    @classmethod
    def of(
        cls, project: ProjectStore, view: View, columns: Iterable[str], keys: Iterable[str], days: bool
    ) -> _QueryPlan:
        wanted = tuple(sorted(columns))
        params: dict[str, Any] = {}
        over = cell_conditions(view.filters, params)
        period = view.filters.period()
        if view.rating is not None or over is None or not all(c in CELL_FIELDS for c in wanted):
            return cls(wanted, Plan(ranges=(period,)), "0", frozenset(), {})
        plan = make_plan(read_fingerprints(project, view), *period, keys={*keys, *over.keys}, days=days)
        return cls(wanted, plan, over.sql, over.columns, params)

    def union(
        self, raw: str, params: dict[str, Any], which: str, sums: Sequence[str], *, more: str = ""
    ) -> Source:
        """The good cells and the raw rows as one source; only what there is of either.

        Args:
            which: the condition on `what` that says which cells.
            more: what a row of cells has beside `at`, the columns and sums, made from `what`; the raw rows have it too.
        """
        if not self.plan.has_cells:
            return Source(raw, params)
        wanted = (*self.columns, *sums)
        read = (*wanted, *sorted(self.filter_columns - set(wanted)))
        bound = {**self.params, **params}
        cells = cell_rows(self.plan, read, f"{which} AND {self.where}", bound)
        chosen = "".join(f", {c}" for c in wanted)
        first = f"SELECT at{more}{chosen} FROM ({cells})"  # noqa: S608
        return Source(f"{first} UNION ALL {raw}" if self.plan.ranges else first, bound)


def feedback_columns(column: str) -> str:
    """The SQL of a column to group by, over `feedback`, which copies it from its call."""
    return {**CELL_FIELDS, **_RAW_FIELDS}[column][0]


def _named(column: str, place: int) -> str:
    sql = {**CELL_FIELDS, **_RAW_FIELDS}[column][place]
    return sql if sql == column else f"{sql} AS {column}"


# ------------------------------------------------------------------------------------------------------------ feedback


def judged_condition(view: View, params: dict[str, Any], *, timed: bool = True) -> str:
    """The condition on `feedback` for feedback on the calls of a view, whoever said it; fills `params`."""
    filters = view.filters
    since, until = filters.period()
    params |= {"since": since, "until": until}
    parts = ["project_id = {project:String}"]
    if timed:
        parts += ["call_time >= {since:DateTime64(6,'UTC')}", "call_time < {until:DateTime64(6,'UTC')}"]
    over = cell_conditions(filters, params, feedback=True)
    if over is None:
        where, more = conditions(filters)
        params |= more
        parts.append(f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM spans WHERE {where})")  # noqa: S608
    else:
        parts.append(over.sql)
    return "\n  AND ".join(parts)


def _judgements(
    view: View,
    plan: Plan,
    columns: Sequence[str],
    only: str,
    params: dict[str, Any],
) -> str:
    """A query of the view's pieces of feedback in the plan's ranges, as they count now.

    Where only a part of the period is read, the pieces come by the time of their call from a projection, which cannot be
    asked for the newest version: that is found among the few.
    """
    chosen = "".join(f", {_named(c, 0)}" for c in columns)
    read = (
        "trace_id, span_id, feedback_id, kind, label, score, version, sampling_probability, call_probability"
    )
    if not plan.has_cells:
        return f"""
        SELECT {read}, call_time AS at{chosen}
        FROM feedback FINAL
        WHERE {judged_condition(view, params)} AND {only}"""  # noqa: S608
    ranges = ranges_condition(plan.ranges, "call_time", params)
    return f"""
        SELECT {read}, call_time AS at{chosen}
        FROM (
            SELECT {", ".join(_PROJECTED)}
            FROM feedback
            WHERE project_id = {{project:String}} AND {ranges}
            ORDER BY version DESC, received_at DESC
            LIMIT 1 BY feedback_id
        )
        WHERE NOT is_deleted AND {judged_condition(view, params, timed=False)} AND {only}"""  # noqa: S608


_PROJECTED = (
    "project_id", "call_time", "feedback_id", "trace_id", "span_id", "kind", "name", "score", "label", "is_thumb",
    "has_comment", "author_kind", "sampling_probability", "model", "prompt_name", "prompt_version", "service",
    "environment", "user_id", "session_id", "received_at", "version", "is_deleted", "call_is_answer", "call_status",
    "call_tags", "call_metadata", "call_answer_chars", "call_probability",
)  # fmt: skip
"""The columns of the projection `by_call` of migration 0021."""


def newest_thumbs(
    view: View,
    plan: Plan,
    columns: Sequence[str],
    params: dict[str, Any],
    *,
    drawn: bool = False,
    ids: bool = False,
) -> str:
    """A query with one row per rated answer: `at`, `up`, `w`, `p`, the columns, and where asked for `trace` and `span`.

    Answers are told apart by a 64-bit hash of their ids: grouping by 24 bytes takes five times as long, and two of ten
    million answers share a hash with a probability of 3 in a million.
    """
    if view.rating is not None:
        return _named_ratings(view, view.rating, plan, columns, params, drawn=drawn, ids=ids)
    params["thumb_kind"] = view.author_kind
    only = "is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}"
    if drawn:
        only += " AND sampling_probability IS NOT NULL"
    chosen = "".join(f", any({c}) AS {c}" for c in columns)
    if ids:
        chosen += ", any(trace_id) AS trace, any(span_id) AS span"
    return f"""
        SELECT
            any(at) AS at,
            argMax(ifNull(score, 0) > 0.5, (version, feedback_id)) AS up,
            argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
            any(call_probability) AS p{chosen}
        FROM ({_judgements(view, plan, columns, only, params)})
        GROUP BY cityHash64(trace_id, span_id)"""  # noqa: S608


def _named_ratings(
    view: View,
    rating: CallFilters,
    plan: Plan,
    columns: Sequence[str],
    params: dict[str, Any],
    *,
    drawn: bool,
    ids: bool,
) -> str:
    """`newest_thumbs` of a named rating: an answer is `up` unless its ratings are low as `View.rating` says."""
    params["named"] = rating.rating_name
    author = "annotator" if drawn else rating.author_kind
    only = "kind = 'rating' AND name = {named:String}"
    if author is not None:
        params["named_by"] = author
        only += " AND author_kind = {named_by:String}"
    if drawn:
        only += " AND sampling_probability IS NOT NULL"
    named = ", ".join(_named(c, 0) for c in columns)
    chosen = "".join(f", any({c}) AS {c}" for c in columns)
    if ids:
        chosen += ", any(trace_id) AS trace, any(span_id) AS span"
    ranges = ranges_condition(plan.ranges, "call_time", params)
    return f"""
        SELECT
            any(at) AS at,
            {_is_high(rating, params)} AS up,
            argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
            any(call_probability) AS p{chosen}
        FROM (
            SELECT trace_id, span_id, feedback_id, label, score, record, version, sampling_probability, call_probability,
                call_time AS at{", " + named if named else ""}
            FROM feedback FINAL
            WHERE {judged_condition(view, params)} AND {ranges} AND {only}
        )
        GROUP BY cityHash64(trace_id, span_id)
        HAVING up IS NOT NULL"""  # noqa: S608


def _is_high(rating: CallFilters, params: dict[str, Any]) -> str:
    if rating.rating_value is not None:
        params["low_value"] = rating.rating_value
        return "topK(1)(label)[1] != {low_value:String}"
    if rating.rating_below is not None:
        params["low_below"] = rating.rating_below
        return "avg(score) >= {low_below:Float64}"
    if rating.rating_above is not None:
        params["high_above"] = rating.rating_above
        return "avg(score) > {high_above:Float64}"
    return f"avg({SHARE}) >= 0.5"
