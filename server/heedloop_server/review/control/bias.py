"""What annotators' judgements go along with that should not matter: length, place on the screen, model, language.

An association is no proof of bias: longer answers may be better. A tendency of one annotator that the others do not
share on the same items is the one to ask about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from heedloop.responses import Bias, Interval, Tendency
from heedloop_server.review.control.annotators import scaled
from heedloop_server.review.control.labels import Judged, Label, Unit, labels
from heedloop_server.review.questions import Question
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.means import bootstrap_mean, percentile_interval

FEWEST = 10


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What is known of one answer of an item."""

    num_chars: int
    model: str = ""
    language: str = ""


Facts = Mapping[str, Sequence[AnswerFacts]]
"""Item id -> its answers, in the item's own order."""


def bias(question: Question, judged: Sequence[Judged], facts: Facts) -> Bias | None:
    """Tendencies of all annotators together and of each; None for questions that are no rating or choice.

    For ratings: `length` (Spearman's rank correlation of rating and characters, -1 to 1), `model` and `language` (mean
    rating on 0 to 1 per value). For comparisons: `longer` (share that preferred the longer of two), `first_shown`
    (share that preferred the one shown first), each next to one half; ties are left out.
    """
    if question.is_ordered:
        measure = _of_ratings
    elif question.kind in ("comparison", "ranking"):
        measure = _of_choices
    else:
        return None
    groups = {"": list(judged)} | {
        a: [j for j in judged if j.annotator == a] for a in sorted({j.annotator for j in judged})
    }
    return Bias(
        question=question.name,
        all=measure(question, groups.pop(""), facts),
        annotators={a: measure(question, own, facts) for a, own in groups.items()},
    )


def _of_ratings(question: Question, judged: Iterable[Judged], facts: Facts) -> Tendency:
    rated = [(scaled(question, label), fact) for label, fact in _with_facts(question, judged, facts)]
    values, sizes = [r for r, _ in rated], [f.num_chars for _, f in rated]
    return Tendency(
        length=rank_correlation(values, sizes),
        model=_means_by((f.model, r) for r, f in rated),
        language=_means_by((f.language, r) for r, f in rated),
    )


def _with_facts(
    question: Question, judged: Iterable[Judged], facts: Facts
) -> Iterable[tuple[Label, AnswerFacts]]:
    for _, unit, label in labels(question, judged):
        known = facts.get(unit[0], ())
        if int(unit[1]) < len(known):
            yield label, known[int(unit[1])]


def _means_by(rated: Iterable[tuple[str, float]]) -> dict[str, Interval | None]:
    groups: dict[str, list[float]] = {}
    for value, rating in rated:
        if value:
            groups.setdefault(value, []).append(rating)
    return {v: bootstrap_mean(r, scale=(0, 1), num_samples=500) for v, r in sorted(groups.items())}


def rank_correlation(x: ArrayLike, y: ArrayLike, *, num_samples: int = 400) -> Interval | None:
    """Spearman's rank correlation with its bootstrap interval; None below 10 pairs or where either never varies."""
    a, b = _ranks(x), _ranks(y)
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    estimate = float(np.corrcoef(a, b)[0, 1])
    picks = np.random.default_rng(0).integers(0, len(a), size=(num_samples, len(a)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = percentile_interval([_correlation(a[p], b[p]) for p in picks])
    return None if ends is None else Interval(estimate, *ends, len(a), "bootstrap")


def _ranks(values: ArrayLike) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Ranks from 0; equal values share the middle of theirs."""
    _, place, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def _correlation(a: Any, b: Any) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _of_choices(question: Question, judged: Iterable[Judged], facts: Facts) -> Tendency:
    longer, first = list[bool](), list[bool]()
    for one in judged:
        for _, unit, label in labels(question, [one]):
            better, worse = _winner(unit, label)
            if better is None or worse is None:
                continue
            first.append(one.shown_order.index(better) < one.shown_order.index(worse))
            sizes = [f.num_chars for f in facts.get(one.item_id, ())]
            if len(sizes) > max(better, worse) and sizes[better] != sizes[worse]:
                longer.append(sizes[better] > sizes[worse])
    return Tendency(longer=wilson(sum(longer), len(longer)), first_shown=wilson(sum(first), len(first)))


def _winner(unit: Unit, label: Label) -> tuple[int | None, int | None]:
    """(better, worse) as indices of the item's answers; a tie has neither."""
    i, j = (0, 1) if len(unit) == 1 else (int(unit[1]), int(unit[2]))
    side = int(cast(float, label))
    return (None, None) if side == 0 else (i, j) if side < 0 else (j, i)
