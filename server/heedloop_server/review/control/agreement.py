"""How far annotators agree on a question, and in which slices they do not.

Every coefficient comes with its bootstrap interval over items and with n; None where it is undefined. There is no
verdict ("substantial"): what is enough depends on what the labels are for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import numpy as np

from heedloop.responses import Agreement
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
from heedloop_server.statistics.agreement import Coefficient, agreement_interval, cohen_kappa, without_spread
from heedloop_server.statistics.intervals import Array, Interval
from heedloop_server.statistics.means import bootstrap_mean, percentile_interval
from heedloop_server.statistics.ranges import mean_range_overlap

__all__ = ["agreement_by_slice", "agreement_of_question", "cohen_interval", "weighted_kappa"]

NUM_SAMPLES = 400


def agreement_of_question(question: Question, judged: Sequence[Judged]) -> Agreement:
    """Percent agreement, Cohen's (of two annotators) or Fleiss's kappa, weighted kappa of scales, Krippendorff's alpha,
    Gwet's AC1, range overlap.

    Units of one item (its flags, its pairs) are resampled together; `num_units` counts
    those with two or more judgements.
    """
    said = _newest(labels(question, judged))
    counts, categories, items = _counts(question, said)
    metric = metric_of(question)
    annotators = sorted({a for a, _ in said})
    return Agreement(
        question=question.name,
        kind=question.kind,
        metric=metric,
        num_annotators=len(annotators),
        num_judgements=len(said),
        num_units=int((counts.sum(axis=1) > 1).sum()),
        percent=_interval("percent", counts, items),
        cohen=cohen_interval(said, annotators, categories) if len(annotators) == 2 else None,
        fleiss=_interval("fleiss", counts, items) if len(annotators) > 2 else None,
        weighted_kappa=weighted_kappa(said, annotators, categories) if question.kind == "scale" else None,
        alpha=_interval("alpha", counts, items, categories=categories, metric=metric),
        gwet_ac1=_interval("gwet_ac1", counts, items),
        range_overlap=_range_overlap(question, judged) if question.kind == "ranges" else None,
    )


def agreement_by_slice(
    question: Question, judged: Sequence[Judged], slice_of: Mapping[str, str]
) -> list[Agreement]:
    """The same per slice, the least agreement first; `slice_of` maps an item's id to its slice."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(slice_of.get(one.item_id, ""), []).append(one)
    found = [replace(agreement_of_question(question, group), value=value) for value, group in groups.items()]
    return sorted(found, key=lambda s: 2.0 if s.percent is None else s.percent.estimate)


def _newest(said: Iterable[tuple[str, Unit, Label]]) -> dict[tuple[str, Unit], Label]:
    return {(annotator, unit): label for annotator, unit, label in said}


def _counts(
    question: Question, said: Mapping[tuple[str, Unit], Label]
) -> tuple[Array, list[Hashable], list[str]]:
    """(units, categories) how many annotators said what of each unit, the categories, and each unit's item."""
    categories = known_categories(question, said.values())
    place = {c: i for i, c in enumerate(categories)}
    units = sorted({u for _, u in said})
    row = {unit: i for i, unit in enumerate(units)}
    counts = np.zeros((len(row), len(categories)))
    for (_, unit), label in said.items():
        counts[row[unit], place[label]] += 1
    return counts, categories, [unit_item(u) for u in units]


def _interval(name: Coefficient, counts: Array, items: Sequence[str], **kinds: Any) -> Interval | None:
    if not len(counts):
        return None
    return agreement_interval(name, counts, clusters=items, num_samples=NUM_SAMPLES, **kinds)


def cohen_interval(
    said: Mapping[tuple[str, Unit], Label], annotators: Sequence[str], categories: Sequence[Hashable]
) -> Interval | None:
    """Cohen's kappa of two annotators over the units that both judged, with its bootstrap interval over items."""
    first, second = annotators
    place = {c: i for i, c in enumerate(categories)}
    tables: dict[str, Array] = {}
    for annotator, unit in said:
        if annotator == first and (second, unit) in said:
            table = tables.setdefault(unit_item(unit), np.zeros((len(place), len(place))))
            table[place[said[first, unit]], place[said[second, unit]]] += 1
    if not tables:
        return None
    return _bootstrap(np.stack(list(tables.values())))


def weighted_kappa(
    said: Mapping[tuple[str, Unit], Label], annotators: Sequence[str], values: Sequence[Hashable]
) -> Interval | None:
    """Cohen's kappa with quadratic weights by the numbers' difference; its bootstrap interval is over items.

    Of more than two annotators it is the mean of all pairs, each by the number of units that both judged (Light 1971
    takes the plain mean, in which a pair with two common units would weigh as much as one with two hundred).
    """
    pairs = list(combinations(annotators, 2))
    place = {v: i for i, v in enumerate(values)}
    tables: dict[str, Array] = {}
    for (annotator, unit), label in said.items():
        for p, (first, second) in enumerate(pairs):
            if annotator == first and (second, unit) in said:
                empty = np.zeros((len(pairs), len(place), len(place)))
                tables.setdefault(unit_item(unit), empty)[p, place[label], place[said[second, unit]]] += 1
    if not tables:
        return None
    stacked = np.stack(list(tables.values()))
    numbers = np.array([float(cast(float, v)) for v in values])
    distance = np.subtract.outer(numbers, numbers) ** 2
    estimate = float(_weighted_kappas(stacked.sum(axis=0)[None], distance)[0])
    n = len(stacked)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=NUM_SAMPLES).astype(float)
    ends = percentile_interval(_weighted_kappas(np.tensordot(draws, stacked, axes=1), distance))
    if not np.isfinite(estimate) or ends is None or ends[1] - ends[0] < 1e-12:
        return None
    return Interval(estimate, min(ends[0], estimate), max(ends[1], estimate), int(stacked.sum()), "bootstrap")


def _weighted_kappas(tables: Array, distance: Array) -> Array:
    """(samples,) the mean weighted kappa over the pairs of `tables` (samples, pairs, k, k); NaN where undefined."""
    num = tables.sum(axis=(2, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = tables.sum(axis=3)[:, :, :, None] * tables.sum(axis=2)[:, :, None, :] / num[..., None, None]
        kappa = 1 - (tables * distance).sum(axis=(2, 3)) / (chance * distance).sum(axis=(2, 3))
        weight = np.where(np.isfinite(kappa), num, 0.0)
        return np.nansum(np.where(weight > 0, kappa * weight, 0.0), axis=1) / weight.sum(axis=1)


def _bootstrap(tables: Array) -> Interval | None:
    """Cohen's kappa of `tables` (items, k, k), summed over items resampled with replacement."""
    estimate = cohen_kappa(tables.sum(axis=0))
    if estimate is None:
        return None
    n = len(tables)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=NUM_SAMPLES).astype(float)
    values = [cohen_kappa(t) for t in np.tensordot(draws, tables, axes=1)]
    ends = percentile_interval([np.nan if v is None else v for v in values])
    if ends is None:
        return None
    table = tables.sum(axis=0)
    num_units = int(table.sum())
    if ends[1] - ends[0] < 1e-12:
        chance = float(table.sum(axis=0) @ table.sum(axis=1)) / num_units**2
        return Interval(estimate, *without_spread(estimate, n, chance), num_units, "clopper_pearson")
    return Interval(estimate, min(ends[0], estimate), max(ends[1], estimate), num_units, "bootstrap")


def _range_overlap(question: Question, judged: Sequence[Judged]) -> Interval | None:
    """The mean Jaccard index of the characters marked, over texts that two or more read and somebody marked."""
    found = [mean_range_overlap(list(marks.values())) for marks in ranges_of(question, judged).values()]
    return bootstrap_mean([v for v in found if v is not None], scale=(0, 1), num_samples=NUM_SAMPLES)
