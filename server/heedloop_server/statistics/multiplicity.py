"""Control of false discoveries where many versions are compared at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
