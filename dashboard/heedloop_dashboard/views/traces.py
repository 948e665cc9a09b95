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
from heedloop_dashboard.fetch import Answer, ask, current, read_one, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import bulk, calls_table, clusters

PAGE = 50
MAX_EXPORT = 10_000
"""Answers that one export holds at most."""
ORDERS = {
    "newest": "newest first",
    "oldest": "oldest first",
    "slowest": "slowest first",
    "fastest": "fastest first",
    "costliest": "most expensive first",
    "cheapest": "cheapest first",
    "most_tokens": "most tokens first",
    "fewest_tokens": "fewest tokens first",
}
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
    cursor, order = st.query_params.get("cursor"), _order()
    answers = read_page(
        calls=ask(Client.calls, limit=PAGE, cursor=cursor, order=order, **chosen),
        counted=ask(Client.quality_summary, **chosen),
    )
    client = current().client
    with title:
        export.button(
            "traces", lambda: export_rows(islice(client.iter_calls(order=order, **chosen), MAX_EXPORT))
        )
    bulk.show()
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
    with st.expander("More filters", icon=":material/tune:"):
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
        _column_choice()


def _order() -> str:
    """The order that the URL names; the newest first where it names none."""
    named = st.query_params.get("order", "newest")
    return named if named in ORDERS else "newest"


def _here(**more: Any) -> Open:
    """This list with its columns and its order, changed by `more`."""
    kept = {n: st.query_params[n] for n in ("columns", "order") if n in st.query_params}
    return Open("traces", {**filters.link_params(), **kept, **more})


def _columns() -> list[str]:
    """The columns that the URL names, those of the page where it names none."""
    named = (st.query_params.get("columns") or "").split(",")
    return [c for c in named if c in calls_table.COLUMNS] or list(COLUMNS)


def _column_choice() -> None:
    def write() -> None:
        chosen = st.session_state["traces_columns"]
        if chosen and chosen != list(COLUMNS):
            st.query_params["columns"] = ",".join(chosen)
        else:
            st.query_params.pop("columns", None)

    st.session_state["traces_columns"] = _columns()
    names = calls_table.COLUMNS
    st.multiselect(
        "Columns", list(names), format_func=lambda c: names[c][0], key="traces_columns", on_change=write
    )


def _list(answer: Answer, counted: Answer, chosen: Mapping[str, Any]) -> None:
    with panels.panel("calls"):
        if panels.failed(answer):
            return
        page: CallsPage = answer.value
        if not page.calls:
            _none(chosen)
            return
        total = None if counted.error is not None else counted.value.num_answers
        with st.container(horizontal=True, vertical_alignment="top"):
            with st.container(gap=None):
                _heading(page.calls, total, chosen)
            possible = clusters.actions(filters.link_params())
            if possible:
                components.links("do", possible, label="What to do with these answers", framed=True)
        order = _order()
        chosen_rows = calls_table.show(
            "calls",
            page.calls,
            columns=_columns(),
            params=filters.link_params(),
            caption=f"Answers, {ORDERS[order]}",
            order=order,
            sorted_by=lambda by: _here(order=None if by == "newest" else by),
            actions=bulk.actions(),
        )
    if chosen_rows:
        bulk.begin(chosen_rows["action"], chosen_rows["keys"])
    _pages(page.next_cursor)


def _none(chosen: Mapping[str, Any]) -> None:
    """No answer at all, none in the period, or none with the filters."""
    newest = read_one(Client.calls, limit=1, since="1990-01-01T00:00:00Z")
    last = newest.value.calls if newest.error is None else []
    panels.nothing(
        "answers",
        last[0].start_time if last else None,
        filtered=bool(set(chosen) - {"since", "until"}),
        first_text="The quality page shows how to send a first one.",
    )


def _heading(calls: Sequence[CallSummary], total: float | None, chosen: Mapping[str, Any]) -> None:
    first, last = words.clock(calls[0].start_time), words.clock(calls[-1].start_time)
    order = ORDERS[_order()]
    what = "calls" if chosen.get("answers_only") == "false" else "answers"
    title = f"{words.count(total)} {what}, {order}" if total else f"{what.capitalize()}, {order}"
    panels.header(
        title if round(total or 2) != 1 else f"One {what[:-1]}",
        f"Shown: {len(calls)}, from {first} to {last} (UTC). Select a row to open its trace.",
    )


def _pages(following: str | None) -> None:
    links = []
    if st.query_params.get("cursor"):
        links.append(("\u2190 First page", _here()))
    if following:
        links.append(
            ("Next page \u2192" if _order() != "newest" else "Older answers \u2192", _here(cursor=following))
        )
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
