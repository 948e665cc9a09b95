"""Means of numeric ratings with bootstrap intervals.

`scipy.stats.bootstrap` knows neither clusters nor weights, resamples every rating where counts of distinct values do, and
scipy.stats takes two seconds to import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import Array, tail_of, unseen_share, wilson


def percentile_interval(samples: ArrayLike, *, level: float = 0.95) -> tuple[float, float] | None:
    """The middle `level` of the finite bootstrap samples; None where fewer than 20 are finite."""
    values = np.asarray(samples, float)
    values = values[np.isfinite(values)]
    if values.size < 20:
        return None
    low, high = np.quantile(values, [tail_of(level), 1 - tail_of(level)])
    return float(low), float(high)


def resamples(num_clusters: int, num_samples: int, *, seed: int = 0) -> NDArray[np.int64]:
    """(samples, clusters) how often each cluster is drawn when as many are drawn with replacement."""
    return np.random.default_rng(seed).multinomial(
        num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_samples
    )


def bootstrap_mean(
    values: ArrayLike,
    *,
    scale: Sequence[float] | None = None,
    num_samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """The mean of numeric ratings with an expanded percentile bootstrap interval.

    The percentiles are widened so that small samples cover (Hesterberg 2015, Am. Stat. 69:371-386, section 4.3): the
    plain percentile bootstrap of 5 ratings covers 83%. Where all ratings are equal the bootstrap knows nothing; with
    `scale` = (lowest, highest possible rating) the interval then allows for the share of other ratings that
    Clopper and Pearson's upper limit allows, without it the answer is None, as for fewer than 2 ratings.
    """
    x = np.asarray(values, float)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values must be a flat list of finite numbers")
    if x.size < 2:
        return None
    mean = float(x.mean())
    if np.ptp(x) == 0:
        return _constant_mean(mean, x.size, scale, level)
    low, high = np.quantile(_bootstrap_means(x, num_samples, seed), _expanded_tails(x.size, level))
    return Interval(mean, float(low), float(high), x.size, "bootstrap", level)


def mean_of_counts(
    counts: Mapping[float, int], *, scale: tuple[float, float], level: float = 0.95
) -> Interval | None:
    """The mean of ratings given as value -> how many, with its interval; None where there are fewer than 2.

    Ratings that are all at the ends of the scale (thumbs) are a share: Wilson. Above `_MANY` ratings the interval is the
    normal one, which the bootstrap is then equal to; else `bootstrap_mean`.
    """
    n = sum(counts.values())
    low, high = scale
    if set(counts) <= {low, high} and high > low:
        share = wilson(counts.get(high, 0), n, level=level)
        if share is None:
            return None
        estimate, lower, upper = (low + e * (high - low) for e in (share.estimate, share.low, share.high))
        return Interval(estimate, lower, upper, n, "wilson", level)
    if n <= _MANY:
        values = np.repeat(list(counts), list(counts.values()))
        return bootstrap_mean(values, scale=scale, num_samples=1000, level=level)
    values, weights = np.array(list(counts)), np.array(list(counts.values()), float)
    mean = float(values @ weights / n)
    spread = float(stdtrit(n - 1, 0.5 + level / 2)) * math.sqrt(
        float((values - mean) ** 2 @ weights) / (n - 1) / n
    )
    return Interval(mean, max(mean - spread, low), min(mean + spread, high), n, "t", level)


_MANY = 5_000


def _constant_mean(mean: float, n: int, scale: Sequence[float] | None, level: float) -> Interval | None:
    if scale is None:
        return None
    other = unseen_share(n, level=level)
    # a rating beyond its scale (the scale was changed) stretches it
    lowest, highest = min(scale[0], mean), max(scale[1], mean)
    low, high = mean - (mean - lowest) * other, mean + (highest - mean) * other
    return Interval(mean, low, high, n, "clopper_pearson", level)


def expanded_tail(n: int, level: float) -> float:
    """The share of bootstrap means below the lower end, smaller than (1 - level) / 2 where there are few values (n > 1)."""
    t = float(stdtrit(n - 1, 0.5 + level / 2))
    return float(ndtr(-math.sqrt(n / (n - 1)) * t))


def _expanded_tails(n: int, level: float) -> list[float]:
    tail = expanded_tail(n, level)
    return [tail, 1 - tail]


def _bootstrap_means(x: Array, num_samples: int, seed: int) -> Array:
    """(num_samples,) means of resamples, drawn as multinomial counts of the distinct values: ratings repeat."""
    distinct, counts = np.unique(x, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(x.size, counts / x.size, size=num_samples)
    return draws @ distinct / x.size
