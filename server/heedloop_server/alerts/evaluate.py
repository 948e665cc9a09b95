"""The evaluation of a rule: its number, and its state after it. Doing it twice for one moment writes the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from heedloop.responses import Alert, HistoryChange, Interval, NewAlert
from heedloop.schema import format_time, from_json, parse_time, to_json
from heedloop_server.alerts.measure import observe, value_of
from heedloop_server.alerts.rules import AMOUNTS, WAITING, Rule
from heedloop_server.alerts.state import AlertState, Change, after_periods, after_window
from heedloop_server.store.admin.alerts import (
    Delivery,
    HistoryRow,
    StoredAlert,
    read_history,
    save_history,
    save_state,
)
from heedloop_server.store.connection import ProjectStore

Json = dict[str, Any]

MAX_PERIODS = 200
"""Periods looked at in one round, the newest: after a long standstill the oldest are left out."""
_WORDS = {
    "rate": "thumbs-up rate",
    "coverage": "share of answers rated",
    "errors": "share of errors",
    "share": "share",
    "judge_agreement": "agreement of a judge with annotators",
    "latency": "share of answers",
    "first_token": "share of streamed answers with a first token",
    "calls": "number of provider calls",
    "tokens": "number of tokens",
    "cost": "cost",
}


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One evaluation: the state, the changes, what was measured, and what was wrong."""

    state: AlertState
    changes: list[Change]
    value: Interval | None
    baseline: float | None
    error: str = ""


def evaluate(project: ProjectStore, alert: StoredAlert, now: datetime) -> StoredAlert:
    """Measure, store the state and its changes, and return the alert with it."""
    rule = Rule.model_validate(alert.rule)
    had = alert.state
    result = _look(project, rule, alert, now)
    state = _state_json(rule, result, had, now)
    if result.changes:
        rows = _changes(project, rule, alert, result, state)
        save_history(project, _new_rows(project, alert, rows))
        state |= {"acknowledged_by": None, "acknowledged_at": None}
    rows = _reminder(project, rule, alert, state, now)
    save_history(project, rows)
    if rows:
        state["reminded_at"] = format_time(now)
    save_state(project, alert.alert_id, state)
    return StoredAlert(alert.alert_id, alert.rule, alert.secret, alert.created_at, alert.started_at, state)


def _new_rows(project: ProjectStore, alert: StoredAlert, rows: list[HistoryRow]) -> list[HistoryRow]:
    """The changes that are not stored yet: another server may have done it, or this one before it was killed."""
    since = alert.state.get("changed_at") or format_time(alert.started_at)
    written = read_history(project, alert.alert_id, limit=MAX_PERIODS)
    steps = {(r.change["before"], r.change["after"]) for r in written if r.change["at"] >= since}
    known = {r.change_id for r in written}
    rule = Rule.model_validate(alert.rule)
    return [
        r
        for r in rows
        if r.change_id not in known
        and not (rule.kind == "threshold" and (r.change["before"], r.change["after"]) in steps)
    ]


def _look(project: ProjectStore, rule: Rule, alert: StoredAlert, now: datetime) -> _Evaluation:
    window = timedelta(hours=rule.window_hours)
    state = _state_of(alert.state)
    successes, number = observe(project, rule, now - window, now)
    value = value_of(rule, successes, number)
    if rule.kind == "threshold":
        after, changes = after_window(state, rule, now, value, number)
        return _Evaluation(after, changes, value, None)
    baseline = _baseline(project, rule, alert, now)
    if baseline is None:
        needed = f"fewer than {rule.min_count} in the {rule.baseline_days} days before the rule and since"
        return _Evaluation(
            state, [], value, None, f"there is no baseline yet: {needed}; or give the rule one"
        )
    periods = [(end, *observe(project, rule, start, end)) for start, end in _periods(rule, alert, state, now)]
    after, changes = after_periods(state, rule, periods, baseline)
    return _Evaluation(after, changes, value, baseline)


def _periods(
    rule: Rule, alert: StoredAlert, state: AlertState, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The whole periods since the last one that was looked at, by the clock, so that every server cuts them alike."""
    step = rule.window_hours * 3600
    first = state.seen_until or alert.started_at
    start = int(first.timestamp()) // step * step
    last = int(now.timestamp()) // step * step
    for at in range(max(start, last - MAX_PERIODS * step), last, step):
        begin = datetime.fromtimestamp(at, tz=now.tzinfo)
        yield begin, begin + timedelta(seconds=step)


def _baseline(project: ProjectStore, rule: Rule, alert: StoredAlert, now: datetime) -> float | None:
    """What is normal: as the rule says, as it was found before, or as it was before the rule; never 0 or 1."""
    if rule.baseline is not None:
        return rule.baseline
    if alert.state.get("baseline_used") is not None:
        return float(alert.state["baseline_used"])
    since = alert.started_at - timedelta(days=rule.baseline_days)
    for until in (alert.started_at, now):
        successes, number = observe(project, rule, since, until)
        if number >= rule.min_count:
            return (successes + 0.5) / (number + 1)
    return None


# ---------------------------------------------------------------------------------------------------------------- JSON


def _state_of(stored: Json) -> AlertState:
    times = {n: parse_time(stored[n]) if stored.get(n) else None for n in ("seen_until", "changed_at")}
    return AlertState(
        stored.get("state", "ok"),
        stored.get("evidence", 0.0),
        stored.get("num", 0),
        stored.get("calm", 0),
        times["seen_until"],
        times["changed_at"],
    )


def _state_json(rule: Rule, result: _Evaluation, had: Json, now: datetime) -> Json:
    fields = {k: format_time(v) if isinstance(v, datetime) else v for k, v in asdict(result.state).items()}
    kept = {n: had.get(n) for n in ("acknowledged_by", "acknowledged_at", "reminded_at")}
    return {
        **fields,
        **kept,
        "value": None if result.value is None else to_json(result.value),
        "baseline_used": result.baseline,
        "message": _message(rule, result),
        "error": result.error or None,
        "evaluated_at": format_time(now),
    }


def _message(rule: Rule, result: _Evaluation) -> str:
    what = f"{rule.name}: the {_measured(rule)}"
    if result.value is None:
        return f"{what} has nothing to be measured on in the last {rule.window_hours} h."
    return f"{what} over the last {rule.window_hours} h is {_value(rule, result.value)}; {_against(rule, result.baseline)}."


def _measured(rule: Rule) -> str:
    slower = f" that took longer than {rule.threshold or 0:,g} ms"
    return _WORDS[rule.metric] + (slower if rule.metric in WAITING else "")


def _value(rule: Rule, value: Interval) -> str:
    if rule.metric in AMOUNTS:
        return _amount(rule, value.estimate)
    return f"{100 * value.estimate:.1f}% (95% interval {100 * value.low:.1f} to {100 * value.high:.1f}%, n {value.n:,})"


def _amount(rule: Rule, amount: float) -> str:
    return f"${amount:,.2f}" if rule.metric == "cost" else f"{amount:,.0f}"


def _against(rule: Rule, baseline: float | None) -> str:
    if rule.kind == "threshold":
        limit = _amount(rule, rule.limit) if rule.metric in AMOUNTS else f"{100 * rule.limit:.1f}%"
        return f"the threshold is {limit}"
    return "there is no baseline yet" if baseline is None else f"normal is {100 * baseline:.1f}%"


def _changes(
    project: ProjectStore, rule: Rule, alert: StoredAlert, result: _Evaluation, state: Json
) -> list[HistoryRow]:
    """The rows of an evaluation's changes."""
    rows: list[HistoryRow] = []
    for c in result.changes:
        row = {"before": c.before, "after": c.after, "evidence": c.evidence, "num": c.num}
        # a threshold is looked at at any moment: the minute keeps two servers to one row
        moment = c.at if rule.kind == "drift" else c.at.replace(second=0, microsecond=0)
        row |= {"value": state["value"], "message": _message(rule, result)}
        rows.append(
            _history_row(project, rule, alert, c.at, row, f"{format_time(moment)}/{c.before}/{c.after}")
        )
    return rows


def _reminder(
    project: ProjectStore, rule: Rule, alert: StoredAlert, state: Json, now: datetime
) -> list[HistoryRow]:
    """A row that repeats an alarm that is not acknowledged."""
    if not rule.remind_hours or state["state"] != "alarm" or state.get("acknowledged_by"):
        return []
    last = state.get("reminded_at") or state.get("changed_at")
    changed = state.get("changed_at")
    if last is None or (changed and last < changed):
        last = changed
    if last is None or now - parse_time(last) < timedelta(hours=rule.remind_hours):
        return []
    row = {n: state[n] for n in ("value", "evidence", "num")}
    row |= {"before": "alarm", "after": "alarm", "message": f"Still: {state['message']}"}
    hour = now.replace(minute=0, second=0, microsecond=0)
    return [_history_row(project, rule, alert, now, row, f"{format_time(hour)}/reminder")]


def _history_row(
    project: ProjectStore, rule: Rule, alert: StoredAlert, at: datetime, row: Json, what: str
) -> HistoryRow:
    """A row of the alert's history, due to be delivered; `what` makes its id, the same on every server."""
    change_id = hashlib.sha256(f"{project.project}/{alert.alert_id}/{what}".encode()).hexdigest()[:24]
    delivery = Delivery("pending", next_at=at) if rule.webhook_url else Delivery()
    row = {"at": format_time(at), **row, "acknowledged_by": None}
    return HistoryRow(project.project, alert.alert_id, change_id, at, row, delivery)


_NEW_STATE: Json = {"state": "ok", "num": 0, "evidence": 0.0, "message": ""}


def alert_of(alert: StoredAlert) -> Alert:
    """What the API shows of an alert: the rule and its state, without the secret."""
    return from_json(Alert, _alert_json(alert), strict=False)


def new_alert_of(alert: StoredAlert) -> NewAlert:
    """As `alert_of`, with the secret."""
    return from_json(NewAlert, _alert_json(alert) | {"secret": alert.secret}, strict=False)


def _alert_json(alert: StoredAlert) -> Json:
    rule = Rule.model_validate(alert.rule)
    return {
        **rule.model_dump(mode="json"),
        **_NEW_STATE,
        **alert.state,
        "id": alert.alert_id,
        "bad": rule.worse,
        "created_at": format_time(alert.created_at),
        "link_filters": _link(rule, alert.state),
    }


def _link(rule: Rule, state: Json) -> Json:
    """Query parameters of /v1/calls for the answers in the newest window that speak for the alert."""
    until = parse_time(state["evaluated_at"]) if state.get("evaluated_at") else None
    chosen = rule.counted if rule.metric == "share" else rule.calls
    params = chosen.parameters()
    if rule.metric == "rate":
        params["rating"] = "down" if rule.worse == "lower" else "up"
    elif rule.metric == "coverage":
        params["rating"] = "none" if rule.worse == "lower" else "any"
    elif rule.metric == "errors":
        params["status"] = "error"
    elif rule.metric == "latency":
        params["min_duration_ms"] = rule.threshold
    if until is not None:
        window = timedelta(hours=rule.window_hours)
        params |= {"since": format_time(until - window), "until": format_time(until)}
    return params


def history_change(row: HistoryRow) -> HistoryChange:
    """One row of an alert's history with what became of its message."""
    delivery = to_json(row.delivery) | {"error": row.delivery.error or None}
    return from_json(HistoryChange, row.change | {"delivery": delivery}, strict=False)
