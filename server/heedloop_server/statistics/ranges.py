"""Agreement of annotators who mark character ranges in the same text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

Range = tuple[int, int]
"""(start, end): characters from start up to, not including, end."""


def _checked(ranges: Iterable[Range]) -> list[Range]:
    result = sorted((int(start), int(end)) for start, end in ranges)
    for start, end in result:
        if not 0 <= start < end:
            raise ValueError(f"range {start} to {end}: start must be 0 or more and end greater")
    return result


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The ranges without overlaps, in order; touching ones are one."""
    out: list[Range] = []
    for start, end in _checked(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _num_chars(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)


def range_overlap(a: Iterable[Range], b: Iterable[Range]) -> float | None:
    """Jaccard's index of the marked characters: common over marked by either; None where neither marked any."""
    first, second = merged(a), merged(b)
    common = sum(max(0, min(x[1], y[1]) - max(x[0], y[0])) for x in first for y in second)
    either = _num_chars(first) + _num_chars(second) - common
    return common / either if either else None


def mean_range_overlap(annotators: Sequence[Iterable[Range]]) -> float | None:
    """The mean of `range_overlap` over pairs of annotators of one text; None without a pair of which either marked."""
    marks = [merged(a) for a in annotators]
    result = [v for a, b in combinations(marks, 2) if (v := range_overlap(a, b)) is not None]
    return float(np.mean(result)) if result else None
