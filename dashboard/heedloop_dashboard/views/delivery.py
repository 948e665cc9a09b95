"""Was anything lost: the ledger of what was received, and of what SDKs sent, kept waiting and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import components, export, panels, words
from heedloop_dashboard.fetch import read_one

__all__ = ["balance", "show"]

STATES = ("received", "stored", "rejected", "duplicate", "pending")


def show() -> None:
    """Draw the page."""
    title = st.container(horizontal=True, vertical_alignment="bottom")
    with title:
        st.subheader("Delivery", anchor=False, width="stretch")
    answer = read_one(Client.ledger)
    if answer.error is not None:
        panels.problem(answer.error)
        return
    ledger: Mapping[str, Any] = answer.value
    with title:
        export.button("delivery", lambda: _rows(ledger))
    feedback: Mapping[str, Any] = ledger.get("feedback") or {}
    _verdict(ledger, feedback)
    components.cards("ledger", _cards(ledger, feedback))
    left, right = st.columns([1.5, 1], gap="small")
    with left, panels.panel("ledger_table", stretch=True):
        panels.header("Ledger", "received = stored + rejected + duplicate + pending")
        heads = [
            {"key": "what", "label": "What", "kind": ""},
            *({"key": s, "label": s.capitalize(), "kind": "number"} for s in STATES),
        ]
        rows = [
            {"cells": [name, *(words.count(part.get(s)) for s in STATES)]}
            for name, part in (("Spans", ledger), ("Feedback", feedback))
        ]
        components.table(
            "ledger_rows", heads, rows, caption="What was received and what became of it", link=-1
        )
    with right, panels.panel("losses", stretch=True):
        panels.header("Rejected and dropped", "By reason; SDKs report their own drops")
        _losses(ledger)


def balance(part: Mapping[str, Any]) -> int:
    """What the ledger cannot account for: received minus everything it became; 0 where it balances."""
    return round(part.get("received", 0) - sum(part.get(s, 0) for s in STATES[1:]))


def _verdict(ledger: Mapping[str, Any], feedback: Mapping[str, Any]) -> None:
    missing = balance(ledger), balance(feedback)
    dropped = _total((ledger.get("sdk") or {}).get("dropped"))
    if any(missing):
        text = f": {missing[0]:,} spans and {missing[1]:,} feedback are unaccounted for. Please report this with the server's log."
        components.finding("verdict", lead="The ledger does not balance", text=text, tone="bad")
    elif dropped:
        components.finding(
            "verdict",
            lead="The ledger balances",
            text=f", but SDKs dropped {dropped:,} before sending; see the reasons.",
            tone="",
        )
    else:
        components.finding(
            "verdict",
            lead="The ledger balances",
            text=": everything that was received is stored, rejected with a reason, or a duplicate.",
            tone="good",
        )


def _cards(ledger: Mapping[str, Any], feedback: Mapping[str, Any]) -> list[dict[str, Any]]:
    sdk: Mapping[str, Any] = ledger.get("sdk") or {}
    lag = ledger.get("lag_s")
    return [
        {
            "key": "spans",
            "label": "Spans stored",
            "value": words.count(ledger.get("stored")),
            "note": f"of {words.count(ledger.get('received'))} received",
            "tone": "",
        },
        {
            "key": "feedback",
            "label": "Feedback stored",
            "value": words.count(feedback.get("stored")),
            "note": f"of {words.count(feedback.get('received'))} received",
            "tone": "",
        },
        {
            "key": "waiting",
            "label": "Waiting in SDKs",
            "value": words.count(_total(sdk.get("waiting"))),
            "note": f"{_total(sdk.get('dropped')):,} dropped",
            "tone": "",
        },
        {
            "key": "lag",
            "label": "Lag",
            "value": words.NONE if lag is None else words.duration(lag * 1e9),
            "note": "from the call's end to the store",
            "tone": "",
        },
    ]


def _total(value: Any) -> int:
    """A count, or the sum of counts by reason."""
    if isinstance(value, Mapping):
        return sum(_total(v) for v in value.values())
    return round(value) if isinstance(value, (int, float)) else 0


def _losses(ledger: Mapping[str, Any]) -> None:
    reasons: Mapping[str, Any] = ledger.get("rejected_reasons") or {}
    dropped: Any = (ledger.get("sdk") or {}).get("dropped") or {}
    rows = [{"cells": ["Server", str(k), words.count(_total(v))]} for k, v in reasons.items()]
    if isinstance(dropped, Mapping):
        rows += [{"cells": ["SDK", str(k), words.count(_total(v))]} for k, v in dropped.items()]
    if not rows:
        panels.empty("Nothing was rejected or dropped.")
        return
    heads = [
        {"key": "where", "label": "Where", "kind": ""},
        {"key": "why", "label": "Why", "kind": "wide"},
        {"key": "count", "label": "Count", "kind": "number"},
    ]
    components.table("losses_rows", heads, rows, caption="Rejections and drops by reason", link=-1)


def _rows(ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"what": name, **{s: part.get(s) for s in STATES}}
        for name, part in (("spans", ledger), ("feedback", ledger.get("feedback") or {}))
    ]
