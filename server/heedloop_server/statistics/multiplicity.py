"""Control of false discoveries where many groups or versions are tested at once.

A p-value of None (or NaN) is a test that could not be made: it stays None and does not count as a test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from heedloop_server.statistics.intervals import Array


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (q-values): reject where q is at most the false discovery rate wanted.

    Source: Benjamini & Hochberg 1995, JRSS-B 57:289-300, step-up procedure; adjusted as in R's p.adjust(method="BH").
    """

    def step_up(ordered: Array) -> Array:
        m = ordered.size
        return np.minimum.accumulate((ordered * m / np.arange(1, m + 1))[::-1])[::-1]

    return _adjusted(p_values, step_up)


def e_benjamini_hochberg(e_values: Sequence[float | None], *, level: float = 0.05) -> list[bool]:
    """Which hypotheses to reject from e-values, with the false discovery rate at most `level` under any dependence.

    The k largest are rejected for the largest k whose k-th e-value is at least m / (level·k); so many versions may be
    compared, each looked at whenever one likes. Source: Wang & Ramdas 2022, JRSS-B 84:822-852.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level!r} must be strictly between 0 and 1")
    values = np.array([-1.0 if e is None else float(e) for e in e_values])
    num_tests = int((values >= 0).sum())
    ordered = np.sort(values[values >= 0])[::-1]
    passing = np.flatnonzero(ordered * level * np.arange(1, num_tests + 1) >= num_tests)
    if passing.size == 0:
        return [False] * len(e_values)
    return (values >= ordered[passing[-1]]).tolist()


def _adjusted(p_values: Sequence[float | None], rule: Callable[[Array], Array]) -> list[float | None]:
    given = np.array([np.nan if p is None else float(p) for p in p_values])
    tested = np.flatnonzero(~np.isnan(given))
    if ((given[tested] < 0) | (given[tested] > 1)).any():
        raise ValueError("p-values must lie between 0 and 1")
    out: list[float | None] = [None] * given.size
    order = tested[np.argsort(given[tested], kind="stable")]
    for place, value in zip(order, np.minimum(rule(given[order]), 1.0) if order.size else [], strict=True):
        out[int(place)] = float(value)
    return out
