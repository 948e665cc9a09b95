"""The mean of paired differences, clustered."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import unseen_share
from heedloop_server.statistics.prediction_powered import paired_difference, variance_of_mean


def mean_difference(
    first: ArrayLike, second: ArrayLike, groups: Sequence[object], *, level: float = 0.95
) -> Interval | None:
    """The mean of `first` less `second`, case by case; None for fewer than two groups.

    Values from 0 to 1 have the interval of `paired_difference`, which stays honest where few cases differ at all. Others have
    Student's, with the variance between groups; where all differences are equal it allows for as many others, as large as
    the largest value, as Clopper and Pearson's upper limit allows.

    Args:
        groups: a name per case; those of one group are not independent.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    num = len(set(groups))
    if len(a) != len(groups) or len(b) != len(groups):
        raise ValueError(f"{len(a)} and {len(b)} values and {len(groups)} groups: there must be as many")
    if num < 2:
        return None
    values = np.concatenate([a, b])
    if values.min() >= 0 and values.max() <= 1:
        none = np.zeros(len(a))
        found = paired_difference((a, b), (none, none), ([], []), groups=groups, level=level)
        return None if found is None else found.interval
    d = a - b
    mean = float(d.mean())
    half = float(stdtrit(num - 1, 0.5 + level / 2)) * math.sqrt(variance_of_mean(d, groups))
    if np.ptp(d) == 0:
        half = float(np.abs(values).max()) * unseen_share(num, level=level)
    return Interval(mean, mean - half, mean + half, len(d), "t clustered", level)
