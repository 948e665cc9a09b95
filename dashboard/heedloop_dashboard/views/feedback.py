"""One judgement: back to the call it judges, forward to the snapshots and runs that used it, with its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
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
    found: Mapping[str, Any] = answer.value
    with panels.panel("chain"):
        panels.header(
            "From a person to a model", "The call that was judged, and what was trained on the judgement"
        )
        components.lineage("chain", _chain(found))
    left, right = st.columns(2, gap="small")
    with left, panels.panel("said", stretch=True):
        panels.header("Feedback", "The current version")
        components.feedback("now", [judgements.entry(found["feedback"])])
        _correction(found["feedback"])
    with right, panels.panel("history", stretch=True):
        history: Sequence[Mapping[str, Any]] = found["history"]
        panels.header("History", "Every version that was sent, newest first; nothing is overwritten")
        entries = [
            {**judgements.entry(f), "id": f"received {words.clock(f.get('received_at'))}"}
            for f in _newest_first(history)
        ]
        if entries:
            entries[0]["current"] = True
        components.feedback("history", entries)


def _newest_first(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(history, key=lambda f: (f.get("version") or 0, f.get("received_at") or ""), reverse=True)


def _chain(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    feedback: Mapping[str, Any] = found["feedback"]
    target: Mapping[str, Any] = feedback["target"]
    return [
        {
            "kind": "Feedback",
            "here": True,
            "entries": [{"id": feedback["feedback_id"], "about": judgements.entry(feedback)["title"]}],
        },
        {"kind": "Call", "entries": _call_entry(feedback, target), "none": "not tied to a call"},
        {
            "kind": "Snapshot",
            "entries": [trace.snapshot_entry(s) for s in found.get("snapshots") or []],
            "none": "in no snapshot yet",
        },
        {
            "kind": "Run",
            "entries": [trace.run_entry(r) for r in found.get("runs") or []],
            "none": "no run used it yet",
        },
    ]


def _call_entry(feedback: Mapping[str, Any], target: Mapping[str, Any]) -> list[dict[str, Any]]:
    about = " · ".join(str(p) for p in (feedback.get("model"), feedback.get("prompt_version")) if p)
    if target.get("trace_id"):
        params = {"trace_id": target["trace_id"]}
        if target.get("span_id"):
            params["span_id"] = target["span_id"]
        return [{"id": target["trace_id"], "about": about, "open": Open("trace", params).to_json()}]
    name = "session_id" if target.get("session_id") else "response_id"
    value = target.get(name)
    if not value:
        return []
    where = Open("traces", {"session_id": value}).to_json() if name == "session_id" else None
    return [{"id": value, "about": about or name.replace("_", " "), "open": where}]


def _correction(feedback: Mapping[str, Any]) -> None:
    if feedback.get("kind") != "correction" or not feedback.get("correction"):
        return
    target = feedback["target"]
    before = ""
    if target.get("trace_id"):
        found = read_one(Client.trace, target["trace_id"])
        if found.error is None:
            span = next((s for s in found.value["spans"] if s["span_id"] == target.get("span_id")), None)
            before = "\n".join(m["text"] for m in (span or {}).get("output_messages") or [] if m.get("text"))
    components.diff("correction", corrections.compare(before, feedback["correction"]), label="Correction")


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
        found: Sequence[Mapping[str, Any]] = answer.value["feedback"]
        if not found:
            panels.empty(
                "No feedback yet. Send a thumb with heedloop.thumbs_up(handle), or import judgements with heedloop import."
            )
            return
        rows("feedback_rows", found)
    following = answer.value.get("next_cursor")
    if following:
        params = {**given, "cursor": following}
        components.links(
            "older", [("Older feedback \u2192", Open("feedback", params))], label="More feedback", left=True
        )


def rows(key: str, feedback: Sequence[Mapping[str, Any]]) -> None:
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
        text = f.get("correction") or f.get("comment")
        cells = [shown["when"], shown["title"], text, shown["who"], f.get("model"), f["feedback_id"]]
        entries.append(
            {
                "key": f["feedback_id"],
                "cells": cells,
                "open": Open("feedback", {"feedback_id": f["feedback_id"]}).to_json(),
            }
        )
    components.table(key, heads, entries, caption="Feedback, newest first")
