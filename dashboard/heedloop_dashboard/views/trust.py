"""How far a rate can be trusted: who rated and who did not, and what a random sample says instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import charts, components, panels, words
from heedloop_dashboard.fetch import ask, read

__all__ = ["show"]

FIELDS = {"user": "{} users", "answer_chars": "answers of {} characters", "status": "status {}"}


def show(chosen: Mapping[str, str]) -> None:
    """Draw the part; it asks the server only once it is opened."""
    part = st.expander(
        "How far can these numbers be trusted?", icon=":material/balance:", key="trust", on_change="rerun"
    )
    if not part.open:
        return
    answers = read(
        raters=ask(Client.quality, "raters", **chosen), sample=ask(Client.quality, "sample", **chosen)
    )
    with part:
        left, right = st.columns([1.2, 1], gap="small")
        with left:
            panels.chart(
                "raters",
                "Who rates",
                "Share of answers that got a rating, with its 95% interval",
                answers["raters"],
                lambda v: charts.dots(
                    _segments(v["segments"]), panels.colours(), what="Group", measure="Share rated"
                ),
                height=260,
                empty_text="No answers in this period.",
            )
        with right, panels.panel("sample", stretch=True):
            panels.header(
                "Beyond those who rated", "A rate speaks for the answers that someone chose to rate"
            )
            if answers["sample"].error is not None:
                panels.problem(answers["sample"].error)
            else:
                _sample(answers["sample"].value)


def _segments(segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups whose rate is their coverage, named in words."""
    return [
        {**s, "rate": s["coverage"], "value": _name(str(s["field"]), str(s["value"] or "(none)"))}
        for s in segments
    ]


def _name(field: str, value: str) -> str:
    return FIELDS.get(field, field + " {}").format(value)


def _sample(found: Mapping[str, Any]) -> None:
    bounds = found.get("bounds")
    rows = [
        ("Those who chose to rate", words.interval(found.get("self_selected"))),
        (
            "Random review sample",
            words.interval(found.get("random_sample"))
            if found.get("random_sample")
            else "no sample was reviewed in this period",
        ),
        ("Difference", words.change(found.get("difference"))),
        (
            "If all others had disliked or liked",
            words.NONE
            if bounds is None
            else f"{words.percent(bounds['low'])} to {words.percent(bounds['high'])}",
        ),
    ]
    heads = [{"key": "what", "label": "What", "kind": ""}, {"key": "value", "label": "Value", "kind": "wrap"}]
    components.table(
        "sample_rows",
        heads,
        [{"cells": list(r)} for r in rows],
        caption="The rate beyond those who rated",
        link=-1,
        plain=True,
    )
