"""Rates from answers that were sampled with known, unequal probabilities."""

from __future__ import annotations

import math
from dataclasses import replace

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import wilson_bounds


def effective_n(sum_w: float, sum_w2: float, sum_wy: float, sum_w2y: float) -> float:
    """How many equally weighted ratings carry as much information; never more than Kish's number.

    The smaller of Kish's (Σw)²/Σw² and p(1-p)/V, V the linearised variance Σw²(y-p)²/(Σw)² of the weighted share p.
    The first keeps the interval honest at few ratings, where V is a poor estimate; the second where the weight goes
    with the outcome. At equal weights both are n.

    Args: sums over the ratings of w, w², w·y and w²·y, with y 0 or 1.
    """
    kish = sum_w**2 / sum_w2
    p = sum_wy / sum_w
    variance = (sum_w2y * (1 - 2 * p) + p * p * sum_w2) / sum_w**2
    spread = p * (1 - p)
    if spread <= 0 or variance <= 0:
        return kish
    return min(kish, spread / variance)


def wilson_from_sums(
    n: int, sum_w: float, sum_w2: float, sum_wy: float, sum_w2y: float, *, level: float = 0.95
) -> Interval | None:
    """The population's rate from ratings that were sampled with known, unequal probabilities; None where n or the sums are 0.

    The estimate is Hájek's, Σ(y/π)/Σ(1/π); the interval is Wilson's at `effective_n`. Simulated coverage at 5 to
    5,000 ratings and weights 1 to 100 is in tests/unit/statistics/test_coverage.py.

    Args: sums over the `n` ratings of w, w², w·y and w²·y, as an aggregate query returns them; w is 1/π, y is 0 or 1.

    Source: Hájek 1971; Kish 1965, section 11.7; Franco et al. 2019, J. Surv. Stat. Methodol. 7:334-364 (Wilson's
    interval with an effective sample size).
    """
    if n == 0 or not (0 < sum_w < math.inf and 0 < sum_w2 < math.inf):
        return None
    share = min(max(sum_wy / sum_w, 0.0), 1.0)
    m = effective_n(sum_w, sum_w2, sum_wy, sum_w2y)
    low, high = wilson_bounds(share * m, m, level=level)
    equal = math.isclose(m, n, rel_tol=1e-9)
    return Interval(share, float(low), float(high), n, "wilson" if equal else "wilson weighted", level)


def widened_by_design(
    result: Interval, num_up: int, sum_w: float, sum_wy: float, weights: tuple[float, float]
) -> Interval:
    """An interval that holds even where few ratings have not shown what the other outcome weighs.

    Five ratings may all be thumbs down of weight 1 where thumbs up weigh 5: no interval made of the sample can know. What
    the design allows is known: the smallest and the largest weight it gives. The odds of the population are those of
    the sampled ratings times the ratio of the outcomes' mean weights; each limit takes Wilson's limit for the
    sampled ratings and the mean weights that are worst for it after one more rating at the design's end. The wider of
    this and `result` covers at least 95% from 5 to 5,000 ratings also where the weight is decided by the outcome
    (tests/unit/statistics/test_coverage.py); the surplus vanishes as ratings come.

    Args:
        weights: (smallest, largest) one over the design's (largest, smallest) probability.

    Source: Aronow & Lee 2013, Biometrika 100:235-240 (bounded, otherwise unknown selection probabilities).

    Raises:
        ValueError: the weights are not 0 < smallest <= largest.
    """
    low_w, high_w = weights
    if not 0 < low_w <= high_w < math.inf:
        raise ValueError(f"weights {weights!r} must be above 0, the smallest first")
    if math.isclose(low_w, high_w):
        return result
    n = result.n
    low, high = (float(v) for v in wilson_bounds(num_up, n, level=result.level))
    up, down = (sum_wy, num_up + 1), (sum_w - sum_wy, n - num_up + 1)
    low = _share(low, (up[0] + low_w) / up[1], (down[0] + high_w) / down[1])
    high = _share(high, (up[0] + high_w) / up[1], (down[0] + low_w) / down[1])
    return replace(
        result, low=min(result.low, low), high=max(result.high, high), method="wilson weighted by design"
    )


def _share(sampled: float, weight_up: float, weight_down: float) -> float:
    """The population's share of thumbs up from the sampled ratings' and the outcomes' mean weights."""
    return sampled * weight_up / (sampled * weight_up + (1 - sampled) * weight_down)
