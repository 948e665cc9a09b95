"""Was anything lost: the ledger of what was received, and of what SDKs sent, kept waiting and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Ledger, Tally
from heedloop_dashboard import components, export, panels, words
from heedloop_dashboard.fetch import read_one

STATES = ("received", "stored", "rejected", "duplicate", "pending")


def show() -> None:
    """Draw the page."""
    title = st.container(horizontal=True, vertical_alignment="bottom")
    with title:
        st.subheader("Delivery", anchor=False, width="stretch")
    answer = read_one(Client.ledger)
    if panels.failed(answer):
        return
    ledger = answer.value
    with title:
        export.button("delivery", lambda: _rows(ledger))
    _verdict(ledger)
    components.cards("ledger", _cards(ledger))
    left, right = st.columns([1.5, 1], gap="small")
    with left, panels.panel("ledger_table", stretch=True):
        panels.header("Ledger", "received = stored + rejected + duplicate + pending")
        heads = components.columns(["What"], [s.capitalize() for s in STATES])
        rows = [
            {"cells": [name, *(words.count(n) for n in _numbers(part))]}
            for name, part in (("Spans", ledger), ("Feedback", ledger.feedback))
        ]
        components.table(
            "ledger_rows", heads, rows, caption="What was received and what became of it", link=-1
        )
    with right, panels.panel("losses", stretch=True):
        panels.header("Rejected and dropped", "By reason; SDKs report their own drops")
        _losses(ledger)


def _numbers(part: Tally) -> list[int]:
    """A tally in the order of `STATES`."""
    return [part.received, part.stored, part.rejected, part.duplicate, part.pending]


def balance(part: Tally) -> int:
    """What the ledger cannot account for: received minus everything it became; 0 where it balances."""
    return part.received - sum(_numbers(part)[1:])


def _verdict(ledger: Ledger) -> None:
    missing = balance(ledger), balance(ledger.feedback)
    dropped = _total(ledger.sdk.get("dropped"))
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


def _cards(ledger: Ledger) -> list[components.Card]:
    sdk, feedback = ledger.sdk, ledger.feedback
    spans_note, feedback_note = (f"of {words.count(part.received)} received" for part in (ledger, feedback))
    waiting, dropped = (_total(sdk.get(name)) for name in ("waiting", "dropped"))
    lag = words.duration(ledger.lag_s * 1e9)
    return [
        components.Card("spans", "Spans stored", words.count(ledger.stored), spans_note),
        components.Card("feedback", "Feedback stored", words.count(feedback.stored), feedback_note),
        components.Card("waiting", "Waiting in SDKs", words.count(waiting), f"{dropped:,} dropped"),
        components.Card("lag", "Lag", lag, "from the call's end to the store"),
    ]


def _total(value: Any) -> int:
    """A count, or the sum of counts by reason."""
    if isinstance(value, Mapping):
        return sum(_total(v) for v in value.values())
    return round(value) if isinstance(value, (int, float)) else 0


def _losses(ledger: Ledger) -> None:
    dropped: Any = ledger.sdk.get("dropped") or {}
    rows = [{"cells": ["Server", str(k), words.count(_total(v))]} for k, v in ledger.rejected_reasons.items()]
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


def _rows(ledger: Ledger) -> list[dict[str, Any]]:
    return [
        {"what": name, **dict(zip(STATES, _numbers(part), strict=True))}
        for name, part in (("spans", ledger), ("feedback", ledger.feedback))
    ]
