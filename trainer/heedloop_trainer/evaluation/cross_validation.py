"""Cross-validation of the linear reward model: every prompt group is held out once, so that all judgements are a test."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heedloop.schema import Comparison
from heedloop_trainer.evaluation.calibration import calibration_error, log_loss
from heedloop_trainer.evaluation.estimates import cluster_bootstrap
from heedloop_trainer.evaluation.evaluate import fitted_length_margins, length_margins
from heedloop_trainer.methods.reward_linear import LinearRewardConfig, train_reward_linear
from heedloop_trainer.nn.optimiser import seeded_permutation

MAX_FOLDS = 40
"""Up to so many prompt groups are held out one at a time; more are put together into ten folds."""
NUM_FOLDS = 10


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What was found.

    Attributes:
        margins: log-odds that `chosen` wins, for every row by a model that never saw its prompt group, [n].
        report: accuracy (mean over folds, and over rows with an interval clustered by group), calibration, as JSON.
    """

    margins: np.ndarray
    report: dict[str, Any]

    def save(self, path: Path, rows: Sequence[Comparison]) -> None:
        """One line per row, in the snapshot's order: prompt group, log-odds that `chosen` wins, tie, weight."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("group", "margin", "tie", "weight"))
            writer.writerows(
                (r.group, f"{m:.6f}", int(r.tie), f"{r.weight:g}")
                for r, m in zip(rows, self.margins, strict=True)
            )


def group_folds(rows: Sequence[Comparison], *, seed: int = 0) -> np.ndarray:
    """The fold of every row, int [n]; a prompt group is in one fold."""
    groups = sorted({r.group for r in rows})
    if len(groups) <= MAX_FOLDS:
        fold = {g: k for k, g in enumerate(groups)}
    else:
        order = seeded_permutation(len(groups), seed, 7)
        fold = {groups[i]: k % NUM_FOLDS for k, i in enumerate(order)}
    return np.array([fold[r.group] for r in rows])


def cross_validate(rows: Sequence[Comparison], config: LinearRewardConfig) -> CrossValidation:
    """Train on all prompt groups but some, judge those, and so on around.

    Raises:
        ValueError: there are fewer than two prompt groups.
    """
    folds = group_folds(rows, seed=config.seed)
    if len(set(folds.tolist())) < 2:
        raise ValueError("cross-validation needs two prompt groups or more, and all comparisons are in one")
    margins = np.zeros(len(rows))
    for fold in range(int(folds.max()) + 1):
        held_out = np.flatnonzero(folds == fold)
        model = train_reward_linear(config, [rows[i] for i in np.flatnonzero(folds != fold)])
        margins[held_out] = model.margins([rows[i] for i in held_out])
    return CrossValidation(margins, _report(rows, margins, folds))


def _report(rows: Sequence[Comparison], margins: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    decided = np.array([not r.tie for r in rows])
    kept = [r for r in rows if not r.tie]
    own, weights = margins[decided], np.array([r.weight for r in kept])
    right = np.where(own == 0, 0.5, own > 0).astype(float)
    longest = length_margins(kept)
    longest_right = np.where(longest == 0, 0.5, longest > 0)
    by_fold = [folds[decided] == k for k in range(int(folds.max()) + 1)]
    by_fold = [where for where in by_fold if weights[where].sum() > 0]
    return {
        "num_folds": len(by_fold),
        "num_comparisons": len(kept),
        "mean_of_folds": float(np.mean([np.average(right[w], weights=weights[w]) for w in by_fold])),
        "longer_wins_mean_of_folds": float(
            np.mean([np.average(longest_right[w], weights=weights[w]) for w in by_fold])
        ),
        "length_wins_mean_of_folds": _length_wins(kept, weights, folds[decided]),
        "accuracy": asdict(cluster_bootstrap(right, [r.group for r in kept], weights)),
        "calibration_error": calibration_error(own),
        "log_loss": log_loss(own),
    }


def _length_wins(rows: Sequence[Comparison], weights: np.ndarray, folds: np.ndarray) -> float:
    """Mean accuracy of the folds by length alone, longer or shorter as the other folds say."""
    means: list[float] = []
    for k in sorted(set(folds.tolist())):
        held = np.flatnonzero(folds == k)
        if weights[held].sum() > 0:
            margins = fitted_length_margins(
                [rows[i] for i in np.flatnonzero(folds != k)], [rows[i] for i in held]
            )
            means.append(float(np.average(np.where(margins == 0, 0.5, margins > 0), weights=weights[held])))
    return float(np.mean(means))
