"""The state of an alert: what one more observation makes of it. Pure; counts come in, a state and its change come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from heedloop.responses import Interval
from heedloop_server.alerts.rules import Rule
from heedloop_server.statistics.drift import LIMIT, Alarm, AlarmRule, State, next_alarm


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of an alert.

    Attributes:
        evidence: of a drift, the cumulative sum over its alarm limit; of a threshold, 1 where the whole interval is beyond it.
        num: ratings (or calls) that were looked at since the state was entered.
        calm: periods in a row that spoke against a drift.
        seen_until: end of the last period that was looked at.
        changed_at: when the state was entered.
    """

    state: State = "ok"
    evidence: float = 0.0
    num: int = 0
    calm: int = 0
    seen_until: datetime | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One step from a state to another."""

    at: datetime
    before: State
    after: State
    evidence: float
    num: int


def after_periods(
    state: AlertState, rule: Rule, periods: Sequence[tuple[datetime, float, int]], baseline: float
) -> tuple[AlertState, list[Change]]:
    """The state after some periods (end, successes, number), each looked at once: the CUSUM of `quality.drift`.

    A metric that is worse when it is higher is watched by its failures.
    """
    normal = baseline if rule.worse == "lower" else 1 - baseline
    alarm_rule = AlarmRule(baseline=normal, odds_ratio=rule.odds_ratio, min_ratings=rule.min_count)
    alarm = Alarm("", state.state, state.evidence * LIMIT, state.num, state.calm)
    changes: list[Change] = []
    for end, successes, number in periods:
        good = round(successes) if rule.worse == "lower" else number - round(successes)
        alarm = next_alarm(replace(alarm, history=()), alarm_rule, end, good, number)
        changes += [
            Change(c.at, c.before, c.after, c.evidence / LIMIT, alarm.num_ratings) for c in alarm.history
        ]
        state = replace(state, seen_until=end)
    last = changes[-1].at if changes else state.changed_at
    return (
        AlertState(
            alarm.state, alarm.evidence / LIMIT, alarm.num_ratings, alarm.calm, state.seen_until, last
        ),
        changes,
    )


def after_window(
    state: AlertState, rule: Rule, at: datetime, result: Interval | None, number: int
) -> tuple[AlertState, list[Change]]:
    """The state after the newest window: warning where the estimate is beyond the threshold, alarm where all of its interval is.

    Below `min_count` the state stays. An alarm stays while the estimate is beyond; a resolved one is ok again after `rest`.
    """
    if result is None or number < rule.min_count:
        return replace(state, num=number, seen_until=at), []
    is_all, is_estimate = (_is_beyond(rule, end) for end in _ends(result, rule))
    after = _beyond(state, rule, at, is_all=is_all, is_estimate=is_estimate)
    evidence = 1.0 if is_all else 0.5 * is_estimate
    stays = replace(state, evidence=evidence, num=number, seen_until=at)
    if after == state.state:
        return stays, []
    return replace(stays, state=after, changed_at=at), [Change(at, state.state, after, evidence, number)]


def _beyond(state: AlertState, rule: Rule, at: datetime, *, is_all: bool, is_estimate: bool) -> State:
    if is_all:
        return "alarm"
    if is_estimate:
        return "alarm" if state.state == "alarm" else "warning"
    if state.state == "alarm":
        return "resolved"
    rest = timedelta(hours=rule.window_hours)
    if state.state == "resolved" and state.changed_at is not None and at < state.changed_at + rest:
        return "resolved"
    return "ok"


def _ends(result: Interval, rule: Rule) -> tuple[float, float]:
    """The better end of an interval, and its estimate."""
    return (result.high if rule.worse == "lower" else result.low), result.estimate


def _is_beyond(rule: Rule, value: float) -> bool:
    return value < rule.limit if rule.worse == "lower" else value > rule.limit
