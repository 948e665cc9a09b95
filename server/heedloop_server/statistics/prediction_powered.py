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
    unlabelled_groups: Sequence[object] | None = None,
    level: float = 0.95,
) -> CombinedRate | None:
    """The rate among all answers, of which some were labelled by people at random.

    Args:
        human: n labels.
        judge: the judge's scores of the same n answers, in the same order.
        unlabelled: its scores of N other answers of the same population.
        weight: lambda; tuned where None.
        groups: a name per label; labels of one group (a prompt, an annotator) are not independent.
        unlabelled_groups: the same of the other answers.

    Raises:
        ValueError: lengths differ, or a value is outside 0..1 or not finite.
    """
    y, f, g = _checked(human, judge, unlabelled)
    if not len(y):
        return None
    chosen = tuned_lambda(y, f, g) if weight is None else (weight if len(g) else 0.0)
    residual = y - chosen * f
    raw = float(chosen * g.mean() + residual.mean()) if chosen else float(y.mean())
    names = _names(groups, len(y))
    rest = chosen**2 * variance_of_mean(g, unlabelled_groups) if chosen else 0.0
    parts = _Parts(raw, y, residual, f, g, rest, chosen, tuned=weight is None)
    return parts.combined(_effective_groups(y, names), names, level)


def combined_rate_of_sample(
    human: ArrayLike,
    judge: ArrayLike,
    unlabelled: ArrayLike,
    probability: ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    level: float = 0.95,
) -> CombinedRate | None:
    """The rate among all n + N answers, of which n were drawn with unequal known probabilities and labelled.

    Labels and the judge's error weigh 1 / probability, divided by the sum of these weights (Hájek), so that drawn answers
    that were not labelled yet do no harm: lambda mean(f of all) + sum w (Y - lambda f) / sum w. The variance is linearised;
    the effective number never exceeds Kish's times the judge's gain.

    Args:
        probability: of each of the n labelled answers to be drawn, above 0 to 1.

    Sources: Hájek 1971; Kish 1965; arXiv 2403.03208.
    """
    y, f, g = _checked(human, judge, unlabelled)
    pi = _checked_probability(probability, len(y))
    if not len(y):
        return None
    w = (1 / pi) / float((1 / pi).mean())
    people, shown, scores = float((w * y).mean()), float((w * f).mean()), np.concatenate([f, g])
    label_part, judge_part = w * (y - people), w * (f - shown)
    spread = float(np.var(scores, ddof=1)) / len(scores) if len(scores) > 1 else 0.0
    size = float((judge_part**2).sum()) + len(y) ** 2 * spread
    chosen = min(max(float((label_part * judge_part).sum()) / size, 0.0), 1.0) if len(g) and size > 0 else 0.0
    residual = label_part - chosen * judge_part
    together = 2 * chosen * max(float((residual * (f - f.mean())).mean()), 0.0) / len(scores)
    names = _names(groups, len(y))
    kish = float(len(y) ** 2 / (w**2).sum()) * _effective_groups(label_part, names) / len(y)
    alone, of_one = variance_of_mean(label_part, names), people * (1 - people) * len(y) / max(len(y) - 1, 1)
    independent = min(kish, of_one / alone) if alone > 0 and of_one > 0 else kish
    raw = chosen * float(scores.mean()) + people - chosen * shown
    rest = chosen**2 * spread + together
    parts = _Parts(raw, label_part, residual, f, g, rest, chosen, tuned=True, people=people)
    return parts.combined(independent, names, level)


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
    judge: ArrayLike,
    probability: ArrayLike,
    human: Sequence[float | None],
    *,
    weight: float = 1.0,
    level: float = 0.95,
) -> CombinedRate | None:
    """The rate where each answer was labelled with a probability of its own, known beforehand.

    Each answer contributes l f + xi (Y - l f) / pi, xi telling whether it was labelled: unbiased whatever the judge is.

    Args:
        judge: scores of all N answers.
        probability: with which each was drawn, above 0 to 1 (`Feedback.sampling_probability`).
        human: its label, None where it was not drawn.
        weight: l, in 0..1; 0 is the labels alone (Horvitz and Thompson 1952).

    Source: arXiv 2403.03208, equation 3.
    """
    drawn = np.array([h is not None for h in human], bool)
    y, f, _ = _checked([h if h is not None else 0.0 for h in human], judge, [])
    pi = _checked_probability(probability, len(f))
    num = int(drawn.sum())
    if not num:
        return None
    parts = weight * f + np.where(drawn, (y - weight * f) / pi, 0.0)
    raw, variance = float(parts.mean()), float(parts.var()) / len(parts)
    unseen = _UNSEEN_DISAGREEMENT / (len(parts) * float(pi[drawn].min())) ** 2
    weights = np.where(drawn, 1 / pi, 0.0)
    kish = float(weights.sum() ** 2 / (weights**2).sum())
    people = float((weights * y).sum() / weights.sum())
    estimate = min(max(raw, 0.0), 1.0)
    spread = estimate * (1 - estimate)
    effective = min(spread / (variance + unseen), float(len(parts))) if spread > 0 else kish
    interval = _interval(raw, effective, num, num, level)
    return CombinedRate(interval, raw, math.sqrt(variance), people, float(f.mean()), weight, effective)


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
    groups: Sequence[object] | None = None,
    level: float = 0.95,
) -> CombinedRate | None:
    """Rate of the first version minus rate of the second, both having answered the same prompts.

    Args:
        human: labels of both versions' answers to the n labelled prompts, in the same order.
        judge: scores of the same answers.
        unlabelled: scores of both versions' answers to N other prompts.
        groups: a name per labelled prompt, where some are copies of one.

    Differences lie in -1..1; they are carried to 0..1, estimated there, and carried back. Of the result `interval`, `raw`,
    `people` and `judge` are differences, -1 to 1.
    """
    halves = [(np.asarray(p[0], float) - np.asarray(p[1], float) + 1) / 2 for p in (human, judge, unlabelled)]
    found = combined_rate(*halves, groups=groups, level=level)
    if found is None:
        return None
    # Wilson's interval supposes 0 or 1; differences are mostly near the middle, so the effective number follows their variance
    num = found.interval.n
    names = _names(groups, num)
    floor = _UNSEEN_DISAGREEMENT / 4 / num**2
    variance = variance_of_mean(halves[0], names) if len(set(names)) > 1 else 0.25
    gain = found.effective_n / _effective_groups(halves[0], names)
    p = found.interval.estimate
    # where every difference is 1 or every one is -1, p (1 - p) is 0 and would leave no label: it is what `floor` allows for each
    spread = max(p * (1 - p), floor * len(set(names)))
    effective = spread / max((variance + floor) / gain, 1e-12)
    i = _interval(found.raw, effective, len(set(names)), num, level)
    ends = (2 * i.estimate - 1, 2 * i.low - 1, 2 * i.high - 1)
    return CombinedRate(
        Interval(*ends, num, "prediction-powered paired", level),
        2 * found.raw - 1,
        2 * found.se,
        2 * found.people - 1,
        2 * found.judge - 1,
        found.weight,
        found.effective_n,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an estimate is made of: `alone` is each label's part of it without the judge, `residual` with it.

    `rest` is the variance that the judge's mean over the other answers adds.
    """

    raw: float
    alone: Array
    residual: Array
    judge: Array
    unlabelled: Array
    rest: float
    weight: float
    tuned: bool
    people: float | None = None

    def combined(self, independent: float, names: Sequence[object], level: float) -> CombinedRate:
        """With Wilson's interval at the effective number: `independent` labels times the judge's gain."""
        n, num = len(self.alone), len(set(names))
        labels = variance_of_mean(self.alone, names)
        with_judge = variance_of_mean(self.residual, names)
        careful = with_judge
        if self.weight:
            spare = max(num - (2 if self.tuned else 1), 1)
            careful = with_judge * (num - 1) / spare + _UNSEEN_DISAGREEMENT * self.weight**2 / (spare * num)
        gain = _gain(labels, careful + self.rest)
        effective = min(independent * gain, independent + len(self.unlabelled))
        people = float(self.alone.mean()) if self.people is None else self.people
        judged = float(np.concatenate([self.judge, self.unlabelled]).mean())
        interval = _interval(self.raw, effective, num, n, level)
        se = math.sqrt(with_judge + self.rest)
        return CombinedRate(interval, self.raw, se, people, judged, self.weight, effective)


def _names(groups: Sequence[object] | None, num: int) -> Sequence[object]:
    if groups is None:
        return range(num)
    if len(groups) != num:
        raise ValueError(f"{num} values and {len(groups)} groups of them: there must be as many")
    return list(groups)


def _checked_probability(probability: ArrayLike, num: int) -> Array:
    pi = np.asarray(probability, float).ravel()
    if len(pi) != num:
        raise ValueError(f"{num} answers and {len(pi)} probabilities of them: there must be as many")
    if not np.all((pi > 0) & (pi <= 1)):
        raise ValueError("a probability must lie above 0 and not above 1")
    return pi


def _checked(human: ArrayLike, judge: ArrayLike, unlabelled: ArrayLike) -> tuple[Array, Array, Array]:
    y, f, g = (np.asarray(a, float).ravel() for a in (human, judge, unlabelled))
    if len(y) != len(f):
        raise ValueError(f"{len(y)} labels and {len(f)} scores of them: there must be as many")
    for name, values in (("human", y), ("judge", f), ("unlabelled", g)):
        if len(values) and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"{name} must be finite numbers from 0 to 1")
    return y, f, g


def variance_of_mean(values: Array, groups: Sequence[object] | None) -> float:
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
    alone, together = variance_of_mean(y, None), variance_of_mean(y, groups)
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
