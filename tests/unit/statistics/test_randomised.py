"""Assigned arms: planted truths, looked at daily. `HEEDLOOP_EXPERIMENTS=2000` is the long form, at which the numbers are those
that docs/experiments.md states.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from heedloop_server.statistics.randomised import (
    Difference,
    Mean,
    UnitSums,
    arm_mean,
    confidence_sequence,
    difference,
    half_width,
    log_e_value,
    log_ratio_e_value,
    thompson_probabilities,
    units_needed,
)

NUM = int(os.environ.get("HEEDLOOP_EXPERIMENTS", "60"))
EFFECT, MIN_UNITS, DAYS = 0.05, 100, 28


def allowed(share: float) -> float:
    """The most of `NUM` that a true share gives but once in a thousand runs."""
    return share * NUM + 3.1 * math.sqrt(share * (1 - share) * NUM)


def sums_of(arm: int, n, y, *, step: int = 0, probability: float = 0.5) -> UnitSums:
    seen = n > 0
    n, y = n[seen], y[seen]
    return UnitSums(
        step,
        arm,
        probability,
        len(n),
        float(n.sum()),
        float(y.sum()),
        float(n @ n),
        float(n @ y),
        float(y @ y),
    )


class Days:
    """Users of two arms who come again and again, each with a taste of their own: thumbs by unit, day after day."""

    def __init__(self, rng: np.random.Generator, lift: float, per_day: int = 100) -> None:
        num = DAYS * per_day
        self.rng, self.per_day, self.day = rng, per_day, 0
        self.is_new = rng.random(num) < 0.5
        self.up = np.clip(rng.beta(3, 2, num) + lift * self.is_new, 0, 1)
        self.visits = rng.gamma(1, 0.3, num)
        self.n, self.y = np.zeros(num), np.zeros(num)

    def next(self) -> Difference | None:
        """The difference after one more day; None while an arm has too few units."""
        self.day += 1
        here = slice(0, self.day * self.per_day)
        more = self.rng.poisson(self.visits[here])
        self.n[here] += more
        self.y[here] += self.rng.binomial(more, self.up[here])
        new, old = (
            arm_mean([sums_of(0, self.n[which], self.y[which])], is_share=True)
            for which in (self.is_new, ~self.is_new)
        )
        if new is None or old is None or min(new.units, old.units) < MIN_UNITS:
            return None
        return difference(new, old, is_share=True)


def decided_on(seed: int, lift: float) -> int:
    """The day on which a difference was decided; 0 where none was."""
    days = Days(np.random.default_rng(seed), lift)
    for day in range(DAYS):
        found = days.next()
        if found is not None and log_e_value(found, EFFECT) >= math.log(20):
            return day + 1
    return 0


def test_equal_arms_looked_at_daily_are_told_apart_in_at_most_one_of_twenty():
    wrong = sum(decided_on(seed, 0.0) > 0 for seed in range(NUM))
    print(f"{wrong} of {NUM} equal experiments decided wrongly")
    assert wrong <= allowed(0.05)


@pytest.mark.parametrize("lift", [0.1, 0.15])
def test_planted_differences_are_found(lift):
    num = max(NUM // 4, 10)
    days = [decided_on(seed, lift) for seed in range(num)]
    print(f"lift {lift}: found {sum(d > 0 for d in days)} of {num}, in the middle on day {np.median(days)}")
    assert sum(d > 0 for d in days) >= 0.9 * num


def test_the_stated_number_of_units_finds_the_effect_with_the_stated_power():
    rng = np.random.default_rng(3)
    num_found, num = 0, max(NUM, 100)
    first = Difference(0.0, 2 * 0.24 / 500)
    needed = units_needed(first, 1_000, EFFECT, 1 / 20)
    for _ in range(num):
        old, new = (
            rng.binomial(1, p, needed // 2).astype(float) for p in (0.6 - EFFECT / 2, 0.6 + EFFECT / 2)
        )
        ones = np.ones(needed // 2)
        means = [arm_mean([sums_of(0, ones, y)], is_share=True) for y in (new, old)]
        assert means[0] is not None and means[1] is not None
        found = difference(means[0], means[1], is_share=True)
        assert found is not None
        num_found += log_e_value(found, EFFECT) >= math.log(20)
    print(f"{needed} units: found {num_found} of {num} differences of {EFFECT}")
    assert 0.68 <= num_found / num <= 0.92


def test_the_confidence_sequence_is_what_the_e_value_does_not_refuse():
    for variance in (1e-5, 1e-3, 0.1):
        edge = half_width(variance, EFFECT, 0.05)
        assert log_e_value(Difference(edge, variance), EFFECT) == pytest.approx(math.log(20))
        assert log_e_value(Difference(edge * 0.999, variance), EFFECT) < math.log(20)


def test_ten_answers_of_a_unit_are_not_ten_units():
    rng = np.random.default_rng(0)
    y = rng.binomial(1, 0.5, 400).astype(float)
    single = arm_mean([sums_of(0, np.ones(400), y)], is_share=True)
    tenfold = arm_mean([sums_of(0, np.full(400, 10.0), 10 * y)], is_share=True)
    assert single is not None and tenfold is not None
    assert tenfold.value == single.value and tenfold.n == 4000
    assert tenfold.variance == pytest.approx(single.variance, rel=0.02)


def test_steps_are_weighted_by_their_probabilities():
    """A step of bad days gives the new arm nine in ten units: unweighted it would look worse than the old one."""
    good, bad = (np.ones(1000), np.full(1000, 0.9)), (np.ones(1000), np.full(1000, 0.2))

    def part(pair, share):
        return pair[0][: int(1000 * share)], pair[1][: int(1000 * share)]

    new = [sums_of(1, *part(good, 0.5), step=0), sums_of(1, *part(bad, 0.9), step=1, probability=0.9)]
    old = [sums_of(0, *part(good, 0.5), step=0), sums_of(0, *part(bad, 0.1), step=1, probability=0.1)]
    means = [arm_mean(s, is_share=False) for s in (new, old)]
    assert [m and m.value for m in means] == pytest.approx([0.55, 0.55])


def test_a_share_without_a_failure_has_a_variance():
    mean = arm_mean([sums_of(0, np.ones(100), np.ones(100))], is_share=True)
    assert mean is not None and 1e-5 < mean.variance < 1e-3


# ---------------------------------------------------------------------------------------------- the sample ratio


def ratio_alarm_day(rng: np.random.Generator, true_share: float, days: int = 60) -> int:
    counts = [0, 0]
    for day in range(days):
        new = int(rng.binomial(500, true_share))
        counts = [counts[0] + 500 - new, counts[1] + new]
        if log_ratio_e_value([counts], [[0.5, 0.5]]) >= math.log(100):
            return day + 1
    return 0


def test_a_right_sample_ratio_is_alarmed_in_at_most_one_of_a_hundred():
    rng = np.random.default_rng(5)
    assert sum(ratio_alarm_day(rng, 0.5) > 0 for _ in range(NUM)) <= allowed(0.01)


def test_lost_units_are_noticed():
    rng = np.random.default_rng(6)
    days = [ratio_alarm_day(rng, 0.47) for _ in range(30)]
    assert all(days) and np.median(days) < 20


def test_each_step_has_its_own_ratio():
    assert log_ratio_e_value([[900, 100], [500, 500]], [[0.9, 0.1], [0.5, 0.5]]) < 0
    assert log_ratio_e_value([[900, 100], [500, 500]], [[0.5, 0.5], [0.9, 0.1]]) > 100


# ------------------------------------------------------------------------------------------------------- adaptive


def adaptive_run(rng: np.random.Generator, lift: float) -> tuple[Difference, float]:
    """Ten steps of 200 units, each assigned by what was known: the estimate, and the last step's share of the better arm."""
    sums: list[UnitSums] = []
    shares = (0.5, 0.5)
    for step in range(10):
        drift = (
            0.02 * step
        )  # days get better for everybody, which must not be taken for the better arm's doing
        num_new = int(rng.binomial(200, shares[1]))
        for arm, num in ((0, 200 - num_new), (1, num_new)):
            n = 1.0 + rng.poisson(1.0, num)
            up = np.clip(rng.beta(3, 3, num) + drift + lift * arm, 0, 1)
            sums.append(sums_of(arm, n, rng.binomial(n.astype(int), up), step=step, probability=shares[arm]))
        means = [arm_mean([s for s in sums if s.arm == a], is_share=True) for a in (0, 1)]
        assert means[0] is not None and means[1] is not None
        shares = thompson_probabilities([means[0], means[1]], higher_is_better=True, floor=0.1)
    found = difference(means[1], means[0], is_share=True)
    assert found is not None
    return found, shares[1]


@pytest.mark.parametrize("lift", [0.0, 0.05])
def test_adaptive_assignment_keeps_its_coverage(lift):
    rng, covered, plain, shares = np.random.default_rng(8), 0, 0, []
    truth = true_difference(lift)
    for _ in range(NUM):
        found, share = adaptive_run(rng, lift)
        interval = confidence_sequence(found, EFFECT, 2000)
        covered += interval.low <= truth <= interval.high
        plain += abs(found.value - truth) <= 1.96 * math.sqrt(found.variance)
        shares.append(share)
    print(
        f"lift {lift}: sequence {covered / NUM:.3f}, plain interval {plain / NUM:.3f}, better arm gets {np.mean(shares):.2f}"
    )
    assert NUM - covered <= allowed(0.05)
    assert NUM - plain <= allowed(0.07)
    if lift:
        assert np.mean(shares) > 0.65


def true_difference(lift: float) -> float:
    """Of the clipped probabilities of success, over all ten steps."""
    base = np.random.default_rng(1).beta(3, 3, 200_000)
    steps = [
        np.clip(base + 0.02 * s + lift, 0, 1).mean() - np.clip(base + 0.02 * s, 0, 1).mean()
        for s in range(10)
    ]
    return float(np.mean(steps))


def test_probabilities_of_the_best_arm():
    even = thompson_probabilities([Mean(0.5, 1e-4, 9, 9)] * 2, higher_is_better=True, floor=0.1)
    assert even == pytest.approx((0.5, 0.5))
    means = [Mean(0.5, 1e-4, 9, 9), Mean(0.9, 1e-4, 9, 9)]
    assert thompson_probabilities(means, higher_is_better=True, floor=0.1) == pytest.approx((0.1, 0.9))
    assert thompson_probabilities(means, higher_is_better=False, floor=0.1) == pytest.approx((0.9, 0.1))
    three = thompson_probabilities([*means, means[1]], higher_is_better=True, floor=0.05)
    assert sum(three) == pytest.approx(1) and min(three) == pytest.approx(0.05)
    assert three[1] == pytest.approx(three[2], abs=0.02)
