"""Planted truths: a 95% interval holds the truth in 95% of simulated worlds, within the simulation's own error."""

import numpy as np
import pytest
from statistics_cases import exact_coverage, weighted_rate

from heedloop_server.statistics.intervals import wilson_bounds
from heedloop_server.statistics.means import bootstrap_mean

SIZES = (5, 10, 30, 100, 500, 5000)


def _worlds(rng, n, runs, spread):
    """Truths, outcomes and sampling probabilities: weights 1 to `spread`, log-uniform."""
    truth = rng.uniform(0.02, 0.98, runs)
    weight = np.exp(rng.uniform(0, np.log(spread), (runs, n)))
    return truth, (rng.random((runs, n)) < truth[:, None]).astype(float), 1 / weight


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_the_weighted_interval_covers(n, spread):
    runs = 2000 if n < 1000 else 600
    truth, outcomes, pi = _worlds(np.random.default_rng(n), n, runs, spread)
    hits = 0
    for p, y, q in zip(truth, outcomes, pi, strict=True):
        found = weighted_rate(y, q)
        hits += found.low <= p <= found.high
    error = 3 * np.sqrt(0.95 * 0.05 / runs)
    assert 0.95 - error <= hits / runs <= 0.95 + error + 0.01


@pytest.mark.parametrize("n", [5, 10, 20, 100, 1000, 5000])
@pytest.mark.parametrize("ratio", [5.0, 0.2, 20.0])
def test_with_the_design_s_range_it_covers_where_the_outcome_decides_the_weight(n, ratio):
    """The worst there is: the less common outcome's weight is not seen at all in most small samples."""
    rng, runs, hits, without = np.random.default_rng(n), 600 if n < 5000 else 200, 0, 0
    weights = {1.0: max(ratio, 1.0), 0.0: max(1 / ratio, 1.0)}
    for truth in rng.uniform(0.05, 0.95, runs):
        sampled = truth / weights[1.0] / (truth / weights[1.0] + (1 - truth) / weights[0.0])
        y = (rng.random(n) < sampled).astype(float)
        pi = np.where(y == 1, 1 / weights[1.0], 1 / weights[0.0])
        found = weighted_rate(y, pi, design=(1 / max(weights.values()), 1.0))
        plain = weighted_rate(y, pi)
        hits += found.low <= truth <= found.high
        without += plain.low <= truth <= plain.high
    assert hits / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    if n <= 10:
        assert without < hits


def test_the_design_s_range_changes_nothing_where_all_weights_are_one():
    y = [1, 0, 1, 1, 0]
    assert weighted_rate(y, [0.2] * 5, design=(0.2, 0.2)) == weighted_rate(y, [0.2] * 5)
    with pytest.raises(ValueError, match="smallest first"):
        weighted_rate(y, [0.2] * 5, design=(0.5, 0.2))


@pytest.mark.parametrize("n", SIZES)
def test_plain_wilson_covers_over_all_rates(n):
    """Exactly, without simulation: the mean over the rates 2% to 98%; single rates swing around it."""
    rates = np.linspace(0.02, 0.98, 97)
    coverage = np.array([exact_coverage(n, p) for p in rates])
    assert abs(coverage.mean() - 0.95) < 0.008
    assert coverage.min() > 0.83


def test_wilson_bounds_agree_with_the_exact_sum():
    rng = np.random.default_rng(0)
    x = rng.binomial(20, 0.05, 200_000)
    low, high = wilson_bounds(x, np.full(x.size, 20))
    hit = ((low <= 0.05) & (high >= 0.05)).mean()
    assert hit == pytest.approx(exact_coverage(20, 0.05), abs=0.002)


def test_outcome_dependent_sampling_is_corrected():
    """Down answers reviewed twice as often: the plain rate is wrong, the weighted one right, and covers."""
    rng, hits, plain = np.random.default_rng(5), 0, []
    for _ in range(600):
        up = rng.random(3000) < 0.77
        pi = np.where(up, 0.055, 0.11)
        seen = rng.random(3000) < pi
        found = weighted_rate(up[seen].astype(float), pi[seen])
        hits += found.low <= 0.77 <= found.high
        plain.append(up[seen].mean())
    assert np.mean(plain) == pytest.approx(0.626, abs=0.01)
    assert 0.93 <= hits / 600 <= 0.99


@pytest.mark.parametrize(("n", "least"), [(5, 0.90), (20, 0.93), (200, 0.93)])
def test_the_bootstrap_mean_covers(n, least):
    rng, runs, hits = np.random.default_rng(n), 800, 0
    shares = np.array([0.1, 0.15, 0.25, 0.3, 0.2])
    truth = float(shares @ np.arange(1, 6))
    for seed in range(runs):
        ratings = rng.choice(np.arange(1, 6), size=n, p=shares)
        found = bootstrap_mean(ratings, scale=(1, 5), num_samples=1000, seed=seed)
        hits += found.low <= truth <= found.high
    assert least <= hits / runs <= 0.985
