"""Two prompt versions, models or configurations side by side: difference, interval, and whether it is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from heedloop.client import Client
from heedloop.responses import ComparedValues, Group, Interval
from heedloop_dashboard import components, export, filters, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import Answer, Ask, ask, read_one, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import league, versions

FIELDS = {
    "prompt_version": "Prompt version",
    "model": "Model",
    "prompt_name": "Prompt",
    "service": "Service",
    "environment": "Environment",
    "tag": "Tag",
}
WITHIN = {
    "": "All answers",
    "tag": "Each tag",
    "model": "Each model",
    "prompt_version": "Each version",
    "service": "Each service",
}


def show() -> None:
    """Draw the comparison of `a` and `b` on `field` in the URL; the two largest groups where none is named."""
    title = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with title:
        st.subheader("Compare", anchor=False, width="stretch")
        filters.period_and_model()
        filters.raters()
    field = _field()
    filters.chips("compare")
    chosen = filters.filters(without=(field,))
    answers = read_page(**_asks(field, chosen))
    groups = answers["groups"]
    if panels.failed(groups):
        return
    with title:
        export.button("compare", lambda: _export_rows(answers, field))
    a, b = _two(groups.value)
    if a is not None and b is not None:
        _verdict(
            read_one(Client.quality_compare, field, a, b, stratify=_within_field(field), **chosen),
            field,
        )
    _overview(groups, field)
    versions.show_versions(answers["versions"], field, FIELDS[field])
    versions.show_releases(answers["releases"])
    if "league" in answers:
        league.show(answers["league"], field, FIELDS[field])


def _asks(field: str, chosen: Mapping[str, Any]) -> dict[str, Ask[Any]]:
    asks: dict[str, Ask[Any]] = {
        "groups": ask(Client.quality_by, field, **chosen),
        "versions": ask(Client.quality_versions, field, **chosen),
        "releases": ask(Client.quality_releases, **chosen),
    }
    if field in league.FIELDS:
        asks["league"] = ask(Client.quality_league, field, **chosen)
    return asks


def _export_rows(answers: Mapping[str, Answer[Any]], field: str) -> list[dict[str, Any]]:
    rows = [export.rate_row("compare", field, g.value, g) for g in answers["groups"].value]
    return rows + (league.export_rows(answers["league"], field) if "league" in answers else [])


def _field() -> str:
    field = st.query_params.get("field")
    return field if field in FIELDS else "prompt_version"


def _within_field(field: str) -> str | None:
    within = st.query_params.get("within")
    return within if within in WITHIN and within != field else None


def _two(groups: Sequence[Group]) -> tuple[str | None, str | None]:
    values = [g.value for g in groups if g.value]
    what, left, right, inside = st.columns([1, 1.3, 1.3, 1], gap="small")
    with what:
        filters.choose("field", FIELDS, label="Compare by")
    with inside:
        filters.choose("within", WITHIN, label="Within")
    if len(values) < 2:
        with panels.panel("one_only"):
            panels.header("Nothing to compare", "There are fewer than two values in this period")
            panels.empty("Choose a longer period, or compare by something else.")
        return None, None
    first, second = _defaults(values)
    with left:
        a = filters.choose("a", {first: first, **{v: v for v in values}}, label="A")
    with right:
        b = filters.choose("b", {second: second, **{v: v for v in values}}, label="B")
    if a == b:
        st.caption("A and B are the same: choose two different ones.")
        return None, None
    return a, b


def _defaults(values: Sequence[str]) -> tuple[str, str]:
    """The two with the most answers, but never the one that the URL names for the other side."""
    named_a, named_b = st.query_params.get("a"), st.query_params.get("b")
    first = next(v for v in values if v != named_b)
    return first, next(v for v in values if v != (named_a or first))


def _verdict(answer: Answer[ComparedValues], field: str) -> None:
    if panels.failed(answer):
        return
    found = answer.value
    difference = found.difference
    decided = found.decided
    lead, text = _headline(found.sentence, decided is not None)
    components.finding("verdict", lead=lead, text=text, tone="good" if decided else "")
    spread = "undefined: one side has no ratings" if difference is None else _spread(difference)
    points = words.NONE if difference is None else words.points(difference.estimate)
    entries = [
        _card("a", found, found.a, field),
        _card("b", found, found.b, field),
        components.Card("difference", "Difference, A minus B", points, spread, _which_ratings(found)),
        _evidence(found),
    ]
    components.cards("sides", entries)
    _within(found)


def _headline(sentence: str, decided: bool) -> tuple[str, str]:
    """The sentence's first words apart, to be set in bold; a verdict has a word of its own in front."""
    if decided:
        return "Decided. ", sentence
    lead, colon, rest = sentence.partition(": ")
    return (lead, colon + rest) if colon else ("", sentence)


def _which_ratings(found: ComparedValues) -> str:
    """From which of the period's ratings the verdict comes."""
    compared = found.compared
    if compared is None:
        return ""
    days = f"{compared.num_days} days from {compared.since} to {compared.until}"
    how = (
        "both ran on these days, and each day is compared with itself"
        if found.design == "same_days"
        else "one followed the other, and the days nearest to the change are compared"
    )
    return f"Rates, difference and e-value come from the same ratings: {days}; {how}, so both rates are weighted alike."


def _card(name: Literal["a", "b"], found: ComparedValues, group: Group, field: str) -> components.Card:
    compared = found.compared and (found.compared.a if name == "a" else found.compared.b)
    rate = compared or group.rate
    is_better = found.decided == name
    return components.Card(
        name,
        f"{name.upper()}: {group.value}",
        words.percent(words.estimate(rate)),
        "no ratings" if rate is None else _rated_note(rate, group),
        delta="better" if is_better else None,
        tone="good" if is_better else "",
        open=Open("traces", filters.link_params(**{field: group.value, "rating": "any"})),
    )


def _rated_note(rate: Interval, group: Group) -> str:
    ratings = words.plural(rate.n, "rating")
    if rate.n < group.num_rated:
        whole = words.percent(words.estimate(group.rate))
        ratings = (
            f"{words.count(rate.n)} of {words.plural(group.num_rated, 'rating')} compared (all: {whole})"
        )
    return f"95%: {100 * rate.low:.1f} to {100 * rate.high:.1f} · {ratings}"


def _spread(difference: Interval) -> str:
    return f"95%: {100 * difference.low:+.1f} to {100 * difference.high:+.1f} pts"


def _evidence(found: ComparedValues) -> components.Card:
    needed = "0" if found.decided else words.count(found.num_needed)
    note = f"e-value {found.e_value:,.3g}; decided from 20"
    return components.Card("evidence", "Ratings still needed", needed, note, words.E_VALUE)


def _within(found: ComparedValues) -> None:
    """The same comparison inside segments, with a warning where the direction flips there (Simpson's paradox)."""
    strata = found.stratified
    if not strata:
        return
    if strata.reversal:
        text = "within the segments the direction is the other way round, because the two were used for different questions. Trust the segments."
        components.finding("flips", lead="Look closer: ", text=text, tone="bad")
    with panels.panel("strata"):
        overall = words.change(strata.difference)
        panels.header(
            "Within the segments",
            f"A minus B in each; over all segments, weighted (Mantel–Haenszel): {overall}",
        )
        heads = components.columns(["Segment"], ["A", "B", "A minus B"])
        rows = [
            {
                "cells": [
                    s.value or "(none)",
                    words.interval(s.a),
                    words.interval(s.b),
                    words.change(s.difference),
                ]
            }
            for s in strata.strata
        ]
        components.table(
            "strata_rows", heads, rows, caption="The comparison within each segment", link=-1, tall=True
        )


def _overview(groups: Answer[list[Group]], field: str) -> None:
    panels.chart(
        "all_groups",
        f"All by {FIELDS[field].lower()}",
        "95% intervals; grey under 30 ratings",
        groups,
        lambda v: plots.dots(v, panels.colours(), what=FIELDS[field]),
        height=60 + 30 * min(12, max(3, len(groups.value))),
        select="group",
        on_select=lambda row: filters.open_group(field, row["value"], rating="any"),
    )
