"""Responses about calls, traces and their values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.feedback import StoredFeedback
from heedloop.responses.runs import RunSummary
from heedloop.schema import Call, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """One call as lists show it, and what was said of it."""

    trace_id: str
    span_id: str
    start_time: datetime
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
    usage: Usage
    cost: float | None
    input_preview: str
    output_preview: str
    num_feedback: int
    thumb: Literal[0, 1] | None
    flags: list[str]
    has_correction: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsPage:
    """One page of calls, newest first; `next_cursor` is null at the end."""

    calls: list[CallSummary]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCall:
    """A stored call, and the place (from 0) of the name that means it."""

    index: int
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCalls:
    """Those of the calls that were named which are stored, in the order of their names."""

    calls: list[KnownCall]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedCalls:
    """How many of the named calls have their tags now, and how many are not stored."""

    num_calls: int
    num_unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One trace, whole: its spans by start time, the feedback on it, and what was trained on it.

    `answer_span_id` is the span whose answer the user saw, which feedback on the whole trace is about; null without answers.
    """

    trace_id: str
    answer_span_id: str | None
    spans: list[Call]
    feedback: list[StoredFeedback]
    snapshots: list[str]
    runs: list[RunSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValue:
    """One value and how many calls (or flags) have it."""

    value: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValues:
    """The values of one field, most frequent first."""

    values: list[FacetValue]
