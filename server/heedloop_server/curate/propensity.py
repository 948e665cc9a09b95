"""Propensity: most answers are never rated, and those that are were not chosen at random.

Every answer shown is known (exposure), so the probability to be rated can be estimated from what was known before the
rating, and rated answers weighted by its inverse (Horvitz and Thompson 1952; clipped as in Ionides 2008; the effective
sample size is Kish's). Whether satisfied people rate less than others, given all that, no such model can tell: the
bounds say how far the rate would move if the dissatisfied were 1/r to r times as ready to rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from heedloop.schema import Call
from heedloop_server.curate.evidence import Evidence
from heedloop_server.curate.judged_calls import Answer
from heedloop_server.curate.rules import Rules

RATIOS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""How many times readier to rate the dissatisfied may be; 30 is the largest that the literature reports."""
MAX_LEVELS = 20
"""Values of one field that get a coefficient of their own, most frequent first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of liked among rated answers: as counted, and with inverse propensity weights.

    Attributes:
        num_effective: Kish's effective sample size of the weights; as many equal ratings would say as much.
        bounds: ratio r -> (lowest, highest) share in all answers if the dissatisfied rate r times as readily, or 1/r.
    """

    counted: float
    weighted: float
    num_effective: float
    bounds: Mapping[float, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Exposure:
    """How many answers were shown and rated.

    Attributes:
        weights: answer key -> inverse propensity weight (mean 1 over the rated), empty unless the rules ask for it.
        rate: of the thumbs given unasked; None where there is none.
    """

    num_shown: int
    num_rated: int
    num_solicited: int
    weights: Mapping[str, float] = field(default_factory=dict)
    rate: Rate | None = None


def exposure_of(evidence: Evidence, rules: Rules) -> Exposure:
    """Exposure of the usable answers, with weights where the rules ask for them."""
    answers = list(evidence.usable.values())
    rated = np.zeros(len(answers), dtype=bool)
    solicited = 0
    liked: dict[int, float] = {}
    for i, answer in enumerate(answers):
        answer_feedback = evidence.answer_feedback.get(answer.key)
        if answer_feedback is None or not (answer_feedback.likes or answer_feedback.dislikes):
            continue
        rated[i] = True
        thumbs = answer_feedback.likes + answer_feedback.dislikes
        solicited += any(j.feedback.solicited for j in thumbs)
        liked[i] = len(answer_feedback.likes) / len(thumbs)
    weights = {}
    if rules.propensity and 0 < rated.sum() < len(answers):
        inverse = inverse_weights(_features(answers), rated, clip=rules.propensity_clip)
        weights = {answers[i].key: float(inverse[i]) for i in np.flatnonzero(rated)}
    rate = _rate(answers, liked, weights) if liked else None
    return Exposure(len(answers), int(rated.sum()), solicited, weights, rate)


def inverse_weights(
    features: NDArray[np.float64], rated: NDArray[np.bool_], *, clip: tuple[float, float]
) -> NDArray[np.float64]:
    """Weights of the rated rows, mean 1 before clipping; 0 for the others.

    Args:
        features: (n, d), what was known before anybody rated.
        rated: (n,), True where the answer was rated; both values must occur.
        clip: smallest and largest weight.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(scaled, rated)
    probability = np.clip(model.predict_proba(scaled)[:, 1], 1e-6, 1.0)
    # Stabilised by the overall share, so that weights are 1 where being rated depends on nothing.
    weights = np.where(rated, rated.mean() / probability, 0.0)
    weights[rated] = np.clip(weights[rated] / weights[rated].mean(), *clip)
    return weights


def effective_size(weights: NDArray[np.float64]) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 without weight."""
    total = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / total if total else 0.0


def sensitivity_bounds(
    share: float, coverage: float = 0.0, ratios: Sequence[float] = RATIOS
) -> dict[float, tuple[float, float]]:
    """Lowest and highest share of liked among all answers, if the dissatisfied rate r times as readily or 1/r times.

    With q the share among the rated and r the ratio, the share among all is q r / (q r + 1 - q). Whatever the ratio, the
    unrated can at most all be disliked, or all liked: it lies within q c and q c + 1 - c (Manski 1989).

    Args:
        share: q, of the rated.
        coverage: c, the part of all answers that is rated.
    """
    least, most = share * coverage, share * coverage + 1 - coverage
    return {r: (max(least, _shifted(share, 1 / r)), min(most, _shifted(share, r))) for r in ratios}


def _shifted(share: float, ratio: float) -> float:
    whole = share * ratio + 1 - share
    return min(1.0, max(0.0, share * ratio / whole)) if whole else share


def _rate(answers: Sequence[Answer], liked: Mapping[int, float], weights: Mapping[str, float]) -> Rate:
    w = np.array([weights.get(answers[i].key, 1.0) for i in liked])
    values = np.array(list(liked.values()))
    weighted = float((w * values).sum() / w.sum())
    return Rate(
        float(values.mean()),
        weighted,
        effective_size(w),
        sensitivity_bounds(weighted, len(liked) / len(answers)),
    )


def _features(answers: Sequence[Answer]) -> NDArray[np.float64]:
    """(n, d): lengths, duration, hour, error, and the most frequent values of the fields that apps differ by."""
    columns = [_numbers([a.call for a in answers], answers)]
    for name in ("model", "prompt_name", "prompt_version", "service", "environment"):
        columns.append(_one_hot([str(getattr(a.call, name) or "") for a in answers]))
    return np.hstack(columns)


def _numbers(calls: Sequence[Call], answers: Sequence[Answer]) -> NDArray[np.float64]:
    rows = [
        [
            math.log1p(len(a.completion)),
            math.log1p(sum(len(m.text) for m in a.prompt)),
            math.log1p(max(0, c.duration_ns) / 1e9),
            *_hour(c.start_time),
            float(c.status == "error"),
            float(len(a.prompt)),
        ]
        for c, a in zip(calls, answers, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def _hour(time: datetime) -> tuple[float, float]:
    angle = 2 * math.pi * (time.hour + time.minute / 60) / 24
    return math.sin(angle), math.cos(angle)


def _one_hot(values: Sequence[str]) -> NDArray[np.float64]:
    names, counts = np.unique(np.array(values), return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")][:MAX_LEVELS]
    return (np.array(values)[:, None] == frequent[None, :]).astype(np.float64)
