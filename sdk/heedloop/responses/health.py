"""The health of an app: errors, latency, tokens and cost of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from heedloop.responses.intervals import Interval
from heedloop.responses.quality import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCounts:
    """Answers and what they took.

    Attributes:
        num_calls: provider calls, those inside of answers too; tokens and cost are theirs.
        error_share: answers that failed, of all; None without answers.
        p50_ms: half of the answers took no longer, in milliseconds; p95_ms: 95% of them.
        first_token_p50_ms: the same until the first token of streamed answers; None where no span says it.
        cost: US dollars, as spans say it, else by the project's price table.
        num_unpriced: calls with tokens that have no cost and no price.
    """

    num_answers: int
    num_errors: int
    num_calls: int
    error_share: Interval | None
    p50_ms: float | None
    p95_ms: float | None
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None
    input_tokens: int
    output_tokens: int
    cost: float
    num_unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPoint(HealthCounts):
    """One hour, day or week; `running` where it is not over yet."""

    time: datetime
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthGroup(HealthCounts):
    """The answers and calls that have one value of a field."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPeriod:
    """A time during which an alert was in alarm; `until` is None while it is."""

    alert_id: str
    name: str
    metric: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppHealth:
    """The health of a period: whole, over time, by a field where asked for, with the releases and alarms of the period."""

    total: HealthCounts
    points: list[HealthPoint]
    by: str | None
    groups: list[HealthGroup]
    releases: list[Release]
    alarms: list[AlarmPeriod]
