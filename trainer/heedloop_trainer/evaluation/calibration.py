"""Calibration: is an answer that is said to win with 80% preferred in 80% of the judgements?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

MIN_ROWS = 30
"""A temperature is fitted on no fewer judgements than this."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Judgements of similar confidence: what was said (0.5 to 1), and the share that came true."""

    confidence: float
    accuracy: float
    n: int


def reliability(margins: np.ndarray, *, num_bins: int = 10) -> list[ReliabilityBin]:
    """sigmoid(|margin|) against the share of judgements on its side, in bins of equal counts.

    Every pair is read with the more probable side first.
    """
    if len(margins) == 0:
        return []
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    right = np.where(margins == 0, 0.5, margins > 0)
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    return [ReliabilityBin(float(confidence[b].mean()), float(right[b].mean()), len(b)) for b in bins]


def calibration_error(margins: np.ndarray, *, num_bins: int = 10) -> float:
    """Expected calibration error of sigmoid(margin) as the probability that `chosen` wins."""
    if len(margins) == 0:
        return math.nan
    bins = reliability(margins, num_bins=num_bins)
    return sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / len(margins)


def log_loss(margins: np.ndarray) -> float:
    """Mean negative log-likelihood of the judgements, nats."""
    return float(np.mean(np.logaddexp(0, -margins)))


def fit_temperature(margins: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature that makes sigmoid(margin / temperature) most likely (arXiv 1706.04599); 1 for too few judgements.

    Args:
        margins: of decided comparisons that the model was *not* trained on, [n].
        weights: of the comparisons.
    """
    if len(margins) < MIN_ROWS or not np.any(margins):
        return 1.0
    weights = np.ones(len(margins)) if weights is None else weights
    scale = float(np.std(margins)) or 1.0

    def loss(log_temperature: float) -> float:
        return float(np.sum(weights * np.logaddexp(0, -margins / (scale * math.exp(log_temperature)))))

    found = minimize_scalar(loss, bounds=(-6.0, 6.0), method="bounded")
    return scale * math.exp(float(found.x))
