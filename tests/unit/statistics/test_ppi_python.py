"""Our prediction-powered estimates next to those of the papers' own library, where the definitions are the same.

ppi-python is no dependency of ours (it brings numba, pandas and statsmodels): `pip install ppi-python` runs these. It divides variances
by n where we divide by n - 1, and has the normal interval only, so standard errors are compared up to that known factor.
"""

import math

import numpy as np
import pytest
from scipy.stats import norm

from heedloop_server.statistics.prediction_powered import combined_rate, tuned_lambda

ppi_py = pytest.importorskip(
    "ppi_py", reason="NOT CROSS-CHECKED: ppi-python is not installed; pip install ppi-python"
)

ROUNDS = 200
ALPHA = 0.05


def _draw(rng: np.random.Generator, num: int, others: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and scores of a judge of some kind: coarse or fine, right, wrong or unrelated."""
    truth = (rng.random(num + others) < rng.uniform(0.05, 0.95)).astype(float)
    right = rng.uniform(0, 1)
    judge = np.where(rng.random(num + others) < right, truth, 1 - truth)
    if rng.random() < 0.5:
        judge = np.clip(judge * rng.uniform(0, 1) + rng.normal(0, 0.2, num + others), 0, 1)
    return truth[:num], judge[:num], judge[num:]


def _cases(num: int, others: int):
    rng = np.random.default_rng(num)
    for _ in range(ROUNDS):
        y, f, g = _draw(rng, num, others)
        if np.ptp(np.concatenate([f, g])):  # theirs divides by 0 where a judge never varies
            yield y, f, g


@pytest.mark.parametrize(("num", "others"), [(20, 2000), (50, 500), (200, 200)])
def test_the_tuned_weight_and_the_estimate_are_the_same(num: int, others: int) -> None:
    weights = []
    for y, f, g in _cases(num, others):
        found = combined_rate(y, f, g)
        weights.append(found.weight)
        theirs = ppi_py.ppi_mean_pointestimate(y, f, g, lam=found.weight)
        assert found.raw == pytest.approx(float(theirs[0]), abs=1e-12)
        assert found.raw == pytest.approx(float(ppi_py.ppi_mean_pointestimate(y, f, g)[0]), abs=1e-9)
        assert found.weight == tuned_lambda(y, f, g)
    assert min(weights) == 0 and max(weights) > 0.7  # judges opposed to people and good ones were among them


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_estimates_of_a_given_weight_are_the_same(weight: float) -> None:
    """1 is prediction-powered inference without tuning, 0 the labels alone."""
    for y, f, g in _cases(40, 400):
        theirs = float(ppi_py.ppi_mean_pointestimate(y, f, g, lam=weight)[0])
        assert combined_rate(y, f, g, weight=weight).raw == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("weight", [None, 0.5, 1.0])
def test_standard_errors_differ_by_the_denominator_alone(weight: float | None) -> None:
    """With as many labels as others it is the same for both parts: n - 1 in place of n."""
    num, quantile = 60, norm.ppf(1 - ALPHA / 2)
    for y, f, g in _cases(num, num):
        low, high = (float(v[0]) for v in ppi_py.ppi_mean_ci(y, f, g, alpha=ALPHA, lam=weight))
        found = combined_rate(y, f, g, weight=weight)
        half = quantile * found.se * math.sqrt((num - 1) / num)
        assert (low, high) == pytest.approx((found.raw - half, found.raw + half), abs=1e-9)


def test_with_few_labels_ours_is_the_wider_by_no_more_than_that() -> None:
    for y, f, g in _cases(20, 2000):
        low, high = (float(v[0]) for v in ppi_py.ppi_mean_ci(y, f, g, alpha=ALPHA))
        theirs, ours = (high - low) / 2 / norm.ppf(1 - ALPHA / 2), combined_rate(y, f, g).se
        assert theirs - 1e-12 <= ours <= theirs * math.sqrt(20 / 19) + 1e-12
