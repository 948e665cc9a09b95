"""Two prompt versions, models or configurations side by side: which is better, how sure, how much more is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from heedloop_server.statistics.intervals import Interval, newcombe
from heedloop_server.statistics.sequential import Block, SequentialTest, compare_blocks

Design = Literal["same_days", "before_and_after", "none"]
DayCounts = Mapping[date, tuple[int, int]]
"""Day -> (thumbs up, ratings)."""

_ENOUGH_OVERLAP = 0.2


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """What can be said of A against B.

    Attributes:
        difference: rate of A less rate of B, with Newcombe's interval: right for one look.
        test: the always-valid test: right for those who look every day.
        design: `same_days` where both ran side by side (each day is its own experiment), `before_and_after` where one
            followed the other (right only if nothing else changed meanwhile), `none` where either has no ratings.
    """

    difference: Interval | None
    test: SequentialTest
    design: Design


def compare_versions(a: DayCounts, b: DayCounts) -> VersionComparison:
    """Compare two versions from their daily counts.

    Where at least a fifth of the smaller side's ratings fell on days that both had, those days are compared each
    with itself. Else the first day of the later version is set against the last of the earlier one, the second
    against the last but one, and so on: blocks that later days only add to.
    """
    ups_a, num_a = _total(a)
    ups_b, num_b = _total(b)
    difference = newcombe(ups_a, num_a, ups_b, num_b)
    if difference is None:
        return VersionComparison(None, compare_blocks([]), "none")
    common = sorted(day for day in a if day in b and a[day][1] and b[day][1])
    smaller = a if num_a <= num_b else b
    if sum(smaller[day][1] for day in common) >= _ENOUGH_OVERLAP * min(num_a, num_b):
        blocks = [Block(*a[day], *b[day]) for day in common]
        return VersionComparison(difference, compare_blocks(blocks), "same_days")
    return VersionComparison(difference, compare_blocks(_mirrored(a, b)), "before_and_after")


def _total(days: DayCounts) -> tuple[int, int]:
    return sum(up for up, _ in days.values()), sum(n for _, n in days.values())


def _mirrored(a: DayCounts, b: DayCounts) -> list[Block]:
    days_a, days_b = (sorted(day for day in days if days[day][1]) for days in (a, b))
    if days_a[-1] > days_b[-1]:
        days_b.reverse()
    else:
        days_a.reverse()
    return [Block(*a[x], *b[y]) for x, y in zip(days_a, days_b, strict=False)]
