"""Quality control of a queue: how far annotators agree, and how each of them works. Numbers with intervals, never a badge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import (
    Agreement,
    Annotator,
    Bias,
    ComparedAnswer,
    Confusion,
    Interval,
    Queue,
    QueueAgreement,
    QueueAnnotators,
    QueueConfusion,
    QueuePools,
    Reliability,
    Tendency,
)
from heedloop_dashboard import components, filters, lists, panels, words
from heedloop_dashboard.fetch import Answer, ask, read_page
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import league

SLICES = {
    "": "All together", "model": "By model", "prompt_version": "By version", "prompt_name": "By prompt", "tag": "By tag",
    "service": "By service", "source": "By source", "metadata.language": "By language", "guideline": "By guideline version",
    "week": "By week", "pool": "By group", "round": "By calibration round", "layer": "By second layer",
}  # fmt: skip
MEASURES = {
    "percent": "Percent",
    "cohen": "Cohen \u03ba",
    "fleiss": "Fleiss \u03ba",
    "weighted_kappa": "Weighted \u03ba",
    "alpha": "Krippendorff \u03b1",
    "gwet_ac1": "Gwet AC1",
    "range_overlap": "Overlap of marks",
}
METHODS = {"dawid_skene": "Dawid\u2013Skene", "weighted": "Weighted", "majority": "Majority"}
AGAINST = {"user": "User thumbs", "judge": "A judge model", "model": "The model's own label"}


def number(value: Interval | None) -> str:
    """A coefficient as `0.62 (0.51 to 0.71)`; an en dash where it is undefined."""
    if value is None:
        return words.NONE
    estimate, low, high = (
        round(n, 2) + 0.0 for n in (value.estimate, value.low, value.high)
    )  # -0.0 becomes 0.0
    return f"{estimate:.2f} ({low:.2f} to {high:.2f})"


def agreement(queue: Queue) -> None:
    """How far annotators agree per question, whole and in slices; consensus; people beside others."""
    by = st.query_params.get("by", "")
    with st.container(horizontal=True):
        by = filters.choose("by", SLICES, width=210)
        against = filters.choose("against", AGAINST, width=210)
    answers = read_page(
        agreement=ask(Client.review_agreement, queue.queue_id, by=by or None),
        confusion=ask(Client.review_confusion, queue.queue_id, against),
    )
    with panels.panel("agreement"):
        panels.header(
            "Agreement between annotators",
            "95% intervals by bootstrap over answers; a dash is undefined, such as with one judgement each",
        )
        _agreement(answers["agreement"], queue)
    _confusion(answers["confusion"], queue, against)
    if st.query_params.get("question"):
        _compared(queue, against)
    if any(q.kind in ("comparison", "ranking") for q in queue.questions):
        _league(queue)


def _league(queue: Queue) -> None:
    """Who wins in this queue's comparisons, of all time."""
    found = ask(Client.quality_league, "model", queue=queue.queue_id, since="2000-01-01T00:00:00Z")
    league.show(read_page(league=found)["league"], "model", "model")


def _compared(queue: Queue, against: str) -> None:
    """The answers of the cell that the URL names."""
    names = ("question", "people", "other", "left_out")
    chosen = {n: v for n in names if (v := st.query_params.get(n))}
    cell = ask(Client.review_compared, queue.queue_id, against, limit=200, **chosen)
    answer = read_page(cell=cell)["cell"]
    other = AGAINST[against]
    columns: list[lists.Column[ComparedAnswer]] = [
        lists.Column("Asked", lambda a: a.asked or a.trace_id[:8], "wide"),
        lists.Column("People", lambda a: str(a.people)),
        lists.Column(other, lambda a: words.NONE if a.other is None else str(a.other)),
    ]
    lists.panel(
        "cell",
        "The answers of this cell",
        "Select one to read all judgements",
        Answer(answer.value.answers if answer.error is None else [], answer.error),
        columns,
        empty_text="No answers in this cell.",
        open=lambda a: Open("review-queues", {"queue": queue.queue_id, "item": a.item_id}),
    )


def _agreement(answer: Answer, queue: Queue) -> None:
    if panels.failed(answer):
        return
    found: QueueAgreement = answer.value
    if not any(q.num_judgements for q in found.questions):
        panels.empty("Nothing was judged yet.")
        return
    parts = [p for q in found.questions for p in (q, *(q.slices or []))]
    measures = [m for m in MEASURES if any(getattr(p, m) is not None for p in parts)]
    heads = [{"key": "question", "label": "Question", "kind": ""}]
    heads += [{"key": m, "label": MEASURES[m], "kind": "number"} for m in measures]
    heads += [
        {"key": "units", "label": "Judged twice", "kind": "number"},
        {"key": "n", "label": "Judgements", "kind": "number"},
    ]
    rows: list[dict[str, Any]] = []
    for entry in found.questions:
        rows.append({"cells": _cells(_title(queue, entry.question), entry, measures)})
        for part in entry.slices or []:
            rows.append({"cells": _cells(f"\u2003{part.value or '(none)'}", part, measures)})
    components.table("agreement_rows", heads, rows, caption="Agreement per question", link=-1)


def _cells(title: str, entry: Agreement, measures: Sequence[str]) -> list[Any]:
    return [
        title,
        *(number(getattr(entry, m)) for m in measures),
        words.count(entry.num_units),
        words.count(entry.num_judgements),
    ]


def _title(queue: Queue, name: str) -> str:
    return next((q.title for q in queue.questions if q.name == name), name)


def _confusion(answer: Answer, queue: Queue, against: str) -> None:
    other = AGAINST[against].lower()
    with panels.panel("confusion"):
        panels.header("Annotators vs. others", f"Rows: the annotators' consensus. Columns: {other}")
        if panels.failed(answer):
            return
        compared: QueueConfusion = answer.value
        found = [q for q in compared.questions if q.n or q.left_out.unknown]
        if not found:
            panels.empty("No answer of this queue was judged by both.")
        for entry in found:
            st.text(
                f"{_title(queue, entry.question or '')}: same on {words.interval(entry.accuracy)}, \u03ba {number(entry.kappa)}"
            )
            heads = [{"key": "row", "label": "", "kind": ""}]
            heads += [
                {"key": f"c{i}", "label": str(c), "kind": "number"} for i, c in enumerate(entry.categories)
            ]
            cell = {
                "queue": queue.queue_id,
                "part": "agreement",
                "against": against,
                "question": entry.question or "",
            }
            rows = [
                {
                    "cells": [str(c), *row],
                    "opens": {
                        f"c{i}": Open("review-queues", {**cell, "people": str(c), "other": str(o)}).to_json()
                        for i, o in enumerate(entry.categories)
                        if row[i]
                    },
                }
                for c, row in zip(entry.categories, entry.table, strict=True)
            ]
            components.table(
                f"confusion_{entry.question}", heads, rows, caption="Consensus and the other side", link=-1
            )
            _left_out(entry, cell)


def _left_out(entry: Confusion, cell: Mapping[str, str]) -> None:
    """How many judged answers are not in the table, and what they say instead."""
    left = entry.left_out
    if not left.none and not left.unknown:
        return
    parts = [
        f"{left.none:,} without a verdict" if left.none else "",
        f"{left.unknown:,} with another" if left.unknown else "",
    ]
    examples = f" ({'; '.join(left.examples[:3])[:200]})" if left.examples else ""
    st.text(f"Not in the table: {', '.join(p for p in parts if p)}{examples}")
    components.links(
        f"left_out_{entry.question}",
        [("See them", Open("review-queues", {**cell, "left_out": "true"}))],
        label="Left out",
        left=True,
    )


# --------------------------------------------------------------------------------------------------- annotators


def annotators(queue: Queue) -> None:
    """How each annotator works, and what their judgements go along with that should not matter."""
    read = read_page(
        found=ask(Client.review_annotators, queue.queue_id), pools=ask(Client.review_pools, queue.queue_id)
    )
    answer = read["found"]
    if panels.failed(answer):
        return
    found: QueueAnnotators = answer.value
    people = found.annotators
    with panels.panel("annotators"):
        panels.header(
            "Annotators",
            f"Right on gold: {words.plural(found.num_gold, 'answer')} whose judgement is known",
        )
        if people:
            _annotators(people)
        else:
            panels.empty("No judgements yet.")
    _notes(people)
    if read["pools"].error is None:
        _pools(read["pools"].value, queue)
    _bias(found.bias, queue)


def _pools(found: QueuePools, queue: Queue) -> None:
    """Groups of the team held against each other; nothing where all are in one or none."""
    rows = [
        {
            "cells": [
                _title(queue, question.question),
                pool.name or "(no group)",
                number(pool.mean),
                number(pool.percent),
                *([words.interval(p.agreement) for p in question.pairs if pool.name == p.first] or [None])[
                    :1
                ],
                words.count(pool.num_judgements),
            ]
        }
        for question in found.questions
        if len(question.pools) > 1
        for pool in question.pools
    ]
    if not rows:
        return
    with panels.panel("pools"):
        panels.header("Groups", "Means from 0 to 1; last column: share of answers with the same majority")
        heads = components.columns(
            ["Question", "Group"], ["Mean", "Agree within", "Same as the next", "Judgements"]
        )
        components.table("pool_rows", heads, rows, caption="Groups of annotators", link=-1)


def _annotators(people: Sequence[Annotator]) -> None:
    columns: list[lists.Column[Annotator]] = [
        lists.Column("Annotator", lambda p: p.author_id),
        lists.Column("Careless", lambda p: "Suspected" if p.careless else ""),
        lists.Column("Answers", lambda p: words.count(p.num_items), "number"),
        lists.Column("Right on gold", lambda p: words.interval(p.gold) if p.gold else None, "number"),
        lists.Column("Reliability", lambda p: _lowest(p.reliability), "number"),
        lists.Column("Leniency", lambda p: _severity(p.severity), "number"),
        lists.Column("Median", lambda p: words.duration(p.median_s and p.median_s * 1e9), "number"),
        lists.Column("Drift", lambda p: _drift(p.drift), "number"),
    ]
    lists.show(
        "annotator_rows", people, columns, caption="Annotators of this queue", row_key=lambda p: p.author_id
    )


def _lowest(reliability: Mapping[str, Reliability]) -> str | None:
    """The question on which an annotator is least reliable, as accuracy estimated from the others and gold."""
    if not reliability:
        return None
    value, question = min(((r.accuracy, q) for q, r in reliability.items()), key=lambda k: k[0].estimate)
    return f"{100 * value.estimate:.0f}% ({100 * value.low:.0f} to {100 * value.high:.0f}) {question}"


def _drift(value: Interval | None) -> str | None:
    """How much more often an annotator was right lately, in whole points: the table has many columns."""
    if value is None:
        return None
    estimate, low, high = (round(100 * n) for n in (value.estimate, value.low, value.high))
    return f"{estimate:+d} pts ({low:+d} to {high:+d})"


def _severity(severity: Mapping[str, Interval | None]) -> str | None:
    """The question on which an annotator differs most from the others."""
    known = [(v, q) for q, v in severity.items() if v]
    if not known:
        return None
    value, question = max(known, key=lambda k: abs(k[0].estimate))
    return f"{value.estimate:+.2f} ({value.low:+.2f} to {value.high:+.2f}) {question}"


def _notes(people: Sequence[Annotator]) -> None:
    found = [(p.author_id, text) for p in people for text in (*p.reasons, *p.notes)]
    if not found:
        return
    with panels.panel("annotator_notes"):
        panels.header(
            "Notable", "A reason to look closer, not a verdict: hard answers slow careful annotators, too"
        )
        heads = [
            {"key": "who", "label": "Annotator", "kind": ""},
            {"key": "what", "label": "What", "kind": "wrap"},
        ]
        components.table("note_rows", heads, [{"cells": list(f)} for f in found], caption="Notable", link=-1)


def _bias(tendencies: Sequence[Bias], queue: Queue) -> None:
    rows: list[dict[str, Any]] = []
    for tendency in tendencies:
        title = _title(queue, tendency.question)
        for who, measured in {"everyone": tendency.all, **tendency.annotators}.items():
            for label, interval in _flat(measured):
                rows.append({"cells": [title, who, label, number(interval), words.count(interval.n)]})
    if not rows:
        return
    with panels.panel("bias"):
        panels.header(
            "Correlations of judgements",
            "Length, position, model, language: associations, not proof of bias",
        )
        heads = components.columns(["Question", "Who", "With"], ["How far", "n"])
        components.table("bias_rows", heads, rows, caption="Correlations of judgements", link=-1, tall=True)


def _flat(measured: Tendency) -> list[tuple[str, Interval]]:
    """Every interval with what it is about; of a field with one value alone there is nothing to say."""
    found = [
        ("length", measured.length),
        *(_by_value("model", measured.model)),
        *(_by_value("language", measured.language)),
        ("longer", measured.longer),
        ("first shown", measured.first_shown),
    ]
    return [(label, interval) for label, interval in found if interval is not None]


def _by_value(field: str, values: Mapping[str, Interval | None] | None) -> list[tuple[str, Interval | None]]:
    if values is None or len(values) < 2:
        return []
    return [(f"{field} {value or '(none)'}", interval) for value, interval in values.items()]
