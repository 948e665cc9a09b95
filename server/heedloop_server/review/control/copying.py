"""Pairs of annotators who agree more than annotators who judge alone could: one may have copied the other.

An honest pair agrees about as far as each of the two agrees with others. A copier shares the errors of the other one too,
so that the two agree more than either does with others; and submits later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from scipy.special import bdtrc

from heedloop_server.review.control.labels import Judged, Label, Unit, labels
from heedloop_server.review.questions import Question

FEWEST = 20
"""Units that a pair must have in common."""
FALSE_PAIRS = 0.005
"""Chance that any honest pair of a queue is named, over all its pairs."""
LATER = 0.9
"""Share of common units in which one of the two was later, from which on it is the one who may have copied."""

Votes = Mapping[tuple[str, Unit], tuple[Label, datetime]]
"""(annotator, question and unit) -> label and time."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A pair that agrees too much.

    Attributes:
        copier: who was later nearly always; None where neither was.
        usual: the most that either agrees with any other annotator, as a share.
    """

    first: str
    second: str
    copier: str | None
    num_equal: int
    num: int
    usual: float


def copied_pairs(questions: Sequence[Question], judged: Sequence[Judged]) -> list[Copied]:
    """The pairs whose agreement over all questions is beyond what either has with others (binomial, Bonferroni).

    Questions with marks are left out: where most mark nothing, all agree.
    """
    votes = _votes(questions, judged)
    by_annotator: dict[str, set[Unit]] = {}
    for annotator, unit in votes:
        by_annotator.setdefault(annotator, set()).add(unit)
    pairs = {
        (a, b): (sum(votes[a, u][0] == votes[b, u][0] for u in common), len(common))
        for a, b in combinations(sorted(by_annotator), 2)
        for common in [by_annotator[a] & by_annotator[b]]
    }
    tested = {p: result for p, result in pairs.items() if result[1] >= FEWEST}
    if len(by_annotator) < 4:
        return []  # with three, a third one who guesses makes the other two look alike
    return [
        _copied(votes, *pair, equal, num, usual, by_annotator)
        for pair, (equal, num) in tested.items()
        if (usual := _usual(pair, pairs)) is not None
        and bdtrc(equal - 1, num, usual) < FALSE_PAIRS / len(tested)
    ]


def _votes(questions: Sequence[Question], judged: Sequence[Judged]) -> Votes:
    at = {(j.annotator, j.item_id): j.submitted_at for j in judged}
    return {
        (annotator, (question.name, *unit)): (label, at[annotator, unit[0]])
        for question in questions
        if question.kind not in ("flags", "ranges")
        for annotator, unit, label in labels(question, judged)
    }


def _usual(pair: tuple[str, str], pairs: Mapping[tuple[str, str], tuple[int, int]]) -> float | None:
    """The most that either of the pair agrees with any other annotator, as Agresti and Coull shrink it; None where no other is comparable."""
    others = [
        (equal + 2) / (num + 4)
        for other, (equal, num) in pairs.items()
        if num >= FEWEST // 2 and len(set(other) & set(pair)) == 1
    ]
    return max(others, default=None)


def _copied(
    votes: Votes,
    a: str,
    b: str,
    equal: int,
    num: int,
    usual: float,
    by_annotator: Mapping[str, set[Unit]],
) -> Copied:
    common = by_annotator[a] & by_annotator[b]
    later = sum(votes[a, u][1] > votes[b, u][1] for u in common) / len(common)
    copier = a if later >= LATER else b if later <= 1 - LATER else None
    return Copied(a, b, copier, equal, num, usual)
