"""Where a queue's items come from: filters, random samples, disagreements, doubt, and several answers to one prompt."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from heedloop_server.filters import CallFilters
from heedloop_server.store.call_rows import IDS
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import SHARE, conditions

Disagreement = Literal["user_annotator", "model_human", "judge_human", "annotators"]
DISAGREEMENTS: tuple[Disagreement, ...] = get_args(Disagreement)

Place = tuple[str, str, datetime]
"""Trace id, span id, start time."""


@dataclass(frozen=True, slots=True)
class Source:
    """One item that a source proposes.

    Attributes:
        answers: where its answers are.
        reason: why it was taken, where that says more than the filters.
        probability: with which it was drawn, where that is its own.
    """

    answers: tuple[Place, ...]
    reason: Mapping[str, Any] | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a source found: the items, of how many that matched, and the probability with which each was drawn."""

    items: list[Source] = field(default_factory=list[Source])
    matching: int = 0
    probability: float | None = None


def united(first: Drawn, second: Drawn, *, limit: int) -> Drawn:
    """The items of both, each answer once and the first's before the second's."""
    known = {i.answers for i in first.items}
    new = [i for i in second.items if i.answers not in known]
    num_matching = first.matching + second.matching - (len(second.items) - len(new))
    return Drawn([*first.items, *new][:limit], num_matching)


def matching(project: ProjectStore, filters: CallFilters, *, limit: int) -> Drawn:
    """The newest calls that the filters take."""
    where, params = conditions(filters)
    return Drawn(
        _read_sources(project, where, params, "start_time DESC, trace_id, span_id", limit),
        _count(project, where, params),
    )


def sample(project: ProjectStore, filters: CallFilters, *, size: int, seed: str | None = None) -> Drawn:
    """A uniform random sample of the calls that the filters take; the same seed over the same calls draws the same ones."""
    where, params = conditions(filters)
    num = _count(project, where, params)
    params = {**params, "seed": seed if seed is not None else secrets.token_hex(16)}
    drawn = _read_sources(
        project, where, params, "sipHash64({seed:String}, trace_id, span_id), trace_id, span_id", size
    )
    return Drawn(drawn, num, min(1.0, size / num) if num else None)


def drawn_share(project: ProjectStore, filters: CallFilters, *, share: float, seed: str, limit: int) -> Drawn:
    """Each call that the filters take, with the probability `share` and by its ids and the seed alone; the oldest first."""
    where, params = conditions(filters)
    where += " AND sipHash64({seed:String}, trace_id, span_id) < toUInt64({below:String})"
    params = {**params, "seed": seed, "below": str(min(int(share * 2**64), 2**64 - 1))}
    drawn = _read_sources(project, where, params, "start_time, trace_id, span_id", limit)
    return Drawn(drawn, len(drawn), share)


def earliest_arrived(project: ProjectStore, since: datetime, *, arrived_since: datetime) -> datetime:
    """The time of the oldest call from `since` on that arrived after a moment; that moment where none is older."""
    row = project.row(
        """
        SELECT least(min(start_time), {arrived_since:DateTime64(6,'UTC')}) AS earliest
        FROM spans
        WHERE project_id = {project:String}
            AND start_time >= {since:DateTime64(6,'UTC')}
            AND ingested_at >= {arrived_since:DateTime64(6,'UTC')}
        HAVING count() > 0
        """,
        {"since": since, "arrived_since": arrived_since},
    )
    return max(since, row["earliest"] if row else arrived_since)


def _count(project: ProjectStore, where: str, params: Mapping[str, Any]) -> int:
    row = project.row(f"SELECT count() AS n FROM spans FINAL WHERE {where}", params)  # noqa: S608
    return int(row["n"]) if row else 0


def _read_sources(
    project: ProjectStore, where: str, params: Mapping[str, Any], order: str, limit: int
) -> list[Source]:
    rows = project.rows(
        f"""
        SELECT
            {IDS},
            start_time AS at
        FROM spans FINAL
        WHERE {where}
        ORDER BY {order}
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "limit": limit},
    )
    return [Source(((r["trace"], r["span"], r["at"]),)) for r in rows]


# ------------------------------------------------------------------------------------------------------- disagreements

# A rating as a number from 0 to 1 by its own scale, and as a verdict that two people can share or not.
_RATINGS = """
    SELECT
        trace_id,
        span_id,
        call_time,
        name,
        author_kind,
        author_id,
        version,
        {share} AS share,
        if(score IS NULL, label, if(share >= 0.5, 'up', 'down')) AS verdict,
        author_kind IN ('end_user', 'annotator') AS is_human,
        author_kind IN ('model', 'code') AS is_model
    FROM feedback FINAL
    WHERE project_id = {{project:String}}
      AND kind = 'rating'
      AND call_time > toDateTime64(0, 6, 'UTC')
      AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM spans FINAL WHERE {where})
"""

_BY_ANSWER = """
    SELECT
        lower(hex(trace_id)) AS trace,
        lower(hex(span_id)) AS span,
        any(call_time) AS at,
        {columns}
    FROM ({ratings})
    GROUP BY trace_id, span_id{also}
    HAVING {having}
    ORDER BY size DESC, at DESC, trace, span
    {limit_by}
"""
_GAP = {
    "user_annotator": ("author_kind = 'end_user'", "author_kind = 'annotator'"),
    "judge_human": ("author_kind = 'model'", "is_human"),
}


def disagreements(
    project: ProjectStore, kind: Disagreement, filters: CallFilters, *, limit: int, judge: str = ""
) -> Drawn:
    """Answers on which those named by `kind` disagree, the widest gap first (for `model_human`, the most rated first).

    `user_annotator`, `judge_human`: the mean ratings (as shares of their scales) lie on different sides of the middle;
    `model_human`: under one name, the newest rating by a model or rule is not what most human authors say (a model's verdict in
    its own answer is `review.verdicts`); `annotators`: two
    annotators give different ratings under one name. `judge` narrows models to one author id.
    """
    if kind in _GAP:
        sql = _gap(*_GAP[kind])
    elif kind == "model_human":
        sql = _model_against_humans()
    else:
        sql = _annotators()
    return _read_matches(project, sql, filters, limit=limit, judge=judge)


def _gap(one: str, other: str) -> tuple[str, str, str, str]:
    judge = " AND (author_kind != 'model' OR {judge:String} IN ('', author_id))"
    columns = f"""
        avgIf(share, {one}{judge}) AS one,
        avgIf(share, {other}) AS other,
        abs(one - other) AS size"""
    having = f"""
        countIf(share IS NOT NULL AND {one}{judge}) > 0
        AND countIf(share IS NOT NULL AND {other}) > 0
        AND (one >= 0.5) != (other >= 0.5)"""
    return columns, "", having, ""


def _model_against_humans() -> tuple[str, str, str, str]:
    judge = "is_model AND {judge:String} IN ('', author_id)"
    columns = f"""
        name,
        argMaxIf(verdict, version, {judge}) AS one,
        topKIf(1)(verdict, is_human)[1] AS other,
        toFloat64(countIf(is_human)) AS size"""
    having = f"countIf({judge}) > 0 AND countIf(is_human) > 0 AND one != other"
    return columns, ", name", having, "LIMIT 1 BY trace, span"


def _annotators() -> tuple[str, str, str, str]:
    mine = "author_kind = 'annotator'"
    columns = f"""
        name,
        uniqExactIf(author_id, {mine}) AS num_annotators,
        uniqExactIf((verdict, ifNull(share, -1)), {mine}) AS num_answers,
        ifNull(maxIf(share, {mine}) - minIf(share, {mine}), 1) AS size"""
    having = "num_annotators > 1 AND num_answers > 1"
    return columns, ", name", having, "LIMIT 1 BY trace, span"


def human_verdicts(project: ProjectStore, name: str, filters: CallFilters) -> list[Row]:
    """What most human authors say under one name: `trace, span, at, verdict` (a category, `up` or `down`), the most rated first."""
    columns = "topK(1)(verdict)[1] AS verdict, toFloat64(count()) AS size"
    where, params = conditions(filters)
    ratings = _RATINGS.format(share=SHARE, where=where) + " AND name = {rated:String} AND is_human"
    sql = _BY_ANSWER.format(columns=columns, ratings=ratings, also="", having="size > 0", limit_by="")
    return project.rows(sql, {**params, "rated": name})


def low_confidence(project: ProjectStore, filters: CallFilters, *, limit: int, judge: str = "") -> Drawn:
    """Answers that a judge (a model's rating; `judge` is its name or author id) could not decide on, the nearest to the middle first."""
    mine = "author_kind = 'model' AND share IS NOT NULL AND {judge:String} IN ('', author_id, name)"
    columns = f"avgIf(share, {mine}) AS score, 1 - 2 * abs(score - 0.5) AS size"
    return _read_matches(
        project, (columns, "", f"countIf({mine}) > 0", ""), filters, limit=limit, judge=judge
    )


def _read_matches(
    project: ProjectStore,
    parts: tuple[str, str, str, str],
    filters: CallFilters,
    *,
    limit: int,
    judge: str,
) -> Drawn:
    columns, also, having, limit_by = parts
    where, params = conditions(filters)
    ratings = _RATINGS.format(share=SHARE, where=where)
    sql = _BY_ANSWER.format(columns=columns, ratings=ratings, also=also, having=having, limit_by=limit_by)
    rows = project.rows(sql, {**params, "judge": judge})
    return Drawn([_by_rating(r) for r in rows[:limit]], len(rows))


def _by_rating(row: Row) -> Source:
    reason = {k: v for k, v in row.items() if k not in ("trace", "span", "at", "size")}
    return Source(((row["trace"], row["span"], row["at"]),), reason)


# --------------------------------------------------------------------------------------- several answers to one prompt


def same_prompt(project: ProjectStore, filters: CallFilters, *, answers_per_item: int, limit: int) -> Drawn:
    """Items of different answers to one prompt (system messages aside), from as many models and versions as there are."""
    where, params = conditions(filters)
    rows = project.rows(
        f"""
        SELECT
            any(question) AS prompt,
            groupArray(200)((lower(hex(trace_id)), lower(hex(span_id)), start_time, model, prompt_version, cityHash64(answer))) AS found,
            count() AS size
        FROM (
            SELECT
                *,
                if(input_messages = '', question, arrayStringConcat(arrayFilter(
                    m -> JSONExtractString(m, 'role') NOT IN ('system', 'developer'), JSONExtractArrayRaw(input_messages)), '\n'
                )) AS asked
            FROM spans FINAL
            WHERE {where} AND answer != '' AND status != 'error'
            ORDER BY start_time DESC
        )
        WHERE asked != '' AND {{project:String}} != ''
        GROUP BY asked
        HAVING uniqExact(answer) > 1
        ORDER BY size DESC, prompt
        """,  # noqa: S608
        params,
    )
    items = [Source(_varied(r["found"], answers_per_item)) for r in rows[:limit]]
    return Drawn([i for i in items if len(i.answers) > 1], len(rows))


def sessions(project: ProjectStore, filters: CallFilters, *, limit: int) -> Drawn:
    """Sessions of which an answer matches, the newest first: each one item of its answers in their order, the last `MAX_TURNS`."""
    where, params = conditions(filters)
    rows = project.rows(
        f"""
        SELECT
            session_id,
            arraySort(groupArray((start_time, lower(hex(trace_id)), lower(hex(span_id))))) AS turns,
            max(start_time) AS newest
        FROM spans FINAL
        WHERE project_id = {{project:String}}
          AND is_answer
          AND session_id IN (SELECT DISTINCT session_id FROM spans FINAL WHERE {where} AND session_id != '')
        GROUP BY session_id
        ORDER BY newest DESC, session_id
        """,  # noqa: S608
        params,
    )
    items = [
        Source(
            tuple((trace, span, at) for at, trace, span in r["turns"][-MAX_TURNS:]),
            {"session_id": r["session_id"], "num_turns": len(r["turns"])},
        )
        for r in rows[:limit]
    ]
    return Drawn(items, len(rows))


MAX_TURNS = 20


def _varied(result: Iterable[Sequence[Any]], num: int) -> tuple[Place, ...]:
    """Up to `num` different answers, in turn from every model and prompt version."""
    by_version: dict[tuple[str, str], list[Place]] = {}
    seen: set[int] = set()
    for trace, span, at, model, version, digest in result:
        if digest not in seen:
            seen.add(digest)
            by_version.setdefault((model, version), []).append((trace, span, at))
    chosen: list[Place] = []
    while len(chosen) < num and any(by_version.values()):
        for places in by_version.values():
            if places and len(chosen) < num:
                chosen.append(places.pop(0))
    return tuple(chosen)
