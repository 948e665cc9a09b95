"""One judgement: back to the call it judges, forward to the snapshots and runs that used it, with its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses.calls import Trace
from heedloop.responses.feedback import FeedbackHistory, FeedbackPage, StoredFeedback
from heedloop_dashboard import components, corrections, filters, judgements, panels, words
from heedloop_dashboard.fetch import read_one
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import trace

__all__ = ["rows", "show"]

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
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Feedback", anchor=False, width="stretch")
        components.links("up", [("All feedback", Open("feedback"))], label="Feedback")
    answer = read_one(Client.feedback_one, feedback_id)
    if answer.error is not None:
        panels.problem(answer.error)
        return
    found: FeedbackHistory = answer.value
    with panels.panel("chain"):
        panels.header(
            "From a person to a model", "The call that was judged, and what was trained on the judgement"
        )
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
        where = Open("traces", {"session_id": target.session_id}).to_json()
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
    components.diff("correction", corrections.compare(before, feedback.correction), label="Correction")


# --------------------------------------------------------------------------------------------------------- list


def _newest() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Feedback", anchor=False, width="stretch")
        kind = filters.choose("kind", KINDS, width=160)
        author_kind = filters.choose("author_kind", {"": "All authors", **AUTHORS}, width=140)
    period = {k: v for k in ("since", "until") if (v := st.query_params.get(k))}
    chosen = {"kind": kind, "author_kind": author_kind, **period}
    given = {k: v for k, v in chosen.items() if v}
    answer = read_one(Client.feedback, limit=100, cursor=st.query_params.get("cursor"), **given)
    with panels.panel("feedback_list"):
        panels.header("Newest first", "Select a row for its call, its history and the runs that used it")
        if answer.error is not None:
            panels.problem(answer.error)
            return
        page: FeedbackPage = answer.value
        if not page.feedback:
            panels.empty(
                "No feedback yet. Send a thumb with heedloop.thumbs_up(handle), or import judgements with heedloop import."
            )
            return
        rows("feedback_rows", page.feedback)
    if page.next_cursor:
        params = {**given, "cursor": page.next_cursor}
        components.links(
            "older", [("Older feedback \u2192", Open("feedback", params))], label="More feedback", left=True
        )


def rows(key: str, feedback: Sequence[StoredFeedback]) -> None:
    """A list of judgements whose rows open them."""
    heads = [
        {"key": "time", "label": "Time", "kind": ""},
        {"key": "what", "label": "What", "kind": ""},
        {"key": "text", "label": "Comment", "kind": "wide"},
        {"key": "who", "label": "Who", "kind": ""},
        {"key": "model", "label": "Model", "kind": ""},
        {"key": "id", "label": "Feedback id", "kind": "mono"},
    ]
    entries = []
    for f in feedback:
        shown = judgements.entry(f)
        text = f.correction or f.comment
        cells = [shown["when"], shown["title"], text, shown["who"], f.model, f.feedback_id]
        entries.append(
            {
                "key": f.feedback_id,
                "cells": cells,
                "open": Open("feedback", {"feedback_id": f.feedback_id}).to_json(),
            }
        )
    components.table(key, heads, entries, caption="Feedback, newest first")
