"""Before and after a release: what changed with it, and what changed without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from heedloop_server.statistics.counts import Group, add_groups
from heedloop_server.statistics.intervals import Interval, difference
from heedloop_server.statistics.versions import VersionComparison, compare_versions

__all__ = ["ReleaseComparison", "compare_release"]

Grid = Mapping[tuple[datetime, str], Group]
"""(start of the hour, value of the field) -> its answers."""


@dataclass(frozen=True, slots=True)
class ReleaseComparison:
    """A release's own answers against those before it.

    Attributes:
        before: all answers of the days before the release.
        after: the release's own answers of the days from it on.
        others: the other answers of those days.
        change: rate after less rate before; right for one look.
        drift: rate of the others less rate before: what changed without the release.
        test: after against before, always valid; `a` is after.
    """

    before: Group
    after: Group
    others: Group
    change: Interval | None
    drift: Interval | None
    test: VersionComparison

    @property
    def decided(self) -> Literal["better", "worse"] | None:
        """What the always-valid test says of the release."""
        won = self.test.test.decided
        return None if won is None else "better" if won == "a" else "worse"


def compare_release(grid: Grid, value: str, at: datetime, days: int) -> ReleaseComparison:
    """Set a value that came up at `at` against what was before it, from hourly groups by value.

    The hour in which it came up counts as after for its own answers and as neither for others'.
    """
    span, hour = timedelta(days=days), at.replace(minute=0, second=0, microsecond=0)
    parts: dict[str, list[tuple[datetime, Group]]] = {"before": [], "after": [], "others": []}
    for (start, name), group in grid.items():
        if hour - span <= start < hour and name != value:
            parts["before"].append((start, group))
        elif hour <= start < hour + span and name == value:
            parts["after"].append((start, group))
        elif hour < start < hour + span:
            parts["others"].append((start, group))
    before, after, others = (add_groups(g for _, g in parts[n]) for n in ("before", "after", "others"))
    return ReleaseComparison(
        before,
        after,
        others,
        difference(after.rate, before.rate),
        difference(others.rate, before.rate),
        compare_versions(_days(parts["after"]), _days(parts["before"])),
    )


def _days(groups: list[tuple[datetime, Group]]) -> dict[date, tuple[int, int]]:
    found: dict[date, tuple[int, int]] = {}
    for start, group in groups:
        up, num = found.get(start.date(), (0, 0))
        found[start.date()] = (up + group.ratings.num_up, num + group.ratings.num)
    return found
