"""Conversations and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query

from heedloop.responses.feedback import StoredFeedback
from heedloop.responses.sessions import Conversation, SessionSummary, Turn, User
from heedloop_server.errors import NotFound
from heedloop_server.http.responses import Router
from heedloop_server.http.services import ReadProject
from heedloop_server.routes.calls import summaries_with_feedback
from heedloop_server.statistics.intervals import wilson
from heedloop_server.store.admin.project_settings import project_prices
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.sessions import (
    MAX_TURNS,
    feedback_of_session,
    sessions_of_user,
    turns_of_session,
    usage_of_session,
)

router = Router()

Id = Annotated[str, Query(min_length=1, max_length=1024)]
_SUMS = ("num_calls", "input_tokens", "output_tokens", "cost")


@router.get("/v1/conversation")
def get_conversation(project: ReadProject, session_id: Id) -> Conversation:
    """One session: its turns oldest first, each with its feedback, tokens and cost."""
    rows = turns_of_session(project, session_id)
    usage = usage_of_session(project, session_id, project_prices(project))
    feedback = [f.response() for f in feedback_of_session(project, session_id, sorted(usage))]
    if not rows and not feedback:
        raise NotFound(f"there is no session {session_id[:80]!r} in this project")
    turns = _turns(project, rows[:MAX_TURNS], usage, feedback)
    times = [t.call.start_time for t in turns] or [f.created_at for f in feedback]
    return Conversation(
        session_id=session_id,
        user_ids=sorted({t.call.user_id for t in turns if t.call.user_id}),
        first_at=times[0],
        last_at=times[-1],
        turns=turns,
        truncated=len(rows) > MAX_TURNS,
        feedback=[f for f in feedback if f.target.session_id and not f.target.trace_id],
        **_summed(usage.values()),
    )


def _turns(
    project: ProjectStore, rows: Sequence[Row], usage: Mapping[str, Row], feedback: Sequence[StoredFeedback]
) -> list[Turn]:
    of_trace: dict[str, list[StoredFeedback]] = {}
    for f in feedback:
        trace_id = f.target.trace_id or (f.call_trace_id if not f.target.session_id else None)
        if trace_id:
            of_trace.setdefault(trace_id, []).append(f)
    turns: list[Turn] = []
    told: set[str] = set()
    for row, call in zip(rows, summaries_with_feedback(project, rows), strict=True):
        first = call.trace_id not in told
        told.add(call.trace_id)
        turns.append(
            Turn(
                call=call,
                question=row["question_text"],
                answer=row["answer_text"],
                feedback=of_trace.get(call.trace_id, []) if first else [],
                **_summed([usage[call.trace_id]] if first and call.trace_id in usage else []),
            )
        )
    return turns


def _summed(rows: Any) -> dict[str, Any]:
    found = list(rows)
    return {n: (float if n == "cost" else int)(sum(r[n] for r in found)) for n in _SUMS}


@router.get("/v1/user")
def get_user(project: ReadProject, user_id: Id) -> User:
    """One user: sessions, ratings and cost."""
    found = sessions_of_user(project, user_id, project_prices(project))
    if not found.sessions:
        raise NotFound(f"there is no user {user_id[:80]!r} in this project")
    sessions = [_session(row, *found.thumbs.get(row["session_id"], (0, 0))) for row in found.sessions]
    num_rated = sum(s.num_rated for s in sessions)
    sums = _summed(found.sessions)
    del sums["num_calls"]
    return User(
        user_id=user_id,
        first_at=min(s.first_at for s in sessions),
        last_at=max(s.last_at for s in sessions),
        num_answers=sum(s.num_answers for s in sessions),
        num_errors=sum(s.num_errors for s in sessions),
        num_rated=num_rated,
        rate=wilson(sum(s.num_up for s in sessions), num_rated),
        sessions=sessions,
        **sums,
    )


def _session(row: Row, num_up: int, num_rated: int) -> SessionSummary:
    names = ("session_id", "first_at", "last_at", "first_question", "num_answers", "num_errors", "cost")
    return SessionSummary(**{n: row[n] for n in names}, num_up=num_up, num_rated=num_rated)
