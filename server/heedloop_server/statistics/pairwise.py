"""Pairwise comparisons: which model, version or answer is preferred, from judgements of two at a time.

Bradley and Terry's model gives every contender a strength so that A beats B with probability 1 / (1 + exp(b - a)).
It exists only where no contender is unbeaten within a part of the comparisons: connectivity is checked, not assumed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import Array, wilson
from heedloop_server.statistics.means import percentile_interval, resamples


@dataclass(frozen=True, slots=True)
class Duel:
    """One judgement of two contenders.

    Attributes:
        result: 1 where A won, 0 where B won, 0.5 for a tie.
        rater: who judged, for the bootstrap; None where unknown (then every judgement stands for itself).
        length_difference: length of A's answer less B's, in any unit, where known.
    """

    a: Hashable
    b: Hashable
    result: float
    rater: Hashable | None = None
    length_difference: float | None = None

    def __post_init__(self) -> None:
        if self.result not in (0, 0.5, 1):
            raise ValueError(f"result {self.result!r} must be 1 (A won), 0 (B won) or 0.5 (tie)")
        if self.a == self.b:
            raise ValueError(f"{self.a!r} is compared with itself")


# ------------------------------------------------------------------------------------------------ the model


def strongly_connected(wins: ArrayLike) -> bool:
    """True where every contender beat (or tied with) every other, over others: the strengths then exist and are unique.

    Source: Ford 1957, Am. Math. Monthly 64:28-33, the condition for the maximum likelihood.
    """
    w = _checked_wins(wins)
    return len(w) > 0 and connected_components(w > 0, directed=True, connection="strong")[0] == 1


def components(wins: ArrayLike) -> list[list[int]]:
    """The groups of contenders that were compared with each other at all; strengths of two groups cannot be compared."""
    w = _checked_wins(wins)
    labels = connected_components((w + w.T) > 0, directed=False)[1]
    return [np.flatnonzero(labels == c).tolist() for c in sorted(set(labels.tolist()))]


def _checked_wins(wins: ArrayLike) -> Array:
    w = np.asarray(wins, float)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or (w < 0).any() or not np.isfinite(w).all():
        raise ValueError("wins must be a square table: how often the row beat the column")
    return w


def bradley_terry(wins: ArrayLike, *, tolerance: float = 1e-10) -> Array | None:
    """(n,) log strengths from an (n, n) table of wins, row over column; a tie is half a win for either.

    Centred at 0. None where they do not exist: fewer than two contenders, or wins that do
    not connect them all (one of them won all, or lost all, of its comparisons with a part of the others).

    Maximum likelihood by Newton's method; the likelihood is concave. Source: Zermelo 1929, Math. Z. 29:436-460; Bradley
    & Terry 1952, Biometrika 39:324-345.
    """
    w = _checked_wins(wins).copy()
    np.fill_diagonal(w, 0.0)
    if len(w) < 2 or not strongly_connected(w):
        return None
    logs = np.zeros(len(w))
    for _ in range(200):
        step = _newton_step(w, logs)
        # a step is cut until it gains: far from the top a full one can overshoot
        while _log_likelihood(w, logs + step) < _log_likelihood(w, logs) and np.abs(step).max() > tolerance:
            step /= 2
        logs = logs + step
        if float(np.abs(step).max()) <= tolerance:
            break
    return logs - logs.mean()


def _log_likelihood(wins: Array, logs: Array) -> float:
    return -float((wins * np.logaddexp(0.0, logs[None, :] - logs[:, None])).sum())


def _newton_step(wins: Array, logs: Array) -> Array:
    """The gradient over the curvature, which is a graph's Laplacian: constant shifts are held at 0."""
    games = wins + wins.T
    beats = expit(logs[:, None] - logs[None, :])
    gradient = wins.sum(axis=1) - (games * beats).sum(axis=1)
    weight = games * beats * (1 - beats)
    curvature = np.diag(weight.sum(axis=1)) - weight + 1 / len(wins)
    return np.asarray(np.linalg.lstsq(curvature, gradient, rcond=None)[0], float)


# ----------------------------------------------------------------------------------------------- from judgements


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender's place.

    Attributes:
        log_strength: with its bootstrap interval; None where strengths do not exist, or where all resamples are alike
            (every judgement a tie): a bootstrap then knows nothing.
        win_rate: share of its judgements won, ties half, with Wilson's interval.
    """

    name: Hashable
    log_strength: Interval | None
    win_rate: Interval | None


@dataclass(frozen=True, slots=True)
class League:
    """All contenders, the strongest first.

    Attributes:
        connected: False where strengths do not exist; `components` then says who was compared with whom.
        longer_wins: the share of decided judgements in which the longer answer won: next to the win rates, because
            judges like length; None where lengths are unknown.
        num_ties: judgements that were ties.
    """

    standings: tuple[Standing, ...]
    connected: bool
    components: tuple[tuple[Hashable, ...], ...]
    longer_wins: Interval | None
    num_judgements: int
    num_ties: int


def win_table(duels: Iterable[Duel], names: Sequence[Hashable]) -> Array:
    """(n, n) wins of the row over the column, ties half on either side."""
    place = {n: i for i, n in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for d in duels:
        table[place[d.a], place[d.b]] += d.result
        table[place[d.b], place[d.a]] += 1 - d.result
    return table


def league(duels: Sequence[Duel], *, num_samples: int = 200) -> League:
    """Strengths with intervals from a bootstrap over raters: the judgements of one rater are not independent."""
    names = sorted({n for d in duels for n in (d.a, d.b)}, key=str)
    table = win_table(duels, names)
    played = (table + table.T).sum(axis=1)
    strengths = bradley_terry(table) if names else None
    spread = _bootstrap(duels, names, num_samples) if strengths is not None else np.empty((0, len(names)))
    standings = [
        Standing(
            name,
            None if strengths is None else _strength(float(strengths[i]), spread[:, i], played[i]),
            wilson(float(table[i].sum()), float(played[i])),
        )
        for i, name in enumerate(names)
    ]
    return League(
        standings=tuple(sorted(standings, key=_rank)),
        connected=strengths is not None,
        components=tuple(tuple(names[i] for i in part) for part in components(table)) if names else (),
        longer_wins=longer_wins(duels),
        num_judgements=len(duels),
        num_ties=sum(d.result == 0.5 for d in duels),
    )


def _rank(standing: Standing) -> tuple[float, str]:
    value = standing.log_strength or standing.win_rate
    return (-value.estimate if value else 0.0, str(standing.name))


def _strength(estimate: float, samples: Array, played: float) -> Interval | None:
    ends = percentile_interval(samples)
    if ends is None or ends[1] - ends[0] < 1e-9:
        return None
    low, high = min(ends[0], estimate), max(ends[1], estimate)
    return Interval(estimate, low, high, round(played), "bootstrap by rater")


def _bootstrap(duels: Sequence[Duel], names: Sequence[Hashable], num_samples: int) -> Array:
    """(samples, n) log strengths; NaN where a resample does not connect all contenders."""
    by_rater: dict[Hashable, list[Duel]] = {}
    for d, rater in zip(duels, _resampled(duels), strict=True):
        by_rater.setdefault(rater, []).append(d)
    tables = np.array([win_table(part, names) for part in by_rater.values()])
    out = np.full((num_samples, len(names)), np.nan)
    for row, weights in enumerate(resamples(len(tables), num_samples)):
        strengths = bradley_terry(np.tensordot(weights, tables, axes=1), tolerance=1e-5)
        if strengths is not None:
            out[row] = strengths
    return out


def _resampled(duels: Sequence[Duel]) -> list[Hashable]:
    """What each judgement is resampled with: its rater; itself where that is unknown, or where one rater made them all."""
    alone = len({d.rater for d in duels}) == 1
    return [("judgement", i) if d.rater is None or alone else ("rater", d.rater) for i, d in enumerate(duels)]


def longer_wins(duels: Iterable[Duel]) -> Interval | None:
    """How often the longer answer won, among decided judgements of answers of different known length."""
    decided = [d for d in duels if d.result != 0.5 and d.length_difference]
    won = sum((d.result == 1) == ((d.length_difference or 0) > 0) for d in decided)
    return wilson(won, len(decided))


@dataclass(frozen=True, slots=True)
class LengthEffect:
    """What length has to do with winning.

    Attributes:
        log_strength: name -> strength (mean 0) with the length effect taken out.
        odds: how many times the odds of winning grow per standard deviation of length difference.
        unit: that standard deviation, in the duels' own unit.
    """

    log_strength: Mapping[Hashable, float]
    odds: Interval | None
    unit: float


def length_effect(duels: Sequence[Duel]) -> LengthEffect | None:
    """Bradley-Terry strengths at equal length: logit P(A wins) = a - b + beta * (length difference / its spread).

    Of the duels with known lengths; None where they do not connect all contenders, or lengths do not differ. The interval is
    a bootstrap by rater. Source: Dubois et al. 2024, arXiv:2404.04475 (length-controlled win rates).
    """
    known = [d for d in duels if d.length_difference is not None]
    names = sorted({n for d in known for n in (d.a, d.b)}, key=str)
    lengths = np.array([d.length_difference or 0.0 for d in known])
    unit = float(np.sqrt(np.mean(lengths**2))) if len(known) else 0.0
    if unit == 0 or not names or not strongly_connected(win_table(known, names)):
        return None
    place = {n: i for i, n in enumerate(names)}
    design = np.zeros((len(known), len(names) + 1))
    for row, d in enumerate(known):
        design[row, place[d.a]], design[row, place[d.b]] = 1.0, -1.0
    design[:, -1] = lengths / unit
    results = np.array([d.result for d in known])
    fit = _logit(design, results, np.ones(len(known)))
    raters = _resampled(known)
    codes = {r: i for i, r in enumerate(dict.fromkeys(raters))}
    member = np.array([codes[r] for r in raters])
    betas = [
        float(_logit(design, results, weights[member].astype(float))[-1])
        for weights in resamples(len(codes), 100)
    ]
    ends = percentile_interval(np.exp(betas))
    odds = float(np.exp(fit[-1]))
    strengths = fit[:-1] - fit[:-1].mean()
    interval = None
    if ends is not None:
        interval = Interval(odds, min(ends[0], odds), max(ends[1], odds), len(known), "bootstrap by rater")
    return LengthEffect({n: float(strengths[i]) for n, i in place.items()}, interval, unit)


def _logit(design: Array, results: Array, weights: Array) -> Array:
    """(d,) weighted logistic regression by Newton's method, with a ridge of 0.01 so that it always exists."""
    beta = np.zeros(design.shape[1])
    ridge = 0.01 * np.eye(design.shape[1])
    for _ in range(50):
        fitted = expit(design @ beta)
        gradient = design.T @ (weights * (results - fitted)) - ridge @ beta
        curvature = (design * (weights * fitted * (1 - fitted))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        beta = beta + step
        if float(np.abs(step).max()) < 1e-6:
            break
    return beta


def first_shown_wins(duels: Iterable[tuple[Duel, bool]]) -> Interval | None:
    """How often the answer shown first won, among decided judgements of (duel, whether A was shown first)."""
    decided = [(d.result == 1) == first for d, first in duels if d.result != 0.5]
    return wilson(sum(decided), len(decided))
