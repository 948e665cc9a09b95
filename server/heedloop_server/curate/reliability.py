"""Reliability of judges: how often each agrees with what the others' votes make likely.

The one-coin form of Dawid and Skene (1979), as in Raykar and others (2010) with equal error on both sides: a judge is
right with probability p, whatever the truth. Expectation-maximisation from the majority, with two votes' worth of
prior belief that judges are right three times in four, so that a judge of one vote is neither a saint nor a fool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

PRIOR_RIGHT, PRIOR_WRONG = 1.5, 0.5
NUM_STEPS = 50


def judge_accuracies(votes: Sequence[tuple[str, str, int]]) -> dict[str, float]:
    """Probability that a judge is right, by judge, from `(what was judged, judge, 1 or -1)` votes."""
    if not votes:
        return {}
    things = {t: n for n, t in enumerate(dict.fromkeys(v[0] for v in votes))}
    judges = {j: n for n, j in enumerate(dict.fromkeys(v[1] for v in votes))}
    thing = np.array([things[v[0]] for v in votes])
    judge = np.array([judges[v[1]] for v in votes])
    side = np.array([float(v[2]) for v in votes])
    accuracy = np.full(len(judges), PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG))
    num_votes = np.bincount(judge, minlength=len(judges))
    for _ in range(NUM_STEPS):
        log_odds = np.log(accuracy / (1 - accuracy))
        evidence = np.bincount(thing, side * log_odds[judge], minlength=len(things))
        first_better = 1 / (1 + np.exp(-np.clip(evidence, -50, 50)))
        right = np.where(side > 0, first_better[thing], 1 - first_better[thing])
        num_right = np.bincount(judge, right, minlength=len(judges))
        updated = (num_right + PRIOR_RIGHT) / (num_votes + PRIOR_RIGHT + PRIOR_WRONG)
        moved = float(np.abs(updated - accuracy).max())
        accuracy = updated
        if moved < 1e-6:
            break
    return {j: float(accuracy[n]) for j, n in judges.items()}


def judge_weights(accuracies: dict[str, float]) -> dict[str | None, float]:
    """Log-odds of being right, divided by their mean size; negative for a judge who is wrong more often than right.

    Judges without an id (key None) have the weight 1.
    """
    raw = {j: math.log(p / (1 - p)) for j, p in accuracies.items()}
    size = sum(abs(w) for w in raw.values()) / len(raw) if raw else 1.0
    weights: dict[str | None, float] = {j: w / size if size else 1.0 for j, w in raw.items()}
    weights[None] = 1.0
    return weights
