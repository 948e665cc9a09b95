"""A release against what ran next to it or before it: what changed with it, and what changed without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from heedloop.responses import Interval
from heedloop_server.statistics.counts import Group, add_groups
from heedloop_server.statistics.intervals import difference
from heedloop_server.statistics.versions import VersionComparison, compare_versions

Grid = Mapping[tuple[datetime, str], Group]
"""(start of the hour, value of the field) -> its answers."""


@dataclass(frozen=True, slots=True)
class ReleaseComparison:
    """A release's own answers against what it took the place of.

    Attributes:
        before: all answers of the days before the release.
        after: the release's own answers of the days from it on.
        others: answers of those days by what was there before the release; what came after it is in none of them.
        drift: rate of the others less rate before: what changed without the release.
        older: the values of the field that were there before it.
        test: the release (`a`) against all that was there before it (`b`): next to it where they ran on the same days,
            else before it.
    """

    before: Group
    after: Group
    others: Group
    drift: Interval | None
    older: frozenset[str]
    test: VersionComparison

    @property
    def change(self) -> Interval | None:
        """The release's rate less that of what it is compared with; right for one look."""
        return self.test.difference

    @property
    def decided(self) -> Literal["better", "worse"] | None:
        """What the always-valid test says of the release."""
        won = self.test.test.decided
        return None if won is None else "better" if won == "a" else "worse"


def compare_release(
    grid: Grid, value: str, at: datetime, days: int, *, as_of: datetime | None = None
) -> ReleaseComparison:
    """Set a value that came up at `at` against what was there before it, from hourly groups by value.

    Args:
        days: how many days before and from the release are looked at.
        as_of: the moment that is looked from; by default the end of those days.
    """
    span, hour = timedelta(days=days), at.replace(minute=0, second=0, microsecond=0)
    window = {k: g for k, g in grid.items() if hour - span <= k[0] < hour + span}
    older = frozenset(name for start, name in window if start < hour and name != value)
    before = {k: g for k, g in window.items() if k[0] < hour and k[1] in older}
    others = {k: g for k, g in window.items() if k[0] >= hour and k[1] in older}
    after = {k: g for k, g in window.items() if k[0] >= hour and k[1] == value}
    last = min(as_of or hour + span, hour + span - timedelta(hours=1)).date()
    rate_before, rate_others = (add_groups(part.values()).rate for part in (before, others))
    return ReleaseComparison(
        before=add_groups(before.values()),
        after=add_groups(after.values()),
        others=add_groups(others.values()),
        drift=difference(rate_others, rate_before),
        older=older,
        test=compare_versions(_days(after), _days(before | others), as_of=last),
    )


def _days(groups: Grid) -> dict[date, tuple[int, int]]:
    result: dict[date, tuple[int, int]] = {}
    for (start, _), group in groups.items():
        up, num = result.get(start.date(), (0, 0))
        result[start.date()] = (up + group.ratings.num_up, num + group.ratings.num)
    return result
