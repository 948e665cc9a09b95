"""A snapshot's report: what it holds, its authors, what a model must beat, and which method this much supports."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from heedloop.responses import Interval
from heedloop.schema import (
    Comparison,
    DatasetForm,
    Demonstration,
    PromptRow,
    RatedCompletion,
    Unpaired,
    to_json,
)
from heedloop.words import num_words
from heedloop_server.curate import Curated, Row, count_rows
from heedloop_server.curate.baselines import (
    DecidedPair,
    agreement,
    bag_of_words,
    decided_pairs,
    first_shown_wins,
    length_wins,
    longer_wins,
)
from heedloop_server.curate.judged_calls import Judgement
from heedloop_server.curate.propensity import Exposure
from heedloop_server.curate.split_warnings import split_warnings

Json = dict[str, Any]


def describe(curated: Curated) -> Json:
    """The report of one snapshot, JSON-ready; a part that cannot be known is null.

    Keys: `rows` (form -> split -> count), `weights` (form -> sum), `groups` (split -> prompt groups), `feedback` (kind
    -> count), `dropped`, `warnings` (about groups and splits), `contributors`, `lengths` (in words), `comparisons` (ties, agreement, ceiling, baselines,
    position bias), `exposure`, `methods`, `judges` and `capped`.
    """
    rows = curated.rows
    counts = count_rows(rows)
    pairs = decided_pairs(cast(Sequence[Comparison], rows.get("comparisons", [])))
    return {
        "rows": counts,
        "weights": {form: round(sum(r.weight for r in of_form), 6) for form, of_form in rows.items()},
        "groups": _groups(rows),
        "feedback": dict(sorted(Counter(j.feedback.kind for j in curated.used).items())),
        "dropped": curated.dropped,
        "warnings": split_warnings(rows, curated.rules),
        "contributors": _contributors(curated.used),
        "lengths": _lengths(rows),
        "comparisons": _comparisons(curated, pairs),
        "exposure": _exposure(curated.exposure),
        "judges": {
            "num": len(curated.accuracies),
            "num_worse_than_chance": sum(p < 0.5 for p in curated.accuracies.values()),
        }
        if curated.accuracies
        else None,
        "capped": {form: len(authors) for form, authors in curated.capped.items()},
        "methods": [_method(name, counts, rows) for name in ENOUGH],
    }


def _groups(rows: Mapping[DatasetForm, Sequence[Row]]) -> dict[str, int]:
    sides: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for of_form in rows.values():
        for row in of_form:
            sides[row.split].add(row.group)
    return {split: len(groups) for split, groups in sides.items()}


def _contributors(used: Sequence[Judgement]) -> Json:
    counts = Counter(
        (j.feedback.author.kind, j.feedback.author.id) for j in used if j.feedback.author.id is not None
    )
    sizes = np.array(list(counts.values()), dtype=np.float64)
    total = len(used)
    return {
        "num": len(counts),
        "num_unnamed": total - int(sizes.sum()) if len(sizes) else total,
        "num_effective": float(sizes.sum() ** 2 / np.square(sizes).sum()) if len(sizes) else 0.0,
        # A report outlives an erasure, so it names no one: the hash tells contributors apart, and no more.
        "largest": [
            {
                "kind": kind,
                "hash": hashlib.sha256(f"contributor|{author}".encode("utf-8", "replace")).hexdigest()[:8],
                "num_feedback": n,
                "share": n / total,
            }
            for (kind, author), n in sorted(counts.items(), key=lambda kv: (-kv[1], str(kv[0])))[:10]
        ],
    }


def _lengths(rows: Mapping[DatasetForm, Sequence[Row]]) -> Json:
    texts: dict[str, list[int]] = {}
    for of_form in rows.values():
        for row in of_form:
            for name, text in _texts(row):
                texts.setdefault(name, []).append(num_words(text))
    return {name: _summary(values) for name, values in texts.items()}


def _texts(row: Row) -> list[tuple[str, str]]:
    match row:
        case Comparison():
            return [("chosen", row.chosen), ("rejected", row.rejected)] if not row.tie else []
        case Demonstration():
            return [("demonstration", row.completion)]
        case Unpaired():
            return [("liked" if row.label else "disliked", row.completion)]
        case PromptRow():
            return [("prompt", "\n".join(m.text for m in row.prompt))]
        case RatedCompletion():
            return [("rated", row.completion)]


def _summary(values: Sequence[int]) -> Json:
    p5, median, p95 = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "num": len(values),
        "mean": float(np.mean(values)),
        "p5": float(p5),
        "median": float(median),
        "p95": float(p95),
        "max": int(max(values)),
    }


def _comparisons(curated: Curated, pairs: Sequence[DecidedPair]) -> Json | None:
    rows = cast(Sequence[Comparison], curated.rows.get("comparisons", []))
    if not rows:
        return None
    agreed = agreement(curated.votes)
    return {
        "num_ties": sum(r.tie for r in rows),
        "num_with_margin": sum(r.margin is not None for r in rows),
        "num_decided_pairs": len(pairs),
        "by_source": dict(sorted(Counter(r.source for r in rows).items())),
        "agreement": _interval_json(agreed.share),
        "agreement_with_ties": _interval_json(agreed.share_with_ties),
        "agreement_ceiling": agreed.ceiling,
        "num_judged_twice": agreed.num_pairs,
        "longer_wins": _interval_json(longer_wins(pairs)),
        "length_wins": _interval_json(length_wins(pairs)),
        "bag_of_words": _interval_json(bag_of_words(pairs)),
        "first_shown_wins": _interval_json(first_shown_wins(curated.used)),
    }


def _exposure(exposure: Exposure) -> Json:
    rate = exposure.rate
    return {
        "num_shown": exposure.num_shown,
        "num_rated": exposure.num_rated,
        "num_solicited": exposure.num_solicited,
        "weighted": bool(exposure.weights),
        "rate": None
        if rate is None
        else {
            "counted": rate.counted,
            "weighted": rate.weighted,
            "num_effective": rate.num_effective,
            "bounds": [{"ratio": r, "low": low, "high": high} for r, (low, high) in rate.bounds.items()],
        },
    }


# ----------------------------------------------------------------------------------------------------- methods

ENOUGH: dict[str, tuple[DatasetForm, int]] = {
    "sft": ("demonstrations", 100),
    "reward_linear": ("comparisons", 100),
    "reward": ("comparisons", 1000),
    "dpo": ("comparisons", 500),
    "kto": ("unpaired", 500),
    "ppo": ("prompts", 500),
}
"""Training rows from which a method starts to make sense. Rules of thumb, not thresholds of anything: on 1,200 real
comparisons a small transformer from scratch learned nothing that a bag of words had not (docs/datasets-design.md)."""


def _method(
    name: str, counts: Mapping[str, Mapping[str, int]], rows: Mapping[DatasetForm, Sequence[Row]]
) -> Json:
    form, enough = ENOUGH[name]
    result = counts.get(form, {}).get("train", 0)
    supported, why = result >= enough, f"{result:,} {form} to train on; from about {enough:,} it makes sense"
    if name == "kto" and supported:
        labels = Counter(
            r.label for r in rows.get("unpaired", []) if isinstance(r, Unpaired) and r.split == "train"
        )
        if min(labels[True], labels[False]) < 0.02 * result:
            supported, why = (
                False,
                f"{labels[True]:,} liked and {labels[False]:,} disliked: one side is missing",
            )
    if name == "ppo" and supported:
        comparisons = counts.get("comparisons", {}).get("train", 0)
        if comparisons < 1000:
            supported = False
            why = (
                f"{comparisons:,} comparisons: a reward model that PPO may lean on needs about 1,000 or more"
            )
    return {"method": name, "supported": supported, "why": why}


def _interval_json(interval: Interval | None) -> Json | None:
    return None if interval is None else to_json(interval)
