"""The hash line: every unit has a place on it, steps of the ramp take it from the left, arms share each step.

A unit's place is the first four bytes of BLAKE2b (8 bytes long) over the UTF-8 text of salt, a zero byte and the unit, as a
big-endian number from 0 to 2**32 - 1. A step, once taken, never changes: a later one adds places to its right, with its own
probabilities, so that no unit ever changes its arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from heedloop.responses.experiments import RampStep

NUM_PLACES = 2**32


def step_ends(steps: Sequence[RampStep]) -> list[int]:
    """The place at which each step ends; it begins where the one before ends."""
    return [round(s.share * NUM_PLACES) for s in steps]


def segments(steps: Sequence[RampStep]) -> tuple[list[int], list[int], list[float]]:
    """(ends, arms, probabilities) of the segments of the line from the left, one for each arm of each step.

    `ends[i]` is the first place behind segment `i`; `probabilities` are those with which a unit of the step gets the arm.
    """
    ends: list[int] = []
    arms: list[int] = []
    probabilities: list[float] = []
    start = 0
    for step, end in zip(steps, step_ends(steps), strict=True):
        bounds = [start + round((end - start) * min(c, 1.0)) for c in accumulate(step.probabilities)]
        ends += [*bounds[:-1], end]
        arms += range(len(bounds))
        probabilities += step.probabilities
        start = end
    return ends, arms, probabilities
