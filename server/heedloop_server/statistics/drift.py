"""Drift: has the rate of a segment moved, and is that worth an alarm?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

LIMIT = math.log(1000)
"""Cumulative log likelihood ratio at which a drift is an alarm."""
WARNING = math.log(100)
"""And at which it is a warning."""

# ------------------------------------------------------------------------------------------------------- alarms

State = Literal["ok", "warning", "alarm", "resolved"]


@dataclass(frozen=True, slots=True)
class Change:
    """A step of an alarm's history."""

    at: datetime
    before: State
    after: State
    evidence: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """The alarm of one segment, as it is after its periods.

    `evidence` is the cumulative sum; `calm` counts the periods in a row that spoke against the drift.
    """

    segment: str
    state: State = "ok"
    evidence: float = 0.0
    num_ratings: int = 0
    calm: int = 0
    history: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """When a segment's alarm changes its state.

    Attributes:
        baseline: the rate that is held normal.
        odds_ratio: how many times the odds must have moved to matter.
        min_ratings: ratings in the segment before its state can change.
        calm_periods: periods in a row that speak against the drift, after which an alarm is resolved.
        direction: whether it watches for a lower rate or for a higher one; an alarm watches one of them.
    """

    baseline: float
    odds_ratio: float = 1.5
    min_ratings: int = 30
    calm_periods: int = 3
    direction: Literal["lower", "higher"] = "lower"

    def __post_init__(self) -> None:
        if not 0 < self.baseline < 1 or self.odds_ratio <= 1 or self.min_ratings < 1 or self.calm_periods < 1:
            raise ValueError(f"{self}: a baseline within 0 to 1, an odds ratio above 1, counts of 1 or more")


def next_alarm(alarm: Alarm, rule: AlarmRule, at: datetime, num_up: int, num_rated: int) -> Alarm:
    """The alarm after one more period; its history grows only where its state changes.

    ok -> warning -> alarm as the evidence passes the limits. Alarm -> resolved after `calm_periods` periods in a row
    that speak against the drift, upon which the evidence starts again; resolved -> ok after as many more. A period
    without ratings changes nothing: silence is no recovery.
    """
    if not 0 <= num_up <= num_rated:
        raise ValueError(f"{num_up} up of {num_rated} rated")
    if num_rated == 0:
        return alarm
    step = _step(rule, num_up, num_rated)
    # what an outage of a month piled up must not keep the alarm on for a month after it
    evidence = min(max(0.0, alarm.evidence + step), 2 * LIMIT)
    ratings, calm = alarm.num_ratings + num_rated, alarm.calm + 1 if step <= 0 else 0
    state = _state(alarm.state, evidence if ratings >= rule.min_ratings else 0.0, calm, rule)
    if state == alarm.state:
        return replace(alarm, evidence=evidence, num_ratings=ratings, calm=calm)
    change = Change(at, alarm.state, state, evidence)
    return Alarm(
        alarm.segment, state, 0.0 if state == "resolved" else evidence, ratings, 0, (*alarm.history, change)
    )


def _step(rule: AlarmRule, num_up: int, num_rated: int) -> float:
    """The log likelihood ratio of one period: drifted odds against the baseline's."""
    ratio = 1 / rule.odds_ratio if rule.direction == "lower" else rule.odds_ratio
    return num_up * math.log(ratio) - num_rated * math.log1p(rule.baseline * (ratio - 1))


def _state(state: State, evidence: float, calm: int, rule: AlarmRule) -> State:
    if state == "alarm":
        return "resolved" if calm >= rule.calm_periods else "alarm"
    if evidence >= LIMIT:
        return "alarm"
    if evidence >= WARNING:
        return "warning"
    return "ok" if state == "ok" or calm >= rule.calm_periods else state


def watch(segment: str, rule: AlarmRule, periods: Mapping[datetime, tuple[int, int]]) -> Alarm:
    """The alarm of a segment after its periods (start -> (thumbs up, ratings)), in order of time."""
    state = Alarm(segment)
    for at in sorted(periods):
        state = next_alarm(state, rule, at, *periods[at])
    return state
