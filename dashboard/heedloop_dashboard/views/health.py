"""The health of the app on the quality page: errors, latency, calls, tokens and cost over time, and by a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import AppHealth, HealthGroup
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.charts import timelines
from heedloop_dashboard.fetch import Answer, Ask, ask, current
from heedloop_dashboard.navigation import Open

FIELDS = {
    "": "Whole app",
    "model": "By model",
    "prompt_version": "By version",
    "user_id": "By user",
}


def request(chosen: Mapping[str, Any], bucket: str) -> Ask[AppHealth]:
    """What the panel is drawn from."""
    by = st.query_params.get("health_by", "")
    asked = {k: v for k, v in chosen.items() if not k.startswith("rating") and k != "author_kind"}
    return ask(Client.quality_health, interval=bucket, by=by if by in FIELDS and by else None, **asked)


def show(answer: Answer[AppHealth], bucket: str) -> None:
    """Draw the panel."""
    with panels.panel("health"):
        with st.container(horizontal=True, vertical_alignment="top"):
            with st.container(gap=None):
                panels.header(
                    "Health",
                    "Of answers and model calls, on one time axis; red where an alert was in alarm",
                )
            filters.choose("health_by", FIELDS, width=130)
            components.links("health_do", _actions(), label="Health", left=True, framed=True)
            as_table = panels.switch("health_lines", "Health")
        if panels.failed(answer):
            return
        found = answer.value
        if not (found.total.num_answers or found.total.num_calls):
            panels.empty("No calls in this period with these filters.")
            return
        drawn = timelines.health(found, bucket=bucket, opens=_opens(found))
        panels.timeline("health_lines", "Health", drawn, as_table=as_table)
        _unpriced(found)
        if found.groups:
            _groups(found)


def _actions() -> list[tuple[str, Open | None] | dict[str, Any]]:
    if not current().can("admin"):
        return []
    return [
        ("New alert", Open("alerts", {"new": "1", "metric": "errors", "kind": "threshold", **_filters()})),
        ("Prices", Open("settings")),
    ]


def _filters() -> dict[str, Any]:
    return {k: v for k, v in filters.link_params().items() if k not in ("period", "since", "until")}


def _opens(found: AppHealth) -> dict[str, Open]:
    slow = {} if found.total.p95_ms is None else {"min_duration_ms": f"{found.total.p95_ms:.0f}"}
    more = {"errors": {"status": "error"}, "latency": slow, "calls": {"answers_only": "false"}}
    return {m.key: Open("traces", filters.link_params(**more.get(m.key, {}))) for m in timelines.MEASURES}


def _unpriced(found: AppHealth) -> None:
    if found.total.num_unpriced:
        st.caption(
            f"{words.plural(found.total.num_unpriced, 'call')} without a cost: their spans carry none and their models have no price."
        )


def _groups(found: AppHealth) -> None:
    field = found.by or "model"
    heads = [{"key": "value", "label": FIELDS[field].removeprefix("By ").capitalize(), "kind": ""}]
    heads.append({"key": "answers", "label": "Answers", "kind": "number"})
    heads += [{"key": m.key, "label": m.title, "kind": "number"} for m in timelines.MEASURES]
    rows = [
        {
            "cells": [g.value or words.NONE, words.count(g.num_answers), *(timelines.written(m, g) for m in timelines.MEASURES)],
            "open": _open(field, g),
        }
        for g in found.groups
    ]  # fmt: skip
    components.table("health_groups", heads, rows, caption=f"Health {FIELDS[field].lower()}", tall=True)


def _open(field: str, group: HealthGroup) -> dict[str, object] | None:
    if field == "user_id" and group.value:
        return Open("user", {"user_id": group.value}).to_json()
    target = filters.group_link(field, group.value)
    return None if target is None else target.to_json()
