"""Fill a queue: which answers go in, and how they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import FilledQueue, Queue
from heedloop_dashboard import components, filters, panels, rules, spans, words
from heedloop_dashboard.fetch import read_one, write
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.review.questions import lines
from heedloop_dashboard.state import chosen_filters, query
from heedloop_dashboard.views.review import filling_rules

SOURCES = {
    "filter": "All matching answers",
    "sample": "A random sample",
    "disagreement": "Disagreements",
    "low_confidence": "Low judge confidence",
    "same_prompt": "Several answers to one prompt",
    "sessions": "Whole sessions",
    "targets": "These answers",
}
ABOUT = {
    "filter": "The newest answers that match. A rate over them speaks for this filter only.",
    "sample": "Drawn at random from all that match; the probability is stored, so that rates over them speak for all.",
    "disagreement": "Answers that two sides judged differently.",
    "low_confidence": "Answers whose judge model gave a score in the middle.",
    "same_prompt": "Answers of different models or versions to the same prompt, to be compared or ranked.",
    "sessions": "Sessions of which an answer matches, each judged turn by turn and as a whole.",
    "targets": "Trace ids, one per line; several in one line are answers to compare.",
}
KINDS = {
    "user_annotator": "User and annotator",
    "model_human": "Model and people",
    "judge_human": "Judge model and people",
    "annotators": "Between annotators",
}
HELP = "One name=value per line, as in the address of a page: model=small-2, tag=refunds, rating=down"
_ADDED = "heedloop_items_added"


def show(queue: Queue) -> None:
    """Draw the form; the URL's `fill` is the source it begins with, its filters the answers."""
    added = st.session_state.pop(_ADDED, None)
    if added is not None:
        _show_added(queue, added)
    _form(queue)
    filling_rules.show(queue, KINDS)


def _form(queue: Queue) -> None:
    with panels.panel("fill"):
        panels.header("Add answers", "Answers already in the queue are not added again")
        asked = st.query_params.get("fill", "filter")
        source = st.selectbox(
            "Which", list(SOURCES), index=list(SOURCES).index(asked) if asked in SOURCES else 0, format_func=lambda s: SOURCES[s]
        )  # fmt: skip
        st.caption(ABOUT[source])
        with st.form("fill", border=False):
            fields = _fields(source) | _placing()
            if not st.form_submit_button("Add to queue", type="primary"):
                return
        try:
            body = body_of(source, fields)
            if source == "targets":
                body["items"] = [[_whole(t) for t in item] for item in body["items"]]
        except ValueError as err:
            st.text(str(err))
            return
        answer = write(Client.fill_review_queue, queue.queue_id, **body)
        if panels.failed(answer):
            return
        st.session_state[_ADDED] = answer.value
        st.rerun()


def _placing() -> dict[str, Any]:
    """Who is offered the answers, and when."""
    with st.expander("Priority, assignment, calibration"):
        return {
            "priority": st.number_input("Priority", -100, 100, 0, help="Higher comes first"),
            "assign": st.text_input("Assign to", placeholder="All annotators; or ada@example.org, group:legal"),
            "calibration": st.text_input(
                "Calibration round", max_chars=100, placeholder="None",
                help="With a name: every annotator judges them, first; Agreement by calibration round compares rounds.",
            ),
        }  # fmt: skip


def _show_added(queue: Queue, added: FilledQueue) -> None:
    text = f" added; {added.known:,} already there" if added.known else " added"
    text += f"; {added.matching:,} match."
    components.finding(
        "added", lead=words.plural(added.added, "answer"), text=text, tone="good",
        action="See them", open=Open("review-queues", {"queue": queue.queue_id}),
    )  # fmt: skip


def _fields(source: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if source == "targets":
        fields["targets"] = st.text_area(
            "Trace ids", height=140, placeholder="32 hexadecimal digits, or trace:span"
        )
        return fields
    fields["filters"] = st.text_area(
        "Only answers matching",
        value=rules.filter_lines(_from_url()),
        placeholder="All answers of the last 30 days",
        help=HELP,
        height=110,
    )
    left, right = st.columns(2)
    with left:
        label = "How many" if source == "sample" else "At most"
        fields["limit"] = st.number_input(label, 1, 10_000, 100)
    with right:
        if source == "disagreement":
            fields["kind"] = st.selectbox("Between", list(KINDS), format_func=lambda k: KINDS[k])
        if source == "low_confidence":
            fields["judge"] = st.text_input("Judge", placeholder="Any", max_chars=256)
        if source == "same_prompt":
            fields["answers_per_item"] = st.number_input("Answers to each prompt", 2, 8, 2)
    return fields


def _from_url() -> dict[str, Any]:
    """The filters of the page that sent its answers here."""
    given = query()
    return (
        filters.filters() if any(n in given for n in ("period", "since", "until")) else chosen_filters(given)
    )


def body_of(source: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the server is asked for; raises ValueError in words."""
    placing: dict[str, Any] = {}
    if fields.get("priority"):
        placing["priority"] = int(fields["priority"])
    if names := lines((fields.get("assign") or "").replace(",", "\n")):
        placing["assign"] = names
    if round_name := (fields.get("calibration") or "").strip():
        placing["calibration"] = round_name
    if source == "targets":
        return {"source": source, "items": _targets(fields["targets"]), **placing}
    body: dict[str, Any] = {"source": source, **placing, "filters": rules.parse_filters(fields["filters"])}
    body["size" if source == "sample" else "limit"] = int(fields["limit"])
    if source == "disagreement":
        body["kind"] = fields["kind"]
    if source == "low_confidence" and fields["judge"].strip():
        body["judge"] = fields["judge"].strip()
    if source == "same_prompt":
        body["answers_per_item"] = int(fields["answers_per_item"])
    return body


def _targets(text: str) -> list[list[dict[str, str]]]:
    items = [
        [_target(word) for word in line.replace(",", " ").split()]
        for line in text.splitlines()
        if line.strip()
    ]
    if not items:
        raise ValueError("Enter at least one trace id.")
    return items


def _whole(target: Mapping[str, str]) -> dict[str, str]:
    """A target with its span: where only a trace is named, the trace's answer; raises ValueError in words."""
    if "span_id" in target:
        return dict(target)
    found = read_one(Client.trace, target["trace_id"])
    span = None if found.error is not None else spans.answer_span(found.value)
    if span is None:
        raise ValueError(f"There is no answer in the trace {target['trace_id'][:40]}.")
    return {"trace_id": target["trace_id"], "span_id": span.span_id}


def _target(word: str) -> dict[str, str]:
    parts = word.lower().split("-")
    if len(parts) == 4:  # a traceparent
        return {"trace_id": parts[1], "span_id": parts[2]}
    trace, _, span = word.lower().partition(":")
    return {"trace_id": trace, **({"span_id": span} if span else {})}
