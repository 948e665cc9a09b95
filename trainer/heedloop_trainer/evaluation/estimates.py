"""Estimates with their intervals: whole clusters are resampled, since the judgements of one person go together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval, from `n` rows in `num_clusters` clusters."""

    estimate: float
    low: float
    high: float
    n: int
    num_clusters: int

    @property
    def text(self) -> str:
        """Such as `0.783 [0.761, 0.804]`."""
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def cluster_bootstrap(
    values: np.ndarray,
    clusters: Sequence[Any],
    weights: np.ndarray | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    share: bool = True,
) -> Estimate:
    """Weighted mean of `values` with a percentile interval from resampling whole clusters.

    Resampling shows no spread where there is one cluster only, or where all clusters agree. That is not certainty: the interval
    is then Wilson's with the clusters as its sample, and of what is no share it reaches over all values.

    Args:
        values: [n]; clusters: a judge (or prompt group) per value; None counts as a cluster of its own.
        share: the values are within 0 and 1.
    """
    weights = np.ones(len(values)) if weights is None else weights
    names = [c if c is not None else ("row", i) for i, c in enumerate(clusters)]
    index = {name: k for k, name in enumerate(dict.fromkeys(names))}
    place = np.array([index[name] for name in names], dtype=int)
    tops = np.bincount(place, weights * values, len(index))
    bottoms = np.bincount(place, weights, len(index))
    if len(values) == 0 or bottoms.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    draws = np.random.Generator(np.random.Philox(seed)).multinomial(
        len(index), np.full(len(index), 1 / len(index)), size=num_resamples
    )
    means = (draws @ tops) / np.maximum(draws @ bottoms, 1e-12)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(tops.sum() / bottoms.sum())
    if high - low < 1e-12:
        low, high = _wilson(mean, len(index)) if share else (values.min(), values.max())
    return Estimate(mean, float(low), float(high), len(values), len(index))


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share among `count`."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def row_bootstrap(fit: Callable[[np.ndarray], float], count: int, *, num_resamples: int = 200) -> Estimate:
    """`fit` of all rows with a percentile interval from resampling rows: for what is more than a mean."""
    rng = np.random.Generator(np.random.Philox(0))
    draws = [fit(rng.integers(0, count, count)) for _ in range(num_resamples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(fit(np.arange(count)), float(low), float(high), count, count)
