"""What the few who rate say about all answers: weighting where the probability is known, bounds where it is not."""

from __future__ import annotations


def nonresponse_bounds(num_up: float, num_rated: float, num_answers: float) -> tuple[float, float] | None:
    """The lowest and highest rate all answers can have, whichever users chose to rate: every unrated one down, or up.

    None without answers. Source: Manski 1989, J. Hum. Resour. 24:343-360 (no-assumption bounds).
    """
    if not 0 <= num_up <= num_rated <= num_answers:
        raise ValueError(
            f"{num_up} up of {num_rated} rated of {num_answers} answers: each must be within the next"
        )
    if num_answers == 0:
        return None
    return num_up / num_answers, (num_up + num_answers - num_rated) / num_answers
