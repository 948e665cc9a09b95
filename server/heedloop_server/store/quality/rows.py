"""One SQL source of answers, of thumbs and of feedback for every count: fresh aggregates and, for the rest, the rows themselves.

A source is a query with a row per aggregate, or per answer that no fresh aggregate holds: `at`, the columns that a count groups by,
and the sums that `heedloop_server.statistics.counts` is made of. A count groups it and needs not know where a row came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from heedloop.schema import AuthorKind
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import (
    BY_PEOPLE_FIRST,
    SHARE,
    cell_conditions,
    conditions,
)
from heedloop_server.store.quality.hourly import (
    CELL_FIELDS,
    PARTS,
    Fingerprints,
    Part,
    Plan,
    cell_rows,
    listed,
    make_plans,
    newest_feedback,
    ranges_condition,
    read_hour_fingerprints,
    read_minutes,
)
from heedloop_server.store.quality.view import BUCKET_START as BUCKET_START
from heedloop_server.store.quality.view import Bucket as Bucket
from heedloop_server.store.quality.view import Expression as Expression
from heedloop_server.store.quality.view import View as View
from heedloop_server.store.quality.view import expression as expression

ANSWER_SUMS = ("num", "sum_w", "sum_w2")
RATING_SUMS = ("num", "num_up", "sum_w", "sum_w2", "sum_wy", "sum_w2y", "extra_w", "extra_w2")
_OF_ANSWER = {
    "num": "toUInt64(1)",
    "num_up": "toUInt64(0)",
    "sum_w": "1 / sampling_probability",
    "sum_w2": "1 / (sampling_probability * sampling_probability)",
}
"""The sums of one recorded answer; those that are not here are 0."""
_OF_THUMB = {
    "num": "toUInt64(1)",
    "num_up": "toUInt64(up)",
    "sum_w": "w",
    "sum_w2": "w * w",
    "sum_wy": "w * up",
    "sum_w2y": "w * w * up",
    "extra_w": "1 / p - 1",
    "extra_w2": "1 / (p * p) - 1",
}
"""The sums of one rated answer, over the columns of `newest_thumbs`."""
_RAW_FIELDS = {"user_id": ("user_id", "user_id"), "session_id": ("session_id", "session_id")}
SHORT = {
    "do_not_merge_across_partitions_select_final": 1,
    # these queries run for milliseconds: compiling their expressions takes longer than it saves
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
}
"""Settings of a query over a source."""


@dataclass(frozen=True, slots=True)
class Source:
    """A query, and what it binds."""

    sql: str
    params: dict[str, Any]


# ------------------------------------------------------------------------------------------------------------- sources


def read_fingerprints(project: ProjectStore, view: View) -> Fingerprints:
    """The fingerprints of a view's period, read once a request: after those of a longer period, only minutes of its ends are."""
    since, until = view.filters.period()
    known = next((k for (first, last), k in view.memo.items() if first <= since and until <= last), None)
    if known is None:
        known = view.memo[since, until] = read_hour_fingerprints(project, since, until)
    read_minutes(project, known, since, until)
    return known


def group_source(
    project: ProjectStore, view: View, columns: Iterable[str], *, keys: Iterable[str] = (), days: bool = True
) -> Source:
    """Recorded answers, and once more, as `rated` rows, those with a thumb of the view's kind of author: `RATING_SUMS`."""
    if _is_of_thumbs(view):
        return _twice(thumb_source(project, view, columns, keys=keys, days=days), sorted(columns))
    query = _QueryPlan.of(project, view, columns, keys, days)
    params = {**query.params, "rated": f"thumb {view.author_kind}"}
    return _joined(
        params,
        query.aggregates(
            PARTS, ["what != 'answer' AS rated"], "what IN ('answer', {rated:String})", RATING_SUMS, params
        ),
        query.rows_of_answers(view, ["false AS rated"], RATING_SUMS, params),
        query.rows_of_thumbs(view, ["true AS rated"], params),
    )


def answer_source(project: ProjectStore, view: View, columns: Iterable[str], *, days: bool = True) -> Source:
    """Recorded answers alone: `num` and the sums of one over their sampling probability."""
    if _is_of_thumbs(view):
        rated = thumb_source(project, view, columns, days=days)
        chosen = listed(
            ["at", *sorted(columns), "num", "toFloat64(num) AS sum_w", "toFloat64(num) AS sum_w2"]
        )
        sql = f"""
        SELECT
            {chosen}
        FROM (
            {rated.sql}
        )"""  # noqa: S608
        return Source(sql, rated.params)
    query = _QueryPlan.of(project, view, columns, (), days)
    params = dict(query.params)
    cells = query.aggregates(["answers"], [], "what = 'answer'", ANSWER_SUMS, params)
    return _joined(params, cells, query.rows_of_answers(view, [], ANSWER_SUMS, params))


def thumb_source(
    project: ProjectStore, view: View, columns: Iterable[str], *, keys: Iterable[str] = (), days: bool = True
) -> Source:
    """Rated answers by their newest thumb of the view's kind of author."""
    if _is_of_thumbs(view):
        everyone = View(view.filters.model_copy(update={"rating": None}), view.author_kind, view.memo)
        source = thumb_source(project, everyone, columns, keys=keys, days=days)
        return _only(source, str(view.filters.rating), sorted(columns))
    query = _QueryPlan.of(project, view, columns, keys, days)
    params = {**query.params, "rated": f"thumb {view.author_kind}"}
    cells = query.aggregates(["feedback"], [], "what = {rated:String}", RATING_SUMS, params)
    return _joined(params, cells, query.rows_of_thumbs(view, [], params))


def feedback_source(project: ProjectStore, view: View) -> Source:
    """All feedback on the view's calls: `name` is `kind X` (`num` pieces of feedback) or `flag X` (`num` answers flagged so)."""
    query = _QueryPlan.of(project, view, (), (), True)
    params = dict(query.params)
    which = "(startsWith(what, 'kind ') OR startsWith(what, 'flag '))"
    cells = query.aggregates(["feedback"], ["what AS name"], which, ("num",), params)
    raw = f"""
        SELECT
            any(at) AS at,
            name,
            if(startsWith(name, 'flag '), uniqExact(answer), count()) AS num
        FROM (
            SELECT
                at,
                cityHash64(trace_id, span_id) AS answer,
                arrayJoin(if(kind = 'flag', ['kind flag', concat('flag ', label)], [concat('kind ', kind)])) AS name
            FROM (
                {_feedback(view, query.feedback, (), "1", params)}
            )
        )
        GROUP BY name"""  # noqa: S608
    return _joined(params, cells, raw if query.feedback.is_read else "")


def sample_source(view: View) -> Source:
    """As `thumb_source`, of answers that annotators judged because they were drawn with a known probability."""
    params: dict[str, Any] = {}
    everything = Plan(ranges=(view.filters.period(),))
    annotators = View(view.filters, "annotator", rating=view.rating)
    thumbs = newest_thumbs(annotators, everything, (), params, drawn=True)
    sums = listed(f"{sql} AS {name}" for name, sql in _OF_THUMB.items())
    sql = f"""
        SELECT
            at,
            {sums}
        FROM (
            {thumbs}
        )"""  # noqa: S608
    return Source(sql, params)


@dataclass(frozen=True, slots=True)
class _QueryPlan:
    """What a source is read from: its columns in order, how its period is counted, and the filters over aggregates."""

    columns: tuple[str, ...]
    answers: Plan
    feedback: Plan
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
            whole = Plan(ranges=(period,))
            return cls(wanted, whole, whole, "0", frozenset(), {})
        plans = make_plans(read_fingerprints(project, view), *period, keys={*keys, *over.keys}, days=days)
        return cls(wanted, *plans, over.sql, over.columns, params)

    def aggregates(
        self, parts: Sequence[Part], first: list[str], which: str, sums: Sequence[str], params: dict[str, Any]
    ) -> str:
        """The fresh aggregates of some parts, those of which `which` says by `what`; empty where there is none."""
        wanted = (*self.columns, *sums)
        read = (*wanted, *sorted(self.filter_columns - set(wanted)))
        selected, where = listed([*first, *wanted]), f"{which} AND {self.where}"
        plans: dict[Plan, list[Part]] = {}
        for part in parts:
            plans.setdefault(self.answers if part == "answers" else self.feedback, []).append(part)
        return _UNION.join(
            cell_rows(plan, of, selected, read, where, params) for plan, of in plans.items() if plan.has_cells
        )

    def rows_of_answers(
        self, view: View, first: list[str], sums: Sequence[str], params: dict[str, Any]
    ) -> str:
        """The recorded answers of the ranges; empty where aggregates are all there is."""
        if not self.answers.is_read:
            return ""
        where, more = conditions(view.filters)
        params |= more
        ranges = ranges_condition(self.answers.ranges, "start_time", params)
        columns = [_named(c, 1) for c in self.columns]
        return f"""
        SELECT
            start_time AS at,
            {listed([*first, *columns, *(f"{_OF_ANSWER.get(s, '0.')} AS {s}" for s in sums)])}
        FROM spans FINAL
        WHERE {where}
          AND {ranges}"""  # noqa: S608

    def rows_of_thumbs(self, view: View, first: list[str], params: dict[str, Any]) -> str:
        """The rated answers of the ranges; empty where aggregates are all there is."""
        if not self.feedback.is_read:
            return ""
        return f"""
        SELECT
            at,
            {listed([*first, *self.columns, *(f"{sql} AS {name}" for name, sql in _OF_THUMB.items())])}
        FROM (
            {newest_thumbs(view, self.feedback, self.columns, params)}
        )"""  # noqa: S608


_UNION = "\n        UNION ALL"


def _joined(params: dict[str, Any], *queries: str) -> Source:
    """One source of the queries that are not empty."""
    return Source(_UNION.join(q for q in queries if q), params)


# --------------------------------------------------------------------------------- where a filter chooses by the thumbs


def _is_of_thumbs(view: View) -> bool:
    """True where the calls are chosen by the very thumbs that are counted, so that those alone need to be read."""
    by = view.filters.author_kind or "end_user"
    return view.rating is None and view.filters.rating in ("up", "down", "any") and by == view.author_kind


def _twice(thumbs: Source, columns: Sequence[str]) -> Source:
    """Rated answers as answers, and once more as ratings."""
    # as an answer each was recorded for sure and stands for itself: its sums are its number
    as_answer = {
        "num": "t_num",
        "num_up": "toUInt64(0)",
        "sum_w": "toFloat64(t_num)",
        "sum_w2": "toFloat64(t_num)",
    }
    sums = [f"if(rated, t_{s}, {as_answer.get(s, '0.')}) AS {s}" for s in RATING_SUMS]
    return Source(
        f"""
        SELECT
            {listed(["at", "rated", *columns, *sums])}
        FROM (
            SELECT
                arrayJoin([false, true]) AS rated,
                {listed(["at", *columns, *(f"{s} AS t_{s}" for s in RATING_SUMS)])}
            FROM (
                {thumbs.sql}
            )
        )""",  # noqa: S608
        thumbs.params,
    )


_ONLY = {
    "up": ("b_num_up", "b_num_up", "b_sum_wy", "b_sum_w2y", "b_sum_wy", "b_sum_w2y"),
    "down": ("b_num - b_num_up", "toUInt64(0)", "b_sum_w - b_sum_wy", "b_sum_w2 - b_sum_w2y", "0.", "0."),
    "any": ("b_num", "b_num_up", "b_sum_w", "b_sum_w2", "b_sum_wy", "b_sum_w2y"),
}
"""Thumbs -> the sums of thumbs up, of thumbs down, or of both, over the sums of both."""


def _only(source: Source, rating: str, columns: Sequence[str]) -> Source:
    sums = [f"{sql} AS {name}" for sql, name in zip(_ONLY[rating], RATING_SUMS[:6], strict=True)]
    return Source(
        f"""
        SELECT
            {listed(["at", *columns, *sums])},
            0. AS extra_w,
            0. AS extra_w2
        FROM (
            SELECT
                {listed(["at", *columns, *(f"{s} AS b_{s}" for s in RATING_SUMS)])}
            FROM (
                {source.sql}
            )
        )
        WHERE {_ONLY[rating][0]} > 0""",  # noqa: S608
        source.params,
    )


# ------------------------------------------------------------------------------------------------------------ feedback


def feedback_columns(column: str) -> str:
    """The SQL of a column to group by, over `feedback`, which copies it from its call."""
    return {**CELL_FIELDS, **_RAW_FIELDS}[column][0]


def call_column(column: str) -> str:
    """A column to group by, selected from `spans` under its name."""
    return _named(column, 1)


def _named(column: str, place: int) -> str:
    sql = {**CELL_FIELDS, **_RAW_FIELDS}[column][place]
    return sql if sql == column else f"{sql} AS {column}"


def judged_condition(view: View, params: dict[str, Any], *, timed: bool = True) -> str:
    """The condition on `feedback` for feedback on the calls of a view, by any author; fills `params`."""
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


def _feedback(view: View, plan: Plan, columns: Sequence[str], only: str, params: dict[str, Any]) -> str:
    """A query of the view's pieces of feedback in the plan's ranges, as they count now.

    Where only a part of the period is read, they come by the time of their call. `record` is there where all of it is.
    """
    read = [
        "trace_id", "span_id", "feedback_id", "kind", "label", "score", "version", "sampling_probability", "call_probability",
        "call_time AS at", *(_named(c, 0) for c in columns),
    ]  # fmt: skip
    if plan.ranges and not plan.has_cells:
        return f"""
                SELECT
                    {listed([*read, "record"])}
                FROM feedback FINAL
                WHERE {judged_condition(view, params)}
                  AND {only}"""  # noqa: S608
    ranges = ranges_condition(plan.ranges, "call_time", params, name=plan.name)
    return f"""
                SELECT
                    {listed(read)}
                FROM (
                    {newest_feedback(ranges)}
                )
                WHERE NOT is_deleted
                  AND {judged_condition(view, params, timed=False)}
                  AND {only}"""  # noqa: S608


def newest_thumbs(
    view: View,
    plan: Plan,
    columns: Sequence[str],
    params: dict[str, Any],
    *,
    drawn: bool = False,
    ids: bool = False,
) -> str:
    """A query with one row per rated answer: `at`, `up`, `w`, `p`, the columns, and where wanted `trace` and `span`.

    A named rating (`View.rating`) makes an answer `up` unless its ratings are low.

    Answers are told apart by a 64-bit hash of their ids: grouping by 24 bytes takes five times as long, and two of ten
    million answers share a hash with a probability of 3 in a million.
    """
    if view.rating is None:
        up, only = "argMax(ifNull(score, 0) > 0.5, (version, feedback_id))", ["is_thumb", "name = 'thumb'"]
        author: AuthorKind | None = view.author_kind
    else:
        up, only = _is_high(view.rating, params), ["kind = 'rating'", "name = {named:String}"]
        author = "annotator" if drawn else view.rating.author_kind
        params["named"] = view.rating.rating_name
    if author is not None:
        only.append("author_kind = {thumb_kind:String}")
        params["thumb_kind"] = author
    elif view.rating is not None:
        only.append(BY_PEOPLE_FIRST)
    if drawn:
        only.append("sampling_probability IS NOT NULL")
    copied = [f"any({c}) AS {c}" for c in columns]
    if ids:
        copied += ["any(trace_id) AS trace", "any(span_id) AS span"]
    # a category has no number: its answers are left out, and what is left is never NULL
    return f"""
            SELECT
                any(at) AS at,
                assumeNotNull({up}) AS up,
                argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
                {listed(["any(call_probability) AS p", *copied])}
            FROM (
                {_feedback(view, plan, columns, " AND ".join(only), params)}
            )
            GROUP BY cityHash64(trace_id, span_id)
            HAVING isNotNull({up})"""  # noqa: S608


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
