"""What the few who rate say about all answers: weighting where the probability is known, bounds where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from heedloop_server.statistics.intervals import Interval, difference, wilson
from heedloop_server.statistics.weighted import weighted_wilson


def nonresponse_bounds(num_up: float, num_rated: float, num_answers: float) -> tuple[float, float] | None:
    """The lowest and highest rate all answers can have, whoever chose to rate: every unrated one down, or up.

    None without answers. Source: Manski 1989, J. Hum. Resour. 24:343-360 (no-assumption bounds).
    """
    if not 0 <= num_up <= num_rated <= num_answers:
        raise ValueError(
            f"{num_up} up of {num_rated} rated of {num_answers} answers: each must be within the next"
        )
    if num_answers == 0:
        return None
    return num_up / num_answers, (num_up + num_answers - num_rated) / num_answers


def inverse_propensity_rate(outcomes: ArrayLike, propensities: ArrayLike) -> Interval | None:
    """The rate over all answers from rated ones whose probability of being rated is known; None without ratings.

    Hájek's ratio estimate, with Wilson's interval at the effective sample size: see `weighted_wilson`.
    """
    return weighted_wilson(outcomes, propensities)


@dataclass(frozen=True, slots=True)
class RaterBias:
    """The rate among those who chose to rate beside that of a random sample, and their difference."""

    self_selected: Interval | None
    random_sample: Interval | None
    difference: Interval | None
    bounds: tuple[float, float] | None


def rater_bias(
    num_up: int, num_rated: int, num_answers: int, sample_outcomes: ArrayLike, sample_probabilities: ArrayLike
) -> RaterBias:
    """How far the end users' rate is from that of answers drawn at random for review.

    Args:
        num_up: thumbs up among the `num_rated` ratings that users chose to leave on `num_answers` answers.
        sample_outcomes: (n,) 0 or 1, the reviewed answers' thumbs.
        sample_probabilities: (n,) the probability with which each was drawn.
    """
    chosen = wilson(num_up, num_rated)
    drawn = weighted_wilson(sample_outcomes, sample_probabilities) if np.size(sample_outcomes) else None
    bounds = nonresponse_bounds(num_up, num_rated, num_answers)
    return RaterBias(chosen, drawn, difference(chosen, drawn), bounds)
