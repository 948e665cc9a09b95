"""A rate of people's judgements, sharpened by a judge that has looked at many more answers: prediction-powered inference.

People label `n` answers drawn with known probability; a judge (a model, a reward model, any function) scores these and `N` more.
The estimate is the judge's mean over the unlabelled answers, plus what the labels say it is wrong by:

    theta = lambda mean(f_unlabelled) + mean(Y - lambda f_labelled)

It is unbiased whatever the judge is worth; `lambda` in 0..1 decides how much of the judge is used and is 0 for a judge that
is unrelated or opposed to people. Sources: Angelopoulos et al. 2023, Science 382:669 (lambda = 1); Angelopoulos, Duchi &
Zrnic 2023, arXiv 2311.01453 (the tuned lambda, PPI++); Zrnic & Candes 2024, arXiv 2403.03208 (known unequal probabilities).

How we differ: the normal interval of these papers covers 61% at 20 labels and a rate of 0.95. Ours is Wilson's at the
effective number of labels (n times the ratio of the variances without and with the judge), with Student's quantile, and
half a disagreement more than was seen, so that twenty labels without one do not make a judge perfect. It covers at least
93% over the grid of tests/unit/statistics/test_prediction_powered.py and is never narrower than people alone by chance.

Arrays are one-dimensional floats in 0..1; `level` is two-sided. None where there is no label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from heedloop.responses import Interval

Array = NDArray[np.float64]
_UNSEEN_DISAGREEMENT = 0.5
"""Squared residual added to those seen, in units of lambda squared."""


@dataclass(frozen=True, slots=True)
class CombinedRate:
    """People's rate as labels and a judge together estimate it.

    Attributes:
        interval: the estimate and its ends, cut to 0..1; `n` is the number of labels.
        raw: the estimate before it was cut to 0..1.
        se: its standard error (denominator n - 1), without the correction for unseen disagreements.
        people: the mean of the labels alone.
        judge: the mean of the judge over all answers.
        weight: lambda, how much of the judge was used, in 0..1.
        effective_n: how many labels alone would be worth as much; at least `n`.
    """

    interval: Interval
    raw: float
    se: float
    people: float
    judge: float
    weight: float
    effective_n: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """One part of the answers: `share` of all, people's labels, the judge on the same answers and on the others."""

    share: float
    human: ArrayLike
    judge: ArrayLike
    unlabelled: ArrayLike


def tuned_lambda(human: ArrayLike, judge: ArrayLike, unlabelled: ArrayLike) -> float:
    """The weight of the judge that makes the variance smallest, in 0..1: cov(Y, f) / ((1 + n/N) var(f)).

    The covariance with denominator n, the variance of all n + N scores with n + N - 1; 0 where the judge never varies or
    nothing is unlabelled.
    Source: arXiv 2311.01453, section 6.
    """
    y, f, g = (np.asarray(a, float) for a in (human, judge, unlabelled))
    if not len(g) or not len(y):
        return 0.0
    variance = float(np.var(np.concatenate([f, g]), ddof=1))
    if variance <= 0:
        return 0.0
    covariance = float(np.mean(y * f) - y.mean() * f.mean())
    return min(max(covariance / ((1 + len(y) / len(g)) * variance), 0.0), 1.0)


def combined_rate(
    human: ArrayLike,
    judge: ArrayLike,
    unlabelled: ArrayLike,
    *,
    weight: float | None = None,
    groups: Sequence[object] | None = None,
    level: float = 0.95,
) -> CombinedRate | None:
    """The rate among all answers, of which some were labelled by people at random.

    Args:
        human: n labels.
        judge: the judge's scores of the same n answers, in the same order.
        unlabelled: its scores of N other answers of the same population.
        weight: lambda; tuned where None.
        groups: a name per label; labels of one group (a prompt, an annotator) are not independent.

    Raises:
        ValueError: lengths differ, or a value is outside 0..1 or not finite.
    """
    y, f, g = _checked(human, judge, unlabelled)
    if not len(y):
        return None
    chosen = tuned_lambda(y, f, g) if weight is None else (weight if len(g) else 0.0)
    residual = y - chosen * f
    raw = float(chosen * g.mean() + residual.mean()) if chosen else float(y.mean())
    names = list(range(len(y))) if groups is None else list(groups)
    labels_only = _variance_of_mean(y, names)
    rest = chosen**2 * _variance_of_mean(g, None) if chosen else 0.0
    seen = _variance_of_mean(residual, names) + rest
    num = len(set(names))
    lost = 2 if chosen and weight is None else 1
    careful = seen
    if chosen:
        factor = (num - 1) / max(num - lost, 1)
        careful = _variance_of_mean(residual, names) * factor + _UNSEEN_DISAGREEMENT * chosen**2 / (
            max(num - lost, 1) * num
        )
        careful += rest
    independent = _effective_groups(y, names)
    effective = min(independent * _gain(labels_only, careful), independent + len(g))
    judged = float(np.concatenate([f, g]).mean())
    interval = _interval(raw, effective, num, len(y), level)
    return CombinedRate(interval, raw, math.sqrt(seen), float(y.mean()), judged, chosen, effective)


def combined_rate_by_strata(strata: Sequence[Stratum], *, level: float = 0.95) -> CombinedRate | None:
    """The rate over parts that were labelled at different rates, each with a weight of its own for the judge.

    The parts' estimates are summed by their share of all answers, and so are the squared distances of their ends; a part
    without labels leaves the whole undefined (None). `effective_n` is the labels' number times the parts' mean gain.

    Sources: Fisch et al. 2024, arXiv 2406.04291 (stratified prediction-powered inference); Zou & Donner 2008,
    Statist. Med. 27:1693-1702 (limits of a sum from the limits of its parts).
    """
    shares = np.array([s.share for s in strata], float)
    if not len(shares) or not math.isclose(float(shares.sum()), 1.0, abs_tol=1e-6):
        raise ValueError(f"the shares of the strata must add up to 1, not {shares.sum():g}")
    parts = [combined_rate(s.human, s.judge, s.unlabelled, level=level) for s in strata]
    if any(p is None for p in parts):
        return None
    made = [p for p in parts if p is not None]

    def total(values: Sequence[float]) -> float:
        return float(sum(w * v for w, v in zip(shares, values, strict=True)))

    ends = [p.interval for p in made]
    estimate = total([i.estimate for i in ends])
    below = math.hypot(*(w * (i.estimate - i.low) for w, i in zip(shares, ends, strict=True)))
    above = math.hypot(*(w * (i.high - i.estimate) for w, i in zip(shares, ends, strict=True)))
    num = sum(i.n for i in ends)
    interval = Interval(
        estimate, max(estimate - below, 0.0), min(estimate + above, 1.0), num, "wilson combined strata", level
    )
    return CombinedRate(
        interval,
        total([p.raw for p in made]),
        math.hypot(*(w * p.se for w, p in zip(shares, made, strict=True))),
        total([p.people for p in made]),
        total([p.judge for p in made]),
        total([p.weight for p in made]),
        num * total([p.effective_n / p.interval.n for p in made]),
    )


def combined_rate_of_draw(
    judge: ArrayLike, probability: ArrayLike, human: Sequence[float | None], *, level: float = 0.95
) -> CombinedRate | None:
    """The rate where each answer was labelled with a probability of its own, known beforehand.

    Each answer contributes f + xi (Y - f) / pi, xi telling whether it was labelled: unbiased whatever the judge is.

    Args:
        judge: scores of all N answers.
        probability: with which each was drawn, above 0 to 1 (`Feedback.sampling_probability`).
        human: its label, None where it was not drawn.

    Source: arXiv 2403.03208, equation 3.
    """
    f, pi = np.asarray(judge, float), np.asarray(probability, float)
    if not len(f) == len(pi) == len(human):
        raise ValueError(f"{len(f)} scores, {len(pi)} probabilities and {len(human)} labels")
    if np.any((pi <= 0) | (pi > 1)):
        raise ValueError("a probability must lie above 0 and not above 1")
    drawn = np.array([h is not None for h in human])
    y = np.array([h if h is not None else 0.0 for h in human], float)
    num = int(drawn.sum())
    if not num:
        return None
    parts = f + np.where(drawn, (y - f) / pi, 0.0)
    raw, variance = float(parts.mean()), float(parts.var()) / len(parts)
    unseen = _UNSEEN_DISAGREEMENT / (len(parts) * float(pi[drawn].min())) ** 2
    weights = np.where(drawn, 1 / pi, 0.0)
    kish = float(weights.sum() ** 2 / (weights**2).sum())
    people = float((weights * y).sum() / weights.sum())
    estimate = min(max(raw, 0.0), 1.0)
    spread = estimate * (1 - estimate)
    effective = min(spread / (variance + unseen), float(len(parts))) if spread > 0 else kish
    interval = _interval(raw, effective, num, num, level)
    return CombinedRate(interval, raw, math.sqrt(variance), people, float(f.mean()), 1.0, effective)


def difference_of_combined(a: CombinedRate, b: CombinedRate) -> Interval:
    """Rate of a minus rate of b, two versions whose answers are different ones.

    The squares of the distances of the two intervals' ends are added: Newcombe 1998, Statist. Med. 17:873-890, method 10.
    """
    x, y = a.interval, b.interval
    low = math.hypot(x.estimate - x.low, y.high - y.estimate)
    high = math.hypot(x.high - x.estimate, y.estimate - y.low)
    d = x.estimate - y.estimate
    return Interval(d, max(d - low, -1.0), min(d + high, 1.0), x.n + y.n, "newcombe combined", x.level)


def paired_difference(
    human: tuple[ArrayLike, ArrayLike],
    judge: tuple[ArrayLike, ArrayLike],
    unlabelled: tuple[ArrayLike, ArrayLike],
    *,
    level: float = 0.95,
) -> Interval | None:
    """Rate of the first version minus rate of the second, both having answered the same prompts.

    Args:
        human: labels of both versions' answers to the n labelled prompts, in the same order.
        judge: scores of the same answers.
        unlabelled: scores of both versions' answers to N other prompts.

    Differences lie in -1..1; they are carried to 0..1, estimated there, and carried back.
    """
    halves = [(np.asarray(p[0], float) - np.asarray(p[1], float) + 1) / 2 for p in (human, judge, unlabelled)]
    found = combined_rate(*halves, level=level)
    if found is None:
        return None
    y = halves[0]
    # Wilson's interval supposes 0 or 1; differences are mostly near the middle, so the effective number follows their variance
    variance = float(np.var(y, ddof=1)) / len(y) if len(y) > 1 else 0.25
    gain = found.effective_n / len(y)
    floor = _UNSEEN_DISAGREEMENT / 4 / len(y) ** 2
    p = found.interval.estimate
    effective = max(p * (1 - p), 1e-12) / max((variance + floor) / gain, 1e-12)
    i = _interval(found.raw, effective, len(y), len(y), level)
    return Interval(
        2 * i.estimate - 1, 2 * i.low - 1, 2 * i.high - 1, len(y), "prediction-powered paired", level
    )


def _checked(human: ArrayLike, judge: ArrayLike, unlabelled: ArrayLike) -> tuple[Array, Array, Array]:
    y, f, g = (np.asarray(a, float).ravel() for a in (human, judge, unlabelled))
    if len(y) != len(f):
        raise ValueError(f"{len(y)} labels and {len(f)} scores of them: there must be as many")
    for name, values in (("human", y), ("judge", f), ("unlabelled", g)):
        if len(values) and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"{name} must be finite numbers from 0 to 1")
    return y, f, g


def _variance_of_mean(values: Array, groups: Sequence[object] | None) -> float:
    """Of a mean of independent groups' values; 0 where there are fewer than two."""
    if groups is None or len(set(groups)) == len(values):
        return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
    names = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    if len(names) < 2:
        return 0.0
    sums = np.bincount([names[g] for g in groups], values - values.mean(), minlength=len(names))
    return float((sums**2).sum()) * len(names) / (len(names) - 1) / len(values) ** 2


def _effective_groups(y: Array, groups: Sequence[object]) -> float:
    """How many independent labels these are worth by themselves: n over the design effect, between the groups' number and n."""
    num = len(set(groups))
    if num == len(y):
        return float(len(y))
    alone, together = _variance_of_mean(y, None), _variance_of_mean(y, groups)
    if alone <= 0 or together <= 0:
        return float(num)
    return min(max(len(y) * alone / together, 1.0), float(len(y)))


def _gain(labels_only: float, combined: float) -> float:
    return max(labels_only / combined, 1.0) if labels_only > 0 and combined > 0 else 1.0


def _interval(raw: float, effective: float, num_independent: int, n: int, level: float) -> Interval:
    """Wilson's interval at the effective number, with Student's quantile at the number of independent labels."""
    quantile = float(stdtrit(max(num_independent - 1, 1), 0.5 + level / 2))
    p, z2 = min(max(raw, 0.0), 1.0), quantile**2
    middle = (p * effective + z2 / 2) / (effective + z2)
    half = quantile / (effective + z2) * math.sqrt(effective * p * (1 - p) + z2 / 4)
    low = 0.0 if p == 0 else max(middle - half, 0.0)
    high = 1.0 if p == 1 else min(middle + half, 1.0)
    return Interval(p, low, high, n, "wilson combined", level)
