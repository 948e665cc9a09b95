"""Review queues, for those who make them and those who review: progress, filling, items, agreement, annotators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Queue, QueueCounts
from heedloop_dashboard import components, lists, panels, words
from heedloop_dashboard.fetch import ask, current, read_one, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.state import query, view_of
from heedloop_dashboard.views.review import exchange as review_exchange
from heedloop_dashboard.views.review import fill as review_fill
from heedloop_dashboard.views.review import form as review_form
from heedloop_dashboard.views.review import item as review_item
from heedloop_dashboard.views.review import quality as review_quality
from heedloop_dashboard.views.review import results

PARTS = {
    "items": "Answers",
    "results": "Results",
    "agreement": "Agreement",
    "annotators": "Annotators",
    "fill": "Add answers",
    "exchange": "Exchange",
    "questions": "Questions",
    "guideline": "Guideline",
    "settings": "Settings",
}
NEEDS = {"results": "read"} | dict.fromkeys(("fill", "questions", "guideline", "settings"), "admin")
"""The scope that a part needs, where it is another than `review`."""


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
    if panels.failed(answer):
        return
    queues: Sequence[Queue] = answer.value
    with panels.panel("queues"):
        panels.header(
            "Choose a queue" if sending is not None else "Queues",
            "Choose one or create a new one; the filters are kept" if sending is not None
            else "An answer is done when it has all its judgements",
        )  # fmt: skip
        if queues:
            _table(queues, sending)
        else:
            panels.empty("No queues yet. A queue asks questions about answers you choose.")


def _filling(sending: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if sending is None else {**sending, "fill": st.query_params["fill"]}


def _table(queues: Sequence[Queue], sending: Mapping[str, Any] | None) -> None:
    more = _filling(sending)
    lists.show(
        "queue_rows",
        queues,
        COLUMNS,
        caption="Review queues",
        open=lambda q: Open("review-queues", {**more, "queue": q.queue_id}),
        row_key=lambda q: q.queue_id,
    )


def _counted(label: str, name: str) -> lists.Column[Queue]:
    return lists.Column(
        label, lambda q: words.count(getattr(q.counts, name)) if q.counts else words.NONE, "number"
    )


COLUMNS: Sequence[lists.Column[Queue]] = (
    lists.Column("Name", lambda q: q.name),
    lists.Column("Status", lambda q: q.status.capitalize()),
    _counted("Done", "done"),
    _counted("Answers", "items"),
    _counted("Judgements", "judgements"),
    _counted("In progress", "leased"),
    _counted("Skipped", "skipped"),
    lists.Column("Each", lambda q: words.count(q.judgements_per_item), "number"),
    lists.Column("Due", lambda q: words.clock(q.due_at) if q.due_at else None),
)


# ---------------------------------------------------------------------------------------------------------- one


def _one(queue_id: str) -> None:
    answer = read_one(Client.review_queue, queue_id)
    if answer.error is not None:
        st.subheader("Review queue", anchor=False)
        panels.problem(answer.error)
        return
    queue: Queue = answer.value
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Review queue", anchor=False, width="stretch")
        links = [
            ("All queues", Open("review-queues")),
            ("Start reviewing", Open("review", {"queue": queue_id})),
        ]
        components.links("up", links, label="Queues")
    if queue.counts is not None:
        _verdict(queue, queue.counts)
        _figures(queue, queue.counts)
    _part(queue)


def _verdict(queue: Queue, counts: QueueCounts) -> None:
    left = counts.items - counts.done
    text = f" is {queue.status}. "
    if not counts.items:
        text += "No answers yet: add some."
    elif left:
        text += f"{words.plural(left, 'answer')} left to judge."
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
        ("done", "Done", counts.done, "with all judgements"),
        ("judgements", "Judgements", counts.judgements, "by all annotators"),
        ("leased", "In progress", counts.leased, f"{words.count(counts.skipped)} skipped"),
    ]
    components.cards(
        "figures", [components.Card(k, label, words.count(n), note) for k, label, n, note in entries]
    )


def _part(queue: Queue) -> None:
    parts = [p for p in PARTS if current().can(NEEDS.get(p, "review"))]
    asked = "fill" if st.query_params.get("fill") else st.query_params.get("part", "items")
    part = asked if asked in parts else "items"
    st.session_state["queue_part"] = part
    st.segmented_control(
        "Part", parts, format_func=lambda p: PARTS[p], required=True, key="queue_part", label_visibility="collapsed", on_change=_choose
    )  # fmt: skip
    shown = {
        "items": review_item.show_list,
        "results": results.show,
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
