"""Rules that fill a queue by themselves: what there is, another one, and away with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Queue
from heedloop_dashboard import panels, rules, words
from heedloop_dashboard.fetch import write

SOURCES = {
    "share": "Random share of all answers",
    "thumbs_down": "All thumbs-down",
    "disagreement": "New disagreements",
}


def show(queue: Queue, kinds: Mapping[str, str]) -> None:
    """Draw the queue's rules; `kinds`: between whom answers can be disagreed about."""
    there = [dict(r) for r in queue.rules or []]
    with panels.panel("rules"):
        panels.header(
            "Automatic rules", "Checked every 30 seconds. A share is drawn with a known probability"
        )
        for place, rule in enumerate(there):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.text(sentence(rule, kinds), width="stretch")
                if st.button("Remove", key=f"rule_{place}_away", icon=":material/delete:"):
                    _save(queue, [r for i, r in enumerate(there) if i != place])
        source = st.selectbox("Rule", list(SOURCES), format_func=lambda s: SOURCES[s], key="rule_source")
        with st.form("rule", border=False):
            new: dict[str, Any] = {"source": source}
            if source == "share":
                new["share"] = st.number_input("Percent", 0.1, 100.0, 5.0, step=0.5) / 100
            if source == "disagreement":
                new["kind"] = st.selectbox("Between", list(kinds), format_func=lambda k: kinds[k])
            chosen = st.text_area(
                "The rule's answers match", placeholder="All", height=80, key="rule_filters"
            )
            new["priority"] = int(st.number_input("Priority", -100, 100, 0, help="Higher comes first"))
            if not st.form_submit_button("Add rule"):
                return
        try:
            new["filters"] = rules.parse_filters(chosen)
        except ValueError as err:
            st.text(str(err))
            return
        _save(queue, [*there, new])


def sentence(rule: Mapping[str, Any], kinds: Mapping[str, str]) -> str:
    """A rule in one line."""
    text = SOURCES.get(rule["source"], str(rule["source"]))
    if rule["source"] == "share":
        text = f"{words.percent(rule['share'])} of all answers, at random"
    if rule["source"] == "disagreement":
        text += f": {kinds.get(rule['kind'], rule['kind']).lower()}"
    where = rules.filter_text(rule.get("filters") or {})
    text += f", where {where}" if where else ""
    return text + (f", priority {rule['priority']}" if rule.get("priority") else "")


def _save(queue: Queue, rules_now: list[dict[str, Any]]) -> None:
    answer = write(Client.change_review_queue, queue.queue_id, rules=rules_now)
    if answer.error is not None:
        panels.problem(answer.error)
    else:
        st.rerun()
