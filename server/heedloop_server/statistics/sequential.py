"""Tests that stay right however often one looks: e-values.

An e-process is a betting score that, where nothing is there to find, has an expectation of at most 1 at every moment;
so the chance that it ever reaches 20 is at most 5%, whether one looks daily or after every rating (Ville 1939; Ramdas
et al. 2023, Statist. Sci. 38:576-601). A z-test looked at 50 times is wrong 32% of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammaln

from heedloop_server.statistics.intervals import Array

DECISION = 20.0
"""The e-value at which a comparison is decided: wrong in at most 1 of 20."""


def _log_sum(values: Array) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))


_STEPS = np.linspace(-5.0, 5.0, 121)
_LOG_ODDS = 2.0 * np.sinh(_STEPS) / math.sinh(5.0)
"""Log odds ratios that the mixture bets on: close together (0.002) near 0, where a million ratings tell small ones apart."""
_NO_EFFECT = 60
"""Where the log odds ratio is 0."""
_DENSITY = -0.5 * (_LOG_ODDS / 0.4) ** 2 + np.log(np.cosh(_STEPS))
_LOG_PRIOR = _DENSITY - _log_sum(_DENSITY)
"""Normal(0, 0.4²): most product changes move the odds by less than 1.5 times."""

_FEW_OUTCOMES = 1000
"""Outcomes of a block that are summed one by one, which is faster where they are few."""
_MAX_GROWTH = 1000.0
"""A decision that would take more than this many times the ratings so far is called out of reach."""


def _exp(log_value: float) -> float:
    # rounded, so that no evidence is exactly 1
    return math.exp(round(log_value, 12)) if log_value < 709 else math.inf


@dataclass(frozen=True, slots=True)
class Block:
    """Ratings of two versions that were given side by side (on one day): thumbs up and ratings of either."""

    up_a: int
    num_a: int
    up_b: int
    num_b: int

    def __post_init__(self) -> None:
        if not (0 <= self.up_a <= self.num_a and 0 <= self.up_b <= self.num_b):
            raise ValueError(f"{self}: thumbs up must lie between 0 and the number of ratings")


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """An always-valid comparison of two rates.

    Attributes:
        e_value: evidence that the two rates differ; infinity above 1e308.
        decided: the better version once `e_value` has reached 20, else None.
        num_needed: how many more ratings, both together, a decision takes if the rates stay as they are; 0 where
            decided; None where no decision is in reach.
    """

    e_value: float
    decided: Literal["a", "b"] | None
    num_needed: int | None


def compare_blocks(blocks: Sequence[Block]) -> SequentialTest:
    """The e-process of "in every block both versions have the same rate" against a lasting difference in odds.

    Given a block's totals, A's thumbs up follow Fisher's noncentral hypergeometric law, whatever the block's own rate:
    so a bad day for everybody counts for nothing, and what a version is shown to may change from block to block.
    The e-value is the likelihood ratio mixed over log odds ratios; blocks may be added, and looked at, for ever.
    Source: Robbins 1970 (the mixture); Adams 2020 and Turner, Ly & Grünwald 2024 (2x2 tables).
    """
    log_likelihoods = np.zeros_like(_LOG_ODDS)
    for block in blocks:
        log_likelihoods += _block_log_likelihoods(block)
    num_ratings = sum(b.num_a + b.num_b for b in blocks)
    needed = _num_needed(log_likelihoods, num_ratings)
    return SequentialTest(_exp(_log_mixture(log_likelihoods)), _decided(log_likelihoods), needed)


def _decided(log_likelihoods: Array) -> Literal["a", "b"] | None:
    log_e = _log_mixture(log_likelihoods)
    if log_e < math.log(DECISION):
        return None
    posterior = np.exp(_LOG_PRIOR + log_likelihoods - log_e)
    return "a" if float(posterior @ _LOG_ODDS) > 0 else "b"


def _block_log_likelihoods(block: Block) -> Array:
    """(len(_LOG_ODDS),) log likelihood of A's thumbs up given the totals, less its value at odds ratio 1."""
    total_up = block.up_a + block.up_b
    lowest, highest = max(0, total_up - block.num_b), min(block.num_a, total_up)
    if highest <= lowest:
        return np.zeros_like(_LOG_ODDS)
    few = highest - lowest < _FEW_OUTCOMES
    ways = _log_norms_of_few if few else _log_norms
    norms = ways(block.num_a, block.num_b, total_up, (lowest, highest))
    return _LOG_ODDS * block.up_a - norms + norms[_NO_EFFECT]


def _log_norms_of_few(num_a: int, num_b: int, total_up: int, ends: tuple[int, int]) -> Array:
    """As `_log_norms`, by the plain sum over every outcome."""
    ups = np.arange(ends[0], ends[1] + 1, dtype=np.float64)
    tilted = _log_ways(num_a, num_b, total_up, ups) + _LOG_ODDS[:, None] * ups
    top = tilted.max(axis=1)
    return top + np.log(np.exp(tilted - top[:, None]).sum(axis=1))


def _log_ways(num_a: int, num_b: int, total_up: int, ups: Array) -> Array:
    """The logarithm of how many ways there are to have these thumbs up of A, but for a constant."""
    return -(
        gammaln(ups + 1)
        + gammaln(num_a - ups + 1)
        + gammaln(total_up - ups + 1)
        + gammaln(num_b - total_up + ups + 1)
    )


def _log_norms(num_a: int, num_b: int, total_up: int, ends: tuple[int, int]) -> Array:
    """(len(_LOG_ODDS),) the logarithm of Fisher's normalising sum at each odds ratio.

    Summed within 12 standard deviations of each ratio's own mode, and every few counts where these are many: a smooth
    peak's sum is step times the sum of every step-th term, to 1e-15 at a quarter of its standard deviation. So a day of
    a billion ratings costs what one of a hundred does.
    """
    mode = _modes(num_a, num_b, total_up)
    cells = np.stack([mode, num_a - mode, total_up - mode, num_b - total_up + mode])
    spread = (1 / np.maximum(cells, 0.5)).sum(axis=0) ** -0.5
    step = np.maximum(np.floor(spread / 4), 1.0)
    reach = np.ceil((12 * spread + 40) / step)
    places = np.arange(-reach.max(), reach.max() + 1)[None, :]
    ups = np.round(mode)[:, None] + step[:, None] * places
    inside = (np.abs(places) <= reach[:, None]) & (ups >= ends[0]) & (ups <= ends[1])
    ups = np.clip(ups, *ends)
    log_ways = _log_ways(num_a, num_b, total_up, ups)
    tilted = np.where(inside, log_ways + _LOG_ODDS[:, None] * ups, -np.inf)
    top = tilted.max(axis=1)
    return top + np.log(step * np.exp(tilted - top[:, None]).sum(axis=1))


def _modes(num_a: int, num_b: int, total_up: int) -> Array:
    """(len(_LOG_ODDS),) A's most likely thumbs up at each odds ratio: x(num_b - total_up + x) = ratio(num_a - x)(total_up - x).

    The smaller root in the form that loses no digits. Source: Liao & Rosen 2001, Am. Stat. 55:366-369.
    """
    ratio = np.exp(_LOG_ODDS)
    a, c = ratio - 1, ratio * num_a * total_up
    b = -(ratio * (num_a + total_up) + num_b - total_up)
    return 2 * c / (-b + np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)))


def _log_mixture(log_likelihoods: Array, growth: float = 1.0) -> float:
    return _log_sum(_LOG_PRIOR + growth * log_likelihoods)


def _num_needed(log_likelihoods: Array, num_ratings: int) -> int | None:
    """Ratings until the mixture reaches the threshold if all counts grew in proportion."""
    goal, low, high = math.log(DECISION), 1.0, _MAX_GROWTH
    if _log_mixture(log_likelihoods) >= goal:
        return 0
    if _log_mixture(log_likelihoods, high) < goal:
        return None
    while high - low > 1e-3 * low:
        middle = (low + high) / 2
        low, high = (low, middle) if _log_mixture(log_likelihoods, middle) >= goal else (middle, high)
    return max(1, math.ceil((high - 1) * num_ratings))
