"""Answers about calls, traces and their values."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from heedloop.schema import Usage

__all__ = ["CallSummary"]


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
    usage: Usage
    cost: float | None
    input_preview: str
    output_preview: str
    num_feedback: int
    thumb: Literal[0, 1] | None
    flags: list[str]
    has_correction: bool
