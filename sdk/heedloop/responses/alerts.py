"""Alerts: rules, their states and their history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from heedloop.responses.intervals import Interval

AlertMetric = Literal[
    "rate",
    "coverage",
    "errors",
    "share",
    "latency",
    "first_token",
    "calls",
    "tokens",
    "cost",
    "judge_agreement",
]
WebhookFormat = Literal["generic", "slack", "teams"]
AlertState = Literal["ok", "warning", "alarm", "resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule and its state.

    Attributes:
        filters: the calls that are looked at, as query parameters of `GET /v1/calls`.
        of: the calls among them that the metric `share` counts.
        metric: a share (`rate`, `coverage`, `errors`, `share`); `latency` and `first_token`, whose 95th percentile is held
            against the threshold and whose value is the share of answers that took longer; or the window's number of
            provider `calls`, `tokens` or `cost`.
        threshold: what a rule of the kind `threshold` compares with: a share between 0 and 1, milliseconds, or an amount.
        baseline: what a rule of the kind `drift` takes as normal, between 0 and 1; None where it is measured.
        odds_ratio: the change that a drift is watched for, above 1.
        min_count: answers below which the rule is silent.
        value: the metric in the newest window; None where it has nothing to be measured on.
        num: answers since the state began.
        evidence: 0 is none, 1 or more is an alarm.
        baseline_used: the baseline as given or measured.
        error: why the rule could not be evaluated.
        link_filters: query parameters of `GET /v1/calls` for the answers in the newest window that speak for the alert.
    """

    id: str
    name: str
    metric: AlertMetric
    filters: dict[str, Any]
    of: dict[str, Any]
    judge: str = ""
    bad: Literal["lower", "higher"]
    kind: Literal["drift", "threshold"]
    threshold: float | None
    window_hours: int
    baseline: float | None
    baseline_days: int
    odds_ratio: float
    min_count: int
    webhook_url: str | None
    webhook_format: WebhookFormat = "generic"
    remind_hours: int
    enabled: bool
    state: AlertState
    value: Interval | None
    num: int
    evidence: float
    baseline_used: float | None
    message: str
    evaluated_at: datetime | None
    changed_at: datetime | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    error: str | None
    created_at: datetime
    link_filters: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertStep:
    """When a rule would have entered a state."""

    at: datetime
    after: AlertState


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPreview:
    """What a rule would have done in the last `days`: alarms and warnings, and every change of state, oldest first."""

    days: int
    num_alarms: int
    num_warnings: int
    steps: list[AlertStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """All alerts, the worst state first."""

    alerts: list[Alert]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlert(Alert):
    """The alert that was made; `secret` signs its webhook and is shown this once."""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedAlert:
    """The alert that was deleted."""

    id: str
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of the message to the webhook."""

    status: Literal["none", "pending", "delivered", "failed"]
    attempts: int
    error: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryChange:
    """One change of state; an acknowledgement and a reminder have one state before and after."""

    at: datetime
    before: AlertState
    after: AlertState
    value: Interval | None
    evidence: float
    num: int
    message: str
    acknowledged_by: str | None
    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The changes of an alert's state, newest first."""

    history: list[HistoryChange]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTest:
    """What the webhook answered to a test message.

    Attributes:
        status: the HTTP status, where there was a response.
        took_ms: milliseconds until the response or the error.
    """

    delivered: bool
    status: int | None
    error: str | None
    took_ms: float
