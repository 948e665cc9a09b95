"""The texts of low-rated answers, for clusters; stored clusterings; and liked answers to questions like one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from heedloop.words import search_words
from heedloop_server.filters import CallFilters
from heedloop_server.store.call_rows import IDS, rows_of_calls
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import PRODUCTION
from heedloop_server.store.quality.hourly import Plan
from heedloop_server.store.quality.rows import View, judged_condition, newest_thumbs
from heedloop_server.store.spans import SUMMARY_COLUMNS

Of = Literal["answers", "comments", "questions"]
MAX_TEXTS = 5_000
MAX_LIKED = 2_000
_TEXT = {"answers": "answer", "questions": "question"}


@dataclass(frozen=True, slots=True)
class LowRatedText:
    """A text about a rated answer given at `at`; ids are lower-case hex."""

    at: datetime
    trace_id: str
    span_id: str
    text: str


@dataclass(frozen=True, slots=True)
class LowRated:
    """The newest texts, and how many answers with such a rating there are in the view."""

    texts: list[LowRatedText]
    num_answers: int


def low_rated_texts(project: ProjectStore, view: View, of: Of, *, liked: bool = False) -> LowRated:
    """Texts of the newest low-rated (or `liked`) answers of a view: the answers, their questions, or the comments on them."""
    params: dict[str, Any] = {"limit": MAX_TEXTS}
    everything = Plan(ranges=(view.filters.period(),))
    thumbs = newest_thumbs(view, everything, (), params, ids=True)
    rows = project.rows(
        f"""
        SELECT
            lower(hex(trace)) AS trace,
            lower(hex(span)) AS span,
            at,
            count() OVER () AS num
        FROM (
            {thumbs}
        )
        WHERE {"up" if liked else "NOT up"}
        ORDER BY
            at DESC,
            trace,
            span
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        params,
    )
    keys = [(r["at"], r["trace"], r["span"]) for r in rows]
    texts = _comments(project, view, keys) if of == "comments" else texts_of(project, keys, _TEXT[of])
    result = [LowRatedText(at, t, s, texts[t, s]) for at, t, s in keys if texts.get((t, s), "").strip()]
    return LowRated(result, int(rows[0]["num"]) if rows else 0)


def texts_of(
    project: ProjectStore, keys: Sequence[tuple[datetime, str, str]], column: str
) -> dict[tuple[str, str], str]:
    """(trace id, span id) -> the `answer` or `question` of each call (start time, trace id, span id), up to 4,000 characters."""
    times = {(trace, span): at for at, trace, span in keys}
    rows = rows_of_calls(project, f"{IDS}, substringUTF8({column}, 1, 4000) AS text", times)
    return {(r["trace"], r["span"]): r["text"] for r in rows}


def _comments(
    project: ProjectStore, view: View, keys: Sequence[tuple[datetime, str, str]]
) -> dict[tuple[str, str], str]:
    """The comments on calls, by any author, each call's joined."""
    params: dict[str, Any] = {}
    where = judged_condition(view, params)
    rows = project.rows(
        f"""
        SELECT
            {IDS},
            arrayStringConcat(groupArray(JSONExtractString(record, 'comment')), '\n') AS text
        FROM (
            SELECT
                trace_id,
                span_id,
                record
            FROM feedback FINAL
            WHERE {where}
              AND has_comment
            ORDER BY created_at DESC
            LIMIT {{limit:UInt32}}
        )
        GROUP BY
            trace_id,
            span_id
        """,  # noqa: S608
        {**params, "limit": 4 * MAX_TEXTS},
    )
    wanted = {(t, s) for _, t, s in keys}
    return {(r["trace"], r["span"]): r["text"] for r in rows if (r["trace"], r["span"]) in wanted}


def whole_calls(project: ProjectStore, keys: Sequence[tuple[datetime, str, str]]) -> list[Row]:
    """Summaries of calls (start time, trace id, span id) with `question` and `answer` up to 4,000 characters and a `comment`."""
    if not keys:
        return []
    columns = f"""
            {SUMMARY_COLUMNS},
            substringUTF8(question, 1, 4000) AS question_text,
            substringUTF8(answer, 1, 4000) AS answer_text"""
    rows = rows_of_calls(project, columns, {(trace, span): at for at, trace, span in keys})
    commented = project.rows(
        f"""
        SELECT
            {IDS},
            argMax(JSONExtractString(record, 'comment'), created_at) AS comment
        FROM feedback FINAL
        WHERE project_id = {{project:String}}
          AND has_comment
          AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{traces:Array(String)}})), 16))
        GROUP BY
            trace,
            span
        """,  # noqa: S608
        {"traces": [trace for _, trace, _ in keys]},
    )
    comments = {(r["trace"], r["span"]): r["comment"] for r in commented}
    return [r | {"comment": comments.get((r["trace_id_hex"], r["span_id_hex"]))} for r in rows]


# ---------------------------------------------------------------------------------------------------- stored clusterings


@dataclass(frozen=True, slots=True)
class Clustering:
    """Clusters of one view: `summary` is JSON without whole texts, `members` the calls in them."""

    view_key: str
    made_at: datetime
    since: datetime
    until: datetime
    summary: Mapping[str, Any]
    members: Sequence[tuple[str, str, str]] = ()


def insert_clustering(project: ProjectStore, clustering: Clustering) -> None:
    """Store a clustering, so that its clusters can be named by their ids."""
    project.insert(
        "clusterings",
        [
            {
                "view_key": clustering.view_key,
                "made_at": clustering.made_at,
                "since": clustering.since,
                "until": clustering.until,
                "summary": json.dumps(clustering.summary, ensure_ascii=False),
                "trace_ids": [bytes.fromhex(t) for t, _, _ in clustering.members],
                "span_ids": [bytes.fromhex(s) for _, s, _ in clustering.members],
                "cluster_ids": [c for _, _, c in clustering.members],
            }
        ],
    )


def newest_clustering(project: ProjectStore, view_key: str) -> Clustering | None:
    """The newest clustering of a view, without its members."""
    row: Row | None = project.row(
        """
        SELECT made_at, since, until, summary
        FROM clusterings FINAL
        WHERE project_id = {project:String} AND view_key = {view_key:String}
        ORDER BY made_at DESC
        LIMIT 1
        """,
        {"view_key": view_key},
    )
    if row is None:
        return None
    return Clustering(view_key, row["made_at"], row["since"], row["until"], json.loads(row["summary"]))


# ------------------------------------------------------------------------------------------------------- liked answers


def question_of_call(project: ProjectStore, trace_id: str, span_id: str) -> tuple[str, datetime] | None:
    """The question and time of one call."""
    row = project.row(
        """
        SELECT question, start_time
        FROM spans FINAL
        WHERE project_id = {project:String} AND trace_id = unhex({trace_id:String}) AND span_id = unhex({span_id:String})
        LIMIT 1
        """,
        {"trace_id": trace_id, "span_id": span_id},
    )
    return None if row is None else (row["question"], row["start_time"])


def sample_questions(project: ProjectStore, until: datetime, *, limit: int = 300) -> list[str]:
    """The newest questions before a time, up to 1,000 characters each: how common a word is in this project."""
    rows = project.rows(
        f"""
        SELECT substringUTF8(question, 1, 1000) AS question_text
        FROM spans
        WHERE project_id = {{project:String}}
          AND start_time < {{until:DateTime64(6,'UTC')}}
          AND is_answer
          AND {PRODUCTION}
        ORDER BY start_time DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {"until": until, "limit": limit},
    )
    return [r["question_text"] for r in rows]


def liked_candidates(
    project: ProjectStore, words: Sequence[str], around: datetime, *, without: tuple[str, str]
) -> list[Row]:
    """The newest liked answers of the 90 days up to a day after `around` whose question has one of the words; at most 2,000."""
    forms = _forms(words)
    if not forms:
        return []
    since, until = around - timedelta(days=90), around + timedelta(days=1)
    view = View(CallFilters(since=since, until=until))
    params: dict[str, Any] = {}
    thumbs = newest_thumbs(view, Plan(ranges=((since, until),)), (), params, ids=True)
    params |= {f"word_{i}": f"%{form}%" for i, form in enumerate(forms)}
    any_word = " OR ".join(f"question_search LIKE {{word_{i}:String}}" for i in range(len(forms)))
    return project.rows(
        f"""
        SELECT
            {IDS},
            start_time,
            substringUTF8(question, 1, 4000) AS question_text,
            substringUTF8(answer, 1, 4000) AS answer_text
        FROM spans FINAL
        WHERE project_id = {{project:String}}
          AND start_time >= {{since:DateTime64(6,'UTC')}}
          AND start_time < {{until:DateTime64(6,'UTC')}}
          AND ({any_word})
          AND (trace_id, span_id) IN (
              SELECT
                  trace,
                  span
              FROM (
                  {thumbs}
              )
              WHERE up
          )
          AND (lower(hex(trace_id)), lower(hex(span_id))) != ({{own_trace:String}}, {{own_span:String}})
        ORDER BY start_time DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "own_trace": without[0], "own_span": without[1], "limit": MAX_LIKED},
    )


def _forms(words: Sequence[str]) -> list[str]:
    """Words as `question_search` holds them; those too short for its index only where there are no others."""
    forms = [result.form for word in words for result in search_words(word)]
    return [f for f in forms if len(f) > 2] or forms
