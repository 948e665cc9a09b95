"""Failure patterns: attributes that are more common among bad answers than among all rated answers.

An association, never a cause: who uses a version, or what they ask it, may be what makes its answers bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import Array, wilson_bounds

Attribute = tuple[str, str]
"""(field, value)."""

MAX_VALUES_PER_FIELD = 50
"""Values of one field that are looked at: those with the most ratings."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Rated answers that share all the attributes looked at.

    Attributes:
        attributes: (field, value) pairs; a field may come more than once (tags).
        num_rated: how many of them have a rating.
        num_bad: how many of the ratings are bad.
    """

    attributes: frozenset[Attribute]
    num_rated: int
    num_bad: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A group of one or two attributes in which bad answers are over-represented.

    Attributes:
        attributes: one or two (field, value) pairs, sorted by field.
        bad: the share of bad among the group's ratings.
        lift: how many times more common the group is among bad answers than among rated ones.
        lift_low: the lift at the low end of `bad`: what is left of it if the group was unlucky.
        p_value: of Fisher's one-sided test against all other rated answers.
        q_value: the same after Benjamini and Hochberg over every group tested.
        explained_by: the broader or narrower group that accounts for this one, or None.
    """

    attributes: tuple[Attribute, ...]
    num_rated: int
    num_bad: int
    bad: Interval
    lift: float
    lift_low: float
    p_value: float
    q_value: float = 1.0
    explained_by: tuple[Attribute, ...] | None = None


@dataclass(frozen=True, slots=True)
class PatternReport:
    """The groups tested and the patterns among them.

    Attributes:
        patterns: groups whose q-value is at most the rate wanted, without those that another explains; worst first.
        explained: significant groups that another one explains.
        num_tested: how many groups had enough ratings to be tested.
    """

    patterns: tuple[Pattern, ...]
    explained: tuple[Pattern, ...]
    num_tested: int
    num_rated: int
    num_bad: int


class GroupCounts:
    """Ratings and bad ratings of every group of one or two attributes, from the cells that hold them.

    Cells are few (distinct combinations of attributes), so that a million ratings cost no more than their combinations.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.cells = list(cells)
        self.num_rated = np.array([c.num_rated for c in self.cells], dtype=np.int64)
        self.num_bad = np.array([c.num_bad for c in self.cells], dtype=np.int64)
        self._rows = _rows_of_attributes(self.cells, self.num_rated)

    @property
    def total(self) -> tuple[int, int]:
        return int(self.num_rated.sum()), int(self.num_bad.sum())

    def groups(self, min_ratings: int) -> dict[tuple[Attribute, ...], tuple[int, int]]:
        """(attributes) -> (ratings, bad ratings), for groups of one and two fields with enough ratings."""
        singles = {(a,): self._count(rows) for a, rows in self._rows.items()}
        singles = {g: n for g, n in singles.items() if n[0] >= min_ratings}
        # A pair is never larger than its parts, so only large parts need to be paired.
        kept = sorted(g[0] for g in singles)
        pairs = {
            (a, b): self._count(self._rows[a] & self._rows[b])
            for a, b in combinations(kept, 2)
            if a[0] != b[0] or a[0] == "tag"
        }
        pairs = {g: n for g, n in pairs.items() if n[0] >= min_ratings}
        total = self.total[0]
        return {g: n for g, n in (singles | pairs).items() if n[0] < total}

    def _count(self, rows: np.ndarray) -> tuple[int, int]:
        return int(self.num_rated[rows].sum()), int(self.num_bad[rows].sum())


def _rows_of_attributes(cells: Sequence[Cell], num_rated: np.ndarray) -> dict[Attribute, np.ndarray]:
    """Attribute -> mask of the cells that have it; the largest values of every field."""
    places: dict[Attribute, list[int]] = {}
    for row, cell in enumerate(cells):
        for attribute in cell.attributes:
            places.setdefault(attribute, []).append(row)
    by_field: dict[str, list[Attribute]] = {}
    for attribute in places:
        by_field.setdefault(attribute[0], []).append(attribute)
    masks: dict[Attribute, np.ndarray] = {}
    for attributes in by_field.values():
        largest = sorted(attributes, key=lambda a: (-int(num_rated[places[a]].sum()), a))
        for attribute in largest[:MAX_VALUES_PER_FIELD]:
            masks[attribute] = np.zeros(len(cells), dtype=bool)
            masks[attribute][places[attribute]] = True
    return masks


def over_representation_p(
    num_bad: ArrayLike, num_rated: ArrayLike, total_bad: int, total_rated: int
) -> Array:
    """Fisher's one-sided p-value that a group holds this many bad ratings or more by chance.

    Element by element over groups; the hypergeometric tail, given all ratings and all bad ratings.
    """
    from scipy.stats import hypergeom  # two seconds to import, which a starting server shall not wait for

    result = hypergeom.sf(np.asarray(num_bad) - 1, total_rated, total_bad, num_rated)
    return np.minimum(np.asarray(result, float), 1.0)  # rounding leaves 1e-16 above 1


def overrepresented(cells: Iterable[Cell], *, min_ratings: int = 30, q: float = 0.05) -> PatternReport:
    """Groups of one or two attributes that are over-represented among bad answers.

    Every group of one or two attributes with at least `min_ratings` ratings is tested once; of those with a
    Benjamini-Hochberg q-value of at most `q`, a pair that is no worse than the wider group it is part of is explained
    by that group, and a wider group that is no worse once the pair is taken out of it is explained by the pair.

    Source: Fisher 1935 (the test); Benjamini & Hochberg 1995 (the q-values).
    """
    counts = GroupCounts(cells)
    total_rated, total_bad = counts.total
    groups = counts.groups(min_ratings) if total_bad else {}
    if not groups:
        return PatternReport((), (), 0, total_rated, total_bad)
    significant = _significant(groups, total_rated, total_bad, q)
    judged = _explained(significant, groups, (total_rated, total_bad))
    judged.sort(key=lambda p: (-p.lift_low, p.attributes))
    return PatternReport(
        patterns=tuple(p for p in judged if p.explained_by is None),
        explained=tuple(p for p in judged if p.explained_by is not None),
        num_tested=len(groups),
        num_rated=total_rated,
        num_bad=total_bad,
    )


def _significant(
    groups: Mapping[tuple[Attribute, ...], tuple[int, int]], total_rated: int, total_bad: int, most_q: float
) -> list[Pattern]:
    from scipy.stats import false_discovery_control

    sizes = np.array(list(groups.values()), dtype=np.int64)
    p_values = over_representation_p(sizes[:, 1], sizes[:, 0], total_bad, total_rated)
    q_values = false_discovery_control(p_values, method="bh")
    return [
        _pattern(attributes, counts, (total_rated, total_bad), float(p), float(q))
        for (attributes, counts), p, q in zip(groups.items(), p_values, q_values, strict=True)
        if q <= most_q
    ]


def _pattern(
    attributes: tuple[Attribute, ...],
    counts: tuple[int, int],
    total: tuple[int, int],
    p_value: float,
    q_value: float,
) -> Pattern:
    rated, bad = counts
    share = total[1] / total[0]
    low, high = (float(v) for v in wilson_bounds(bad, rated))
    interval = Interval(bad / rated, low, high, rated, "wilson")
    return Pattern(attributes, rated, bad, interval, interval.estimate / share, low / share, p_value, q_value)


def _explained(
    significant: Sequence[Pattern],
    groups: Mapping[tuple[Attribute, ...], tuple[int, int]],
    total: tuple[int, int],
) -> list[Pattern]:
    """The patterns with `explained_by` filled in: first pairs by their parents, then parents by what is left."""
    singles = {p.attributes: p for p in significant if len(p.attributes) == 1}
    pairs = [p for p in significant if len(p.attributes) == 2]
    judged = [_pair_by_parent(pair, singles, groups) for pair in pairs]
    kept = [p for p in judged if p.explained_by is None]
    return judged + [_single_by_pair(s, kept, total) for s in singles.values()]


def _pair_by_parent(
    pair: Pattern,
    singles: Mapping[tuple[Attribute, ...], Pattern],
    groups: Mapping[tuple[Attribute, ...], tuple[int, int]],
) -> Pattern:
    """A pair must be worse than each of its parts; a part that is bad throughout explains it."""
    for attribute in pair.attributes:
        parent = (attribute,)
        if parent in singles and _chance(pair, groups[parent]) > 0.01:
            return replace(pair, explained_by=parent)
    return pair


def _single_by_pair(single: Pattern, pairs: Sequence[Pattern], total: tuple[int, int]) -> Pattern:
    """A single attribute must still be worse than the rest of the world without its worst pair."""
    inside = [p for p in pairs if single.attributes[0] in p.attributes and p.lift_low > single.lift_low]
    for pair in sorted(inside, key=lambda p: p.p_value):
        rest = replace(
            single, num_rated=single.num_rated - pair.num_rated, num_bad=single.num_bad - pair.num_bad
        )
        without = (total[0] - pair.num_rated, total[1] - pair.num_bad)
        if rest.num_rated == 0 or _chance(rest, without) > 0.01:
            return replace(single, explained_by=pair.attributes)
    return single


def _chance(group: Pattern, whole: tuple[int, int]) -> float:
    """The p-value of the group's bad ratings within a wider group (ratings, bad ratings) that holds it."""
    return float(over_representation_p(group.num_bad, group.num_rated, whole[1], whole[0]))


def cells_of(rows: Iterable[tuple[Mapping[str, str | Sequence[str]], int, int]]) -> list[Cell]:
    """Cells from (field -> value or values, ratings, bad ratings); empty values are no attribute."""
    cells: list[Cell] = []
    for fields, num_rated, num_bad in rows:
        pairs = [
            (field, value)
            for field, values in fields.items()
            for value in ([values] if isinstance(values, str) else values)
            if value != ""
        ]
        cells.append(Cell(frozenset(pairs), num_rated, num_bad))
    return cells
