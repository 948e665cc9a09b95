"""The answers behind every number: a list with filters that all stand in the URL."""

from __future__ import annotations

from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import components, export, filters, panels, words
from heedloop_dashboard.fetch import Answer, ask, read
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import calls_table

__all__ = ["show"]

PAGE = 50
COLUMNS = ("time", "question", "answer", "thumb", "flags", "version", "model", "duration")
CHOICES = {
    "rating": {
        "Any": "All answers",
        "up": "Thumbs-up",
        "down": "Thumbs-down",
        "any": "Rated",
        "none": "Not rated",
    },
    "has": {
        "Any": "Any feedback",
        "correction": "Corrected",
        "comment": "Commented",
        "flag": "Flagged",
        "comparison": "Compared",
    },
    "status": {"Any": "Any status", "ok": "Succeeded", "error": "Failed"},
}


def show() -> None:
    """Draw the list for the URL's filters."""
    title = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with title:
        st.subheader("Traces", anchor=False, width="stretch")
        filters.period_and_model()
    _filter_row()
    chosen = filters.filters()
    answer = read(calls=ask(Client.calls, limit=PAGE, cursor=st.query_params.get("cursor"), **chosen))[
        "calls"
    ]
    with title:
        export.button("traces", lambda: _export_rows(answer))
    _list(answer)


def _filter_row() -> None:
    text, rating, has, version = st.columns([2.2, 1, 1, 1.2], gap="small")
    with text:
        st.text_input(
            "Search",
            key="text",
            bind="query-params",
            placeholder="Words in the question or the answer",
            icon=":material/search:",
            label_visibility="collapsed",
            max_chars=500,
        )
    with rating:
        _choice("rating")
    with has:
        _choice("has")
    with version:
        filters.choose("prompt_version", "All versions")
    with st.expander("More filters", icon=":material/tune:", key="more_filters", expanded=_has_more()):
        first, second, third, fourth = st.columns(4, gap="small")
        with first:
            _choice("status", label="Status")
            filters.choose("tag", "All tags", label="Tag")
        with second:
            filters.choose("flag", "All flags", label="Flag")
            filters.choose("prompt_name", "All prompts", label="Prompt")
        with third:
            filters.choose("service", "All services", label="Service")
            filters.choose("environment", "All environments", label="Environment")
        with fourth:
            st.text_input("User", key="user_id", bind="query-params", max_chars=256)
            st.text_input("Session", key="session_id", bind="query-params", max_chars=256)


def _choice(field: str, *, label: str | None = None) -> None:
    st.selectbox(
        label or field.capitalize(),
        list(CHOICES[field]),
        format_func=lambda v: CHOICES[field].get(v, v),
        key=field,
        bind="query-params",
        label_visibility="visible" if label else "collapsed",
    )


def _has_more() -> bool:
    names = ("status", "tag", "flag", "prompt_name", "service", "environment", "user_id", "session_id")
    return any(st.query_params.get(n) for n in names)


def _list(answer: Answer) -> None:
    with panels.panel("calls"):
        if answer.error is not None:
            panels.problem(answer.error)
            return
        calls = answer.value["calls"]
        if not calls:
            panels.empty("No answers match. Widen the period or take a filter away.")
            return
        _heading(calls)
        calls_table.show("calls", calls, columns=COLUMNS, params=filters.link_params())
    _pages(answer.value.get("next_cursor"))


def _heading(calls: list[dict[str, Any]]) -> None:
    newest, oldest = words.clock(calls[0]["start_time"]), words.clock(calls[-1]["start_time"])
    count = f"{len(calls)} answers" if len(calls) > 1 else "One answer"
    panels.header(
        "Answers, newest first",
        f"{count}, from {newest} back to {oldest} (UTC). Select a row to open its trace.",
    )


def _pages(following: str | None) -> None:
    links = []
    if st.query_params.get("cursor"):
        links.append(("\u2190 Newest", Open("traces", filters.link_params())))
    if following:
        links.append(("Older answers \u2192", Open("traces", filters.link_params(cursor=following))))
    if links:
        components.links("pages", links, label="Pages of this list", left=True)


def _export_rows(answer: Answer) -> list[dict[str, Any]]:
    if answer.error is not None:
        return []
    fields = (
        "trace_id", "span_id", "start_time", "duration_ns", "name", "service", "environment", "model", "prompt_name",
        "prompt_version", "user_id", "session_id", "status", "cost", "thumb", "num_feedback", "has_correction",
        "input_preview", "output_preview",
    )  # fmt: skip
    rows = [{k: call.get(k) for k in fields} for call in answer.value["calls"]]
    for row, call in zip(rows, answer.value["calls"], strict=True):
        row["flags"] = " ".join(call.get("flags") or [])
        row["tags"] = " ".join(call.get("tags") or [])
    return rows
