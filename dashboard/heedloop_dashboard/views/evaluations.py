"""Evaluations: answers given before a release, next to production's or an earlier evaluation's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from heedloop import changes
from heedloop.client import Client
from heedloop.responses import (
    EvaluatedPair,
    EvaluatedPairs,
    Evaluation,
    EvaluationResult,
    Interval,
    MetricDifference,
    Queue,
    SliceDifferences,
)
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.fetch import Answer, ask, current, read, write
from heedloop_dashboard.navigation import Open

SENT = "heedloop_pairs_sent"
COMMAND = "heedloop evaluate app:answer --dataset SNAPSHOT --judge JUDGE"
NAMES = {
    "exact": "Exactly the reference",
    "token_f1": "Words shared with the reference (F1)",
    "edit_similarity": "Characters shared with the reference",
    "json": "Valid JSON",
    "tool_calls": "The reference's tool calls",
    "checks": "Cases that pass their checks",
    "latency_ms": "Latency, ms",
    "cost": "Cost",
    "characters": "Length, characters",
}
ORDERS = {"worst": "Worst losses first", "best": "Best gains first", "doubtful": "Least decided first"}
METRIC_HEADS = [
    {"key": "metric", "label": "Metric", "kind": ""},
    {"key": "verdict", "label": "Verdict", "kind": ""},
    {"key": "difference", "label": "Difference (95%)", "kind": "number"},
    {"key": "new", "label": "New", "kind": "number"},
    {"key": "baseline", "label": "Before", "kind": "number"},
    {"key": "cases", "label": "Cases", "kind": "number"},
]


def show() -> None:
    """Draw one evaluation where the URL names it, else the list."""
    name = (st.query_params.get("name") or "").strip()
    if name:
        _one(name)
        return
    st.subheader("Evaluations", anchor=False)
    answer = read(all=ask(Client.evaluations))["all"]
    with panels.panel("evaluations"):
        panels.header(
            "Evaluations, newest first",
            "Answers to known prompts before a release. They count in no rate, snapshot, rule or alert",
        )
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty("No evaluation yet. Run one with:")
            st.code(COMMAND, language=None, wrap_lines=True)
        else:
            _list(answer.value)


def _list(evaluations: Sequence[Evaluation]) -> None:
    heads = [
        {"key": "name", "label": "Evaluation", "kind": "mono"},
        {"key": "target", "label": "Who answers", "kind": ""},
        {"key": "source", "label": "Prompts", "kind": ""},
        {"key": "status", "label": "Status", "kind": ""},
        {"key": "answered", "label": "Answered", "kind": "number"},
        {"key": "failed", "label": "Failed", "kind": "number"},
        {"key": "cost", "label": "Cost", "kind": "number"},
        {"key": "created", "label": "Begun", "kind": ""},
    ]
    rows = [
        {
            "key": e.name,
            "cells": [
                e.name, e.target, e.source, e.status, f"{e.num_answered:,} of {e.num_cases:,}",
                words.count(e.num_failed), f"{e.cost:,.4g}", words.clock(e.created_at),
            ],
            "open": Open("evaluations", {"name": e.name}).to_json(),
        }
        for e in evaluations
    ]  # fmt: skip
    components.table("evaluation_rows", heads, rows, caption="Evaluations, newest first")


# ---------------------------------------------------------------------------------------------------------- one


def _one(name: str) -> None:
    panels.title("Evaluation", ("All evaluations", Open("evaluations")))
    others = read(all=ask(Client.evaluations))["all"]
    known = [] if others.error is not None else [e.name for e in others.value if e.name != name]
    left, middle, right = st.columns(3)
    with left:
        against = filters.choose(
            "against", {"": "Production", **{n: n for n in known}}, label="Compared with"
        )
    answer = read(result=ask(Client.evaluation, name, against=against))["result"]
    if panels.failed(answer):
        return
    result: EvaluationResult = answer.value
    metrics = {m.name: NAMES.get(m.name, m.name) for m in result.metrics}
    with middle:
        metric = filters.choose("metric", metrics, label="Cases in order of") if metrics else ""
    with right:
        order = filters.choose("order", ORDERS, label="Order")
    st.text(f"{name}: {result.evaluation.target} on {result.evaluation.source}, {result.evaluation.status}")
    _figures(result)
    _metrics(result)
    _slices(result.slices, metric)
    if metric:
        chosen = {"against": against, "metric": metric, "order": order, "limit": 50}
        _pairs(name, read(pairs=ask(Client.evaluated_pairs, name, **chosen))["pairs"], chosen)


def _figures(result: EvaluationResult) -> None:
    one = result.evaluation
    verdicts = [m.verdict for m in result.metrics]
    checked = f"{result.num_passed:,} of {result.num_checked:,}" if result.num_checked else words.NONE
    components.cards(
        "evaluation_figures",
        [
            components.Card(
                "answered", "Answered", f"{one.num_answered:,}", f"of {one.num_cases:,}; {words.plural(one.num_failed, 'failure')}",
                f"{one.target} on {one.source}; {one.status}",
            ),
            components.Card(
                "compared", "Compared", f"{result.num_cases:,}", words.plural(result.num_groups, "group"),
                "Near-copies of a prompt are one group and count once in intervals.",
            ),
            components.Card(
                "worse", "Worse", str(verdicts.count("worse")),
                f"of {words.plural(len(verdicts), 'metric')}; {verdicts.count('better')} better",
                "The whole interval of the difference lies on one side of 0.", tone="bad" if "worse" in verdicts else "",
            ),
            components.Card(
                "checks", "Cases passed", checked, "each passes all of its checks",
                "Cases are made of corrections, flags and adjudicated judgements.",
            ),
        ],
    )  # fmt: skip


def _metrics(result: EvaluationResult) -> None:
    with panels.panel("evaluation_metrics"):
        panels.header(
            "Differences, prompt by prompt",
            "New less before, clustered by group of near-copies; undecided where the interval holds 0",
        )
        if not result.metrics:
            panels.empty("No prompt was answered on both sides.")
            return
        rows = [{"key": m.name, "cells": _cells(NAMES.get(m.name, m.name), m)} for m in result.metrics]
        components.table("metric_rows", METRIC_HEADS, rows, caption="Differences", link=-1)


def _cells(label: str, m: MetricDifference) -> list[str]:
    cases = f"{m.num_cases:,}" + (f", {m.num_people:,} by annotators" if m.num_people else "")
    verdict = m.verdict if m.better else words.NONE
    return [label, verdict, _change(m.difference), f"{m.new:,.4g}", f"{m.baseline:,.4g}", cases]


def _change(d: Interval | None) -> str:
    return words.NONE if d is None else f"{d.estimate:+,.3g} ({d.low:+,.3g} to {d.high:+,.3g})"


def _slices(slices: Sequence[SliceDifferences], metric: str) -> None:
    found = [(s, m) for s in slices for m in s.metrics if m.name == metric]
    if not found:
        return
    with panels.panel("evaluation_slices"):
        panels.header(
            f"By language, tag and topic: {NAMES.get(metric, metric)}",
            f"{words.plural(len(found), 'look')}: about one in twenty differs by chance",
        )
        heads = [{"key": "slice", "label": "Slice", "kind": ""}, *METRIC_HEADS[1:]]
        rows = [{"key": f"{s.name}:{s.value}", "cells": _cells(f"{s.name}: {s.value}", m)} for s, m in found]
        components.table("slice_rows", heads, rows, caption="Differences by slice", link=-1)


# -------------------------------------------------------------------------------------------------------- pairs


def _pairs(name: str, answer: Answer[EvaluatedPairs], chosen: dict[str, Any]) -> None:
    with panels.panel("evaluation_pairs"):
        panels.header("Side by side", "What was answered before and now; select a question for both in full")
        if panels.failed(answer):
            return
        heads = [
            {"key": "question", "label": "Question", "kind": "wide"},
            {"key": "before", "label": "Before", "kind": "wide"},
            {"key": "now", "label": "Now", "kind": "wide"},
            {"key": "change", "label": "Change", "kind": "number"},
        ]
        kept = {k: v for k, v in chosen.items() if v and k != "limit"}
        rows = [
            {
                "key": p.row.case_id,
                "cells": [_question(p)[:200], p.baseline_answer[:200], p.answer[:200], _gain(p)],
                "open": Open("evaluations", {"name": name, **kept, "case": p.row.case_id}).to_json(),
            }
            for p in answer.value.pairs
        ]
        components.table("pair_rows", heads, rows, caption="Side by side", tall=True)
    case = st.query_params.get("case")
    for pair in answer.value.pairs:
        if pair.row.case_id == case:
            _whole(pair)
    if current().can("admin"):
        _review(name, {**chosen, "order": "doubtful", "limit": 500})


def _question(pair: EvaluatedPair) -> str:
    return next((m.text for m in reversed(pair.prompt) if m.role == "user"), "") or "erased"


def _gain(pair: EvaluatedPair) -> str:
    if pair.new is None or pair.baseline is None:
        return words.NONE
    return f"{pair.baseline:,.3g} to {pair.new:,.3g}"


def _whole(pair: EvaluatedPair) -> None:
    with panels.panel("evaluation_pair"):
        panels.header("One case", "Removed text is struck through, added text highlighted")
        st.text(_question(pair))
        components.diff(
            "pair_diff", changes.compare(pair.baseline_answer, pair.answer), label="Before and now"
        )
        for failure in pair.row.failed_checks:
            st.text(f"Fails a check: {failure}")
        row = pair.row
        links = [
            ("Answer before", row.baseline_trace_id, row.baseline_span_id),
            ("Answer now", row.trace_id, row.span_id),
        ]
        components.links(
            "pair_links",
            [(t, Open("trace", {"trace_id": i, "span_id": s})) for t, i, s in links if i],
            label="Traces",
            left=True,
        )


def _review(name: str, doubtful: dict[str, Any]) -> None:
    """The least decided pairs by the chosen metric, as items that annotators compare."""
    queues = read(queues=ask(Client.review_queues))["queues"]
    if queues.error is not None:
        return
    open_queues = {q.name or q.queue_id: q for q in queues.value if q.status == "open"}
    with panels.panel("evaluation_review"):
        panels.header("Let annotators decide", "To a review queue that compares two answers")
        sent = st.session_state.pop(SENT, None)
        if sent is not None:
            st.text(sent)
        if not open_queues:
            panels.empty("Make a review queue with a comparison first.")
            return
        with st.form("evaluation_send", border=False):
            left, right = st.columns([3, 1])
            queue = open_queues[left.selectbox("Review queue", list(open_queues))]
            size = int(right.number_input("How many", 1, 500, 20))
            if st.form_submit_button("Send doubtful pairs to review", type="primary"):
                _send(queue, read(pairs=ask(Client.evaluated_pairs, name, **doubtful))["pairs"], size)


def _send(queue: Queue, pairs: Answer[EvaluatedPairs], size: int) -> None:
    """Add pairs of different answers to a queue; the evaluation's answer is the first of each."""
    if panels.failed(pairs):
        return
    items = [
        [
            {"trace_id": p.row.trace_id, "span_id": p.row.span_id},
            {"trace_id": p.row.baseline_trace_id, "span_id": p.row.baseline_span_id},
        ]
        for p in pairs.value.pairs
        if p.row.baseline_trace_id and p.row.trace_id and p.answer != p.baseline_answer
    ]
    done = write(Client.fill_review_queue, queue.queue_id, "targets", items=items[:size])
    if panels.failed(done):
        return
    st.session_state[SENT] = f"{words.plural(done.value.added, 'pair')} added to {queue.name}."
    st.rerun()
