"""What low-rated answers have in common: groups of alike texts, with words, examples and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.responses import Cluster, Clusters, Example
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.fetch import Answer, current
from heedloop_dashboard.navigation import Open

FIRST = 6
"""Groups that are shown before one asks for all of them."""
TEXTS = {"": "Answers", "comments": "Comments", "questions": "Questions"}
_WHAT = {
    "": "the answers themselves",
    "comments": "the comments on them",
    "questions": "the questions behind them",
}


def chosen_texts() -> str:
    """Which texts are grouped, as the URL says it; empty for the answers."""
    chosen = st.query_params.get("of", "")
    return chosen if chosen in TEXTS else ""


def show(answer: Answer[Clusters]) -> None:
    """Draw the panel from an answer of `/v1/quality/clusters`."""
    with panels.panel("clusters"):
        with st.container(horizontal=True, vertical_alignment="top"):
            with st.container(gap=None):
                panels.header(
                    "What low-rated answers have in common",
                    f"Groups of similar texts, by {_WHAT[chosen_texts()]}; most excess thumbs-down first",
                )
            filters.choose("of", TEXTS, width=125)
        if panels.failed(answer):
            return
        found = answer.value
        groups = found.clusters
        if not groups:
            low, texts = found.num_low_rated, found.num_texts
            panels.empty(
                f"{words.plural(low, 'low-rated answer')} and {words.plural(texts, 'text')} in this period: a group needs ten texts that share words."
            )
            return
        shown = groups if st.query_params.get("groups") == "all" else groups[:FIRST]
        components.clusters("clusters", [_entry(group, found) for group in shown])
        if len(groups) > len(shown):
            params = filters.link_params() | {"groups": "all"}
            params |= {"of": chosen_texts()} if chosen_texts() else {}
            every = (f"All {len(groups)} groups \u2192", Open("failures", params))
            components.links("all_groups", [every], label="Groups", left=True)


def _entry(group: Cluster, found: Clusters) -> dict[str, Any]:
    where = group.filters
    target = Open("traces", filters.link_params(**where))
    return {
        "id": group.id,
        "name": group.name,
        "count": f"Show {words.plural(group.num_answers, 'answer')}",
        "share": group.share,
        "rate": _rate(group),
        "excess": group.is_excess,
        "about": f"{words.percent(group.share, digits=0)} of {words.count(found.num_texts)} texts · since {words.day(group.since)}",
        "counts": group.counts,
        "words": group.words[:8],
        "examples": [_example(e, where) for e in group.examples],
        "open": target.to_json(),
        "actions": actions(filters.link_params(**where)),
    }


def _rate(group: Cluster) -> str | None:
    """Such as `Down rate 62% (55–69), 1.8 times the average`."""
    if group.down_rate is None:
        return None
    lift = "" if group.lift is None else f", {group.lift:.1f} times the average"
    return f"Down rate {words.short(group.down_rate)}{lift}"


def _example(example: Example, where: Mapping[str, Any]) -> dict[str, Any]:
    params = filters.link_params(**where, trace_id=example.trace_id, span_id=example.span_id)
    about = [words.clock(example.start_time), example.prompt_version, example.model]
    return {
        "text": example.text,
        "question": example.question if example.question != example.text else "",
        "comment": None if example.comment == example.text else example.comment,
        "note": " · ".join(str(a) for a in about if a),
        "open": Open("trace", params).to_json(),
    }


def actions(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What this key may do with the answers of a view: review them, make a dataset of them."""
    session = current()
    possible: list[dict[str, Any]] = []
    if session.can("admin"):
        target = Open("review-queues", {"fill": "sample", **view})
        possible.append({"label": "Send these to review", "open": target.to_json()})
    if session.can("train"):
        target = Open("datasets", {"new": "1", **view})
        possible.append({"label": "Create dataset from these", "open": target.to_json()})
    return possible
