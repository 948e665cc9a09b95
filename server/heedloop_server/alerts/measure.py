"""What a rule measures: the number of one window, and the windows of the last days as they would have been."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from heedloop.responses import AlertPreview, AlertStep, Interval
from heedloop_server.alerts.rules import AMOUNTS, WAITING, Rule
from heedloop_server.alerts.state import AlertState, Change, after_periods, after_window
from heedloop_server.filters import CallFilters
from heedloop_server.judges.audits import read_audits
from heedloop_server.statistics.intervals import wilson
from heedloop_server.store.admin.project_settings import project_prices
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.judges import list_judges
from heedloop_server.store.quality import counts
from heedloop_server.store.quality.counts import View
from heedloop_server.store.quality.health import measure_hours

PREVIEW_DAYS = 30
_HOUR = timedelta(hours=1)
Hours = Mapping[datetime, tuple[float, int]]


def observe(project: ProjectStore, rule: Rule, since: datetime, until: datetime) -> tuple[float, int]:
    """(successes, number) of a rule's share over a period, or (amount, calls) of a sum."""
    if rule.metric in AMOUNTS + WAITING:
        return _summed(_health_hours(project, rule, since, until))
    if rule.metric == "judge_agreement":
        return _summed(_audited_hours(project, rule, since, until))
    view = _view(rule.calls, since, until)
    if rule.metric == "share":
        part = counts.count_total(project, _view(rule.counted, since, until)).num_answers
        return part, max(part, counts.count_total(project, view).num_answers)
    return counts.measured_total(project, view, rule.metric)


def value_of(rule: Rule, successes: float, number: int) -> Interval | None:
    """A share with its interval; a sum is known exactly."""
    if rule.metric in AMOUNTS:
        return Interval(successes, successes, successes, number, "sum")
    return wilson(successes, number)


def preview(project: ProjectStore, rule: Rule, now: datetime) -> AlertPreview:
    """What a rule would have done in the last 30 days: each whole window by the clock is looked at once."""
    window = timedelta(hours=rule.window_hours)
    until = now.replace(minute=0, second=0, microsecond=0)
    since = until - timedelta(days=PREVIEW_DAYS)
    hours = _hours(project, rule, since - timedelta(days=rule.baseline_days), until)
    ends = [since + i * window for i in range(1, int((until - since) / window) + 1)]
    periods = [(end, *_summed(_between(hours, end - window, end))) for end in ends]
    changes = _simulate(
        rule, periods, _summed(_between(hours, datetime.min.replace(tzinfo=now.tzinfo), since))
    )
    after = [c.after for c in changes if c.before != c.after]
    return AlertPreview(
        days=PREVIEW_DAYS,
        num_alarms=after.count("alarm"),
        num_warnings=after.count("warning"),
        steps=[AlertStep(at=c.at, after=c.after) for c in changes],
    )


def _simulate(
    rule: Rule, periods: list[tuple[datetime, float, int]], past: tuple[float, int]
) -> list[Change]:
    state, changes = AlertState(), list[Change]()
    if rule.kind == "drift":
        if rule.baseline is None and past[1] < rule.min_count:
            return []
        baseline = rule.baseline if rule.baseline is not None else (past[0] + 0.5) / (past[1] + 1)
        return after_periods(state, rule, periods, baseline)[1]
    for end, successes, number in periods:
        state, steps = after_window(state, rule, end, value_of(rule, successes, number), number)
        changes += steps
    return changes


def _hours(project: ProjectStore, rule: Rule, since: datetime, until: datetime) -> Hours:
    """Start of each hour -> (successes, number) or (amount, calls), by as few queries as there are numbers."""
    if rule.metric in AMOUNTS + WAITING:
        return _health_hours(project, rule, since, until)
    if rule.metric == "judge_agreement":
        return _audited_hours(project, rule, since, until)
    view = _view(rule.calls, since, until)
    if rule.metric != "share":
        return counts.measured(project, view, rule.metric, "hour")
    every = counts.count_over_time(project, view, "hour")
    part = counts.count_over_time(project, _view(rule.counted, since, until), "hour")
    return {at: (part[at].num_answers if at in part else 0, group.num_answers) for at, group in every.items()}


def _health_hours(project: ProjectStore, rule: Rule, since: datetime, until: datetime) -> Hours:
    filters = rule.calls.model_copy(update={"since": since, "until": until})
    metric: Any = rule.metric
    prices = project_prices(project) if metric == "cost" else {}
    return measure_hours(project, filters, metric, prices, limit_ms=rule.threshold or 0.0)


def _audited_hours(project: ProjectStore, rule: Rule, since: datetime, until: datetime) -> Hours:
    """Audits by the hour in which annotators judged them, and how many of these agree with the judge."""
    found, hours = list_judges(project, rule.judge), dict[datetime, tuple[float, int]]()
    if not found:
        return hours
    spec = found[0].spec
    for a in read_audits(project, spec, spec.names[0], rule.calls.of_all_times()).audits:
        if since <= a.at < until:
            hour = a.at.replace(minute=0, second=0, microsecond=0)
            good, num = hours.get(hour, (0, 0))
            hours[hour] = (good + a.agrees, num + 1)
    return hours


def _between(hours: Hours, since: datetime, until: datetime) -> Hours:
    return {at: counted for at, counted in hours.items() if since <= at < until}


def _summed(hours: Hours) -> tuple[float, int]:
    return sum(s for s, _ in hours.values()), sum(n for _, n in hours.values())


def _view(filters: CallFilters, since: datetime, until: datetime) -> View:
    return View.of(filters.model_copy(update={"since": since, "until": until}))
