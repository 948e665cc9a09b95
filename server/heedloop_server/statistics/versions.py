"""Two prompt versions, models or configurations compared: which is better, how sure, how much more is needed.

Difference, interval and evidence come from the same blocks of ratings, so that they cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from heedloop.responses import Interval
from heedloop_server.statistics.sequential import Block, SequentialTest, compare_blocks
from heedloop_server.statistics.stratified import standardised_rates

Design = Literal["same_days", "before_and_after", "none"]
DayCounts = Mapping[date, tuple[int, int]]
"""Day -> (thumbs up, ratings)."""

_ENOUGH_OVERLAP = 0.2


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """The comparison of A with B.

    Attributes:
        a: A's rate over the compared ratings, each block weighted as for B; its `n` counts A's compared ratings.
        b: the same of B.
        difference: `a - b`, right for one look.
        test: the always-valid test of the same ratings: right for those who look every day. `num_needed` counts ratings
            of the versions that still serve; None where what can still come would not decide.
        design: `same_days` where both ran side by side (each day is its own experiment), `before_and_after` where one
            followed the other (right only if nothing else changed meanwhile), `none` where either has no ratings.
        days_a: the days of A's compared ratings.
        days_b: the days of B's.
        ended: which of the two no longer serve.
    """

    a: Interval | None
    b: Interval | None
    difference: Interval | None
    test: SequentialTest
    design: Design
    days_a: frozenset[date] = frozenset()
    days_b: frozenset[date] = frozenset()
    ended: frozenset[Literal["a", "b"]] = frozenset()


@dataclass(frozen=True, slots=True)
class _Match:
    """Days of the earlier and of the later version that are set against each other."""

    earlier: tuple[date, ...]
    later: date


def compare_versions(a: DayCounts, b: DayCounts, *, as_of: date | None = None) -> VersionComparison:
    """Compare two versions from their daily counts.

    Where at least a fifth of the smaller side's ratings have a counterpart on the same day, the days that both had are
    compared each with itself. Else each day of the later version is set against what the earlier one still had on that
    day and its most recent days before: blocks that later days only add to, chosen by numbers of ratings alone.

    Args:
        as_of: the last day that is looked at, which shows that a version stopped; by default the last one rated.
    """
    a, b = _rated(a), _rated(b)
    if not a or not b:
        return VersionComparison(None, None, None, compare_blocks([]), "none", frozenset(a), frozenset(b))
    a_is_later = _begins(a) > _begins(b)
    earlier, later = (b, a) if a_is_later else (a, b)
    side_by_side = _overlap(earlier, later) >= _ENOUGH_OVERLAP
    matches = (
        [_Match((day,), day) for day in later if day in earlier]
        if side_by_side
        else _mirrored(earlier, later)
    )
    days_earlier = frozenset(day for m in matches for day in m.earlier)
    days_later = frozenset(m.later for m in matches)
    days_a, days_b = (days_later, days_earlier) if a_is_later else (days_earlier, days_later)
    blocks = [_block(m, earlier, later, swap=a_is_later) for m in matches]
    rates = standardised_rates([[[b.up_a, b.num_a - b.up_a], [b.up_b, b.num_b - b.up_b]] for b in blocks])
    test = compare_blocks(blocks)
    if test.decided and rates.difference and (rates.difference.estimate > 0) != (test.decided == "a"):
        test = replace(test, decided=None)
    ended = _ended(a, b, as_of)
    left = {"a": 0 if side_by_side else _left(a, days_a), "b": 0 if side_by_side else _left(b, days_b)}
    test = replace(test, num_needed=_still_needed(test, blocks, ended, left))
    design: Design = "same_days" if side_by_side else "before_and_after"
    return VersionComparison(rates.a, rates.b, rates.difference, test, design, days_a, days_b, ended)


def _rated(days: DayCounts) -> dict[date, tuple[int, int]]:
    return {day: counts for day, counts in sorted(days.items()) if counts[1]}


def _begins(days: DayCounts) -> tuple[date, date, int, int]:
    """By when a version began: first day, then last day, then its counts, so that swapping sides swaps the order."""
    return min(days), max(days), _num(days), sum(up for up, _ in days.values())


def _num(days: DayCounts, chosen: Iterable[date] | None = None) -> int:
    return sum(days[day][1] for day in (days if chosen is None else chosen) if day in days)


def _overlap(earlier: DayCounts, later: DayCounts) -> float:
    """The share of the smaller side's ratings with a counterpart on the same day.

    The day of a changeover is no experiment: both ran on it, one after the other.
    """
    first = min(later)
    changeover = min(earlier) < first and (max(later) > first or max(earlier) > first)
    both = sum(
        min(earlier[day][1], later[day][1])
        for day in earlier.keys() & later.keys()
        if not (changeover and day == first)
    )
    return both / min(_num(earlier), _num(later))


def _mirrored(earlier: DayCounts, later: DayCounts) -> list[_Match]:
    """Each later day against the earlier version's ratings of that day and, until they are half as many, of days before.

    The first later day takes the last earlier ones, the second those before them, and so on.
    """
    matches: list[_Match] = []
    unused = [day for day in earlier if day not in later]
    for day in later:
        days = [day] if day in earlier else []
        before = [d for d in unused if d < day]
        while before and 2 * _num(earlier, days) < later[day][1]:
            days.append(before.pop())
            unused.remove(days[-1])
        if days:
            matches.append(_Match(tuple(days), day))
    return matches


def _block(match: _Match, earlier: DayCounts, later: DayCounts, *, swap: bool) -> Block:
    old = sum(earlier[day][0] for day in match.earlier), _num(earlier, match.earlier)
    new = later[match.later]
    return Block(*new, *old) if swap else Block(*old, *new)


def _left(days: DayCounts, used: frozenset[date]) -> int:
    return _num(days) - _num(days, used)


def _ended(a: DayCounts, b: DayCounts, as_of: date | None) -> frozenset[Literal["a", "b"]]:
    """A version has ended where it is without ratings for longer than it ever was before."""
    last = as_of or max(*a, *b)
    sides: dict[Literal["a", "b"], DayCounts] = {"a": a, "b": b}
    return frozenset(s for s, days in sides.items() if (last - max(days)).days > _longest_gap(days))


def _longest_gap(days: DayCounts) -> int:
    ordered = sorted(days)
    return max((y - x).days for x, y in zip(ordered, [*ordered[1:], ordered[-1]], strict=True)) or 1


def _still_needed(
    test: SequentialTest,
    blocks: Sequence[Block],
    ended: frozenset[Literal["a", "b"]],
    left: Mapping[str, int],
) -> int | None:
    """Ratings until a decision, of the versions that still serve; None where they cannot bring it.

    Args:
        left: ratings of either that are not compared yet, which a version that ended can still be compared by.
    """
    if not test.num_needed or not ended:
        return test.num_needed
    used = {"a": sum(b.num_a for b in blocks), "b": sum(b.num_b for b in blocks)}
    growth = test.num_needed / (used["a"] + used["b"])
    if len(ended) == 2 or any(growth * used[side] > left[side] for side in ended):
        return None
    return max(1, round(growth * sum(n for side, n in used.items() if side not in ended)))
