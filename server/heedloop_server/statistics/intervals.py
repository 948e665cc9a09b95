"""Intervals of rates and of differences of rates.

A rate of thumbs is a binomial proportion. Its interval is Wilson's score interval, which covers close to 95% also at
5 ratings and near 0 or 1, where the textbook (Wald) interval covers 40% (Brown, Cai & DasGupta 2001, Statist. Sci.
16:101-133). `level` is the two-sided confidence level, strictly between 0 and 1, everywhere.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from heedloop.responses import Interval

Array = NDArray[np.float64]


def z_quantile(level: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95. Raises ValueError outside 0 to 1."""
    if not 0 < level < 1:
        raise ValueError(f"level {level!r} must be strictly between 0 and 1, such as 0.95")
    return float(ndtri(0.5 + level / 2))


def _check_counts(successes: float, n: float) -> None:
    if not (math.isfinite(successes) and math.isfinite(n)):
        raise ValueError(f"successes {successes!r} and n {n!r} must be finite numbers")
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes!r} successes of {n!r}: successes must lie between 0 and n")


# ------------------------------------------------------------------------------------------- one proportion


def wilson_bounds(successes: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> tuple[Array, Array]:
    """Wilson's score interval without continuity correction, element by element.

    `scipy.stats.binomtest` gives the same of one whole number at a time. Ours also takes effective (fractional) numbers and
    arrays, and spares a starting server the two seconds that scipy.stats takes to import.

    Args:
        successes: any shape; may be fractional (an effective number).
        n: same shape; NaN comes back where n is 0.
        level: two-sided confidence level.

    Source: Wilson 1927, JASA 22:209-212; Newcombe 1998, Statist. Med. 17:857-872, method 3.
    """
    x, m = np.asarray(successes, float), np.asarray(n, float)
    z2 = z_quantile(level) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        p = x / m
        middle = (x + z2 / 2) / (m + z2)
        half = math.sqrt(z2) / (m + z2) * np.sqrt(np.maximum(m * p * (1 - p), 0) + z2 / 4)
    # At 0 and n the interval ends exactly there; floating point leaves 1e-17 beside it.
    low = np.where(x <= 0, 0.0, np.maximum(middle - half, 0.0))
    high = np.where(x >= m, 1.0, np.minimum(middle + half, 1.0))
    empty = m <= 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def unseen_share(n: int, *, level: float = 0.95) -> float:
    """The largest share that is likely of what was seen in none of `n` trials: Clopper and Pearson's upper limit of 0 of n.

    Source: Clopper & Pearson 1934, Biometrika 26:404-413.
    """
    return 1 - tail_of(level) ** (1 / n)


def tail_of(level: float) -> float:
    """The probability left on either side: 0.025 for 0.95. Raises ValueError outside 0 to 1."""
    z_quantile(level)
    return (1 - level) / 2


def wilson(successes: float, n: float, *, level: float = 0.95) -> Interval | None:
    """Wilson's interval of `successes / n`; None where n is 0.

    Raises:
        ValueError: successes outside 0..n, or a level outside 0..1.
    """
    _check_counts(successes, n)
    low, high = wilson_bounds(successes, n, level=level)
    if n == 0:
        return None
    return Interval(successes / n, float(low), float(high), round(n), "wilson", level)


# ------------------------------------------------------------------------------------------------ differences


def difference(a: Interval | None, b: Interval | None) -> Interval | None:
    """`a - b` with the square-and-add (MOVER) interval from the two intervals; None where either is undefined.

    With two Wilson intervals this is Newcombe's method 10. Source: Newcombe 1998, Statist. Med. 17:873-890; Zou &
    Donner 2008, Statist. Med. 27:1693-1702.
    """
    if a is None or b is None:
        return None
    d = a.estimate - b.estimate
    low = d - math.hypot(a.estimate - a.low, b.high - b.estimate)
    high = d + math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(d, low, high, a.n + b.n, "newcombe", a.level)


def newcombe(x1: float, n1: float, x2: float, n2: float, *, level: float = 0.95) -> Interval | None:
    """The difference x1/n1 - x2/n2 of two independent rates with Newcombe's hybrid score interval (method 10).

    None where either n is 0. Source: Newcombe 1998, Statist. Med. 17:873-890.
    """
    return difference(wilson(x1, n1, level=level), wilson(x2, n2, level=level))
