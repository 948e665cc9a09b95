"""The form of an alert rule: to make one, and to change one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Alert, NewAlert
from heedloop.schema import to_json
from heedloop_dashboard import components, panels, rules, words
from heedloop_dashboard.addresses import host_name
from heedloop_dashboard.fetch import current, read_one, write
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import chosen_filters, query

_MADE = "heedloop_alert_made"

KINDS = {"drift": "It drifts from its baseline", "threshold": "It crosses a threshold"}
FORMATS = {"generic": "My own endpoint (JSON)", "slack": "Slack", "teams": "Microsoft Teams"}
BAD = {"lower": "Lower is worse", "higher": "Higher is worse"}
FILTER_HELP = (
    "One name=value per line, as in a page's address: model=small-2, tag=refunds, metadata.language=de"
)


def show_new() -> None:
    """A page with an empty form; the URL's filters are the segment it begins with."""
    panels.title("New alert", ("All alerts", Open("alerts")))
    if not current().can("admin"):
        panels.empty("Your key can read alerts but not create them: that needs the scope admin.")
        return
    start = {k: v for k, v in chosen_filters(query()).items() if k not in ("cursor",)}
    rule = {"filters": start, "metric": st.query_params.get("metric", "rate")}
    _form("new", rule | {"kind": st.query_params.get("kind", "drift")}, "Create alert")


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
    """Fields that do not belong to the chosen kind and metric are not there; so it is no Streamlit form, which never changes."""
    with st.container(border=key == "new", key=f"alert_{key}"):
        first, second = st.columns(2, gap="medium")
        with first:
            chosen = _what(key, rule)
        with second:
            chosen |= _when(key, rule, chosen["metric"])
        with st.container(horizontal=True, key=f"alert_{key}_do"):
            saves = st.button(submit, type="primary", key=f"alert_{key}_save")
            previews = st.button("Preview", icon=":material/history:", key=f"alert_{key}_preview")
        if not (saves or previews):
            return
        try:
            body = rule_of(chosen)
        except ValueError as err:
            st.text(str(err))
            return
        if saves:
            _send(key, body)
        else:
            _preview(body)


def _preview(body: Mapping[str, Any]) -> None:
    answer = read_one(Client.preview_alert, body)
    if panels.failed(answer):
        return
    found = answer.value
    warned = f" and warned {_times(found.num_warnings)}" if found.num_warnings else ""
    when = [words.clock(s.at) for s in found.steps if s.after == "alarm"]
    more = f": {', '.join(when[:6])}{' …' if len(when) > 6 else ''}" if when else ""
    components.finding(
        "preview",
        lead=f"Would have fired {_times(found.num_alarms)}{warned} in the last {found.days} days",
        text=more + ".",
        tone="" if found.num_alarms else "good",
    )


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _what(key: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    metrics = list(rules.METRICS)
    chosen = {
        "name": st.text_input("Name", value=str(rule.get("name") or ""), max_chars=200, key=f"alert_{key}_name"),
        "metric": st.selectbox(
            "Metric",
            metrics,
            index=metrics.index(rule.get("metric", "rate")) if rule.get("metric") in metrics else 0,
            format_func=lambda m: rules.METRICS[m],
            key=f"alert_{key}_metric",
        ),
        "filters": st.text_area(
            "Only answers matching", value=rules.filter_lines(rule.get("filters")), placeholder="All answers", help=FILTER_HELP, height=90,
            key=f"alert_{key}_filters",
        ),
        "of": "",
        "window_hours": st.number_input(
            "Window (hours)", 1, 168, int(rule.get("window_hours") or 24), key=f"alert_{key}_window"
        ),
        "min_count": st.number_input(
            "Minimum answers", 1, 1_000_000, int(rule.get("min_count") or 30), key=f"alert_{key}_least"
        ),
    }  # fmt: skip
    if chosen["metric"] == "share":
        chosen["of"] = st.text_area(
            "Percentage matching", value=rules.filter_lines(rule.get("of")), placeholder="flag=inaccurate", help=FILTER_HELP, height=68,
            key=f"alert_{key}_of",
        )  # fmt: skip
    if chosen["metric"] == "judge_agreement":
        chosen["judge"] = st.text_input(
            "Judge", value=str(rule.get("judge") or ""), placeholder="name@hash", key=f"alert_{key}_judge"
        )
    return chosen


def _when(key: str, rule: Mapping[str, Any], metric: str) -> dict[str, Any]:
    drifts = metric not in rules.WAITING + rules.AMOUNTS
    kinds = list(KINDS) if drifts else ["threshold"]
    kind = rule.get("kind", "drift")
    chosen: dict[str, Any] = {"threshold": None, "baseline": None, "bad": "", "webhook_format": "generic"}
    chosen["kind"] = st.radio(
        "Alert when", kinds, index=kinds.index(kind) if kind in kinds else 0, format_func=lambda k: KINDS[k],
        horizontal=True, key=f"alert_{key}_kind_{drifts}",
    )  # fmt: skip
    if chosen["kind"] == "threshold":
        chosen["threshold"] = _threshold(key, rule, metric)
    else:
        chosen["baseline"] = st.number_input(
            "Baseline (%)", 0.0, 100.0, _percent(rule.get("baseline")), 1.0, "%g",
            placeholder="Measured over the weeks before", key=f"alert_{key}_baseline",
        )  # fmt: skip
    if drifts:
        directions = ["", *BAD]
        chosen["bad"] = st.selectbox(
            "Bad direction", directions, format_func=lambda b: BAD.get(b, "Automatic"),
            index=directions.index(rule["bad"]) if rule.get("bad") in BAD else 0, key=f"alert_{key}_bad",
        )  # fmt: skip
    chosen["webhook_url"] = st.text_input(
        "Webhook", value=str(rule.get("webhook_url") or ""), placeholder="https://…", max_chars=2000,
        help="Receives a signed POST on every change. Private addresses are refused.", key=f"alert_{key}_webhook",
    )  # fmt: skip
    if chosen["webhook_url"].strip():
        formats = list(FORMATS)
        chosen["webhook_format"] = st.selectbox(
            "Message for", formats, index=formats.index(rule.get("webhook_format") or _guessed(chosen["webhook_url"])),
            format_func=lambda f: FORMATS[f], key=f"alert_{key}_format_{_guessed(chosen['webhook_url'])}",
        )  # fmt: skip
    chosen["remind_hours"] = st.number_input(
        "Repeat every … hours (0: never)",
        0,
        720,
        int(rule.get("remind_hours") or 0),
        key=f"alert_{key}_remind",
    )
    return chosen


def _threshold(key: str, rule: Mapping[str, Any], metric: str) -> float | None:
    """The threshold as the API takes it: shares are entered as a percentage."""
    unit = rules.UNITS.get(metric, "%")
    known = rule.get("threshold") if rule.get("metric") == metric else None
    shown = known if unit != "%" else _percent(known)
    entered = st.number_input(
        f"Threshold ({unit})", 0.0, 100.0 if unit == "%" else 1e12, shown, 1.0, "%g", placeholder="A number",
        key=f"alert_{key}_threshold_{unit}",
    )  # fmt: skip
    return entered / 100 if unit == "%" and entered is not None else entered


def _guessed(url: str) -> str:
    """The format that an address's host suggests."""
    host = host_name(url.strip())
    if host == "slack.com" or host.endswith(".slack.com"):
        return "slack"
    teams = (".webhook.office.com", ".logic.azure.com", ".powerplatform.com")
    return "teams" if host.endswith(teams) else "generic"


def rule_of(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The form's words as a rule of the API.

    Raises:
        ValueError: a field does not say what it should, in words.
    """
    if not str(chosen["name"]).strip():
        raise ValueError("Give the alert a name.")
    kind, metric = chosen["kind"], chosen["metric"]
    if kind == "threshold" and not chosen["threshold"]:
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
        "webhook_format": chosen["webhook_format"],
        "remind_hours": int(chosen["remind_hours"]),
    }
    if metric == "share":
        rule["of"] = of
    if metric == "judge_agreement":
        rule["judge"] = str(chosen["judge"]).strip()
    if chosen["bad"]:
        rule["bad"] = chosen["bad"]
    if kind == "threshold":
        rule["threshold"] = chosen["threshold"]
    elif chosen["baseline"] is not None:
        rule["baseline"] = chosen["baseline"] / 100
    return rule


def _send(key: str, rule: dict[str, Any]) -> None:
    answer = write(Client.create_alert, rule) if key == "new" else write(Client.update_alert, key, **rule)
    if panels.failed(answer):
        return
    made = answer.value
    if isinstance(made, NewAlert):
        if made.webhook_url:
            st.session_state[_MADE] = {"id": made.id, "secret": made.secret}
        go(Open("alerts", {"alert_id": made.id}))
    st.rerun()


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 4)
