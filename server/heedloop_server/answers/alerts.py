"""Answers about alerts."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from heedloop_server.answers.quality import Interval

__all__ = ["Alert", "Alerts", "DeletedAlert", "History", "NewAlert", "Tried"]

State = Literal["ok", "warning", "alarm", "resolved"]


class Alert(TypedDict):
    """A rule and where it stands; `evidence` of 1 or more is an alarm."""

    id: str
    name: str
    metric: Literal["rate", "coverage", "errors", "share"]
    filters: dict[str, Any]
    of: dict[str, Any]
    bad: Literal["lower", "higher"]
    kind: Literal["drift", "threshold"]
    threshold: float | None
    window_hours: int
    baseline: float | None
    baseline_days: int
    odds_ratio: float
    min_count: int
    webhook_url: str | None
    remind_hours: int
    enabled: bool
    state: State
    value: Interval | None
    num: int
    evidence: float
    baseline_used: float | None
    message: str
    evaluated_at: str | None
    changed_at: str | None
    acknowledged_by: str | None
    acknowledged_at: str | None
    error: str | None
    created_at: str
    link_filters: dict[str, Any]


class Alerts(TypedDict):
    """All alerts, the worst state first."""

    alerts: list[Alert]


class NewAlert(Alert):
    """The alert that was made; `secret` signs its webhook and is shown this once."""

    secret: str


class DeletedAlert(TypedDict):
    """It is gone."""

    id: str
    deleted: bool


class Delivery(TypedDict):
    """What became of telling the webhook."""

    status: Literal["none", "pending", "delivered", "failed"]
    attempts: int
    error: str | None
    at: str | None


class HistoryChange(TypedDict):
    """One change of state; an acknowledgement has one state before and after."""

    at: str
    before: State
    after: State
    value: Interval | None
    evidence: float
    num: int
    message: str
    acknowledged_by: str | None
    delivery: Delivery


class History(TypedDict):
    """The changes, newest first."""

    history: list[HistoryChange]


class Tried(TypedDict):
    """What the webhook said to a test."""

    delivered: bool
    status: int | None
    error: str | None
    took_ms: float
