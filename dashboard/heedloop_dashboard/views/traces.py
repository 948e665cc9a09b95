"""The answers behind every number: a list with filters that all stand in the URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses.calls import CallsPage, CallSummary
from heedloop.schema import format_time
from heedloop_dashboard import components, export, filters, panels, words
from heedloop_dashboard.fetch import Answer, ask, current, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import calls_table, clusters

__all__ = ["export_rows", "show"]

PAGE = 50
MAX_EXPORT = 10_000
"""Answers that one export holds at most."""
COLUMNS = ("time", "question", "answer", "thumb", "flags", "version", "model", "duration")
CHOICES = {
    "rating": {
        "": "All answers",
        "up": "Thumbs-up",
        "down": "Thumbs-down",
        "any": "Rated",
        "none": "Not rated",
    },
    "has": {
        "": "Any feedback",
        "correction": "Corrected",
        "comment": "Commented",
        "flag": "Flagged",
        "comparison": "Compared",
    },
    "status": {"": "Any status", "ok": "Succeeded", "error": "Failed"},
}


def show() -> None:
    """Draw the list for the URL's filters."""
    title = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with title:
        st.subheader("Traces", anchor=False, width="stretch")
        filters.period_and_model()
    _filter_row()
    chosen = filters.filters()
    filters.chips("traces")
    answers = read_page(
        calls=ask(Client.calls, limit=PAGE, cursor=st.query_params.get("cursor"), **chosen),
        counted=ask(Client.quality_summary, **chosen),
    )
    client = current().client
    with title:
        export.button("traces", lambda: export_rows(islice(client.iter_calls(**chosen), MAX_EXPORT)))
    _list(answers["calls"], answers["counted"], chosen)


def _filter_row() -> None:
    text, rating, has, version = st.columns([2.2, 1, 1, 1.2], gap="small")
    with text:
        filters.write_in(
            "text",
            "Search",
            placeholder="Words in the question or the answer",
            icon=":material/search:",
            label_visibility="collapsed",
            max_chars=500,
        )
    with rating:
        filters.choose("rating", CHOICES["rating"])
    with has:
        filters.choose("has", CHOICES["has"])
    with version:
        filters.facet("prompt_version", "All versions")
    with st.expander("More filters", icon=":material/tune:", expanded=_has_more()):
        first, second, third, fourth = st.columns(4, gap="small")
        with first:
            filters.several("tag", "Tags", "All tags")
            filters.metadata()
        with second:
            filters.facet("flag", "All flags", label="Flag")
            filters.choose("status", CHOICES["status"], label="Status")
        with third:
            filters.facet("prompt_name", "All prompts", label="Prompt")
            filters.facet("service", "All services", label="Service")
            filters.facet("environment", "All environments", label="Environment")
        with fourth:
            filters.write_in("user_id", "User", max_chars=256)
            filters.write_in("session_id", "Session", max_chars=256)
            filters.write_in("min_duration_ms", "Took at least (ms)", max_chars=12)


def _has_more() -> bool:
    names = ("status", "tag", "flag", "prompt_name", "service", "environment", "user_id", "session_id")
    return any(st.query_params.get(n) for n in names)


def _list(answer: Answer, counted: Answer, chosen: Mapping[str, Any]) -> None:
    with panels.panel("calls"):
        if answer.error is not None:
            panels.problem(answer.error)
            return
        page: CallsPage = answer.value
        if not page.calls:
            panels.empty("No answers match. Widen the period or take a filter away.")
            return
        total = None if counted.error is not None else counted.value.num_answers
        with st.container(horizontal=True, vertical_alignment="top"):
            with st.container(gap=None):
                _heading(page.calls, total, chosen)
            possible = clusters.actions(filters.link_params())
            if possible:
                components.links("do", possible, label="What to do with these answers", framed=True)
        calls_table.show("calls", page.calls, columns=COLUMNS, params=filters.link_params())
    _pages(page.next_cursor)


def _heading(calls: Sequence[CallSummary], total: float | None, chosen: Mapping[str, Any]) -> None:
    newest, oldest = words.clock(calls[0].start_time), words.clock(calls[-1].start_time)
    what = "calls" if chosen.get("answers_only") == "false" else "answers"
    title = f"{words.count(total)} {what}, newest first" if total else f"{what.capitalize()}, newest first"
    panels.header(
        title if round(total or 2) != 1 else f"One {what[:-1]}",
        f"Shown: {len(calls)}, from {newest} back to {oldest} (UTC). Select a row to open its trace.",
    )


def _pages(following: str | None) -> None:
    links = []
    if st.query_params.get("cursor"):
        links.append(("\u2190 Newest", Open("traces", filters.link_params())))
    if following:
        links.append(("Older answers \u2192", Open("traces", filters.link_params(cursor=following))))
    if links:
        components.links("pages", links, label="Pages of this list", left=True)


def export_rows(calls: Iterable[CallSummary]) -> list[dict[str, Any]]:
    """Answers as rows of a file."""
    fields = (
        "trace_id", "span_id", "start_time", "duration_ns", "name", "service", "environment", "model", "prompt_name",
        "prompt_version", "user_id", "session_id", "status", "cost", "thumb", "num_feedback", "has_correction",
        "input_preview", "output_preview",
    )  # fmt: skip
    return [
        {
            **{name: getattr(c, name) for name in fields},
            "start_time": format_time(c.start_time),
            "flags": " ".join(c.flags),
            "tags": " ".join(c.tags),
        }
        for c in calls
    ]
