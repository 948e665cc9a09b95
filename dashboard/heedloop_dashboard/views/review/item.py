"""The answers of a queue with everybody's judgements, and the page on which a reviewer settles one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.components import review as settling
from heedloop_dashboard.fetch import ask, current, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.review.questions import answer_text
from heedloop_dashboard.views.review import page as review

__all__ = ["show", "show_list"]

PAGE = 50
STATES = {
    "": "All answers",
    "open": "Still to be judged",
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


def show_list(queue: Mapping[str, Any]) -> None:
    """Draw a queue's items in the state that the URL names."""
    state = filters.choose("state", STATES, width=210)
    cursor = st.query_params.get("cursor")
    path = f"queues/{queue['queue_id']}/items"
    answer = read_page(items=ask(Client.review, "GET", path, state=state or None, cursor=cursor, limit=PAGE))[
        "items"
    ]
    with panels.panel("items"):
        panels.header(
            "Answers and what was said of them", "Select one to read everybody's judgement, and to settle it"
        )
        if answer.error is not None:
            panels.problem(answer.error)
            return
        items: Sequence[Mapping[str, Any]] = answer.value["items"]
        if not items:
            panels.empty("No answer is in this state.")
            return
        _table(queue, items)
    _pages(queue, state, cursor, answer.value.get("next_cursor"))


def _table(queue: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
    asked = [q for q in queue["questions"] if q["kind"] not in ("text", "correction")][:4]
    heads = [
        {"key": "item", "label": "Asked", "kind": "wide"},
        {"key": "state", "label": "State", "kind": ""},
        {"key": "num", "label": "Judgements", "kind": "number"},
        *(
            {"key": f"q{i}", "label": str(q.get("title") or q["name"]), "kind": ""}
            for i, q in enumerate(asked)
        ),
        {"key": "source", "label": "Chosen by", "kind": ""},
    ]
    rows = [
        {
            "key": item["item_id"],
            "cells": [
                item.get("asked") or " + ".join(t["trace_id"][:8] for t in item["targets"]),
                _state(item),
                words.count(len(item.get("judgements") or [])),
                *(_answers_text(q, item) for q in asked),
                _source(item),
            ],
            "open": Open("review-queues", {"queue": queue["queue_id"], "item": item["item_id"]}).to_json(),
        }
        for item in items
    ]
    components.table("item_rows", heads, rows, caption="Answers of the queue")


def _state(item: Mapping[str, Any]) -> str:
    state = {"adjudicated": "settled"}.get(item["state"], item["state"])
    gold = {"": "", "gold": ", gold", "training": ", training"}.get(item.get("gold") or "", ", gold")
    return f"{state}{gold}".capitalize()


def _answers_text(question: Mapping[str, Any], item: Mapping[str, Any]) -> str | None:
    """The adjudicated answer, else the annotators' different answers, each once."""
    several = len(item["targets"]) > 1
    if item.get("adjudicated"):
        return answer_text(question, item["adjudicated"]["answers"].get(question["name"]), several=several)
    said = [
        answer_text(question, j["answers"].get(question["name"]), several=several)
        for j in item.get("judgements") or []
    ]
    return " / ".join(dict.fromkeys(said))[:120] or None


def _source(item: Mapping[str, Any]) -> str:
    probability = item.get("sampling_probability")
    word = str(item.get("source") or "").replace("_", " ")
    return word if probability is None else f"{word} ({words.percent(probability)})"


def _pages(queue: Mapping[str, Any], state: str, cursor: str | None, following: str | None) -> None:
    params = {"queue": queue["queue_id"], "state": state}
    links = [("\u2190 First", Open("review-queues", params))] if cursor else []
    if following:
        links.append(("More answers \u2192", Open("review-queues", {**params, "cursor": following})))
    if links:
        components.links("pages", links, label="Pages of this list", left=True)
