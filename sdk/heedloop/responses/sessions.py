"""Conversations, users and search."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.calls import CallSummary
from heedloop.responses.feedback import StoredFeedback
from heedloop.responses.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of a conversation with its question and the feedback on its trace, oldest first.

    `cost` (US dollars) and tokens are of all provider calls of the turn's trace, told at its first answer.
    """

    call: CallSummary
    question: str
    answer: str
    num_calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    feedback: list[StoredFeedback]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One session: its first 500 turns, oldest first; `truncated` where there are more. `feedback` is on the whole session."""

    session_id: str
    user_ids: list[str]
    first_at: datetime
    last_at: datetime
    num_calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    turns: list[Turn]
    truncated: bool
    feedback: list[StoredFeedback]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """One session of a user; calls without a session are one with an empty id."""

    session_id: str
    first_at: datetime
    last_at: datetime
    first_question: str
    num_answers: int
    num_errors: int
    num_rated: int
    num_up: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user: the newest 200 sessions, and sums and the thumbs-up rate over them."""

    user_id: str
    first_at: datetime
    last_at: datetime
    num_answers: int
    num_errors: int
    num_rated: int
    rate: Interval | None
    input_tokens: int
    output_tokens: int
    cost: float
    sessions: list[SessionSummary]


SearchedIn = Literal["question", "answer", "error", "comment", "correction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """Where words were found: an excerpt of the text, and in it the half-open ranges of code points that match."""

    found_in: SearchedIn
    time: datetime
    trace_id: str | None
    span_id: str | None
    feedback_id: str | None
    excerpt: str
    marks: list[tuple[int, int]]
    model: str | None
    prompt_version: str | None
    thumb: Literal[0, 1] | None


SearchedThing = Literal["trace", "feedback", "session", "user", "run", "snapshot", "alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedId:
    """Something whose id was searched for; `span_id` where it was a span's."""

    kind: SearchedThing
    id: str
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    """What a search found: things by their id, and texts with all words, newest first; and what was searched."""

    ids: list[SearchedId]
    hits: list[SearchHit]
    searched: list[SearchedIn]
    since: datetime
    until: datetime
