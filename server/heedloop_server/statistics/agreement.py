"""Agreement between annotators, beyond what chance would give.

Most coefficients start from counts: one row per unit (an answer that was judged), one column per category, each entry
how many annotators chose it. Where a coefficient is 0/0 (everyone always chose the same category) it is None: it is
then not known whether annotators can tell the categories apart, which is neither 0 nor 1. Percent agreement is to be
shown beside every coefficient: kappa can be negative at 94% agreement (Gwet 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedloop_server.statistics.intervals import Array, Interval, clopper_pearson_bounds
from heedloop_server.statistics.means import expanded_tail, percentile_interval

Metric = Literal["nominal", "ordinal", "interval", "ratio"]
Coefficient = Literal["percent", "fleiss", "randolph", "gwet_ac1", "alpha"]


def _checked_counts(counts: ArrayLike) -> Array:
    n = np.asarray(counts, float)
    if n.ndim != 2 or (n < 0).any() or not np.isfinite(n).all():
        raise ValueError("counts must be a table of units x categories without negative or missing entries")
    return n


# ---------------------------------------------------------------------------------------------- two annotators


def _checked_table(table: ArrayLike) -> Array:
    t = _checked_counts(table)
    if t.shape[0] != t.shape[1]:
        raise ValueError(f"a table of rater A x rater B must be square, not {t.shape[0]} x {t.shape[1]}")
    return t


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


def percent_agreement_table(table: ArrayLike) -> float | None:
    """The share of units on which two raters agree, from their (k, k) table; None for an empty table."""
    t = _checked_table(table)
    return float(np.trace(t) / t.sum()) if t.sum() else None


def cohen_kappa(
    table: ArrayLike, *, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float | None:
    """Cohen's kappa of two raters, from their (k, k) table; weighted where the categories are ordered.

    None where chance agreement is 1 (both always chose one and the same category) or the table is empty.
    Source: Cohen 1960, Educ. Psychol. Meas. 20:37-46; Cohen 1968, Psychol. Bull. 70:213-220 (weights).
    """
    t = _checked_table(table)
    if t.sum() == 0:
        return None
    share = t / t.sum()
    expected = np.outer(share.sum(axis=1), share.sum(axis=0))
    distance = np.abs(np.subtract.outer(np.arange(len(t)), np.arange(len(t)))).astype(float)
    if weights == "none":
        distance = (distance > 0).astype(float)
    elif weights == "quadratic":
        distance = distance**2
    elif weights != "linear":
        raise ValueError(f"weights {weights!r} is not one of none, linear, quadratic")
    disagreement = float((expected * distance).sum())
    return 1 - float((share * distance).sum()) / disagreement if disagreement > 1e-15 else None


def counts_of_table(table: ArrayLike) -> Array:
    """(units, k) counts of the units behind a (k, k) table of two raters."""
    t = _checked_table(table).astype(int)
    k = len(t)
    rows = [np.eye(k)[i] + np.eye(k)[j] for i in range(k) for j in range(k) for _ in range(t[i, j])]
    return np.array(rows).reshape(-1, k)


# ------------------------------------------------------------------------------------------------ any number


def counts_of_ratings(
    ratings: Sequence[Sequence[Hashable | None]], categories: Sequence[Hashable] | None = None
) -> Array:
    """(units, categories) counts from annotators x units of labels, None where one did not judge a unit.

    Categories default to those that occur, sorted by value (numbers, also written as text) or by text.
    """
    if len({len(r) for r in ratings}) > 1:
        raise ValueError("every annotator needs one entry per unit; use None where a unit was not judged")
    known = _categories(ratings) if categories is None else list(categories)
    place = {c: i for i, c in enumerate(known)}
    counts = np.zeros((len(ratings[0]) if ratings else 0, len(known)))
    for row in ratings:
        for unit, label in enumerate(row):
            if not _missing(label):
                counts[unit, place[label]] += 1
    return counts


def _missing(label: object) -> bool:
    return label is None or (isinstance(label, float) and label != label)


def _categories(ratings: Sequence[Sequence[Hashable | None]]) -> list[Hashable]:
    found = {label for row in ratings for label in row if not _missing(label)}
    try:
        return sorted(found, key=lambda v: float(cast(float, v)))
    except (TypeError, ValueError):
        return sorted(found, key=str)


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
    return units.observed(weight)


def _fleiss(units: _Units, weight: Array) -> float:
    return _beyond_chance(units.observed(weight), float((units.shares(weight) ** 2).sum()))


def _randolph(units: _Units, weight: Array) -> float:
    num_categories = units.share.shape[1]
    return _beyond_chance(units.observed(weight), 1 / num_categories if num_categories else np.nan)


def _gwet_ac1(units: _Units, weight: Array) -> float:
    shares = units.shares(weight)
    if shares.size < 2:
        return np.nan
    return _beyond_chance(units.observed(weight), float((shares * (1 - shares)).sum() / (shares.size - 1)))


def _beyond_chance(observed: float, chance: float) -> float:
    return (observed - chance) / (1 - chance) if 1 - chance > 1e-12 else np.nan


_FROM_UNITS: dict[str, Callable[[_Units, Array], float]] = {
    "percent": _percent,
    "fleiss": _fleiss,
    "randolph": _randolph,
    "gwet_ac1": _gwet_ac1,
}


def _value(name: str, counts: ArrayLike) -> float | None:
    units = _Units(counts)
    value = _FROM_UNITS[name](units, units.ones)
    return float(value) if np.isfinite(value) else None


def percent_agreement(counts: ArrayLike) -> float | None:
    """The mean share of agreeing pairs over units judged by two or more; None without such a unit."""
    return _value("percent", counts)


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss's kappa of units x categories counts; None where everyone always chose one category.

    Units may have different numbers of annotators: each then counts alike (Gwet 2014, Handbook of Inter-Rater
    Reliability, 4th ed., section 2.4), which is Fleiss's own formula where the numbers are equal.
    Source: Fleiss 1971, Psychol. Bull. 76:378-382.
    """
    return _value("fleiss", counts)


def randolph_kappa(counts: ArrayLike) -> float | None:
    """Randolph's free-marginal kappa: chance is 1 over the number of columns, chosen or not.

    Source: Randolph 2005, Joensuu Learning and Instruction Symposium; Brennan & Prediger 1981.
    """
    return _value("randolph", counts)


def gwet_ac1(counts: ArrayLike) -> float | None:
    """Gwet's AC1, which skewed categories do not pull down. Source: Gwet 2008, BJMSP 61:29-48."""
    return _value("gwet_ac1", counts)


# ------------------------------------------------------------------------------------------- Krippendorff's alpha


def krippendorff_alpha(
    ratings: Sequence[Sequence[Hashable | None]],
    *,
    metric: Metric = "nominal",
    categories: Sequence[Hashable] | None = None,
) -> float | None:
    """Krippendorff's alpha of annotators x units, None (or NaN) where an annotator did not judge a unit.

    `categories` gives the order of labels for `ordinal`; numbers default to their own order. None where no unit has
    two judgements, or where all judgements are equal (expected disagreement 0).

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    known = _categories(ratings) if categories is None else list(categories)
    return alpha_from_counts(counts_of_ratings(ratings, known), known, metric=metric)


def alpha_from_counts(
    counts: ArrayLike, categories: Sequence[Hashable] | None = None, *, metric: Metric = "nominal"
) -> float | None:
    """Krippendorff's alpha from units x categories counts; `categories` are the values (numbers for interval, ratio)."""
    n = _checked_counts(counts)
    value = _alpha(_coincidences(n), np.ones(len(n)), _known(n, categories), metric)
    return float(value) if np.isfinite(value) else None


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
    if metric == "interval":
        return np.subtract.outer(values, values) ** 2
    if metric == "ratio":
        total = np.add.outer(values, values)
        return (
            np.divide(np.subtract.outer(values, values), total, out=np.zeros_like(total), where=total != 0)
            ** 2
        )
    raise ValueError(f"metric {metric!r} is not one of nominal, ordinal, interval, ratio")


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
    draws = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=num_samples)
    values = [statistic(w[cluster].astype(float)) for w in draws]
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

    Clopper and Pearson's limit allows a share of other clusters that were not seen; in them nobody may agree (the lower
    end), or everybody (the upper end).
    """
    unseen = float(clopper_pearson_bounds(0, num_clusters, level=level)[1])
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
        "randolph": 1 / len(shares),
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
    if coefficient not in _FROM_UNITS:
        raise ValueError(f"coefficient {coefficient!r} is not one of {', '.join([*_FROM_UNITS, 'alpha'])}")
    units = _Units(n)
    return lambda weight: _FROM_UNITS[coefficient](units, weight)
