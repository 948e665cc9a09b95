"""What an annotator's answer to a question says, as labels that can be held against another annotator's.

A *unit* is what two annotators can agree on: an answer of an item (thumb, scale, category), an answer and a category
(flags, ranges: chosen or not), two answers of an item (comparison, ranking: which is better). Answers come in the
item's own order, whatever order each annotator was shown.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any, Literal, cast

from heedloop_server.review.questions import Question
from heedloop_server.statistics.agreement import Metric

Unit = tuple[str, ...]
"""The item's id, then which answer, and which category or other answer."""
Label = int | float | str
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Judged:
    """One annotator's answers to an item.

    Attributes:
        answers: question -> answer, indices and lists in the item's own order of answers.
        shown_order: the item's answers in the order in which they were shown.
        duration_ms: time between seeing and submitting, None where unknown.
        num_answers: how many answers the item has.
        state: drafts and skips are Judged only where they are exported; `reason` is a skip's.
    """

    item_id: str
    annotator: str
    answers: Mapping[str, Any]
    submitted_at: datetime
    duration_ms: int | None = None
    shown_order: tuple[int, ...] = (0,)
    guideline_version: int = 0
    state: Literal["done", "draft", "skipped"] = "done"
    reason: str = ""

    @property
    def num_answers(self) -> int:
        return len(self.shown_order)


def unit_item(unit: Unit) -> str:
    """The id of the item that a unit belongs to."""
    return unit[0]


def metric_of(question: Question) -> Metric:
    """The distance of Krippendorff's alpha that suits a question; categories have no order unless that was declared."""
    if question.kind in ("scale", "number"):
        return question.distance if question.kind == "scale" else "interval"
    ordered = question.kind in ("comparison", "ranking") or (question.kind == "category" and question.ordered)
    return "ordinal" if ordered else "nominal"


def labels(question: Question, judged: Iterable[Judged]) -> Iterator[tuple[str, Unit, Label]]:
    """(annotator, unit, label) of every judgement of one question; free text and corrections give none.

    A judgement that names no flag and marks no range says that there is none.
    """
    for one in judged:
        for where, label in _labels_of(question, one.answers.get(question.name), one.num_answers):
            yield one.annotator, (one.item_id, *where), label


def _labels_of(question: Question, answer: Any, num_answers: int) -> Iterator[tuple[tuple[str, ...], Label]]:
    if question.kind == "comparison":
        preferred = cast(Mapping[str, Any], answer or {}).get("preferred")
        if answer is not None:
            yield (), {None: 0, 0: -1, 1: 1}[preferred]
    elif question.kind == "ranking":
        ranks = cast(Mapping[str, Any], answer or {}).get("ranks") or []
        for i, j in combinations(range(len(ranks)), 2):
            yield (str(i), str(j)), (ranks[i] > ranks[j]) - (ranks[i] < ranks[j])
    else:
        for index, own in _per_answer(question, answer, num_answers):
            yield from _of_one(question, own, index)


def _per_answer(question: Question, answer: Any, num_answers: int) -> Iterator[tuple[str, Any]]:
    """(which answer, the judgement of it)."""
    if question.listed(num_answers):
        for index, own in enumerate(cast(list[Any], answer or [None] * num_answers)):
            yield str(index), own
    else:
        yield "0", answer


def _of_one(question: Question, answer: Any, index: str) -> Iterator[tuple[tuple[str, ...], Label]]:
    if question.kind in ("thumb", "scale", "number", "category"):
        if answer is not None:
            yield (index,), cast(Label, answer)
    elif question.kind == "choices":
        chosen = cast(list[str], answer or [])
        for choice in question.choices if answer is not None else ():
            yield (index, choice), int(choice in chosen)
    elif question.kind in ("flags", "ranges"):
        key = "category" if question.kind == "flags" else "label"
        chosen = {entry[key] for entry in cast(list[Mapping[str, Any]], answer or [])}
        for choice in question.choices:
            yield (index, choice), int(choice in chosen)


def ranges_of(question: Question, judged: Iterable[Judged]) -> dict[Unit, dict[str, list[Range]]]:
    """Unit (item, answer) -> annotator -> the character ranges they marked, whatever the label; may be none."""
    result: dict[Unit, dict[str, list[Range]]] = {}
    for one in judged:
        for index, own in _per_answer(question, one.answers.get(question.name), one.num_answers):
            marked = [(int(r["start"]), int(r["end"])) for r in cast(list[Mapping[str, Any]], own or [])]
            result.setdefault((one.item_id, index), {})[one.annotator] = marked
    return result


def known_categories(question: Question, result: Iterable[Hashable]) -> list[Hashable]:
    """The labels of a question in their order: stated ones first where they are stated, else those that occur."""
    values = set(result)
    if question.kind in ("thumb", "choices", "flags", "ranges"):
        return [0, 1]
    if question.kind in ("comparison", "ranking"):
        return [-1, 0, 1]
    if question.kind == "category":
        return [c for c in question.choices if c in values] + sorted(values - set(question.choices), key=str)
    return sorted(values, key=lambda v: float(cast(float, v)))
