"""The form of an alert rule: to make one, and to change one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Alert, NewAlert
from heedloop.schema import to_json
from heedloop_dashboard import components, panels, rules
from heedloop_dashboard.fetch import current, write
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import chosen_filters, query

__all__ = ["rule_of", "show_edit", "show_new", "show_secret"]

_MADE = "heedloop_alert_made"

KINDS = {"drift": "It drifts from its baseline", "threshold": "It crosses a threshold"}
BAD = {"lower": "Lower is worse", "higher": "Higher is worse"}
FILTER_HELP = (
    "One name=value per line, as in a page's address: model=small-2, tag=refunds, metadata.language=de"
)


def show_new() -> None:
    """A page with an empty form; the URL's filters are the segment it begins with."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("New alert", anchor=False, width="stretch")
        components.links("up", [("All alerts", Open("alerts"))], label="Alerts")
    if not current().can("admin"):
        panels.empty("Your key can read alerts but not create them: that needs the scope admin.")
        return
    start = {k: v for k, v in chosen_filters(query()).items() if k not in ("cursor",)}
    _form("new", {"filters": start, "metric": st.query_params.get("metric", "rate")}, "Create alert")


def show_secret(alert: Alert) -> None:
    """The secret of a rule that was made in this window: the server shows it once, this page until it is left."""
    made: Mapping[str, str] = st.session_state.get(_MADE) or {}
    if made.get("id") != alert.id:
        return
    with panels.panel("secret"):
        panels.header(
            "Webhook secret",
            "Shown only once. Every message is signed with it, so that your endpoint can verify the sender",
        )
        st.code(made["secret"], language=None)


def show_edit(alert: Alert) -> None:
    """The same form, filled, behind an expander."""
    with st.expander("Change the rule", icon=":material/edit:", key="edit_rule"):
        _form(alert.id, to_json(alert), "Save")


def _form(key: str, rule: Mapping[str, Any], submit: str) -> None:
    with st.form(f"alert_{key}", border=key == "new"):
        first, second = st.columns(2, gap="medium")
        with first:
            chosen = _what(rule)
        with second:
            chosen |= _when(rule)
        if not st.form_submit_button(submit, type="primary"):
            return
    try:
        body = rule_of(chosen)
    except ValueError as err:
        st.text(str(err))
        return
    _send(key, body)


def _what(rule: Mapping[str, Any]) -> dict[str, Any]:
    metrics = list(rules.METRICS)
    return {
        "name": st.text_input("Name", value=str(rule.get("name") or ""), max_chars=200),
        "metric": st.selectbox(
            "Metric",
            metrics,
            index=metrics.index(rule.get("metric", "rate")) if rule.get("metric") in metrics else 0,
            format_func=lambda m: rules.METRICS[m],
        ),
        "filters": st.text_area(
            "Only answers matching", value=_lines(rule.get("filters")), placeholder="All answers", help=FILTER_HELP, height=90
        ),
        "of": st.text_area(
            "Percentage matching", value=_lines(rule.get("of")), placeholder="flag=inaccurate",
            help="Only for the metric “share of matching answers”. " + FILTER_HELP, height=68,
        ),
        "window_hours": st.number_input("Window (hours)", 1, 168, int(rule.get("window_hours") or 24)),
        "min_count": st.number_input("Minimum answers", 1, 1_000_000, int(rule.get("min_count") or 30)),
        "bad": st.selectbox(
            "Bad direction", ["", *BAD], format_func=lambda b: BAD.get(b, "Automatic"),
            index=["", *BAD].index(rule["bad"]) if rule.get("bad") in BAD else 0,
        ),
    }  # fmt: skip


def _when(rule: Mapping[str, Any]) -> dict[str, Any]:
    kinds = list(KINDS)
    return {
        "kind": st.radio(
            "Alert when", kinds, index=kinds.index(rule.get("kind", "drift")), format_func=lambda k: KINDS[k], horizontal=True
        ),
        "threshold": st.number_input(
            "Threshold (%)", 0.0, 100.0, _percent(rule.get("threshold")), 1.0, placeholder="Only for a threshold"
        ),
        "baseline": st.number_input(
            "Baseline (%)", 0.0, 100.0, _percent(rule.get("baseline")), 1.0, placeholder="Measured over the weeks before"
        ),
        "webhook_url": st.text_input(
            "Webhook", value=str(rule.get("webhook_url") or ""), placeholder="https://…", max_chars=2000,
            help="Receives a signed POST on every change. Private addresses are refused.",
        ),
        "remind_hours": st.number_input("Repeat every … hours (0: never)", 0, 720, int(rule.get("remind_hours") or 0)),
    }  # fmt: skip


def rule_of(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The form's words as a rule of the API.

    Raises:
        ValueError: a field does not say what it should, in words.
    """
    if not str(chosen["name"]).strip():
        raise ValueError("Give the alert a name.")
    kind, metric = chosen["kind"], chosen["metric"]
    if kind == "threshold" and chosen["threshold"] is None:
        raise ValueError("A threshold needs a number.")
    of = rules.parse_filters(chosen["of"])
    if metric == "share" and not of:
        raise ValueError("Enter which answers to count, such as flag=inaccurate.")
    rule: dict[str, Any] = {
        "name": str(chosen["name"]).strip(),
        "metric": metric,
        "filters": rules.parse_filters(chosen["filters"]),
        "kind": kind,
        "window_hours": int(chosen["window_hours"]),
        "min_count": int(chosen["min_count"]),
        "webhook_url": str(chosen["webhook_url"]).strip() or None,
        "remind_hours": int(chosen["remind_hours"]),
    }
    if metric == "share":
        rule["of"] = of
    if chosen["bad"]:
        rule["bad"] = chosen["bad"]
    if kind == "threshold":
        rule["threshold"] = chosen["threshold"] / 100
    elif chosen["baseline"] is not None:
        rule["baseline"] = chosen["baseline"] / 100
    return rule


def _send(key: str, rule: dict[str, Any]) -> None:
    answer = write(Client.create_alert, rule) if key == "new" else write(Client.update_alert, key, **rule)
    if answer.error is not None:
        panels.problem(answer.error)
        return
    made = answer.value
    if isinstance(made, NewAlert):
        if made.webhook_url:
            st.session_state[_MADE] = {"id": made.id, "secret": made.secret}
        go(Open("alerts", {"alert_id": made.id}))
    st.rerun()


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 4)


def _lines(filters: Mapping[str, Any] | None) -> str:
    pairs = [(k, v) for k, vs in (filters or {}).items() for v in (vs if isinstance(vs, list) else [vs])]
    return "\n".join(f"{k}={v}" for k, v in pairs)
