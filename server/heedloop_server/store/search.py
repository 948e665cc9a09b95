"""Search over texts that have no index of their own: errors, comments and corrections; and which ids are known.

Questions and answers are searched by `spans.list_calls` with its filter `text`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.feedback import SAID, StoredFeedback, read_feedback
from heedloop_server.store.filters import PRODUCTION, has_words
from heedloop_server.store.spans import SUMMARY_COLUMNS


def failed_calls(
    project: ProjectStore, text: str, since: datetime, until: datetime, *, limit: int
) -> list[Row]:
    """Summaries of the newest failed spans whose error has all words of a text."""
    params: dict[str, Any] = {"since": since, "until": until, "limit": limit}
    return project.rows(
        f"""
        SELECT {SUMMARY_COLUMNS}
        FROM spans FINAL
        WHERE project_id = {{project:String}}
          AND start_time >= {{since:DateTime64(6,'UTC')}}
          AND start_time < {{until:DateTime64(6,'UTC')}}
          AND status = 'error'
          AND {PRODUCTION}
          AND {has_words("error_message", text, params)}
        ORDER BY start_time DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        params,
    )


def feedback_saying(
    project: ProjectStore, text: str, since: datetime, until: datetime, *, limit: int
) -> list[StoredFeedback]:
    """The newest feedback whose comment or correction has all words of a text."""
    params: dict[str, Any] = {"since": since, "until": until, "limit": limit}
    where = f"""created_at >= {{since:DateTime64(6,'UTC')}}
          AND created_at < {{until:DateTime64(6,'UTC')}}
          AND (has_comment OR kind = 'correction')
          AND {has_words(SAID, text, params)}"""
    return read_feedback(project, where, params, order="ORDER BY created_at DESC LIMIT {limit:UInt32}")


def known_as(project: ProjectStore, value: str) -> tuple[bool, bool]:
    """Whether a text is the id of a session, and of a user."""
    row = project.row(
        """
        SELECT
            (SELECT count() FROM (
                SELECT 1 FROM spans WHERE project_id = {project:String} AND session_id = {value:String} LIMIT 1
            )) AS sessions,
            (SELECT count() FROM (
                SELECT 1 FROM spans WHERE project_id = {project:String} AND user_id = {value:String} LIMIT 1
            )) AS users
        """,
        {"value": value},
    )
    return (bool(row["sessions"]), bool(row["users"])) if row else (False, False)


def trace_of_span(project: ProjectStore, span_id: str) -> str | None:
    """The newest trace that has a span; reads the ids of the project's spans."""
    row = project.row(
        """
        SELECT lower(hex(trace_id)) AS trace
        FROM spans
        WHERE project_id = {project:String} AND span_id = unhex({span_id:String})
        ORDER BY start_time DESC
        LIMIT 1
        """,
        {"span_id": span_id},
    )
    return row["trace"] if row else None
