"""One label out of several annotators' labels: majority, weighted, and by Dawid and Skene's model of the annotators."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import Array, wilson_bounds


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the annotators of one unit say together.

    Attributes:
        label: the consensus; None where it is tied.
        confidence: the label's share of the (weighted) votes, or its posterior probability; the tied labels' own
            share where it is tied.
        num: judgements of the unit.
    """

    label: Hashable | None
    confidence: float
    num: int


class _Votes:
    """Judgements as index arrays; one without a label (None) is none.

    A judgement by the same annotator of the same unit replaces the earlier one, or counts too (`repeats`).
    """

    def __init__(
        self, judgements: Iterable[tuple[Hashable, Hashable, Hashable]], *, repeats: bool = False
    ) -> None:
        triples = [(a, u, v) for a, u, v in judgements if v is not None]
        if not repeats:
            triples = [(a, u, v) for (a, u), v in {(a, u): v for a, u, v in triples}.items()]
        self.annotators = _ordered(a for a, _, _ in triples)
        self.units = _ordered(u for _, u, _ in triples)
        self.labels = _ordered(v for _, _, v in triples)
        places = [{v: i for i, v in enumerate(known)} for known in (self.annotators, self.units, self.labels)]
        rows = [(places[0][a], places[1][u], places[2][v]) for a, u, v in triples]
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        self.annotator, self.unit, self.label = table[:, 0], table[:, 1], table[:, 2]

    def shares(self, weight: Array | None = None) -> Array:
        """(units, labels) each label's share of the unit's (weighted) votes."""
        k = len(self.labels)
        if k == 0:
            return np.zeros((0, 0))
        votes = np.bincount(
            self.unit * k + self.label, weights=weight, minlength=len(self.units) * k
        ).reshape(-1, k)
        totals = votes.sum(axis=1, keepdims=True)
        return np.divide(votes, totals, out=np.full_like(votes, 1 / max(k, 1), dtype=float), where=totals > 0)

    def num(self) -> NDArray[np.int64]:
        """(units,) judgements per unit."""
        return np.bincount(self.unit, minlength=len(self.units))

    def decided(self, shares: Array) -> dict[Hashable, Consensus]:
        """Unit -> the label with the greatest share, None where two are equal."""
        if not self.units:
            return {}
        best = shares.max(axis=1)
        tied = (shares >= best[:, None] - 1e-12).sum(axis=1) > 1
        winner = shares.argmax(axis=1)
        return {
            unit: Consensus(None if tied[i] else self.labels[winner[i]], float(best[i]), int(num))
            for i, (unit, num) in enumerate(zip(self.units, self.num(), strict=True))
        }


def _ordered(values: Iterable[Hashable]) -> list[Hashable]:
    """Distinct values in an order that does not depend on the order of the judgements."""
    return sorted(set(values), key=lambda v: (type(v).__name__, str(v)))


def majority_vote(judgements: Iterable[tuple[Hashable, Hashable, Hashable]]) -> dict[Hashable, Consensus]:
    """Unit -> the label most annotators chose; None where two labels are tied.

    Args:
        judgements: (annotator, unit, label) triples.
    """
    votes = _Votes(judgements)
    return votes.decided(votes.shares())


def weighted_vote(
    judgements: Iterable[tuple[Hashable, Hashable, Hashable]], weights: Mapping[Hashable, float]
) -> dict[Hashable, Consensus]:
    """Unit -> the label with the greatest weight behind it; annotators without a weight have 1.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    votes = _Votes(judgements)
    weight = np.array([float(weights.get(a, 1.0)) for a in votes.annotators])
    if (weight < 0).any() or not np.isfinite(weight).all():
        raise ValueError("weights must be finite and not negative")
    return votes.decided(votes.shares(weight[votes.annotator] if weight.size else None))


@dataclass(frozen=True, slots=True)
class AnnotatorQuality:
    """How one annotator labels, as the model sees it.

    Attributes:
        confusion: (k, k) probability of each label (column) where the true one is the row.
        accuracy: share of their labels that are right, with Wilson's interval; `n` is how many units they judged.
        informedness: how much better than a blind guess: 1 always right, 0 says nothing about the truth, below 0 turns
            it round. Over labels, weighted by how often they are true; 0 too where all units have one label, because
            nothing could be told apart.
        careless: their labels carry next to no information, or turn it round, and there are enough of them to say so.
            Where that would be said of most annotators, the labels tell nothing apart (all units are alike, say), and
            only those who are mostly wrong are named.
    """

    confusion: Array
    accuracy: Interval
    informedness: float
    careless: bool


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """A fit of Dawid and Skene's model.

    Attributes:
        labels: the labels in the order of the arrays.
        consensus: unit -> label, with its posterior probability.
        posterior: unit -> (k,) probability of each label.
        annotators: annotator -> how they label.
        prior: (k,) share of each label among the units.
        log_likelihood: per iteration, not falling but for the smoothing.
    """

    labels: tuple[Hashable, ...]
    consensus: dict[Hashable, Consensus]
    posterior: dict[Hashable, Array]
    annotators: dict[Hashable, AnnotatorQuality]
    prior: Array
    log_likelihood: tuple[float, ...]


def dawid_skene(
    judgements: Iterable[tuple[Hashable, Hashable, Hashable]],
    *,
    known: Mapping[Hashable, Hashable] | None = None,
    n_iter: int = 100,
    tolerance: float = 1e-6,
    smoothing: float = 0.01,
    repeats: bool = False,
) -> DawidSkene | None:
    """Estimate true labels and annotators' confusion matrices together, by expectation maximisation.

    Starts from the majority, and where gold answers are known also from how annotators did on those; the likelier fit
    counts. `smoothing` is added to every count of a confusion matrix, so that an annotator with few
    judgements is not certain of anything. `known` gives the true label of some units (gold answers), which then hold
    throughout; a gold label that no annotator gave is left out. None without judgements. The order of judgements changes nothing,
    but that an annotator's newest judgement of a unit counts; with `repeats` all of them do, as in the paper's own data.

    Source: Dawid & Skene 1979, Appl. Statist. 28:20-28.
    """
    votes = _Votes(judgements, repeats=repeats)
    if not votes.units:
        return None
    gold = _known_labels(votes, known or {})
    starts = [votes.shares(), _judged_by_gold(votes, gold)] if len(gold[0]) else [votes.shares()]
    fits = [_maximise_likelihood(votes, start, gold, n_iter, tolerance, smoothing) for start in starts]
    posterior, prior, confusion, history = max(fits, key=lambda f: f[3][-1])
    return DawidSkene(
        labels=tuple(votes.labels),
        consensus=votes.decided(posterior),
        posterior={u: posterior[i] for i, u in enumerate(votes.units)},
        annotators=_qualities(votes, posterior, prior, confusion),
        prior=prior,
        log_likelihood=tuple(history),
    )


_LabelIndex = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Places of the units whose label is known, and of their labels."""


def _maximise_likelihood(
    votes: _Votes, start: Array, gold: _LabelIndex, n_iter: int, tolerance: float, smoothing: float
) -> tuple[Array, Array, Array, list[float]]:
    """Posterior, prior, confusion matrices and the log likelihood per iteration, from one start."""
    posterior, history = start, list[float]()
    _hold(posterior, gold)
    prior, confusion = _maximise(votes, posterior, smoothing)
    for _ in range(n_iter):
        posterior, likelihood = _expect(votes, prior, confusion, gold)
        prior, confusion = _maximise(votes, posterior, smoothing)
        history.append(likelihood)
        if len(history) > 1 and abs(history[-1] - history[-2]) <= tolerance * max(1.0, abs(history[-2])):
            break
    return posterior, prior, confusion, history


def _judged_by_gold(votes: _Votes, gold: _LabelIndex) -> Array:
    """The start that believes each annotator as far as gold answers bear them out.

    The majority is a poor start where most are wrong: the labels then change places and stay so.
    """
    known = np.zeros(len(votes.units), bool)
    known[gold[0]] = True
    on_gold = known[votes.unit]
    posterior = votes.shares()
    _hold(posterior, gold)
    counted = np.where(known[:, None], posterior, 0.0)
    _, confusion = _maximise(votes, counted, 1.0)
    unmeasured = np.bincount(votes.annotator, weights=on_gold, minlength=len(votes.annotators)) == 0
    confusion[unmeasured] = 1 / len(votes.labels)
    start, _ = _expect(votes, np.full(len(votes.labels), 1 / len(votes.labels)), confusion, gold)
    return start


def _known_labels(votes: _Votes, known: Mapping[Hashable, Hashable]) -> _LabelIndex:
    label_place = {label: i for i, label in enumerate(votes.labels)}
    pairs = [(i, label_place[known[u]]) for i, u in enumerate(votes.units) if known.get(u) in label_place]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _hold(posterior: Array, gold: _LabelIndex) -> None:
    posterior[gold[0]] = 0.0
    posterior[gold] = 1.0


def _maximise(votes: _Votes, posterior: Array, smoothing: float) -> tuple[Array, Array]:
    """The prior (k,) and the confusion matrices (annotators, k true, k given) that fit the posterior best."""
    num, k = len(votes.annotators), len(votes.labels)
    confusion = np.full((num, k, k), smoothing)
    flat = votes.annotator * k + votes.label
    for true in range(k):
        weight = posterior[votes.unit, true]
        confusion[:, true, :] += np.bincount(flat, weights=weight, minlength=num * k).reshape(num, k)
    return posterior.mean(axis=0), confusion / confusion.sum(axis=2, keepdims=True)


def _expect(votes: _Votes, prior: Array, confusion: Array, gold: _LabelIndex) -> tuple[Array, float]:
    """The posterior (units, k) and the log likelihood, known labels being data."""
    num, k = len(votes.units), len(votes.labels)
    logs = np.log(np.maximum(confusion, 1e-300))[votes.annotator, :, votes.label]
    joint = np.empty((num, k))
    for true in range(k):
        joint[:, true] = np.bincount(votes.unit, weights=logs[:, true], minlength=num)
    joint += np.log(np.maximum(prior, 1e-300))
    known = joint[gold]
    joint[gold[0]] = -np.inf
    joint[gold] = known
    top = joint.max(axis=1, keepdims=True)
    shares = np.exp(joint - top)
    totals = shares.sum(axis=1, keepdims=True)
    return shares / totals, float((top + np.log(totals)).sum())


CARELESS = 0.2
"""Informedness below which labels carry next to no information."""
_ENOUGH = 10


def _qualities(
    votes: _Votes, posterior: Array, prior: Array, confusion: Array
) -> dict[Hashable, AnnotatorQuality]:
    num = len(votes.annotators)
    judged = np.bincount(votes.annotator, minlength=num)
    right = np.bincount(votes.annotator, weights=posterior[votes.unit, votes.label], minlength=num)
    low, high = wilson_bounds(right, judged)
    informed = _informedness(confusion, prior)
    enough = judged >= _ENOUGH
    little = enough & (informed < CARELESS)
    if 2 * little.sum() > enough.sum():
        little = enough & (high < 0.5)
    return {
        annotator: AnnotatorQuality(
            confusion=confusion[i],
            accuracy=Interval(
                float(right[i] / judged[i]), float(low[i]), float(high[i]), int(judged[i]), "wilson"
            ),
            informedness=float(informed[i]),
            careless=bool(little[i]),
        )
        for i, annotator in enumerate(votes.annotators)
    }


def _informedness(confusion: Array, prior: Array) -> Array:
    """(annotators,) accuracy on units of each true label, less that of one who says each label as often, blindly."""
    right = np.einsum("t,att->a", prior, confusion)
    label_shares = np.einsum("t,atl->al", prior, confusion)
    blind = label_shares @ prior
    return np.divide(right - blind, 1 - blind, out=np.zeros_like(right), where=1 - blind > 1e-9)


def reliability_weights(model: DawidSkene) -> dict[Hashable, float]:
    """Annotator -> a weight of 0 or more for `weighted_vote`: the log odds of being right against a blind guess.

    Those whose labels say nothing have 0; no weight is negative, because a majority cannot be turned round on
    one annotator's account.
    """
    num_labels = len(model.labels)
    weights: dict[Hashable, float] = {}
    for annotator, quality in model.annotators.items():
        share = min(max(quality.accuracy.low, 1e-3), 1 - 1e-3)
        weights[annotator] = max(0.0, math.log(share * max(num_labels - 1, 1) / (1 - share)))
    return weights
