"""How far a rate can be trusted: who rated and who did not, what a random sample says instead, and whether it drifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Drift, Raters, Sample, Segment
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.charts.parts import Dot
from heedloop_dashboard.fetch import Answer, ask, current, read
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import merged

FIELDS = {
    "user": "{} users",
    "answer_chars": "answers with {} characters",
    "language": "language {}",
    "status": "status {}",
}
DRIFTS = {
    "rate": "Thumbs-up rate",
    "coverage": "Share of answers rated",
    "errors": "Share of failed calls",
}


def show(chosen: Mapping[str, Any], bucket: str) -> None:
    """Draw the part; it asks the server only once it is opened, and the link says whether it is."""
    part = st.expander(
        "How far can these numbers be trusted?",
        icon=":material/balance:",
        key="trust",
        on_change="rerun",
        expanded=st.query_params.get("trust") == "1",
    )
    if not part.open:
        st.query_params.pop("trust", None)
        return
    st.query_params["trust"] = "1"
    drifts = {name: ask(Client.quality_drift, metric=name, interval=bucket, **chosen) for name in DRIFTS}
    answers = read(
        raters=ask(Client.quality_raters, field=list(FIELDS), **chosen),
        sample=ask(Client.quality_sample, **chosen),
        **drifts,
    )
    with part:
        left, right = st.columns([1.1, 1], gap="small")
        with left:
            _raters(answers["raters"])
        with right:
            _sample(answers["sample"])
        _drift({name: answers[name] for name in DRIFTS})


# --------------------------------------------------------------------------------------------------- who rates


def _raters(answer: Answer[Raters]) -> None:
    panels.chart(
        "raters",
        "Share of answers rated",
        "By group, with 95% intervals; select a dot for its ratings",
        answer,
        lambda v: plots.dots(
            _segments(v.segments), panels.colours(), what="Group", measure="Share rated", few=False
        ),
        height=330,
        select="group",
        on_select=lambda row: _open_segment(answer.value.segments, row["value"]),
        empty_text="No answers in this period.",
    )


def _segments(segments: Sequence[Segment]) -> list[Dot]:
    """Groups whose rate is their coverage, named in words."""
    return [Dot(_name(s), s.coverage, s.num_rated, s.num_answers) for s in segments]


def _name(segment: Segment) -> str:
    field, value = segment.field, segment.value or "(none)"
    if (field, value) == ("answer_chars", "none"):
        return "empty answers"
    return FIELDS.get(field, field + " {}").format(value.replace(" to ", "–"))


def _open_segment(segments: Sequence[Segment], name: str) -> None:
    where = next((s.filters for s in segments if _name(s) == name), {})
    if where:
        go(Open("traces", filters.link_params(**{"rating": "any", **where})))


# ------------------------------------------------------------------------------------------------ random sample


def _sample(answer: Answer[Sample]) -> None:
    with panels.panel("sample", stretch=True):
        panels.header(
            "Random-sample check",
            "What reviewers say about a random sample, next to the ratings that users chose to give",
        )
        if panels.failed(answer):
            return
        found = answer.value
        drawn = plots.dots(_both(found), panels.colours(), what="Who judged", few=False)
        if drawn.rows:
            st.vega_lite_chart(
                None,
                {**drawn.spec, "height": 95},
                key="sample_dots",
                theme=None,
                alt=drawn.alt,
                width="stretch",
            )
        _sample_rows(found)


def _both(found: Sample) -> list[Dot]:
    sides = {"User ratings": found.self_selected, "Random sample": found.random_sample}
    return [Dot(name, rate, rate.n, rate.n) for name, rate in sides.items() if rate]


def _sample_rows(found: Sample) -> None:
    bounds = found.bounds
    none = "no random sample reviewed in this period"
    sampled, any_rating = found.random_sample, filters.link_params(rating="any")
    rows = [
        ("User ratings", words.interval(found.self_selected), Open("traces", any_rating)),
        (
            "Random sample",
            words.interval(sampled) if sampled else none,
            Open("traces", merged(any_rating, {"author_kind": "annotator"})) if sampled else None,
        ),
        ("Difference", words.change(found.difference), None),
        (
            "Worst and best case if everyone had rated",
            words.NONE if bounds is None else f"{words.percent(bounds.low)} to {words.percent(bounds.high)}",
            Open("traces", filters.link_params(rating="none")),
        ),
    ]
    panels.facts("sample_rows", rows, caption="User ratings and the random sample")


# -------------------------------------------------------------------------------------------------------- drift


def _drift(answers: Mapping[str, Answer[Drift | None]]) -> None:
    with panels.panel("drift"):
        panels.header(
            "Drift", "Each number against the period before (CUSUM); an alarm strength of 1 raises the alarm"
        )
        heads = [
            {"key": "what", "label": "What", "kind": ""},
            {"key": "state", "label": "State", "kind": "state"},
            {"key": "baseline", "label": "Before", "kind": "number"},
            {"key": "evidence", "label": "Alarm strength", "kind": "number"},
            {"key": "changed", "label": "Last change", "kind": ""},
            {"key": "watch", "label": "Alert", "kind": ""},
        ]
        rows = [_drift_row(name, word, answers[name]) for name, word in DRIFTS.items()]
        components.table("drift_rows", heads, rows, caption="Drift of each number", link=-1)


def _drift_row(name: str, word: str, answer: Answer[Drift | None]) -> dict[str, Any]:
    watch = Open(
        "alerts", {"new": "1", "metric": name, **filters.link_params(period=None, since=None, until=None)}
    )
    may = current().can("admin")
    last = ["New alert" if may else None]
    opens = {"watch": watch.to_json()} if may else {}
    if answer.error is not None:
        return {"cells": [word, None, None, None, str(answer.error)[:120], *last], "opens": opens}
    found = answer.value
    if not found:
        return {"cells": [word, "No baseline", None, None, None, *last], "opens": opens}
    history = found.history
    cells = [
        word,
        found.state.capitalize(),
        words.interval(found.baseline),
        f"{found.evidence:.2f}",
        f"{history[-1].after}, {words.clock(history[-1].time)}" if history else None,
        *last,
    ]
    return {"cells": cells, "opens": opens}
