"""Agreement between annotators, beyond what chance would give.

Most coefficients start from counts: one row per unit (an answer that was judged), one column per category, each entry
how many annotators chose it. Where a coefficient is 0/0 (everyone always chose the same category) it is None: it is
then not known whether annotators can tell the categories apart, which is neither 0 nor 1. Percent agreement is to be
shown next to every coefficient: kappa can be negative at 94% agreement (Gwet 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import Array, unseen_share
from heedloop_server.statistics.means import expanded_tail, percentile_interval, resamples

Metric = Literal["nominal", "ordinal", "interval"]
Coefficient = Literal["percent", "fleiss", "gwet_ac1", "alpha"]


def _checked_counts(counts: ArrayLike) -> Array:
    n = np.asarray(counts, float)
    if n.ndim != 2 or (n < 0).any() or not np.isfinite(n).all():
        raise ValueError("counts must be a table of units x categories without negative or missing entries")
    return n


# ---------------------------------------------------------------------------------------------- two annotators


def confusion_table(a: Sequence[Hashable], b: Sequence[Hashable], categories: Sequence[Hashable]) -> Array:
    """(k, k) how often A chose the row and B the column; pairs with a None are left out."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} labels: both raters must judge the same units in one order")
    place = {c: i for i, c in enumerate(categories)}
    table = np.zeros((len(place), len(place)))
    for x, y in zip(a, b, strict=True):
        if x is not None and y is not None:
            table[place[x], place[y]] += 1
    return table


def mean_kappas(tables: Array, distance: Array) -> Array:
    """(samples,) Cohen's kappa of the pairs of raters in `tables` (samples, pairs, k, k); NaN where it is undefined.

    The mean over the pairs is by the number of units that both judged (Light 1971 takes the plain mean, in which a pair with
    two common units would weigh as much as one with two hundred). Undefined is a kappa whose chance agreement is 1: both
    always chose one and the same category, or judged nothing together.

    Args:
        distance: (k, k) how far two categories are apart: 1 off the diagonal for plain kappa, squares of differences for
            quadratic weights.

    Source: Cohen 1960, Educ. Psychol. Meas. 20:37-46; Cohen 1968, Psychol. Bull. 70:213-220 (weights).
    """
    num = tables.sum(axis=(2, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = tables.sum(axis=3)[:, :, :, None] * tables.sum(axis=2)[:, :, None, :] / num[..., None, None]
        kappa = 1 - (tables * distance).sum(axis=(2, 3)) / (chance * distance).sum(axis=(2, 3))
        weight = np.where(np.isfinite(kappa), num, 0.0)
        return np.nansum(np.where(weight > 0, kappa * weight, 0.0), axis=1) / weight.sum(axis=1)


# ------------------------------------------------------------------------------------------------ any number


def agreement_per_unit(counts: ArrayLike) -> Array:
    """(units,) the share of pairs of annotators who agree on each unit; NaN where fewer than two judged it.

    This is Fleiss's P_i.
    """
    n = _checked_counts(counts)
    raters = n.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(raters > 1, (n * (n - 1)).sum(axis=1) / (raters * (raters - 1)), np.nan)


class _Units:
    """What every coefficient needs of each unit, so that a bootstrap only re-weights units."""

    def __init__(self, counts: ArrayLike) -> None:
        n = _checked_counts(counts)
        self.judged = n[n.sum(axis=1) > 0]
        self.share = self.judged / self.judged.sum(axis=1, keepdims=True)
        self.agreement = agreement_per_unit(self.judged)
        self.paired = np.isfinite(self.agreement)
        self.ones = np.ones(len(self.judged))

    def observed(self, weight: Array) -> float:
        """The weighted mean agreement over the units that two or more judged; NaN without any."""
        w = weight[self.paired]
        return float(w @ self.agreement[self.paired] / w.sum()) if w.sum() > 0 else np.nan

    def shares(self, weight: Array) -> Array:
        """(categories,) how often each category is chosen, units counting alike."""
        return (
            weight @ self.share / weight.sum() if weight.sum() > 0 else np.full(self.share.shape[1], np.nan)
        )


def _percent(units: _Units, weight: Array) -> float:
    """The mean share of agreeing pairs over units judged by two or more."""
    return units.observed(weight)


def _fleiss(units: _Units, weight: Array) -> float:
    """Fleiss's kappa.

    Units may have different numbers of annotators: each then counts alike (Gwet 2014, Handbook of Inter-Rater
    Reliability, 4th ed., section 2.4), which is Fleiss's own formula where the numbers are equal.
    Source: Fleiss 1971, Psychol. Bull. 76:378-382.
    """
    return _beyond_chance(units.observed(weight), float((units.shares(weight) ** 2).sum()))


def _gwet_ac1(units: _Units, weight: Array) -> float:
    """Gwet's AC1, which skewed categories do not pull down. Source: Gwet 2008, BJMSP 61:29-48."""
    shares = units.shares(weight)
    if shares.size < 2:
        return np.nan
    return _beyond_chance(units.observed(weight), float((shares * (1 - shares)).sum() / (shares.size - 1)))


def _beyond_chance(observed: float, chance: float) -> float:
    return (observed - chance) / (1 - chance) if 1 - chance > 1e-12 else np.nan


_FROM_UNITS: dict[str, Callable[[_Units, Array], float]] = {
    "percent": _percent,
    "fleiss": _fleiss,
    "gwet_ac1": _gwet_ac1,
}


# ------------------------------------------------------------------------------------------- Krippendorff's alpha


def _known(n: Array, categories: Sequence[Hashable] | None) -> Sequence[Hashable]:
    known = list(range(n.shape[1])) if categories is None else categories
    if len(known) != n.shape[1]:
        raise ValueError(f"{len(known)} categories for {n.shape[1]} columns")
    return known


def _coincidences(n: Array) -> Array:
    """(units, k, k) each unit's share of the coincidence matrix: ordered pairs over (annotators - 1)."""
    raters = n.sum(axis=1)
    pairs = n[:, :, None] * n[:, None, :] - n[:, :, None] * np.eye(n.shape[1])[None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((raters > 1)[:, None, None], pairs / (raters - 1)[:, None, None], 0.0)


def _alpha(coincidences: Array, weight: Array, categories: Sequence[Hashable], metric: Metric) -> float:
    """Krippendorff's alpha; NaN where no unit has two judgements, or where all judgements are equal.

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    o = np.tensordot(weight, coincidences, axes=1)
    totals = o.sum(axis=1)
    n = totals.sum()
    if n <= 1:
        return np.nan
    distance = _distances(totals, categories, metric)
    expected = float((np.outer(totals, totals) * distance).sum())
    return 1 - (n - 1) * float((o * distance).sum()) / expected if expected > 0 else np.nan


def _distances(totals: Array, categories: Sequence[Hashable], metric: Metric) -> Array:
    """(k, k) squared differences of the metric."""
    if metric == "nominal":
        return 1 - np.eye(len(totals))
    if metric == "ordinal":
        # the judgements from one value to the other, the ends counting half
        middle = np.cumsum(totals) - totals / 2
        return np.subtract.outer(middle, middle) ** 2
    try:
        values = np.array([float(cast(float, c)) for c in categories])
    except (TypeError, ValueError):
        raise ValueError(f"metric {metric!r} needs numbers as categories") from None
    if not np.isfinite(values).all():
        raise ValueError(f"metric {metric!r} needs finite numbers as categories")
    return np.subtract.outer(values, values) ** 2


# ------------------------------------------------------------------------------------------------- intervals


def agreement_interval(
    coefficient: Coefficient,
    counts: ArrayLike,
    *,
    categories: Sequence[Hashable] | None = None,
    metric: Metric = "nominal",
    clusters: Sequence[Hashable] | None = None,
    num_samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """A coefficient with its bootstrap interval over units; `n` is the number of units with two or more judgements.

    None where the coefficient is undefined, or where fewer than 20 resamples define it. Units, not judgements, are
    resampled: judgements of one unit are not independent. Where `clusters` names a cluster per unit (the answer that
    several units are about), clusters are resampled. Where all resamples are alike (all agree, none does, there is one
    unit) a bootstrap knows nothing: `Interval.method` is then `clopper_pearson`, see `without_spread`.

    Args:
        counts: one row per unit, one column per category.
        categories: of `alpha`, the values of the columns in order; numbers for the metric `interval`. Default: their numbers.
        metric: the distance of alpha.
    """
    n = _checked_counts(counts)
    cluster = _cluster_index(len(n), clusters)[n.sum(axis=1) > 0]
    n = n[n.sum(axis=1) > 0]
    statistic = _weighted_statistic(coefficient, n, categories, metric)
    estimate = statistic(np.ones(len(n))) if len(n) else np.nan
    if not np.isfinite(estimate):
        return None
    paired = int((n.sum(axis=1) > 1).sum())
    present, cluster = np.unique(cluster, return_inverse=True)
    k = len(present)
    values = [statistic(w[cluster].astype(float)) for w in resamples(k, num_samples, seed=seed)]
    # a mean of few clusters: the plain percentiles cover too seldom (89% at 20 items)
    is_mean = coefficient == "percent" and k > 1
    wider = min(1 - 2 * expanded_tail(k, level), 1 - 1 / num_samples) if is_mean else level
    ends = percentile_interval(values, level=wider)
    if ends is None:
        return None
    if ends[1] - ends[0] < 1e-12:
        num_clusters = len(np.unique(cluster[n.sum(axis=1) > 1]))
        ends = without_spread(estimate, num_clusters, _chance(coefficient, n), level=level)
        return Interval(float(estimate), *ends, paired, "clopper_pearson", level)
    return Interval(
        float(estimate), min(ends[0], estimate), max(ends[1], estimate), paired, "bootstrap", level
    )


def without_spread(
    estimate: float, num_clusters: int, chance: float, *, level: float = 0.95
) -> tuple[float, float]:
    """The ends of a coefficient's interval where every resample gives the same value.

    Clopper and Pearson's limit allows a share of other clusters that were not seen; in them no pair may agree (the lower
    end), or every pair (the upper end).
    """
    unseen = unseen_share(num_clusters, level=level)
    high = float(1 - (1 - estimate) * (1 - unseen))
    return high - unseen / (1 - chance), high


def _chance(coefficient: Coefficient, n: Array) -> float:
    """The agreement by chance that a coefficient takes out, of nominal categories."""
    units = _Units(n)
    shares = units.shares(units.ones)
    chances: dict[str, float] = {
        "percent": 0.0,
        "fleiss": float((shares**2).sum()),
        "alpha": float((shares**2).sum()),
        "gwet_ac1": float((shares * (1 - shares)).sum() / max(len(shares) - 1, 1)),
    }
    return chances[coefficient]


def _cluster_index(num_units: int, clusters: Sequence[Hashable] | None) -> NDArray[np.int64]:
    """(units,) a number per cluster; each unit its own where none are named."""
    if clusters is None:
        return np.arange(num_units)
    if len(clusters) != num_units:
        raise ValueError(f"{len(clusters)} clusters for {num_units} units")
    place = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    return np.array([place[c] for c in clusters], dtype=np.int64)


def _weighted_statistic(
    coefficient: Coefficient, n: Array, categories: Sequence[Hashable] | None, metric: Metric
) -> Callable[[Array], float]:
    if coefficient == "alpha":
        coincidences, known = _coincidences(n), _known(n, categories)
        return lambda weight: _alpha(coincidences, weight, known, metric)
    units = _Units(n)
    return lambda weight: _FROM_UNITS[coefficient](units, weight)
