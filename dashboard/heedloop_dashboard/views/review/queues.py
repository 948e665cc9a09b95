"""Review queues, for those who make them and those who review: progress, filling, items, agreement, annotators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Queue, QueueCounts
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.fetch import ask, current, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.state import query, view_of
from heedloop_dashboard.views.review import exchange as review_exchange
from heedloop_dashboard.views.review import fill as review_fill
from heedloop_dashboard.views.review import form as review_form
from heedloop_dashboard.views.review import item as review_item
from heedloop_dashboard.views.review import quality as review_quality

__all__ = ["show"]

PARTS = {
    "items": "Answers",
    "agreement": "Agreement",
    "annotators": "Annotators",
    "fill": "Add answers",
    "exchange": "Exchange",
    "questions": "Questions",
    "guideline": "Guideline",
    "settings": "Settings",
}
ADMIN = ("fill", "questions", "guideline", "settings")


def show() -> None:
    """Draw the form of a new queue, one item, one queue, or the list, as the URL says."""
    queue_id = (st.query_params.get("queue") or "").strip()
    if "new" in st.query_params:
        review_form.show_new()
    elif st.query_params.get("item"):
        review_item.show(queue_id, st.query_params["item"])
    elif queue_id:
        _one(queue_id)
    else:
        _list()


# --------------------------------------------------------------------------------------------------------- list


def _list() -> None:
    sending = view_of(query()) if st.query_params.get("fill") else None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(
            "Send to review" if sending is not None else "Review queues", anchor=False, width="stretch"
        )
        if current().can("admin"):
            target = Open("review-queues", {"new": "1", **_filling(sending)})
            components.links("new", [("New queue", target)], label="Queues", framed=True)
    answer = read_page(queues=ask(Client.review_queues, archived=current().can("admin") or None))["queues"]
    if answer.error is not None:
        panels.problem(answer.error)
        return
    queues: Sequence[Queue] = answer.value
    with panels.panel("queues"):
        panels.header(
            "Choose a queue" if sending is not None else "Queues",
            "Choose one, or make a new one; the filters go along" if sending is not None
            else "An answer is done when it has all its judgements",
        )  # fmt: skip
        if queues:
            _table(queues, sending)
        else:
            panels.empty("There is no queue yet. A queue asks its questions about answers that you choose.")


def _filling(sending: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if sending is None else {**sending, "fill": st.query_params["fill"]}


def _table(queues: Sequence[Queue], sending: Mapping[str, Any] | None) -> None:
    heads = [
        {"key": "name", "label": "Name", "kind": ""},
        {"key": "status", "label": "Status", "kind": ""},
        {"key": "done", "label": "Done", "kind": "number"},
        {"key": "items", "label": "Answers", "kind": "number"},
        {"key": "judgements", "label": "Judgements", "kind": "number"},
        {"key": "leased", "label": "In progress", "kind": "number"},
        {"key": "skipped", "label": "Skipped", "kind": "number"},
        {"key": "each", "label": "Each", "kind": "number"},
        {"key": "due", "label": "Due", "kind": ""},
    ]
    rows = [
        {
            "key": q.queue_id,
            "cells": [
                q.name,
                q.status.capitalize(),
                *_counts(q),
                words.count(q.judgements_per_item),
                words.clock(q.due_at) if q.due_at else None,
            ],
            "open": Open("review-queues", {**_filling(sending), "queue": q.queue_id}).to_json(),
        }
        for q in queues
    ]  # fmt: skip
    components.table("queue_rows", heads, rows, caption="Review queues")


def _counts(queue: Queue) -> list[str]:
    counts = queue.counts
    if counts is None:
        return [words.NONE] * 5
    numbers = (counts.done, counts.items, counts.judgements, counts.leased, counts.skipped)
    return [words.count(n) for n in numbers]


# ---------------------------------------------------------------------------------------------------------- one


def _one(queue_id: str) -> None:
    answer = read_page(queue=ask(Client.review_queue, queue_id))["queue"]
    if answer.error is not None:
        st.subheader("Review queue", anchor=False)
        panels.problem(answer.error)
        return
    queue: Queue = answer.value
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Review queue", anchor=False, width="stretch")
        links = [("All queues", Open("review-queues")), ("Work in it", Open("review", {"queue": queue_id}))]
        components.links("up", links, label="Queues")
    if queue.counts is not None:
        _verdict(queue, queue.counts)
        _figures(queue, queue.counts)
    _part(queue)


def _verdict(queue: Queue, counts: QueueCounts) -> None:
    left = counts.items - counts.done
    text = f" is {queue.status}. "
    if not counts.items:
        text += "It holds no answers yet: add some."
    elif left:
        text += f"{words.plural(left, 'answer')} still to be judged."
    else:
        text += "Every answer has its judgements."
    tone = "good" if counts.items and not left else ""
    components.finding("queue_state", lead=queue.name, text=text, tone=tone)


def _figures(queue: Queue, counts: QueueCounts) -> None:
    entries = [
        (
            "items",
            "Answers",
            counts.items,
            f"{words.plural(queue.judgements_per_item or 1, 'judgement')} each",
        ),
        ("done", "Done", counts.done, "have all their judgements"),
        ("judgements", "Judgements", counts.judgements, "by all annotators"),
        ("leased", "In progress", counts.leased, f"{words.count(counts.skipped)} skipped"),
    ]
    components.cards(
        "figures",
        [
            {"key": key, "label": label, "value": words.count(value), "tone": "", "note": note}
            for key, label, value, note in entries
        ],
    )


def _part(queue: Queue) -> None:
    parts = [p for p in PARTS if p not in ADMIN or current().can("admin")]
    asked = "fill" if st.query_params.get("fill") else st.query_params.get("part", "items")
    part = asked if asked in parts else "items"
    st.session_state["queue_part"] = part
    st.segmented_control(
        "Part", parts, format_func=lambda p: PARTS[p], required=True, key="queue_part", label_visibility="collapsed", on_change=_choose
    )  # fmt: skip
    shown = {
        "items": review_item.show_list,
        "agreement": review_quality.agreement,
        "annotators": review_quality.annotators,
        "fill": review_fill.show,
        "exchange": review_exchange.show,
        "questions": review_form.questions_form,
        "guideline": review_form.guideline_form,
        "settings": review_form.settings_form,
    }
    shown[part](queue)
    if part == "settings":
        review_form.upkeep(queue)


def _choose() -> None:
    part = st.session_state["queue_part"]
    st.query_params.pop("cursor", None)
    if part == "fill":
        st.query_params["fill"] = st.query_params.get("fill") or "filter"
    else:
        st.query_params.pop("fill", None)
        st.query_params["part"] = part
