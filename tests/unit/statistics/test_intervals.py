"""Intervals against scipy, against published values, and against what they must do at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statistics_cases import weighted_rate

from heedloop.schema import to_json
from heedloop_server.statistics.intervals import (
    difference,
    newcombe,
    unseen_share,
    wilson,
    wilson_bounds,
)
from heedloop_server.statistics.means import bootstrap_mean
from heedloop_server.statistics.weighted import effective_n

COUNTS = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_and_the_share_of_the_unseen_are_scipys(count):
    x, n = count
    ours, theirs = wilson(x, n), binomtest(x, n).proportion_ci(0.95, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert ours.n == n
    assert ours.estimate == x / n
    assert unseen_share(n) == pytest.approx(
        binomtest(0, n).proportion_ci(0.95, method="exact").high, abs=1e-9
    )


@given(COUNTS)
def test_an_interval_holds_its_estimate_and_mirrors_its_complement(count):
    x, n = count
    up, down = wilson(x, n), wilson(n - x, n)
    assert 0 <= up.low <= up.estimate <= up.high <= 1
    assert up.low == pytest.approx(1 - down.high, abs=1e-9)


def test_no_ratings_are_undefined_never_zero():
    assert wilson(0, 0) is None
    assert newcombe(0, 0, 3, 4) is None
    assert newcombe(3, 4, 0, 0) is None
    assert difference(None, wilson(1, 2)) is None
    assert weighted_rate([], []) is None
    assert np.isnan(wilson_bounds([0], [0])[0]).all()


@pytest.mark.parametrize(("x", "n"), [(-1, 5), (6, 5), (math.nan, 5), (1, math.inf), (0, -1)])
def test_impossible_counts_are_named(x, n):
    with pytest.raises(ValueError, match=r"successes"):
        wilson(x, n)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95])
def test_impossible_levels_are_named(level):
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, level=level)


def test_the_ends_are_exact_at_none_and_all():
    assert wilson(0, 7).low == 0.0
    assert wilson(7, 7).high == 1.0


def test_equal_weights_are_the_plain_interval_and_order_does_not_matter():
    y = np.array([1, 0, 1, 1, 0, 1, 1])
    plain = wilson(5, 7)
    assert weighted_rate(y, np.full(7, 0.2)).low == pytest.approx(plain.low)
    assert weighted_rate(y, np.full(7, 0.2)).method == "wilson"
    pi = np.array([1, 0.5, 0.1, 1, 0.2, 1, 0.01])
    a, b = weighted_rate(y, pi), weighted_rate(y[::-1], pi[::-1])
    assert a.low == pytest.approx(b.low)
    assert a.estimate == pytest.approx((y / pi).sum() / (1 / pi).sum())
    assert a.high - a.low > plain.high - plain.low


def test_effective_n_is_n_at_equal_weights():
    assert effective_n(6.0, 12.0, 2.0, 4.0) == pytest.approx(3)


@given(COUNTS, COUNTS)
def test_a_difference_turns_its_sign_with_its_sides(one, two):
    d, e = newcombe(*one, *two), newcombe(*two, *one)
    assert d.low == pytest.approx(-e.high, abs=1e-12)
    assert -1 <= d.low <= d.estimate <= d.high <= 1


def test_a_mean_without_variation_is_undefined_or_says_what_may_hide():
    assert bootstrap_mean([4.0]) is None
    assert bootstrap_mean([5.0] * 5) is None
    known = bootstrap_mean([5.0] * 5, scale=(1, 5))
    assert (known.estimate, known.high) == (5.0, 5.0)
    assert known.low == pytest.approx(5 - 4 * (1 - 0.025 ** (1 / 5)))


def test_a_mean_near_the_t_interval_where_that_is_right():
    x = np.random.default_rng(3).normal(size=400)
    got = bootstrap_mean(x, num_samples=20_000)
    half = 1.9659 * x.std(ddof=1) / 20
    assert got.low == pytest.approx(x.mean() - half, abs=0.006)
    assert got.high == pytest.approx(x.mean() + half, abs=0.006)


def test_an_interval_as_the_api_writes_it():
    assert to_json(wilson(1, 2)) == {
        "estimate": 0.5,
        "low": pytest.approx(0.0945, abs=1e-4),
        "high": pytest.approx(0.9055, abs=1e-4),
        "n": 2,
        "method": "wilson",
        "level": 0.95,
    }


def test_weights_of_any_size_and_a_changed_scale():
    y = [1, 0, 1]
    tenth = weighted_rate(y, [0.01, 0.01, 0.1], design=(0.01, 0.1))
    plain = weighted_rate(y, [0.1, 0.1, 1], design=(0.1, 1))
    assert (tenth.low, tenth.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    beyond = bootstrap_mean([5.0, 5.0, 5.0], scale=(1, 4))
    assert beyond.low < beyond.estimate == beyond.high
