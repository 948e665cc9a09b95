"""What an annotator's answer to a question says, as labels that can be held against another annotator's.

A *unit* is what two annotators can agree on: an answer of an item (thumb, scale, category), an answer and a category
(flags, ranges: chosen or not), two answers of an item (comparison, ranking: which is better). Answers come in the
item's own order, whatever order each annotator was shown.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any, Literal, cast

from heedloop_server.quality.agreement import Metric

__all__ = [
    "ABOUT_ALL",
    "Asked",
    "Judged",
    "Label",
    "Range",
    "Unit",
    "in_item_order",
    "labels",
    "metric_of",
    "ranges_of",
    "unit_item",
]

Unit = tuple[str, ...]
"""The item's id, then which answer, and which category or other answer."""
Label = int | float | str
Range = tuple[int, int]
ABOUT_ALL = frozenset({"comparison", "ranking"})
"""Kinds of questions whose answer is about all answers of an item at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the control needs of a question: its name, kind and choices (docs/api.md, Review)."""

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    per_answer: bool = True

    @classmethod
    def of(cls, question: Mapping[str, Any]) -> Asked:
        """From the question's JSON."""
        choices = question.get("categories") or question.get("labels") or ()
        return cls(
            question["name"],
            question["kind"],
            tuple(choices),
            question.get("min"),
            question.get("max"),
            bool(question.get("per_answer", True)),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """One annotator's answers to an item.

    Attributes:
        answers: question -> answer, indices and lists in the item's own order of answers.
        shown_order: the item's answers in the order in which they were shown.
        duration_ms: time between seeing and submitting, None where unknown.
        num_answers: how many answers the item has.
    """

    item_id: str
    annotator: str
    answers: Mapping[str, Any]
    submitted_at: datetime
    duration_ms: int | None = None
    shown_order: tuple[int, ...] = (0,)
    guideline_version: int = 0

    @property
    def num_answers(self) -> int:
        return len(self.shown_order)


def unit_item(unit: Unit) -> str:
    """The id of the item that a unit belongs to."""
    return unit[0]


def metric_of(asked: Asked) -> Metric:
    """The distance of Krippendorff's alpha that suits a question: ordinal where its choices have an order."""
    ordered: Literal["ordinal"] = "ordinal"
    return ordered if asked.kind in ("scale", "category", "comparison", "ranking") else "nominal"


def in_item_order(asked: Asked, answer: Any, shown_order: Sequence[int]) -> Any:
    """An answer given in the order shown, in the item's own order. `shown_order[i]` is the answer at place i."""
    if answer is None or len(shown_order) < 2:
        return answer
    if asked.kind == "comparison":
        preferred = answer.get("preferred")
        return {**answer, "preferred": None if preferred is None else shown_order[preferred]}
    if asked.kind == "ranking":
        return {**answer, "ranks": _back(answer["ranks"], shown_order)}
    return _back(answer, shown_order) if asked.per_answer and isinstance(answer, list) else answer


def _back(shown: Sequence[Any], shown_order: Sequence[int]) -> list[Any]:
    own: list[Any] = [None] * len(shown_order)
    for place, index in enumerate(shown_order):
        own[index] = shown[place]
    return own


def labels(asked: Asked, judged: Iterable[Judged]) -> Iterator[tuple[str, Unit, Label]]:
    """(annotator, unit, label) of every judgement of one question; free text and corrections give none."""
    for one in judged:
        if asked.name not in one.answers:
            continue
        for where, label in _labels_of(asked, one.answers[asked.name], one.num_answers):
            yield one.annotator, (one.item_id, *where), label


def _labels_of(asked: Asked, answer: Any, num_answers: int) -> Iterator[tuple[tuple[str, ...], Label]]:
    if asked.kind == "comparison":
        preferred = cast(Mapping[str, Any], answer or {}).get("preferred")
        if answer is not None:
            yield (), {None: 0, 0: -1, 1: 1}[preferred]
    elif asked.kind == "ranking":
        ranks = cast(Mapping[str, Any], answer or {}).get("ranks") or []
        for i, j in combinations(range(len(ranks)), 2):
            yield (str(i), str(j)), (ranks[i] > ranks[j]) - (ranks[i] < ranks[j])
    else:
        for index, own in _per_answer(asked, answer, num_answers):
            yield from _of_one(asked, own, index)


def _per_answer(asked: Asked, answer: Any, num_answers: int) -> Iterator[tuple[str, Any]]:
    """(which answer, what was said of it)."""
    if num_answers > 1 and asked.per_answer and isinstance(answer, list):
        for index, own in enumerate(cast(list[Any], answer)):
            yield str(index), own
    else:
        yield "0", answer


def _of_one(asked: Asked, answer: Any, index: str) -> Iterator[tuple[tuple[str, ...], Label]]:
    if asked.kind in ("thumb", "scale", "category"):
        if answer is not None:
            yield (index,), cast(Label, answer)
    elif asked.kind in ("flags", "ranges"):
        key = "category" if asked.kind == "flags" else "label"
        chosen = {entry[key] for entry in cast(list[Mapping[str, Any]], answer or [])}
        for choice in asked.choices:
            yield (index, choice), int(choice in chosen)


def ranges_of(asked: Asked, judged: Iterable[Judged]) -> dict[Unit, dict[str, list[Range]]]:
    """Unit (item, answer) -> annotator -> the character ranges they marked, whatever the label; may be none."""
    found: dict[Unit, dict[str, list[Range]]] = {}
    for one in judged:
        if asked.name not in one.answers:
            continue
        for index, own in _per_answer(asked, one.answers[asked.name], one.num_answers):
            marked = [(int(r["start"]), int(r["end"])) for r in cast(list[Mapping[str, Any]], own or [])]
            found.setdefault((one.item_id, index), {})[one.annotator] = marked
    return found


def known_categories(asked: Asked, found: Iterable[Hashable]) -> list[Hashable]:
    """The labels of a question in their order: stated ones first where they are stated, else those that occur."""
    values = set(found)
    if asked.kind in ("thumb", "flags", "ranges"):
        return [0, 1]
    if asked.kind in ("comparison", "ranking"):
        return [-1, 0, 1]
    if asked.kind == "category":
        return [c for c in asked.choices if c in values] + sorted(values - set(asked.choices), key=str)
    return sorted(values, key=lambda v: float(cast(float, v)))
