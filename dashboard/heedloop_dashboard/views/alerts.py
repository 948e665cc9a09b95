"""Alerts: rules that watch a number, what state each is in, and one rule with its history, its webhook and its form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Alert, HistoryChange
from heedloop.schema import format_time
from heedloop_dashboard import components, export, lists, panels, rules, words
from heedloop_dashboard.charts.parts import BUCKETS
from heedloop_dashboard.fetch import Answer, ask, current, read_page, write
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import chosen_filters
from heedloop_dashboard.views import alert_form

_SAID = "heedloop_alert_said"
_STATES = {
    "Alarm": "is in alarm",
    "Warning": "is in warning",
    "Ok": "is OK",
    "Resolved": "is OK again",
    "Muted": "is muted",
}


def show() -> None:
    """Draw the form, one alert, or the list, as the URL says."""
    alert_id = (st.query_params.get("alert_id") or "").strip()
    if "new" in st.query_params:
        alert_form.show_new()
    elif alert_id:
        _one(alert_id)
    else:
        _list()


# --------------------------------------------------------------------------------------------------------- list


def _list() -> None:
    st.session_state.pop(_SAID, None)
    title = st.container(horizontal=True, vertical_alignment="center", gap="small")
    with title:
        st.subheader("Alerts", anchor=False, width="stretch")
    answer: Answer[list[Alert]] = read_page(alerts=ask(Client.alerts))["alerts"]
    with title:
        if current().can("admin"):
            components.links(
                "new", [("New alert", Open("alerts", {"new": "1"}))], label="Alerts", framed=True
            )
        export.button("alerts", lambda: _export_rows(answer))
    if panels.failed(answer):
        return
    alerts: Sequence[Alert] = answer.value
    if not alerts:
        with panels.panel("alerts"):
            panels.empty(
                "No alerts yet. An alert watches a rate, coverage, errors or a share, and notifies a webhook."
            )
        return
    _verdict(alerts)
    with panels.panel("alerts"):
        panels.header("Rules", "The worst first; a number leads to the answers in its newest window")
        _table(alerts)


def _verdict(alerts: Sequence[Alert]) -> None:
    open_ = [a for a in alerts if a.state in ("alarm", "warning") and a.enabled]
    unseen = [a for a in open_ if not a.acknowledged_by]
    if not open_:
        text = f": {words.plural(len(alerts), 'rule')} watched."
        components.finding("verdict", lead="All alerts are OK", text=text, tone="good")
        return
    first = open_[0]
    components.finding(
        "verdict",
        lead=f"{first.name} {_STATES[first.state.capitalize()]}",
        text=f". {rules.message(first)}"
        + (f" {words.plural(len(unseen), 'alert')} not acknowledged yet." if unseen else ""),
        tone="bad" if first.state == "alarm" else "",
        action="Open",
        open=Open("alerts", {"alert_id": first.id}),
    )


def _table(alerts: Sequence[Alert]) -> None:
    columns: list[lists.Column[Alert]] = [
        lists.Column("State", rules.state_word, "state"),
        lists.Column("Name", lambda a: a.name),
        lists.Column("Watches", rules.sentence, "wide"),
        lists.Column("Now", lambda a: rules.value_text(a.metric, a.value, short=True), "number", counted_of),
        lists.Column("Answers", lambda a: words.count(a.num), "number", counted_of),
        lists.Column("Since", lambda a: words.clock(a.changed_at)),
        lists.Column("Acknowledged", lambda a: a.acknowledged_by),
    ]
    lists.show(
        "alert_rows",
        alerts,
        columns,
        caption="Alerts, the worst state first",
        open=lambda a: Open("alerts", {"alert_id": a.id}),
        row_key=lambda a: a.id,
        link=1,
    )


def answers_of(alert: Alert) -> Open | None:
    """What speaks for an alert in its newest window, such as the thumbs-down; None before its first evaluation."""
    return Open("traces", dict(alert.link_filters)) if alert.link_filters else None


def counted_of(alert: Alert) -> Open | None:
    """All answers that an alert's number is made of; None before its first evaluation."""
    found = alert.link_filters
    times = {k: found[k] for k in ("since", "until") if k in found}
    return _counted(alert, times) if len(times) == 2 else None


def _counted(alert: Alert, times: Mapping[str, str]) -> Open:
    more = {"rating": "any"} if alert.metric == "rate" else {}
    return Open("traces", {**alert.filters, **times, **more})


def _export_rows(answer: Answer[list[Alert]]) -> list[dict[str, Any]]:
    rows = []
    for a in answer.value or []:
        value = a.value
        rows.append(
            {
                "id": a.id, "name": a.name, "state": a.state, "watches": rules.sentence(a),
                "value": words.estimate(value), "low": value and value.low, "high": value and value.high, "num": a.num,
                "evidence": a.evidence, "changed_at": a.changed_at, "acknowledged_by": a.acknowledged_by,
                "enabled": a.enabled,
            }
        )  # fmt: skip
    return rows


# ---------------------------------------------------------------------------------------------------------- one


def _one(alert_id: str) -> None:
    title = st.container(horizontal=True, vertical_alignment="center", gap="small")
    with title:
        st.subheader("Alert", anchor=False, width="stretch")
    answers = read_page(alert=ask(Client.alert, alert_id), history=ask(Client.alert_history, alert_id))
    if panels.failed(answers["alert"]):
        return
    alert: Alert = answers["alert"].value
    with title:
        _actions(alert)
        components.links("up", [("All alerts", Open("alerts"))], label="Alerts")
    said = st.session_state.pop(_SAID, None)
    if said:
        components.finding("said", lead=said[0], text=said[1], tone=said[2])
    alert_form.show_secret(alert)
    _state(alert)
    _figures(alert)
    _history(alert, answers["history"])
    _rule(alert)
    if current().can("admin"):
        alert_form.show_edit(alert)


def _state(alert: Alert) -> None:
    tone = {"alarm": "bad", "ok": "good", "resolved": "good"}.get(alert.state, "")
    text = f" {_STATES.get(rules.state_word(alert), 'is ' + rules.state_word(alert))}. {rules.message(alert) or rules.sentence(alert)}"
    if alert.error:
        text += f" It could not be evaluated: {alert.error}"
    target = answers_of(alert)
    components.finding(
        "state",
        lead=alert.name,
        text=text,
        tone=tone if alert.enabled else "",
        action="Show the answers" if target else None,
        open=target,
    )


def _figures(alert: Alert) -> None:
    target = counted_of(alert)
    fixed = alert.kind == "threshold"
    limit = (
        rules.threshold_text(alert.metric, alert.threshold) if fixed else words.percent(rules.limit(alert))
    )
    value = rules.amount_text(alert.metric, words.estimate(alert.value))
    components.cards(
        "figures",
        [
            components.Card("value", rules.METRICS.get(alert.metric, alert.metric), value, _value_note(alert), open=target),
            components.Card("num", "In the newest window", words.count(alert.num), f"at least {alert.min_count} needed", open=target),
            components.Card("limit", "Limit", limit, "threshold" if fixed else "baseline"),
            components.Card(
                "evidence", "Alarm strength", f"{alert.evidence:.2f}", "1 triggers the alarm",
                "How close the value is to an alarm: 0 is not at all, 1 or more is an alarm.",
                tone="bad" if alert.evidence >= 1 else "",
            ),
        ],
    )  # fmt: skip


def _value_note(alert: Alert) -> str:
    if alert.metric in rules.WAITING:
        slow = rules.threshold_text(alert.metric, alert.threshold)
        return (
            f"of answers took longer than {slow}; an alarm above {words.percent(rules.SLOW_SHARE, digits=0)}"
        )
    if alert.metric in rules.AMOUNTS:
        return f"in {alert.window_hours} hours"
    return words.spread(alert.value, "undefined in the newest window")


def _history(alert: Alert, answer: Answer[list[HistoryChange]]) -> None:
    with panels.panel("history"):
        panels.header(
            "History", "Changes of state, newest first; each number leads to the answers of its window"
        )
        if panels.failed(answer):
            return
        if not answer.value:
            panels.empty("The state has not changed since the rule was created.")
            return
        heads = [
            {"key": "at", "label": "Time", "kind": ""},
            {"key": "after", "label": "State", "kind": "state"},
            {"key": "value", "label": "Value", "kind": "number"},
            {"key": "num", "label": "Answers", "kind": "number"},
            {"key": "what", "label": "What", "kind": "wide"},
            {"key": "told", "label": "Webhook", "kind": ""},
        ]
        rows = [_history_row(alert, h) for h in answer.value]
        components.table("history_rows", heads, rows, caption="History of this alert, newest first", link=-1)


def _history_row(alert: Alert, change: HistoryChange) -> dict[str, Any]:
    delivery = change.delivery
    told = {"none": None, "pending": "waiting"}.get(delivery.status, delivery.status)
    if delivery.error:
        told = f"{told}: {delivery.error}"
    what = change.message
    if change.acknowledged_by:
        what = f"Acknowledged by {change.acknowledged_by}. {what}"
    told = told or "none"
    target = _window_of(alert, change)
    opens = {} if target is None else {"value": target.to_json(), "num": target.to_json()}
    return {
        "cells": [
            words.clock(change.at),
            change.after.capitalize(),
            rules.value_text(alert.metric, change.value, short=True),
            words.count(change.num),
            what,
            told,
        ],
        "opens": opens,
    }


def _window_of(alert: Alert, change: HistoryChange) -> Open | None:
    if change.value is None:
        return None
    since = change.at - alert.window_hours * BUCKETS["hour"]
    return _counted(alert, {"since": format_time(since), "until": format_time(change.at)})


def _rule(alert: Alert) -> None:
    with panels.panel("rule"):
        panels.header("Rule", "What is watched, and when it alerts")
        rows = [
            ("Watches", rules.sentence(alert)),
            ("Answers", rules.filter_text(alert.filters) or "all"),
            ("Percentage matching", rules.filter_text(alert.of)),
            ("Window", f"{alert.window_hours} hours"),
            ("Minimum", f"{alert.min_count} answers"),
            ("Webhook", f"{alert.webhook_url} ({alert.webhook_format})" if alert.webhook_url else "none"),
            ("Repeats", f"every {alert.remind_hours} hours" if alert.remind_hours else "never"),
            ("Evaluated", f"{words.clock(alert.evaluated_at)} UTC"),
            ("Acknowledged", _acknowledged(alert)),
        ]
        panels.facts("rule_rows", rows, caption="The rule")
        view = chosen_filters({k: v if isinstance(v, list) else [str(v)] for k, v in alert.filters.items()})
        components.links(
            "see", [("See this segment in Quality \u2192", Open("", view))], label="Segment", left=True
        )


def _acknowledged(alert: Alert) -> str | None:
    if not alert.acknowledged_by:
        return None
    return f"{alert.acknowledged_by}, {words.clock(alert.acknowledged_at)} UTC"


# ------------------------------------------------------------------------------------------------------ actions


def _actions(alert: Alert) -> None:
    session = current()
    if not (session.can("admin") or session.can("review")):
        return
    open_ = alert.state in ("alarm", "warning") and not alert.acknowledged_by
    with st.container(horizontal=True, gap="small", key="actions", width="content"):
        if (
            open_
            and (session.can("review") or session.can("admin"))
            and st.button("Acknowledge", icon=":material/visibility:", type="primary", key="acknowledge")
        ):
            _do("Acknowledged", Client.acknowledge_alert, alert.id, session.name or session.role)
        if session.can("admin"):
            on = alert.enabled
            if st.button("Mute" if on else "Unmute", icon=":material/notifications_paused:", key="mute"):
                _do("Muted" if on else "Watching again", Client.update_alert, alert.id, enabled=not on)
            if alert.webhook_url and st.button("Send a test", icon=":material/send:", key="test"):
                _test(alert.id)
            with st.popover("Delete", icon=":material/delete:", key="delete"):
                st.text("The rule and its history are deleted.")
                if st.button("Delete for good", type="primary", key="delete_yes"):
                    _do("Deleted", Client.delete_alert, alert.id, then=Open("alerts"))


def _do(said: str, method: Any, alert_id: str, *args: Any, then: Open | None = None, **changes: Any) -> None:
    answer = write(method, alert_id, *args, **changes)
    if panels.failed(answer):
        return
    st.session_state[_SAID] = (said, ".", "good")
    if then is not None:
        st.session_state.pop(_SAID, None)
        go(then)
    st.rerun()


def _test(alert_id: str) -> None:
    answer = write(Client.test_alert, alert_id)
    if panels.failed(answer):
        return
    result = answer.value
    if result.delivered:
        said = (
            "The webhook accepted it",
            f", with status {result.status} after {round(result.took_ms)} ms.",
            "good",
        )
    else:
        said = ("The webhook did not accept it", f": {result.error or result.status}.", "bad")
    st.session_state[_SAID] = said
    st.rerun()
