"""Comparisons within strata: what is left of a difference once a third attribute is held still."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from heedloop.responses import Interval, Stratum
from heedloop_server.statistics.intervals import difference, newcombe, wilson, z_quantile

Table = Sequence[Sequence[int]]
"""[[successes, failures] of A, [successes, failures] of B]."""


@dataclass(frozen=True, slots=True)
class StratifiedComparison:
    """A against B, all together and within strata.

    Attributes:
        crude: difference of the rates, strata ignored.
        odds_ratio: Mantel-Haenszel's common odds ratio, A over B; None where no stratum informs it.
        difference: Mantel-Haenszel's common difference of rates.
        p_value: of the Cochran-Mantel-Haenszel test (without continuity correction) of no difference in any stratum.
        reversal: True where the direction flips inside the strata (Simpson's paradox): A is the better one overall and
            the worse one within the strata, or the other way round.
    """

    strata: tuple[Stratum, ...]
    crude: Interval | None
    odds_ratio: Interval | None
    difference: Interval | None
    p_value: float | None
    reversal: bool


def stratified_comparison(tables: Mapping[str, Table], *, level: float = 0.95) -> StratifiedComparison:
    """Compare A with B within each stratum and over all.

    Args:
        tables: stratum name -> [[successes, failures] of A, [successes, failures] of B].

    Source: Mantel & Haenszel 1959, JNCI 22:719-748; Robins, Breslow & Greenland 1986, Biometrics 42:311-323 (variance
    of the odds ratio); Sato 1989, Biometrics 45:1323-1324 (variance of the difference); Simpson 1951, JRSS-B 13:238.
    """
    cells = np.array([np.asarray(t, float).reshape(2, 2) for t in tables.values()]).reshape(-1, 2, 2)
    if (cells < 0).any() or not np.isfinite(cells).all():
        raise ValueError("counts must be finite and not negative")
    strata = tuple(_stratum(name, t, level) for name, t in zip(tables, cells, strict=True))
    both = cells[(cells.sum(axis=2) > 0).all(axis=1)]
    common = mantel_haenszel_difference(both, level=level)
    a, b, c, d = (float(v) for v in cells.sum(axis=0).ravel())
    crude = newcombe(a, a + b, c, c + d, level=level)
    return StratifiedComparison(
        strata=strata,
        crude=crude,
        odds_ratio=mantel_haenszel_odds_ratio(both, level=level),
        difference=common,
        p_value=cochran_mantel_haenszel(both),
        reversal=_flips(crude, common, both, level),
    )


@dataclass(frozen=True, slots=True)
class StandardisedRates:
    """Both sides' rates over the same mixture of strata, and their difference; `n` counts ratings in strata with both."""

    a: Interval | None
    b: Interval | None
    difference: Interval | None


def standardised_rates(tables: Sequence[Table] | np.ndarray, *, level: float = 0.95) -> StandardisedRates:
    """Rates of A and B as if both had the same share of ratings in each of (k, 2, 2) tables.

    The weights are Mantel and Haenszel's; the intervals Wilson's at each side's effective number, their difference
    Newcombe's: of one table this is the plain difference, and it has a width also where every rating is the same.
    Source: Yan & Su 2010, Stat. Biopharm. Res. 2:323-335 (stratified Newcombe intervals).
    """
    t = np.asarray(tables, float).reshape(-1, 2, 2)
    t = t[(t.sum(axis=2) > 0).all(axis=1)]
    if len(t) == 0:
        return StandardisedRates(None, None, None)
    num = t.sum(axis=2)
    weight = num.prod(axis=1) / num.sum(axis=1)
    weight /= weight.sum()
    a, b = (_weighted_rate(t[:, i, 0], num[:, i], weight, level) for i in (0, 1))
    return StandardisedRates(a, b, difference(a, b))


def _weighted_rate(ups: np.ndarray, num: np.ndarray, weight: np.ndarray, level: float) -> Interval | None:
    rate = min(float((weight * ups / num).sum()), 1.0)
    effective = 1 / float((weight**2 / num).sum())
    result = wilson(rate * effective, effective, level=level)
    return None if result is None else replace(result, n=int(num.sum()))


def _stratum(name: str, table: np.ndarray, level: float) -> Stratum:
    (a, b), (c, d) = table.tolist()
    sides = wilson(a, a + b, level=level), wilson(c, c + d, level=level)
    return Stratum(name, *sides, newcombe(a, a + b, c, c + d, level=level))


def _flips(crude: Interval | None, common: Interval | None, both: np.ndarray, level: float) -> bool:
    if crude is None or common is None or crude.estimate * common.estimate >= 0:
        return False
    # one direction in every stratum is a flip as it stands; else the strata must be surer than their noise
    strata = [newcombe(a, a + b, c, c + d, level=level) for (a, b), (c, d) in both.tolist()]
    agree = all(d.estimate * common.estimate >= 0 for d in strata if d is not None)
    return agree or surely_on_side(common, both, level=level)


def surely_on_side(common: Interval, tables: np.ndarray, *, level: float) -> bool:
    """Whether the strata's common difference, or any stratum allowing for how many there are, is surely of its sign."""
    if common.low > 0 or common.high < 0:
        return True
    each = 1 - (1 - level) / max(1, len(tables))
    within = [newcombe(a, a + b, c, c + d, level=each) for (a, b), (c, d) in tables.tolist()]
    return any((d.low > 0 if common.estimate > 0 else d.high < 0) for d in within if d is not None)


def mantel_haenszel_odds_ratio(
    tables: Sequence[Table] | np.ndarray, *, level: float = 0.95
) -> Interval | None:
    """The common odds ratio of (k, 2, 2) tables with its log-normal interval; None where it is 0/0, 0 or infinite."""
    t = np.asarray(tables, float).reshape(-1, 2, 2)
    a, b, c, d = (t[:, i, j] for i in (0, 1) for j in (0, 1))
    n = t.sum(axis=(1, 2))
    used = n > 0
    a, b, c, d, n = a[used], b[used], c[used], d[used], n[used]
    r, s = a * d / n, b * c / n
    if r.sum() <= 0 or s.sum() <= 0:
        return None
    p, q = (a + d) / n, (b + c) / n
    variance = (
        (p * r).sum() / (2 * r.sum() ** 2)
        + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
        + (q * s).sum() / (2 * s.sum() ** 2)
    )
    log_or, half = math.log(r.sum() / s.sum()), z_quantile(level) * math.sqrt(variance)
    return Interval(
        math.exp(log_or),
        math.exp(log_or - half),
        math.exp(log_or + half),
        int(n.sum()),
        "mantel_haenszel",
        level,
    )


def mantel_haenszel_difference(
    tables: Sequence[Table] | np.ndarray, *, level: float = 0.95
) -> Interval | None:
    """The common difference of rates, A less B, of (k, 2, 2) tables; None where no stratum holds both."""
    t = np.asarray(tables, float).reshape(-1, 2, 2)
    t = t[(t.sum(axis=2) > 0).all(axis=1)]
    if len(t) == 0:
        return None
    a, c = t[:, 0, 0], t[:, 1, 0]
    n1, n0 = t[:, 0].sum(axis=1), t[:, 1].sum(axis=1)
    n = n1 + n0
    weight = n1 * n0 / n
    estimate = float((a * n0 / n - c * n1 / n).sum() / weight.sum())
    p = (n1**2 * c - n0**2 * a + n1 * n0 * (n0 - n1) / 2) / n**2
    q = (a * (n0 - c) + c * (n1 - a)) / (2 * n)
    variance = max(float((estimate * p.sum() + q.sum()) / weight.sum() ** 2), 0.0)
    half = z_quantile(level) * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half, int(n.sum()), "mantel_haenszel", level)


def cochran_mantel_haenszel(tables: Sequence[Table] | np.ndarray) -> float | None:
    """Two-sided p-value of no association in any of (k, 2, 2) tables, without continuity correction.

    None where no stratum holds both sides and both outcomes. Source: Cochran 1954, Biometrics 10:417-451.
    """
    t = np.asarray(tables, float).reshape(-1, 2, 2)
    n = t.sum(axis=(1, 2))
    t, n = t[n > 1], n[n > 1]
    rows, columns = t.sum(axis=2), t.sum(axis=1)
    expected = rows[:, 0] * columns[:, 0] / n
    variance = (rows.prod(axis=1) * columns.prod(axis=1) / (n**2 * (n - 1))).sum()
    if variance <= 0:
        return None
    return 2 * float(ndtr(-abs((t[:, 0, 0] - expected).sum()) / math.sqrt(variance)))
