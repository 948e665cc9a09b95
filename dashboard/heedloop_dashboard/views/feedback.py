"""One judgement: back to the call it judges, forward to the snapshots and runs that used it, with its history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import streamlit as st

from heedloop.changes import compare
from heedloop.client import Client
from heedloop.responses.calls import Trace
from heedloop.responses.feedback import FeedbackHistory, FeedbackPage, StoredFeedback
from heedloop.schema import format_time
from heedloop_dashboard import components, export, filters, judgements, lists, panels, words
from heedloop_dashboard.fetch import current, read_one
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import trace

AUTHORS = {"end_user": "End users", "annotator": "Annotators", "model": "Models", "code": "Rules"}
KINDS = {
    "": "All kinds",
    "rating": "Ratings",
    "correction": "Corrections",
    "flag": "Flags",
    "comparison": "Comparisons",
    "comment": "Comments",
}


def show() -> None:
    """Draw one judgement where the URL names it, else the newest of them."""
    feedback_id = (st.query_params.get("feedback_id") or "").strip()
    if feedback_id:
        _one(feedback_id)
    else:
        _newest()


# ---------------------------------------------------------------------------------------------------------- one


def _one(feedback_id: str) -> None:
    panels.title("Feedback", ("All feedback", Open("feedback")))
    answer = read_one(Client.feedback_one, feedback_id)
    if panels.failed(answer):
        return
    found: FeedbackHistory = answer.value
    with panels.panel("chain"):
        panels.header("From feedback to model", "The judged call and what was trained on it")
        components.lineage("chain", _chain(found))
    left, right = st.columns(2, gap="small")
    with left, panels.panel("said", stretch=True):
        panels.header("Feedback", "The current version")
        components.feedback("now", [judgements.entry(found.feedback)])
        _correction(found.feedback)
    with right, panels.panel("history", stretch=True):
        panels.header("History", "Every version that was sent, newest first; nothing is overwritten")
        entries = [
            {**judgements.entry(f), "id": f"received {words.clock(f.received_at)}"}
            for f in _newest_first(found.history)
        ]
        if entries:
            entries[0]["current"] = True
        components.feedback("history", entries)


def _newest_first(history: Sequence[StoredFeedback]) -> list[StoredFeedback]:
    return sorted(history, key=lambda f: (f.version, f.received_at), reverse=True)


def _chain(found: FeedbackHistory) -> list[dict[str, Any]]:
    feedback = found.feedback
    return [
        {
            "kind": "Feedback",
            "here": True,
            "entries": [{"id": feedback.feedback_id, "about": judgements.entry(feedback)["title"]}],
        },
        {"kind": "Call", "entries": _call_entry(feedback), "none": "not tied to a call"},
        {
            "kind": "Snapshot",
            "entries": [trace.snapshot_entry(s.id, s.name) for s in found.snapshots],
            "none": "in no snapshot yet",
        },
        {
            "kind": "Run",
            "entries": [trace.run_entry(r) for r in found.runs],
            "none": "no run used it yet",
        },
    ]


def _call_entry(feedback: StoredFeedback) -> list[dict[str, Any]]:
    target = feedback.target
    about = " · ".join(p for p in (feedback.model, feedback.prompt_version) if p)
    if target.trace_id:
        params = {"trace_id": target.trace_id}
        if target.span_id:
            params["span_id"] = target.span_id
        return [{"id": target.trace_id, "about": about, "open": Open("trace", params).to_json()}]
    if target.session_id:
        where = Open("session", {"session_id": target.session_id}).to_json()
        return [{"id": target.session_id, "about": about or "session id", "open": where}]
    return [{"id": target.response_id, "about": about or "response id", "open": None}]


def _correction(feedback: StoredFeedback) -> None:
    if not feedback.correction:
        return
    target = feedback.target
    before = ""
    if target.trace_id:
        answer = read_one(Client.trace, target.trace_id)
        if answer.error is None:
            found: Trace = answer.value
            before = next((s.output_text for s in found.spans if s.span_id == target.span_id), "")
    components.diff("correction", compare(before, feedback.correction), label="Correction")


# --------------------------------------------------------------------------------------------------------- list


RATINGS = {"": "Any rating", "up": "Thumbs-up", "down": "Thumbs-down"}
FILTERS = (
    "kind",
    "author_kind",
    "rating",
    "model",
    "prompt_version",
    "user_id",
    "session_id",
    "category",
    "text",
)
MAX_EXPORT = 10_000


def _newest() -> None:
    title = st.container(horizontal=True, vertical_alignment="bottom")
    with title:
        st.subheader("Feedback", anchor=False, width="stretch")
        filters.period_and_model()
    _filter_row()
    window = filters.filters()
    given = {n: v for n in FILTERS if (v := st.query_params.get(n))}
    given |= {n: window[n] for n in ("since", "until")}
    answer = read_one(Client.feedback, limit=100, cursor=st.query_params.get("cursor"), **given)
    client = current().client
    with title:
        export.button("feedback", lambda: _export_rows(islice(client.iter_feedback(**given), MAX_EXPORT)))
    with panels.panel("feedback_list"):
        panels.header("Newest first", "Select a row for its call, its history and the runs that used it")
        if panels.failed(answer):
            return
        page: FeedbackPage = answer.value
        if not page.feedback:
            _none(given)
            return
        rows("feedback_rows", page.feedback)
    if page.next_cursor:
        params = {**_view(), "cursor": page.next_cursor}
        components.links(
            "older", [("Older feedback \u2192", Open("feedback", params))], label="More feedback", left=True
        )


def _view() -> dict[str, str]:
    names = ("period", "since", "until", *FILTERS)
    return {n: v for n in names if (v := st.query_params.get(n))}


def _filter_row() -> None:
    text, kind, rating, author = st.columns([2.2, 1, 1, 1], gap="small")
    with text:
        filters.write_in(
            "text", "Search", placeholder="Words in comments and corrections", icon=":material/search:",
            label_visibility="collapsed", max_chars=500,
        )  # fmt: skip
    with kind:
        filters.choose("kind", KINDS)
    with rating:
        filters.choose("rating", RATINGS)
    with author:
        filters.choose("author_kind", {"": "All authors", **AUTHORS})


def _none(given: Mapping[str, Any]) -> None:
    """No feedback at all, or none in the period and with the filters."""
    newest = read_one(Client.feedback, limit=1)
    last = newest.value.feedback if newest.error is None else []
    panels.nothing(
        "feedback",
        last[0].created_at if last else None,
        filtered=bool(set(given) - {"since", "until"}),
        first_text="Send a thumb with heedloop.thumbs_up(handle), or import judgements with heedloop import.",
    )


def _export_rows(feedback: Iterable[StoredFeedback]) -> list[dict[str, Any]]:
    return [
        {
            "feedback_id": f.feedback_id, "created_at": format_time(f.created_at), "kind": f.kind, "name": f.name,
            "value": f.value, "category": f.category, "comment": f.comment, "correction": f.correction,
            "author_kind": f.author.kind, "author_id": f.author.id, "trace_id": f.call_trace_id or f.target.trace_id,
            "span_id": f.call_span_id or f.target.span_id, "model": f.model, "prompt_version": f.prompt_version,
        }
        for f in feedback
    ]  # fmt: skip


def rows(key: str, feedback: Sequence[StoredFeedback]) -> None:
    """A list of judgements whose rows open them."""
    shown = {f.feedback_id: judgements.entry(f) for f in feedback}
    columns: list[lists.Column[StoredFeedback]] = [
        lists.Column("Time", lambda f: shown[f.feedback_id]["when"]),
        lists.Column("What", lambda f: shown[f.feedback_id]["title"]),
        lists.Column("Comment", lambda f: f.correction or f.comment, "wide"),
        lists.Column("Who", lambda f: shown[f.feedback_id]["who"]),
        lists.Column("Model", lambda f: f.model),
        lists.Column("Feedback id", lambda f: f.feedback_id, "mono"),
    ]
    lists.show(
        key,
        feedback,
        columns,
        caption="Feedback, newest first",
        open=lambda f: Open("feedback", {"feedback_id": f.feedback_id}),
        row_key=lambda f: f.feedback_id,
    )
