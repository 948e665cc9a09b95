"""Agreement: identities between coefficients, invariances, and what is undefined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_cases import alpha, coefficient, cohen_kappa, counts_of

from heedloop_server.statistics.agreement import (
    agreement_interval,
    agreement_per_unit,
    confusion_table,
)
from heedloop_server.statistics.ranges import (
    mean_range_overlap,
    merged,
    range_overlap,
)

RATINGS = st.integers(2, 5).flatmap(
    lambda raters: st.lists(
        st.lists(st.sampled_from([None, 1, 2, 3]), min_size=8, max_size=8), min_size=raters, max_size=raters
    )
)


@given(RATINGS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_permuting_annotators_or_units_changes_nothing(ratings, random):
    for metric in ("nominal", "ordinal", "interval"):
        before = alpha(ratings, metric=metric)
        shuffled = random.sample(ratings, len(ratings))
        order = random.sample(range(8), 8)
        after = alpha([[row[i] for i in order] for row in shuffled], metric=metric)
        assert before is after is None or before == pytest.approx(after)
        assert before is None or before <= 1 + 1e-12


def test_adding_an_annotator_who_answers_at_random_lowers_alpha():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.integers(3, size=60)
        raters = [np.where(rng.random(60) < 0.85, truth, rng.integers(3, size=60)).tolist() for _ in range(4)]
        before = alpha(raters)
        assert alpha([*raters, rng.integers(3, size=60).tolist()]) < before


def test_undefined_is_undefined():
    constant = [[1, 1, 1], [1, 1, 1]]
    assert alpha(constant) is None
    assert alpha([[1, 2, 3]]) is None
    assert alpha([[1, None], [None, 2]]) is None
    assert alpha([]) is None
    assert coefficient("fleiss", [[3, 0], [3, 0]]) is None
    assert coefficient("fleiss", [[1, 0], [0, 1]]) is None
    assert cohen_kappa([[9, 0], [0, 0]]) is None
    assert cohen_kappa([[0, 0], [0, 0]]) is None
    assert coefficient("gwet_ac1", [[2]]) is None
    assert coefficient("percent", [[1, 0]]) is None
    assert agreement_interval("alpha", counts_of(constant)) is None
    assert np.isnan(agreement_per_unit([[1, 0]]))[0]


def test_perfect_agreement_is_one_by_every_coefficient():
    counts = [[3, 0], [0, 3], [3, 0], [0, 3]]
    for name in ("percent", "fleiss", "gwet_ac1", "alpha"):
        assert coefficient(name, counts) == pytest.approx(1)


def test_two_annotators_by_hand():
    a, b = ["x", "x", "y", None, "y"], ["x", "y", "y", "y", "y"]
    table = confusion_table(a, b, ["x", "y"])
    assert table.tolist() == [[1, 1], [0, 2]]
    # observed 3/4; expected (2·1 + 2·3)/16 = 1/2
    assert cohen_kappa(table) == pytest.approx(0.5)


def test_ordinal_alpha_takes_the_order_it_is_given():
    ratings = [["low", "mid", "high", "low"], ["low", "high", "high", "mid"]]
    ordered = alpha(ratings, metric="ordinal", categories=["low", "mid", "high"])
    twisted = alpha(ratings, metric="ordinal", categories=["mid", "low", "high"])
    assert ordered > twisted
    with pytest.raises(ValueError, match="needs numbers"):
        alpha(ratings, metric="interval")


@pytest.mark.parametrize("coefficient", ["percent", "fleiss", "gwet_ac1", "alpha"])
def test_bootstrap_intervals_cover(coefficient):
    """The interval of 80 units holds the value of 20,000 in most worlds."""
    rng = np.random.default_rng(1)

    def world(units):
        truth = rng.integers(3, size=units)
        said = np.where(rng.random((4, units)) < 0.7, truth, rng.integers(3, size=(4, units)))
        return np.stack([(said == k).sum(axis=0) for k in range(3)], axis=1)

    big = world(20_000)
    truth = agreement_interval(coefficient, big, num_samples=20).estimate
    found = [agreement_interval(coefficient, world(80), num_samples=150, seed=i) for i in range(50)]
    assert sum(f.low <= truth <= f.high for f in found) >= 42


def test_wrong_tables_are_named():
    with pytest.raises(ValueError, match="negative"):
        coefficient("fleiss", [[-1, 3]])
    with pytest.raises(ValueError, match="same units"):
        confusion_table([1], [1, 2], [1, 2])


# ------------------------------------------------------------------------------------------------------ ranges


def test_range_overlap_by_hand():
    assert range_overlap([(0, 10)], [(5, 15)]) == pytest.approx(5 / 15)
    assert range_overlap([(0, 4), (2, 6)], [(0, 6)]) == 1
    assert range_overlap([(0, 4)], []) == 0
    assert range_overlap([], []) is None
    assert merged([(5, 7), (0, 3), (3, 4)]) == [(0, 4), (5, 7)]
    assert mean_range_overlap([[(0, 2)], [(0, 2)], [(2, 4)]]) == pytest.approx(1 / 3)
    assert mean_range_overlap([[], []]) is None


def test_an_interval_where_everybody_agreed_allows_for_what_was_not_seen():
    counts = [[3, 0]] * 10 + [[0, 3]] * 10
    found = agreement_interval("percent", counts)
    assert (found.estimate, found.high, found.n) == (1.0, 1.0, 20)
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    kappa = agreement_interval("fleiss", counts)
    assert kappa.low == pytest.approx((found.low - 0.5) / 0.5)
    assert agreement_interval("percent", counts, clusters=[0] * 10 + [1] * 10).low < 0.2
    assert agreement_interval("fleiss", [[3, 0]] * 10) is None


def test_an_interval_without_spread_is_not_certain():
    """One unit, or units on which nobody agrees, say little: the bootstrap alone would give a width of 0."""
    none = agreement_interval("percent", [[1, 1]] * 5)
    assert (none.estimate, none.low, none.n) == (0.0, 0.0, 5)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 5))
    one = agreement_interval("percent", [[2, 1]])
    assert one.low < 0.05 < 0.95 < one.high
    kappa = agreement_interval("fleiss", [[1, 1]] * 5)
    assert (kappa.estimate, kappa.low) == (pytest.approx(-1.0), pytest.approx(-1.0))
    assert kappa.high > -0.1


def test_numbers_as_text_are_ordered_as_numbers():
    ratings = [[9, 10, 11], [9, 10, 9]]
    as_text = [[str(v) for v in row] for row in ratings]
    assert alpha(as_text, metric="ordinal") == alpha(ratings, metric="ordinal")
    with pytest.raises(ValueError, match="finite"):
        alpha([[np.inf, 1], [1, 1]], metric="interval")
