"""What a queue's annotators said of answers: ratings and marks by a field of the call, and how much of each value is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import CoveredValue, MarkedGroup, NamedRating, Queue, RatedCounts
from heedloop_dashboard import components, filters, lists, panels, words
from heedloop_dashboard.fetch import Answer, ask, read_page

BY = {
    "prompt_version": "By version", "model": "By model", "tag": "By tag", "prompt_name": "By prompt", "service": "By service",
    "metadata.topic": "By topic", "metadata.document_type": "By document type", "metadata.language": "By language",
}  # fmt: skip


def show(queue: Queue) -> None:
    """Draw the results by the field that the URL names."""
    with st.container(horizontal=True):
        by = filters.choose("field", BY, width=210) or "prompt_version"
        own = st.text_input(
            "By metadata",
            placeholder="Another key of the metadata",
            max_chars=100,
            width=260,
            label_visibility="collapsed",
        )
    by = f"metadata.{own.strip()}" if own.strip() else by
    annotators = {"author_kind": "annotator"}
    answers = read_page(
        ratings=ask(Client.named_ratings, by=by, **annotators),
        marks=ask(Client.quality_marks, by=by, **annotators),
        coverage=ask(Client.review_coverage, queue.queue_id, by),
    )
    names = {q.name: q.title for q in queue.questions}
    for name, answer in answers.items():
        if panels.failed(answer):
            return
        {"ratings": _ratings, "marks": _marks, "coverage": _coverage}[name](answer.value, names)


def _named(name: str, names: Mapping[str, str]) -> str | None:
    """The question's title, with the choice of it; None for a rating of another queue."""
    question, _, choice = name.partition(": ")
    title = names.get(question)
    return f"{title}: {choice}" if title and choice else title


def _ratings(found: Any, names: Mapping[str, str]) -> None:
    ratings: Sequence[NamedRating] = found.ratings
    rows = [
        {"cells": [title, group.value or "(none)", value, words.count(group.num_answers)]}
        for rating in ratings
        if (title := _named(rating.name, names)) is not None
        for group in rating.groups or []
        for value in _values(rating, group)
    ]
    with panels.panel("result_ratings"):
        panels.header(
            "Ratings", "By all annotators, under the names of this queue's questions; 95% intervals"
        )
        if not rows:
            panels.empty("Nothing was rated yet.")
            return
        heads = components.columns(
            ["Question", found.by.removeprefix("metadata.")], ["Mean or share", "Answers"]
        )
        components.table("result_rating_rows", heads, rows, caption="Ratings by field", link=-1)


def _values(rating: NamedRating, group: RatedCounts) -> list[str]:
    if rating.kind == "category":
        return [
            f"{category} {words.interval(share)}"
            for category, share in group.shares.items()
            if share is not None
        ]
    mean = group.mean
    if mean is None:
        return []
    if rating.kind == "thumb":
        return [words.interval(mean)]
    return [f"{mean.estimate:.2f} ({mean.low:.2f} to {mean.high:.2f})"]


def _marks(found: Any, names: Mapping[str, str]) -> None:
    groups: Sequence[MarkedGroup] = found.groups
    rows = [
        {
            "cells": [
                names[mark.name],
                mark.category,
                group.value or "(none)",
                words.count(mark.num),
                words.interval(mark.share),
                words.NONE if mark.per_1000_chars is None else f"{mark.per_1000_chars:.2f}",
            ]
        }
        for group in groups
        for mark in group.marks
        if mark.name in names
    ]
    if not rows:
        return
    with panels.panel("result_marks"):
        panels.header(
            "Flags and marks", "How many, on which share of the judged answers, and per 1,000 characters"
        )
        by = (found.by or "").removeprefix("metadata.")
        heads = components.columns(
            ["Question", "Label", by], ["Marks", "Answers with one", "Per 1,000 characters"]
        )
        components.table("result_mark_rows", heads, rows, caption="Flags and marks by field", link=-1)


def _coverage(found: Any, _names: Mapping[str, str]) -> None:
    columns: list[lists.Column[CoveredValue]] = [
        lists.Column(found.by.removeprefix("metadata."), lambda v: v.value or "(none)"),
        lists.Column("Answers", lambda v: words.count(v.num), "number"),
        lists.Column("In the queue", lambda v: words.count(v.num_queued), "number"),
        lists.Column("Judged", lambda v: words.count(v.num_judged), "number"),
        lists.Column("Share judged", lambda v: words.interval(v.share), "number"),
    ]
    lists.panel(
        "result_coverage",
        "Coverage",
        "Of the answers of the last 30 days: how many are in this queue, and were judged in it",
        Answer(found.values),
        columns,
        empty_text="No answers in the last 30 days.",
    )
