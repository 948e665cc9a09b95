"""Whether annotators become less accurate: the later half of each one's judgements against the earlier half.

All halves are fitted together as annotators of their own with one accuracy each (Dawid and Skene's model with equal
errors, which needs far fewer judgements than confusion matrices). What the *other* judgements of a unit say of its label
is then the evidence for or against each judgement, and a likelihood ratio tells whether one accuracy fits both halves.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from heedloop.responses import Interval
from heedloop_server.review.control.labels import Label
from heedloop_server.statistics.intervals import Array, newcombe

FEWEST = 20
"""Judgements of one annotator below which no change is reported."""
FALSE_ALARMS = 0.05
"""Chance that any steady annotator of a queue is named."""
FALSE_ALARM = 0.005
"""Chance that a given steady annotator is named, however few there are."""
_Value = TypeVar("_Value", bound=Hashable)
_NUM_ITERATIONS = 50
_ACCURACIES = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """One annotator's accuracy in the earlier and the later half of their judgements.

    Attributes:
        num: judgements in each half.
        right: how many of them are right, as expected by the model.
        z: signed root of the likelihood ratio, about standard normal for a steady annotator; below 0 is worse lately.
    """

    num: tuple[int, int]
    right: tuple[float, float]
    z: float

    @property
    def interval(self) -> Interval | None:
        """Later accuracy minus earlier accuracy."""
        return newcombe(self.right[1], self.num[1], self.right[0], self.num[0])


def is_less_accurate(change: AccuracyChange, num_annotators: int) -> bool:
    """True where the change is for the worse beyond chance, with so many annotators looked at (Bonferroni)."""
    return float(ndtr(change.z)) < min(FALSE_ALARM, FALSE_ALARMS / max(num_annotators, 1))


def combined_change(changes: Sequence[AccuracyChange]) -> AccuracyChange | None:
    """The changes of one annotator in several questions as one (Stouffer, weighted by judgements); None with too few."""
    weights = np.sqrt([sum(c.num) for c in changes])
    early, late = (sum(c.num[half] for c in changes) for half in (0, 1))
    if early + late < FEWEST:
        return None
    right = (sum(c.right[0] for c in changes), sum(c.right[1] for c in changes))
    z = float(weights @ [c.z for c in changes] / np.linalg.norm(weights))
    return AccuracyChange((early, late), right, z)


def accuracy_changes(
    votes: Sequence[tuple[str, Hashable, Label]], known: Mapping[Hashable, Label]
) -> dict[str, AccuracyChange]:
    """Annotator -> change of accuracy in one question.

    Args:
        votes: (annotator, unit, label) in the order of time; units that one annotator alone judged count for nothing.
        known: unit -> the right label, where it is known (gold).
    """
    num_judged: dict[Hashable, int] = {}
    for _, unit, _ in votes:
        num_judged[unit] = num_judged.get(unit, 0) + 1
    votes = [s for s in votes if num_judged[s[1]] > 1 or s[1] in known]
    names, units = _index(s[0] for s in votes), _index(s[1] for s in votes)
    choices = _index([*(s[2] for s in votes), *(known[u] for u in units if u in known)])
    if len(choices) < 2:
        return {}
    annotator = np.array([names[a] for a, _, _ in votes])
    unit = np.array([units[u] for _, u, _ in votes])
    label = np.array([choices[v] for _, _, v in votes])
    half = _halves(annotator)
    gold = [(units[u], choices[known[u]]) for u in units if u in known]
    support, accuracy = _fit(2 * annotator + half, unit, label, gold, (len(units), len(choices)))
    result: dict[str, AccuracyChange] = {}
    for name, i in names.items():
        halves = [(annotator == i) & (half == h) for h in (0, 1)]
        if all(h.any() for h in halves):
            result[name] = _change([support[h] for h in halves], accuracy[2 * i : 2 * i + 2], len(choices))
    return result


def _index(values: Iterable[_Value]) -> dict[_Value, int]:
    return {v: i for i, v in enumerate(dict.fromkeys(values))}


def _halves(annotator: NDArray[np.int64]) -> NDArray[np.int64]:
    half = np.zeros(len(annotator), np.int64)
    for one in range(annotator.max() + 1):
        own = np.flatnonzero(annotator == one)
        half[own[len(own) // 2 :]] = 1
    return half


def _fit(
    group: NDArray[np.int64],
    unit: NDArray[np.int64],
    label: NDArray[np.int64],
    gold: Sequence[tuple[int, int]],
    shape: tuple[int, int],
) -> tuple[Array, Array]:
    """Per judgement the probability of its label by the unit's other judgements, and the accuracy of every group."""
    num_units, k = shape
    num_groups = int(group.max()) + 1
    num = np.bincount(group, minlength=num_groups)
    chosen = label[:, None] == np.arange(k)
    accuracy, prior = np.full(num_groups, 0.7), np.full(k, 1 / k)
    votes = joint = np.zeros(0)
    for _ in range(_NUM_ITERATIONS):
        right, wrong = np.log(accuracy)[group, None], np.log((1 - accuracy) / (k - 1))[group, None]
        votes = np.where(chosen, right, wrong)
        joint = np.tile(np.log(prior), (num_units, 1))
        np.add.at(joint, unit, votes)
        for at, true in gold:
            joint[at] = np.where(np.arange(k) == true, 0.0, -1e9)
        posterior = _normalised(joint)
        agreed = np.bincount(group, weights=posterior[unit, label], minlength=num_groups)
        accuracy = (agreed + 1) / (num + 2)
        prior = (posterior.sum(axis=0) + 1) / (num_units + k)
    others = _normalised(joint[unit] - votes)
    return others[np.arange(len(label)), label], accuracy


def _normalised(logs: Array) -> Array:
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _change(support: Sequence[Array], accuracy: Array, num_labels: int) -> AccuracyChange:
    def parts(p: Array | float, q: Array) -> tuple[Array, Array]:
        return p * q, (1 - p) * (1 - q) / (num_labels - 1)

    likelihoods = [np.log(sum(parts(_ACCURACIES, q[:, None]))).sum(axis=0) for q in support]
    early, late = (curve.max() for curve in likelihoods)
    ratio = 2 * (early + late - (likelihoods[0] + likelihoods[1]).max())
    sign = np.sign(likelihoods[1].argmax() - likelihoods[0].argmax())
    expected = [parts(p, q) for p, q in zip(accuracy, support, strict=True)]
    right = [float((good / np.maximum(good + bad, 1e-300)).sum()) for good, bad in expected]
    return AccuracyChange(
        (len(support[0]), len(support[1])), (right[0], right[1]), float(sign * np.sqrt(max(ratio, 0.0)))
    )
