"""Where a judge may decide alone, and which answers annotators should look at next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from heedloop.responses import Deferral, DeferralStep, Interval
from heedloop_server.statistics.intervals import Array, tail_of, wilson_bounds

SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the judged answers, the surest first: chosen before anything is seen, as the test needs."""
MIN_SHARE_UNIFORM = 0.5
"""Of the expected labels, the part that is drawn without regard to the judge: a judge that is sure and wrong must be found out."""


def deferral(
    scores: ArrayLike,
    audited: ArrayLike,
    wrong: ArrayLike,
    probability: ArrayLike,
    *,
    max_error: float = 0.1,
    level: float = 0.95,
) -> Deferral:
    """The least confidence from which the judge is wrong in at most `max_error`, with the error of the whole procedure bounded.

    Thresholds are the quantiles of confidence of `SHARES`, tested from the surest in that fixed order, each at 1 - `level`;
    the first that fails ends it, so that no correction for many tests is due. A test passes where Clopper and Pearson's
    one-sided limit, at Kish's number where the probabilities differ, is at most `max_error`.

    Args:
        scores: the judge's of all answers, 0 to 1; confidence is |2 s - 1|.
        audited: its scores of the audited ones.
        wrong: whether annotators said otherwise, 0 or 1 (a share where they were divided).
        probability: with which each was drawn.

    Source: Maurer, Hothorn & Lehmacher 1995 (fixed-sequence testing); Angelopoulos et al. 2021, arXiv 2110.01052
    (Learn then Test); Clopper & Pearson 1934.
    """
    tail_of(level)
    everything = np.abs(2 * np.asarray(scores, float) - 1)
    sure, errors = np.abs(2 * np.asarray(audited, float) - 1), np.asarray(wrong, float)
    weights = 1 / np.asarray(probability, float)
    steps: list[DeferralStep] = []
    for share in SHARES if len(everything) else ():
        threshold = float(np.quantile(everything, 1 - share, method="lower"))
        if steps and threshold == steps[-1].threshold:
            continue
        chosen = sure >= threshold
        error = _error(errors[chosen], weights[chosen], level)
        passed = error is not None and error.high <= max_error
        steps.append(
            DeferralStep(
                threshold=threshold, share=float((everything >= threshold).mean()), error=error, passed=passed
            )
        )
        if not passed:
            break
    best = next((s for s in reversed(steps) if s.passed), None)
    return Deferral(
        max_error=max_error,
        level=level,
        threshold=best.threshold if best else None,
        share=best.share if best else 0.0,
        error=best.error if best else None,
        tested=steps,
    )


def _error(wrong: Array, weights: Array, level: float) -> Interval | None:
    if not len(wrong):
        return None
    n = float(weights.sum() ** 2 / (weights**2).sum())
    x = n * float((weights * wrong).sum() / weights.sum())
    high = 1.0 if x >= n else float(betaincinv(x + 1, n - x, level))
    return Interval(x / n, 0.0, high, len(wrong), "clopper_pearson one-sided", level)


# -------------------------------------------------------------------------------------------------------- next labels


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """How wrong the judge was where it was this sure: the mean squared residual by thirds of confidence."""

    edges: tuple[float, ...]
    errors: tuple[float, ...]

    def of(self, scores: ArrayLike) -> Array:
        """The expected root of the squared residual of each score."""
        sure = np.abs(2 * np.asarray(scores, float) - 1)
        return np.sqrt(np.asarray(self.errors)[np.searchsorted(self.edges, sure, side="right")])


def error_model(scores: ArrayLike, labels: ArrayLike) -> ErrorModel:
    """What audits say of the judge's errors; without any, every answer is as doubtful as another.

    Half a disagreement is added to each third, so that no answer is ever beyond doubt.
    """
    f, y = np.asarray(scores, float), np.asarray(labels, float)
    if len(f) < 30:
        return ErrorModel((), (0.25,))
    sure = np.abs(2 * f - 1)
    edges = tuple(float(q) for q in np.unique(np.quantile(sure, (1 / 3, 2 / 3))))
    place = np.searchsorted(edges, sure, side="right")
    squares = (y - f) ** 2
    errors = [
        (float(squares[place == k].sum()) + 0.5) / (int((place == k).sum()) + 1)
        for k in range(len(edges) + 1)
    ]
    return ErrorModel(edges, tuple(errors))


def label_probabilities(scores: ArrayLike, model: ErrorModel, num_labels: int) -> Array:
    """With which probability to draw each answer so that `num_labels` are expected and the estimate is narrowest.

    The optimum is proportional to the expected size of the judge's error; half is drawn evenly.
    Source: Zrnic & Candes 2024, arXiv 2403.03208, section 3.

    Raises:
        ValueError: `num_labels` is below 1.
    """
    if num_labels < 1:
        raise ValueError(f"{num_labels} labels: at least one must be drawn")
    f = np.asarray(scores, float)
    if not len(f):
        return f
    doubt = model.of(f)
    weights = MIN_SHARE_UNIFORM / len(f) + (1 - MIN_SHARE_UNIFORM) * doubt / doubt.sum()
    return np.minimum(weights * num_labels, 1.0)


def labels_left(
    interval: Interval, effective_n: float, half_width: float, num_others: int | None = None
) -> int | None:
    """How many more labels make the interval `half_width` on either side, if labels stay worth what they are.

    0 where it is narrow enough. None where even labelling all `num_others` would not do.
    """
    level, p, worth = interval.level, interval.estimate, effective_n / interval.n
    if (interval.high - interval.low) / 2 <= half_width:
        return 0
    low, high = interval.n, interval.n
    while _half_width(p, high * worth, level) > half_width:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _half_width(p, middle * worth, level) > half_width else (low, middle)
    needed = high - interval.n
    return None if num_others is not None and needed > num_others else needed


def _half_width(p: float, n: float, level: float) -> float:
    low, high = wilson_bounds(p * n, n, level=level)
    return (float(high) - float(low)) / 2
