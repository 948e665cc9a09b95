"""One search: ids open at once, words lead to the texts that have all of them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import SearchedId, SearchHit, SearchResults
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.fetch import read_one
from heedloop_dashboard.navigation import Open, go

_BOX = "search_box"
_ENTERED = "search_entered"
_OPENS = {
    "trace": "trace_id", "feedback": "feedback_id", "session": "session_id", "user": "user_id", "run": "run_id",
    "snapshot": "snapshot_id", "alert": "alert_id",
}  # fmt: skip
_PAGES = {"run": "runs", "snapshot": "datasets", "alert": "alerts"}


def box() -> None:
    """The field at the head of every page; what is one thing's id leads there at once."""
    if _BOX not in st.session_state:
        st.session_state[_BOX] = st.query_params.get("q", "")
    with st.container(key="head_search", width="stretch"):
        text = st.text_input(
            "Search everything",
            key=_BOX,
            placeholder="Search ids, words, comments, errors",
            icon=":material/search:",
            label_visibility="collapsed",
            max_chars=500,
            on_change=_note_entered,
        ).strip()
    if st.session_state.pop(_ENTERED, False) and text:
        found = read_one(Client.search, text, limit=1)
        if found.error is None and len(found.value.ids) == 1:
            go(_place(found.value.ids[0]))
        go(Open("search", {"q": text}))


def _note_entered() -> None:
    st.session_state[_ENTERED] = True


def show() -> None:
    """Draw the results for `q` in the URL."""
    text = st.query_params.get("q", "").strip()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Search", anchor=False, width="stretch")
        filters.period_only()
    if not text:
        panels.empty(
            "Enter an id, or words of a question, an answer, an error, a comment or a correction above."
        )
        return
    chosen = filters.filters()
    answer = read_one(Client.search, text, limit=50, since=chosen["since"], until=chosen["until"])
    with panels.panel("found"):
        if answer.error is not None:
            panels.header("Results", "")
            panels.problem(answer.error)
            return
        _results(answer.value)


def _results(found: SearchResults) -> None:
    period = f"{words.clock(found.since)} to {words.clock(found.until)} UTC"
    searched = f"Searched: {', '.join(f'{w}s' for w in found.searched)}, from {period}"
    if found.ids:
        panels.header(
            words.plural(len(found.ids), "match").replace("matchs", "matches"),
            "Things with this id, in any period",
        )
        entries = [(f"{i.kind.capitalize()} {i.id}", _place(i)) for i in found.ids]
        components.links("ids", entries, label="Things with this id", left=True, framed=True)
        return
    title = f"{'The newest ' if len(found.hits) == 50 else ''}{words.plural(len(found.hits), 'result')}"
    panels.header(title, searched + ". All words, in any order; beginnings of words count")
    if found.hits:
        components.hits("hits", [_hit(h) for h in found.hits])
    else:
        panels.empty("No text in this period has all of these words. Choose a longer period, or fewer words.")


def _place(found: SearchedId) -> Open:
    params = {_OPENS[found.kind]: found.id} | ({"span_id": found.span_id} if found.span_id else {})
    return Open(_PAGES.get(found.kind, found.kind), params)


def _hit(hit: SearchHit) -> dict[str, Any]:
    about = [words.clock(hit.time), hit.prompt_version, hit.model]
    if hit.trace_id:
        ids = {"trace_id": hit.trace_id, "span_id": hit.span_id}
        target = Open("trace", {k: v for k, v in ids.items() if v})
    else:
        target = Open("feedback", {"feedback_id": hit.feedback_id})
    return {
        "where": hit.found_in.capitalize(),
        "about": " · ".join(a for a in about if a),
        "thumb": {1: "up", 0: "down"}.get(hit.thumb, "") if hit.thumb is not None else "",
        "text": hit.excerpt,
        "marks": hit.marks,
        "open": target.to_json(),
    }
