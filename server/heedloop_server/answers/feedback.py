"""What is posted as feedback, and the answers about it."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from heedloop_server.answers.errors import Error
from heedloop_server.answers.records import FeedbackSent, RunSummary, StoredFeedback

__all__ = [
    "FeedbackBatch",
    "FeedbackHistory",
    "FeedbackPage",
    "FeedbackRefused",
    "FeedbackResult",
    "FeedbackResults",
    "NamedSnapshot",
]


class FeedbackBatch(TypedDict):
    """Many at once: at most 10,000."""

    feedback: list[FeedbackSent]


class FieldError(TypedDict):
    """Which field was wrong, and why."""

    field: str | None
    message: str


class FeedbackResult(TypedDict):
    """What became of one entry."""

    id: str | None
    status: Literal["stored", "replaced", "duplicate", "rejected"]
    feedback_id: NotRequired[str]
    error: NotRequired[FieldError]


class FeedbackResults(TypedDict):
    """What became of each entry, in the order sent."""

    results: list[FeedbackResult]
    stored: int
    replaced: int
    duplicate: int
    rejected: int


class FeedbackRefused(Error):
    """Nothing of what was sent is a feedback; `results` say of each entry why."""

    results: NotRequired[list[FeedbackResult]]
    stored: NotRequired[int]
    replaced: NotRequired[int]
    duplicate: NotRequired[int]
    rejected: NotRequired[int]


class FeedbackPage(TypedDict):
    """One page of feedback as it counts now, newest first; `next_cursor` is null at the end."""

    feedback: list[StoredFeedback]
    next_cursor: str | None


class NamedSnapshot(TypedDict):
    """A snapshot's id and name."""

    id: str
    name: str


class FeedbackHistory(TypedDict):
    """One feedback: as it counts now, every word before it, and the snapshots and runs that used it."""

    feedback: StoredFeedback
    history: list[StoredFeedback]
    snapshots: list[NamedSnapshot]
    runs: list[RunSummary]
