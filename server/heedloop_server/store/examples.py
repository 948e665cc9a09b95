"""Liked and corrected answers for examples, what changed lately, and what may be none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from heedloop.schema import EVALUATION
from heedloop_server.examples.candidates import Candidate, Opinion
from heedloop_server.store.connection import ProjectStore, Row

MAX_CANDIDATES = 150_000
"""Of more answers the newest; each is kept in memory with its text."""
KEYS_AT_ONCE = 2_000

Key = tuple[str, str]

_OPINION = """tuple(
                toString(feedback_id),
                toString(author_kind),
                multiIf(author_id != '', author_id, user_id != '', user_id, session_id != '', session_id, lower(hex(trace_id))))"""
_JUDGED = f"""
        SELECT
            trace_id,
            span_id,
            max(call_time) AS at,
            groupArrayIf(64)({_OPINION}, is_thumb AND name = 'thumb' AND score > 0.5) AS likes,
            groupArrayIf(64)({_OPINION}, is_thumb AND name = 'thumb' AND ifNull(score, 0) <= 0.5) AS dislikes,
            argMaxIf({_OPINION}, version, kind = 'correction') AS corrected_by,
            argMaxIf(JSONExtractString(record, 'correction'), version, kind = 'correction') AS correction
        FROM feedback FINAL
        WHERE project_id = {{project:String}}
          AND call_time > toDateTime64(0, 6, 'UTC')
          AND NOT startsWith(environment, {{evaluation:String}})
          AND {{only}}
        GROUP BY trace_id, span_id
        HAVING countIf(kind = 'flag') = 0 AND (notEmpty(likes) OR correction != '')
        ORDER BY at DESC
        LIMIT {{limit:UInt32}}"""  # noqa: S608
_OF_TRACES = "trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))"


def all_candidates(project: ProjectStore) -> Iterator[Candidate]:
    """The newest answers that somebody liked or corrected and nobody flagged, outside of evaluations."""
    return _candidates(project, "1", {})


def candidates_of(project: ProjectStore, keys: Iterable[Key]) -> Iterator[Candidate]:
    """The same of the traces of these calls."""
    traces = sorted({trace for trace, _ in keys})
    for first in range(0, len(traces), KEYS_AT_ONCE):
        yield from _candidates(project, _OF_TRACES, {"traces": traces[first : first + KEYS_AT_ONCE]})


def _candidates(project: ProjectStore, only: str, params: dict[str, Any]) -> Iterator[Candidate]:
    judged = _JUDGED.replace("{only}", only)
    rows = project.rows(
        f"""
        SELECT
            lower(hex(c.trace_id)) AS trace,
            lower(hex(c.span_id)) AS span,
            c.question AS question_text,
            c.answer AS answer_text,
            c.prompt_name AS prompt,
            c.metadata['language'] AS language,
            j.likes AS likes,
            j.dislikes AS dislikes,
            j.corrected_by AS corrected_by,
            j.correction AS correction
        FROM (
            SELECT trace_id, span_id, question, answer, prompt_name, metadata
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND attributes['heedloop.truncated'] = ''
              AND trace_id IN (SELECT trace_id FROM ({judged}))
        ) AS c
        INNER JOIN ({judged}) AS j ON j.trace_id = c.trace_id AND j.span_id = c.span_id
        """,  # noqa: S608
        {**params, "evaluation": EVALUATION, "limit": MAX_CANDIDATES},
    )
    return (_candidate(r) for r in rows)


def _candidate(row: Row) -> Candidate:
    corrected = bool(row["correction"])
    return Candidate(
        trace_id=row["trace"],
        span_id=row["span"],
        question=row["question_text"],
        answer=row["answer_text"],
        prompt_name=row["prompt"],
        language=row["language"],
        likes=tuple(Opinion(*o) for o in row["likes"]),
        dislikes=tuple(Opinion(*o) for o in row["dislikes"]),
        correction=row["correction"],
        corrected_by=Opinion(*row["corrected_by"]) if corrected else None,
    )


class Changes(NamedTuple):
    """Feedback with its call and its newest version, and feedback that waits for its call."""

    judgements: dict[str, tuple[Key, int]]
    waiting: list[str]


def changes(project: ProjectStore, since: datetime, waiting: Iterable[str]) -> Changes:
    """What was received since a time, in any version, and what of the waiting feedback has its call now."""
    rows = project.rows(
        """
        SELECT
            toString(feedback_id) AS feedback,
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span,
            max(version) AS newest,
            max(call_time) > toDateTime64(0, 6, 'UTC') AS is_known
        FROM feedback
        WHERE project_id = {project:String}
          AND (received_at >= {since:DateTime64(6,'UTC')} OR feedback_id IN {waiting:Array(UUID)})
        GROUP BY feedback_id, trace_id, span_id
        """,
        {"since": since, "waiting": list(waiting)},
    )
    known = {r["feedback"]: ((r["trace"], r["span"]), int(r["newest"])) for r in rows if r["is_known"]}
    return Changes(known, sorted({r["feedback"] for r in rows} - known.keys())[:KEYS_AT_ONCE])


def held_out(project: ProjectStore) -> dict[Key, str]:
    """The calls of the test rows of snapshots with their questions."""
    rows = project.rows(
        """
        SELECT
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span,
            question AS question_text
        FROM spans FINAL
        WHERE project_id = {project:String}
          AND trace_id IN (
              SELECT arrayJoin(trace_ids) FROM snapshot_rows WHERE project_id = {project:String} AND split = 'test'
          )
        """
    )
    return {(r["trace"], r["span"]): r["question_text"] for r in rows}


class Present(NamedTuple):
    """How many snapshots there are, and which of some traces and feedback were erased."""

    num_snapshots: int
    traces: set[str]
    feedback: set[str]


def present(project: ProjectStore, traces: Sequence[str], feedback_ids: Sequence[str]) -> Present:
    """What must be known at every request, in one query of small tables: a list of what was erased is written before an erasure is
    answered, by whichever server. Parts of a union take half the time of subqueries."""
    rows = project.rows(
        """
        SELECT
            'snapshots' AS kind,
            toString(count()) AS found
        FROM snapshots FINAL
        WHERE project_id = {project:String}
        UNION ALL
        SELECT
            'trace',
            lower(hex(trace_id))
        FROM erased_traces
        WHERE project_id = {project:String}
          AND trace_id IN arrayMap(t -> toFixedString(unhex(t), 16), {traces:Array(String)})
        UNION ALL
        SELECT
            'feedback',
            toString(feedback_id)
        FROM erased_feedback
        WHERE project_id = {project:String} AND feedback_id IN {ids:Array(UUID)}
        """,
        {"traces": list(traces), "ids": list(feedback_ids)},
        **project.fresh,
    )
    found: dict[str, set[str]] = {"trace": set(), "feedback": set(), "snapshots": set()}
    for row in rows:
        found[row["kind"]].add(row["found"])
    return Present(int(next(iter(found["snapshots"]))), found["trace"], found["feedback"])
