"""Arms that were assigned by known probabilities, compared by units, with statements that hold however often one looks.

A unit's answers are no independent observations: everything is summed by unit first, and variances are between units. A unit
that comes again adds to its own sums; what it adds goes with what it had, so looks resemble each other more than those at
independent observations would, and a bound for these holds for ours (Slepian 1962).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, ndtr, ndtri

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import Array

_CONCENTRATIONS = (10.0, 100.0, 1_000.0, 10_000.0)
"""Of the Dirichlet laws that are mixed: the larger, the smaller the departures that are found soon."""
_NUM_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class UnitSums:
    """Sums over the units of one arm in one step of the ramp; n is a unit's number of outcomes and y their sum.

    Attributes:
        probability: with which a unit of the step got the arm.
        units: those with an outcome.
    """

    step: int
    arm: int
    probability: float
    units: int
    n: float
    y: float
    nn: float
    ny: float
    yy: float


class Mean(NamedTuple):
    """An estimated mean outcome, the variance of the estimate, and the number of units and outcomes behind it."""

    value: float
    variance: float
    units: int
    n: float


def arm_mean(sums: Sequence[UnitSums], *, is_share: bool) -> Mean | None:
    """The mean outcome if every unit of the ramp had got the arm; None without a unit.

    Hájek's estimate over units weighted by 1/probability, Σwy/Σwn, with its linearised variance clustered by unit. Of a share
    one success and one failure are added for the variance, so that none is 0 for want of units.

    Source: Hájek 1971; Särndal, Swensson & Wretman 1992, section 5.7 (the ratio's variance).
    """
    num_units = sum(s.units for s in sums)
    total = sum(s.n / s.probability for s in sums)
    if not num_units or total <= 0:
        return None
    mean = sum(s.y / s.probability for s in sums) / total
    middle = (mean * num_units + 1) / (num_units + 2) if is_share else mean
    spread = sum((s.yy - 2 * middle * s.ny + middle * middle * s.nn) / s.probability**2 for s in sums)
    if is_share:
        smallest = min(1 / s.probability**2 for s in sums if s.units)
        spread += (middle * middle + (1 - middle) ** 2) * smallest
    variance = spread / total**2 * num_units / max(num_units - 1, 1)
    return Mean(mean, max(variance, 0.0), num_units, sum(s.n for s in sums))


class Difference(NamedTuple):
    """An estimated difference (or logarithm of a ratio) and its variance."""

    value: float
    variance: float


def difference(arm: Mean, control: Mean, *, is_share: bool) -> Difference | None:
    """How much higher the arm is: the difference of shares, the logarithm of the ratio of amounts; None where a mean is 0."""
    if is_share:
        return Difference(arm.value - control.value, arm.variance + control.variance)
    if arm.value <= 0 or control.value <= 0:
        return None
    relative = arm.variance / arm.value**2 + control.variance / control.value**2
    return Difference(math.log(arm.value / control.value), relative)


def log_e_value(found: Difference, effect: float) -> float:
    """The logarithm of the evidence against "no difference": a likelihood ratio mixed over Normal(0, effect²).

    Its exponential is at least 1/α ever, where there is none, with a probability of at most α (asymptotically in units).

    Source: Robbins 1970; Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Ann. Statist. 52:2613-2640, proposition 2.3.
    """
    if found.variance <= 0:
        return 0.0
    z2, growth = found.value**2 / found.variance, effect**2 / found.variance
    return 0.5 * (z2 * growth / (1 + growth) - math.log1p(growth))


def half_width(variance: float, effect: float, alpha: float) -> float:
    """Half the confidence sequence around an estimate: it holds the truth at all looks with probability 1 - alpha.

    The values that `log_e_value` has less than 1/alpha against.
    """
    growth = effect**2 / variance
    return math.sqrt(variance * (1 + 1 / growth) * (math.log1p(growth) - 2 * math.log(alpha)))


def confidence_sequence(found: Difference, effect: float, num_units: int, *, alpha: float = 0.05) -> Interval:
    """The estimate with its always-valid interval."""
    half = half_width(found.variance, effect, alpha) if found.variance > 0 else 0.0
    low, high = found.value - half, found.value + half
    return Interval(found.value, low, high, num_units, "confidence sequence", 1 - alpha)


def units_needed(
    found: Difference, num_units: int, effect: float, alpha: float, *, power: float = 0.8
) -> int:
    """Units in all arms with which a true difference of `effect` is found with at least this power at one look.

    Where the variance falls with the number of units as it did so far; looking more often only finds it sooner.
    """
    low, high = 1.0, 1e12
    per_unit = found.variance * num_units
    needed_z = float(ndtri(power))
    for _ in range(80):
        middle = math.sqrt(low * high)
        variance = per_unit / middle
        enough = effect - half_width(variance, effect, alpha) >= needed_z * math.sqrt(variance)
        low, high = (low, middle) if enough else (middle, high)
    return math.ceil(high)


def log_ratio_e_value(counts: Sequence[Sequence[int]], probabilities: Sequence[Sequence[float]]) -> float:
    """The logarithm of the evidence that units did not get their arms with the stated probabilities.

    Args:
        counts: units by step and arm.
        probabilities: of the same.

    The likelihood ratio of Dirichlet-multinomial laws around the stated probabilities, mixed over four concentrations, times
    over the steps; it ever reaches 1/α with a probability of at most α where all is well.

    Source: Lindon & Malek 2022, NeurIPS 35 (anytime-valid inference for multinomial counts).
    """
    return sum(
        _log_dirichlet_ratio(np.asarray(c, float), np.asarray(p, float))
        for c, p in zip(counts, probabilities, strict=True)
        if sum(c)
    )


def _log_dirichlet_ratio(counts: Array, probabilities: Array) -> float:
    logs = []
    for concentration in _CONCENTRATIONS:
        prior = concentration * probabilities
        logs.append(
            gammaln(concentration)
            - gammaln(concentration + counts.sum())
            + (gammaln(prior + counts) - gammaln(prior)).sum()
            - (counts * np.log(probabilities)).sum()
        )
    return float(np.logaddexp.reduce(logs) - math.log(len(logs)))


def thompson_probabilities(
    means: Sequence[Mean], *, higher_is_better: bool, floor: float
) -> tuple[float, ...]:
    """For each arm the probability that it is the best, by normal laws around the estimates, never under `floor`; the sum is 1.

    Two arms exactly; more by 20,000 draws with a fixed seed, so that it is the same wherever it is computed.

    Source: Thompson 1933, Biometrika 25:285-294; the floor as in Hadad et al. 2021, PNAS 118.
    """
    values = np.array([m.value if higher_is_better else -m.value for m in means])
    spreads = np.sqrt([m.variance for m in means])
    if len(means) == 2:
        second = float(ndtr((values[1] - values[0]) / max(math.hypot(*spreads), 1e-12)))
        best = np.array([1 - second, second])
    else:
        draws = np.random.default_rng(0).normal(values, spreads, size=(_NUM_DRAWS, len(means)))
        best = np.bincount(draws.argmax(axis=1), minlength=len(means)) / _NUM_DRAWS
    shares = floor + (1 - floor * len(means)) * best
    return tuple(float(s) for s in shares / shares.sum())
