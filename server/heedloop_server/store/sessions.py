"""Conversations and users: their turns in order, what each turn cost, and a user's sessions with their ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.feedback import StoredFeedback, read_feedback
from heedloop_server.store.filters import THUMBS
from heedloop_server.store.quality.health import Prices, priced
from heedloop_server.store.spans import SUMMARY_COLUMNS

MAX_TURNS = 500
MAX_SESSIONS = 200
MAX_TEXT = 100_000
"""Characters of a question or an answer in a conversation."""


def _of_traces(column: str) -> str:
    """The key of every call in a trace that has a call with the bound value: `trace_calls` says why in this way."""
    return f"""(start_time, trace_id) IN (
            SELECT
                start_time,
                trace_id
            FROM spans
            WHERE project_id = {{project:String}}
              AND trace_id IN (SELECT trace_id FROM spans WHERE project_id = {{project:String}} AND {column} = {{value:String}})
        )"""  # noqa: S608


_USAGE = """sumIf(1, operation != '') AS num_calls,
            sumIf(ifNull(prompt_tokens, 0), operation != '') AS input_tokens,
            sumIf(ifNull(completion_tokens, 0), operation != '') AS output_tokens,
            sumIf(ifNull(dollars, 0), operation != '') AS cost"""


def turns_of_session(project: ProjectStore, session_id: str) -> list[Row]:
    """The session's answers, oldest first, at most one more than `MAX_TURNS`: summaries with `question_text`, `answer_text`."""
    return project.rows(
        f"""
        SELECT
            {SUMMARY_COLUMNS},
            substringUTF8(question, 1, {MAX_TEXT}) AS question_text,
            substringUTF8(answer, 1, {MAX_TEXT}) AS answer_text
        FROM spans FINAL
        PREWHERE {_of_traces("session_id")}
        WHERE project_id = {{project:String}} AND session_id = {{value:String}} AND is_answer
        ORDER BY
            start_time,
            span_id
        LIMIT {MAX_TURNS + 1}
        """,  # noqa: S608
        {"value": session_id},
    )


def usage_of_session(project: ProjectStore, session_id: str, prices: Prices) -> dict[str, Row]:
    """Trace id -> `num_calls, input_tokens, output_tokens, cost` of all its provider calls."""
    params: dict[str, Any] = {"value": session_id}
    rows = project.rows(
        f"""
        SELECT
            lower(hex(trace_id)) AS trace,
            {_USAGE}
        FROM (
            SELECT
                trace_id,
                operation,
                input_tokens AS prompt_tokens,
                output_tokens AS completion_tokens,
                {priced(prices, params)} AS dollars
            FROM spans FINAL
            PREWHERE {_of_traces("session_id")}
            WHERE project_id = {{project:String}}
        )
        GROUP BY trace
        """,  # noqa: S608
        params,
    )
    return {r["trace"]: r for r in rows}


def feedback_of_session(
    project: ProjectStore, session_id: str, trace_ids: Sequence[str]
) -> list[StoredFeedback]:
    """All feedback on the session and on its traces, oldest first."""
    about = """(
              trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
              OR target_session_id = {session:String}
          )"""
    params = {"traces": list(trace_ids), "session": session_id}
    return read_feedback(project, about, params, order="ORDER BY created_at, feedback_id", among=about)


@dataclass(frozen=True, slots=True)
class User:
    """A user's sessions, the newest first, and the newest thumbs on their answers by session."""

    sessions: list[Row]
    thumbs: dict[str, tuple[int, int]]


def sessions_of_user(project: ProjectStore, user_id: str, prices: Prices) -> User:
    """The newest `MAX_SESSIONS` sessions of a user; calls without a session are one with an empty id."""
    params: dict[str, Any] = {"value": user_id}
    sessions = project.rows(
        f"""
        SELECT
            session_id,
            min(start_time) AS first_at,
            max(start_time) AS last_at,
            countIf(is_answer) AS num_answers,
            countIf(is_answer AND status = 'error') AS num_errors,
            argMinIf(preview, start_time, is_answer) AS first_question,
            {_USAGE}
        FROM (
            SELECT
                session_id,
                start_time,
                is_answer,
                status,
                operation,
                substringUTF8(question, 1, 200) AS preview,
                input_tokens AS prompt_tokens,
                output_tokens AS completion_tokens,
                {priced(prices, params)} AS dollars
            FROM spans FINAL
            PREWHERE {_of_traces("user_id")}
            WHERE project_id = {{project:String}} AND user_id = {{value:String}} AND (is_answer OR operation != '')
        )
        GROUP BY session_id
        ORDER BY last_at DESC
        LIMIT {MAX_SESSIONS}
        """,  # noqa: S608
        params,
    )
    return User(sessions, _thumbs_of_user(project, user_id))


def _thumbs_of_user(project: ProjectStore, user_id: str) -> dict[str, tuple[int, int]]:
    """Session id -> (thumbs up, rated answers), by the newest thumb on each of the user's answers."""
    rows = project.rows(
        f"""
        SELECT
            session,
            countIf(up) AS num_up,
            count() AS num
        FROM (
            SELECT
                any(session_id) AS session,
                argMax(ifNull(score, 0) > 0.5, (version, feedback_id)) AS up
            FROM feedback FINAL
            WHERE project_id = {{project:String}}
              AND trace_id IN (
                  SELECT trace_id FROM spans WHERE project_id = {{project:String}} AND user_id = {{value:String}}
              )
              AND user_id = {{value:String}}
              AND {THUMBS}
            GROUP BY
                trace_id,
                span_id
        )
        GROUP BY session
        """,  # noqa: S608
        {"value": user_id},
    )
    return {r["session"]: (int(r["num_up"]), int(r["num"])) for r in rows}
