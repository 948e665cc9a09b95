"""Drift: has the rate of a segment moved, and is that worth waking somebody?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from heedloop_server.statistics.intervals import Array

# -------------------------------------------------------------------------------------------------------- CUSUM


@dataclass(frozen=True, slots=True)
class Cusum:
    """Tabular cumulative sums.

    Attributes:
        high: (n,) upper sums, how far the values have run above the target.
        low: (n,) lower sums, how far below; both 0 or more.
        alarm_index: index (from 0) of the first value at which either exceeds the limit; None where none does.
    """

    high: Array
    low: Array
    alarm_index: int | None


def tabular_cusum(values: ArrayLike, *, target: float, k: float, h: float) -> Cusum:
    """Two one-sided cumulative sums with allowance `k` and limit `h`, in the unit of the values.

    high[i] = max(0, high[i-1] + x - target - k), low[i] = max(0, low[i-1] + target - k - x). A missing value (NaN) leaves
    both as they were. Source: Page 1954, Biometrika 41:100-115; NIST/SEMATECH e-Handbook, section 6.3.2.3.
    """
    if k < 0 or h <= 0:
        raise ValueError(f"k {k!r} must be 0 or more and h {h!r} more than 0")
    x = np.asarray(values, float)
    high, low = np.zeros(x.size), np.zeros(x.size)
    up = down = 0.0
    for i, value in enumerate(x):
        if not math.isnan(value):
            up = max(0.0, up + value - target - k)
            down = max(0.0, down + target - k - value)
        high[i], low[i] = up, down
    beyond = np.flatnonzero((high > h) | (low > h))
    return Cusum(high, low, int(beyond[0]) if beyond.size else None)


def log_odds_cusum(
    num_up: Sequence[int], num_rated: Sequence[int], *, baseline: float, odds_ratio: float = 1.5
) -> Cusum:
    """Cumulative log likelihood ratios of a rate that left its baseline, period by period.

    The upper sum tests odds `odds_ratio` times the baseline's, the lower sum odds divided by it; each period adds
    x·log(OR) - n·log(1 + p(OR - 1)), so that a period without ratings adds nothing and one with many counts for many.
    The limit is log(1000): where nothing changes it is passed once in 1,000 periods or more on average (Lorden 1971).

    Source: Steiner et al. 2000, Biostatistics 1:441-452 (risk-adjusted CUSUM).

    Raises:
        ValueError: the baseline is not strictly between 0 and 1, or the odds ratio not above 1.
    """
    if not 0 < baseline < 1 or odds_ratio <= 1:
        raise ValueError(f"baseline {baseline!r} must lie between 0 and 1, odds_ratio {odds_ratio!r} above 1")
    sums: list[Array] = []
    for ratio in (odds_ratio, 1 / odds_ratio):
        gain, cost = math.log(ratio), math.log1p(baseline * (ratio - 1))
        total, run = 0.0, list[float]()
        for up, rated in zip(num_up, num_rated, strict=True):
            total = max(0.0, total + up * gain - rated * cost)
            run.append(total)
        sums.append(np.array(run))
    beyond = np.flatnonzero((sums[0] > LIMIT) | (sums[1] > LIMIT))
    return Cusum(sums[0], sums[1], int(beyond[0]) if beyond.size else None)


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
    """The alarm of one segment, as it stands after everything it was told.

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
        min_ratings: ratings in the segment before anything is said.
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
    that speak against the drift, upon which the evidence starts anew; resolved -> ok after as many more. A period
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


def watch(
    segment: str, rule: AlarmRule, periods: Mapping[datetime, tuple[int, int]], *, alarm: Alarm | None = None
) -> Alarm:
    """The alarm of a segment after its periods (start -> (thumbs up, ratings)), in order of time."""
    state = alarm or Alarm(segment)
    for at in sorted(periods):
        state = next_alarm(state, rule, at, *periods[at])
    return state
