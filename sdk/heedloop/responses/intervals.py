"""An estimate with its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: the point estimate.
        low: lower end; never above `high`.
        high: upper end.
        n: how many judgements it rests on (not weighted).
        method: how it was made, such as `wilson`.
        level: the confidence level, strictly between 0 and 1.
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95
