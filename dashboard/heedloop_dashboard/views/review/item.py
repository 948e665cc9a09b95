"""The answers of a queue with everybody's judgements, and the page on which a reviewer settles one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from heedloop.client import Client
from heedloop.responses import ItemPage, ListedItem, Question, Queue, ReviewItem
from heedloop_dashboard import components, filters, lists, panels, words
from heedloop_dashboard.components import review as settling
from heedloop_dashboard.fetch import ask, current, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.review.questions import answer_text
from heedloop_dashboard.views.review import page as review

PAGE = 50
STATES = {
    "": "All answers",
    "open": "Not judged yet",
    "disagreement": "Disagreements",
    "skipped": "Skipped by all",
    "done": "Done",
    "adjudicated": "Settled",
}


def show(queue_id: str, item_id: str) -> None:
    """Draw one item to be settled."""
    who = review.reader()
    if who is not None:
        settling.adjudicate(queue_id, item_id, who=who, admin=current().can("admin"))


def show_list(queue: Queue) -> None:
    """Draw a queue's items in the state that the URL names."""
    state = filters.choose("state", STATES, width=210)
    cursor = st.query_params.get("cursor")
    items = ask(Client.review_items, queue.queue_id, state=state or None, cursor=cursor, limit=PAGE)
    answer = read_page(items=items)["items"]
    with panels.panel("items"):
        panels.header("Answers and their judgements", "Select one to read all judgements and adjudicate")
        if panels.failed(answer):
            return
        page: ItemPage = answer.value
        if not page.items:
            panels.empty("No answer is in this state.")
            return
        _table(queue, page.items)
    _pages(queue, state, cursor, page.next_cursor)


def _table(queue: Queue, items: Sequence[ListedItem]) -> None:
    asked = [q for q in queue.questions if q.kind not in ("text", "correction")][:4]
    columns: list[lists.Column[ListedItem]] = [
        lists.Column("Asked", lambda i: i.asked or " + ".join(t.trace_id[:8] for t in i.targets), "wide"),
        lists.Column("State", _state),
        lists.Column("Judgements", lambda i: words.count(len(i.judgements)), "number"),
        *(lists.Column(q.title, partial(_answers_text, q)) for q in asked),
        lists.Column("Chosen by", _source),
    ]
    lists.show(
        "item_rows",
        items,
        columns,
        caption="Answers of the queue",
        open=lambda i: Open("review-queues", {"queue": queue.queue_id, "item": i.item_id}),
        row_key=lambda i: i.item_id,
    )


def _state(item: ReviewItem) -> str:
    state = "settled" if item.state == "adjudicated" else item.state
    return ", ".join(p for p in (state, item.gold) if p).capitalize()


def _answers_text(question: Question, item: ReviewItem) -> str | None:
    """The adjudicated answer, else the annotators' different answers, each once."""
    several = len(item.targets) > 1
    if item.adjudicated is not None:
        return answer_text(question.kind, item.adjudicated.answers.get(question.name), several=several)
    said = [
        answer_text(question.kind, j.answers.get(question.name), several=several) for j in item.judgements
    ]
    return " / ".join(dict.fromkeys(said))[:120] or None


def _source(item: ReviewItem) -> str:
    probability = item.sampling_probability
    word = item.source.replace("_", " ")
    return word if probability is None else f"{word} ({words.percent(probability)})"


def _pages(queue: Queue, state: str, cursor: str | None, following: str | None) -> None:
    params = {"queue": queue.queue_id, "state": state}
    links = [("\u2190 First", Open("review-queues", params))] if cursor else []
    if following:
        links.append(("More answers \u2192", Open("review-queues", {**params, "cursor": following})))
    if links:
        components.links("pages", links, label="Pages of this list", left=True)
