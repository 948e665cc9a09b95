"""Responses about feedback."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.datasets import NamedSnapshot
from heedloop.responses.operations import Error
from heedloop.responses.runs import RunSummary
from heedloop.schema import Feedback

FeedbackStatus = Literal["stored", "replaced", "duplicate", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeedback(Feedback):
    """A feedback with what the server knows of it; the call's fields are there where the call was found."""

    feedback_id: str
    version: int
    received_at: datetime
    call_trace_id: str | None = None
    call_span_id: str | None = None
    model: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    call_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """Which field was wrong, and why."""

    field: str | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackResult:
    """What became of one entry; of lines, `line` is the entry's."""

    id: str | None
    status: FeedbackStatus
    feedback_id: str | None = None
    error: FieldError | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackResults:
    """What became of each entry, in the order sent."""

    results: list[FeedbackResult]
    stored: int
    replaced: int
    duplicate: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackPage:
    """One page of feedback as it counts now, newest first; `next_cursor` is null at the end."""

    feedback: list[StoredFeedback]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackHistory:
    """One feedback: as it counts now, every version of it, and the snapshots and runs that used it."""

    feedback: StoredFeedback
    history: list[StoredFeedback]
    snapshots: list[NamedSnapshot]
    runs: list[RunSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRefused(Error):
    """Nothing of what was sent is a feedback; `results` has the reason of each entry."""

    results: list[FeedbackResult] | None = None
    stored: int | None = None
    replaced: int | None = None
    duplicate: int | None = None
    rejected: int | None = None
