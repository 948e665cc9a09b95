"""Answers about calls, traces and their values."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from heedloop_server.answers.records import CallRecord, RunSummary, StoredFeedback, UsageRecord

__all__ = ["CallsPage", "FacetValues", "Trace"]


class CallSummary(TypedDict):
    """One call as lists show it."""

    trace_id: str
    span_id: str
    start_time: str
    duration_ns: int
    name: str
    service: str
    environment: str
    model: str | None
    provider: str | None
    prompt_name: str | None
    prompt_version: str | None
    user_id: str | None
    session_id: str | None
    tags: list[str]
    status: str
    error_message: str | None
    usage: UsageRecord
    cost: float | None
    input_preview: str
    output_preview: str
    num_feedback: int
    thumb: Literal[0, 1] | None
    flags: list[str]
    has_correction: bool


class CallsPage(TypedDict):
    """One page of calls, newest first; `next_cursor` is null at the end."""

    calls: list[CallSummary]
    next_cursor: str | None


class Trace(TypedDict):
    """One trace, whole: its spans by start time, the feedback on it, and what was trained on it.

    `answer_span_id` is the span whose answer the user saw, which feedback on the whole trace is about; null without answers.
    """

    trace_id: str
    answer_span_id: str | None
    spans: list[CallRecord]
    feedback: list[StoredFeedback]
    snapshots: list[str]
    runs: list[RunSummary]


class FacetValue(TypedDict):
    """One value and how many calls (or flags) have it."""

    value: str
    count: int


class FacetValues(TypedDict):
    """The values of one field, most frequent first."""

    values: list[FacetValue]
