"""How far annotators agree on a question, and in which slices they do not.

Every coefficient comes with its bootstrap interval over items and with n; None where it is undefined. There is no
verdict ("substantial"): what is enough depends on what the labels are for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import numpy as np

from heedloop.responses import Agreement, Interval
from heedloop_server.review.control.labels import (
    Judged,
    Label,
    Unit,
    known_categories,
    labels,
    metric_of,
    ranges_of,
    unit_item,
)
from heedloop_server.review.questions import Question
from heedloop_server.statistics.agreement import (
    Coefficient,
    agreement_interval,
    mean_kappas,
    without_spread,
)
from heedloop_server.statistics.intervals import Array
from heedloop_server.statistics.means import bootstrap_mean, percentile_interval, resamples
from heedloop_server.statistics.ranges import mean_range_overlap

NUM_SAMPLES = 400


def agreement_of_question(question: Question, judged: Sequence[Judged]) -> Agreement:
    """Percent agreement, Cohen's (of two annotators) or Fleiss's kappa, weighted kappa of scales, Krippendorff's alpha,
    Gwet's AC1, range overlap.

    Units of one item (its flags, its pairs) are resampled together; `num_units` counts
    those with two or more judgements.
    """
    votes = {(annotator, unit): label for annotator, unit, label in labels(question, judged)}
    counts, categories, items = _counts(question, votes)
    metric = metric_of(question)
    annotators = sorted({a for a, _ in votes})
    return Agreement(
        question=question.name,
        kind=question.kind,
        metric=metric,
        num_annotators=len(annotators),
        num_judgements=len(votes),
        num_units=int((counts.sum(axis=1) > 1).sum()),
        percent=_interval("percent", counts, items),
        cohen=cohen_interval(votes, annotators, categories) if len(annotators) == 2 else None,
        fleiss=_interval("fleiss", counts, items) if len(annotators) > 2 else None,
        weighted_kappa=weighted_kappa(votes, annotators, categories) if question.kind == "scale" else None,
        alpha=_interval("alpha", counts, items, categories=categories, metric=metric),
        gwet_ac1=_interval("gwet_ac1", counts, items),
        range_overlap=_range_overlap(question, judged) if question.kind == "ranges" else None,
    )


def agreement_by_slice(
    question: Question, judged: Sequence[Judged], slices_of: Callable[[Judged], Iterable[str]]
) -> list[Agreement]:
    """The same per slice, the least agreement first; `slices_of` a judgement are those that it counts in."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        for name in slices_of(one):
            groups.setdefault(name, []).append(one)
    found = [replace(agreement_of_question(question, group), value=value) for value, group in groups.items()]
    return sorted(found, key=lambda s: 2.0 if s.percent is None else s.percent.estimate)


def _counts(
    question: Question, votes: Mapping[tuple[str, Unit], Label]
) -> tuple[Array, list[Hashable], list[str]]:
    """(units, categories) how many annotators chose each category of each unit, the categories, and each unit's item."""
    categories = known_categories(question, votes.values())
    place = {c: i for i, c in enumerate(categories)}
    units = sorted({u for _, u in votes})
    row = {unit: i for i, unit in enumerate(units)}
    counts = np.zeros((len(row), len(categories)))
    for (_, unit), label in votes.items():
        counts[row[unit], place[label]] += 1
    return counts, categories, [unit_item(u) for u in units]


def _interval(name: Coefficient, counts: Array, items: Sequence[str], **kinds: Any) -> Interval | None:
    if not len(counts):
        return None
    return agreement_interval(name, counts, clusters=items, num_samples=NUM_SAMPLES, **kinds)


def cohen_interval(
    votes: Mapping[tuple[str, Unit], Label], annotators: Sequence[str], categories: Sequence[Hashable]
) -> Interval | None:
    """Cohen's kappa of two annotators over the units that both judged, with its bootstrap interval over items."""
    return _kappa_interval(_pair_tables(votes, annotators, categories), 1 - np.eye(len(categories)))


def weighted_kappa(
    votes: Mapping[tuple[str, Unit], Label], annotators: Sequence[str], values: Sequence[Hashable]
) -> Interval | None:
    """Cohen's kappa with quadratic weights by the numbers' difference; its bootstrap interval is over items.

    Of more than two annotators it is the mean of all pairs, see `mean_kappas`. None where all resamples are alike.
    """
    numbers = np.array([float(cast(float, v)) for v in values])
    distance = np.subtract.outer(numbers, numbers) ** 2
    result = _kappa_interval(_pair_tables(votes, annotators, values), distance)
    return result if result is not None and result.method == "bootstrap" else None


def _pair_tables(
    votes: Mapping[tuple[str, Unit], Label], annotators: Sequence[str], categories: Sequence[Hashable]
) -> Array:
    """(items, pairs, k, k) how often the first of each pair of annotators chose the row and the second the column."""
    pairs = list(combinations(annotators, 2))
    place = {c: i for i, c in enumerate(categories)}
    tables: dict[str, Array] = {}
    for (annotator, unit), label in votes.items():
        for p, (first, second) in enumerate(pairs):
            if annotator == first and (second, unit) in votes:
                empty = np.zeros((len(pairs), len(place), len(place)))
                tables.setdefault(unit_item(unit), empty)[p, place[label], place[votes[second, unit]]] += 1
    return np.stack(list(tables.values())) if tables else np.zeros((0, len(pairs), len(place), len(place)))


def _kappa_interval(tables: Array, distance: Array) -> Interval | None:
    """The mean kappa of `tables` (items, pairs, k, k), summed over items that are resampled with replacement."""
    n = len(tables)
    estimate = float(mean_kappas(tables.sum(axis=0)[None], distance)[0]) if n else np.nan
    if not np.isfinite(estimate):
        return None
    sampled = np.tensordot(resamples(n, NUM_SAMPLES).astype(float), tables, axes=1)
    ends = percentile_interval(mean_kappas(sampled, distance))
    if ends is None:
        return None
    num_units = int(tables.sum())
    if ends[1] - ends[0] < 1e-12:
        table = tables.sum(axis=(0, 1))
        chance = float(table.sum(axis=0) @ table.sum(axis=1)) / num_units**2
        return Interval(estimate, *without_spread(estimate, n, chance), num_units, "clopper_pearson")
    return Interval(estimate, min(ends[0], estimate), max(ends[1], estimate), num_units, "bootstrap")


def _range_overlap(question: Question, judged: Sequence[Judged]) -> Interval | None:
    """The mean Jaccard index of the characters marked, over texts that two or more read and at least one marked."""
    result = [mean_range_overlap(list(marks.values())) for marks in ranges_of(question, judged).values()]
    return bootstrap_mean([v for v in result if v is not None], scale=(0, 1), num_samples=NUM_SAMPLES)
