"""Where a judge may decide alone, by simulation against its promise; and which labels to ask for next."""

import math

import numpy as np
import pytest

from heedloop.responses import Interval
from heedloop_server.statistics.deferral import deferral, error_model, label_probabilities, labels_left
from heedloop_server.statistics.prediction_powered import combined_rate_of_sample


def _judged(rng: np.random.Generator, num: int, wrong_when_sure: float, wrong_when_not: float):
    """Scores, and whether they are wrong: half of the answers are sure."""
    sure = rng.random(num) < 0.5
    confidence = np.where(sure, rng.uniform(0.8, 1, num), rng.uniform(0, 0.6, num))
    scores = 0.5 + 0.5 * confidence * rng.choice([-1, 1], num)
    return scores, (rng.random(num) < np.where(sure, wrong_when_sure, wrong_when_not)).astype(float)


@pytest.mark.parametrize("wrong", [0.12, 0.2])
def test_a_judge_that_is_wrong_too_often_passes_in_at_most_one_run_of_twenty(wrong: float) -> None:
    rng, passed, rounds = np.random.default_rng(1), 0, 400
    for _ in range(rounds):
        scores, errors = _judged(rng, 400, wrong, 0.4)
        seen = rng.permutation(400)[:120]
        passed += deferral(scores, scores[seen], errors[seen], np.full(120, 0.3)).threshold is not None
    assert passed / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_a_judge_that_knows_when_it_knows_decides_what_it_is_sure_of() -> None:
    rng = np.random.default_rng(2)
    scores, errors = _judged(rng, 4000, 0.01, 0.4)
    found = deferral(scores, scores[:800], errors[:800], np.full(800, 0.2))
    assert 0.35 < found.share < 0.75
    assert errors[np.abs(2 * scores - 1) >= found.threshold].mean() <= 0.1
    assert found.error.high <= 0.1
    assert [s.passed for s in found.tested][-1] is False  # the sequence ends at the first that fails
    assert all(s.passed for s in found.tested[:-1])


@pytest.mark.parametrize("num", [0, 5])
def test_few_audits_decide_nothing(num: int) -> None:
    rng = np.random.default_rng(3)
    scores, errors = _judged(rng, 200, 0.0, 0.0)
    found = deferral(scores, scores[:num], errors[:num], np.full(num, 0.5))
    assert (found.threshold, found.share, found.error) == (None, 0.0, None)
    assert deferral([], [], [], []).tested == []


def test_probabilities_add_up_and_follow_doubt() -> None:
    rng = np.random.default_rng(4)
    scores, errors = _judged(rng, 3000, 0.02, 0.4)
    labels = np.where(errors > 0, 1 - np.round(scores), np.round(scores))
    model = error_model(scores[:300], labels[:300])
    chances = label_probabilities(scores, model, 150)
    assert chances.sum() == pytest.approx(150)
    assert chances.min() > 150 / 3000 / 2 - 1e-9
    assert chances[np.abs(2 * scores - 1) < 0.6].mean() > 1.2 * chances[np.abs(2 * scores - 1) > 0.8].mean()
    even = label_probabilities(scores, error_model([], []), 150)
    assert even == pytest.approx(np.full(3000, 0.05))
    assert label_probabilities(scores[:10], model, 50) == pytest.approx(np.ones(10))
    with pytest.raises(ValueError, match="at least one"):
        label_probabilities(scores, model, 0)


def test_labels_where_the_judge_doubts_are_worth_more() -> None:
    """The same number of labels, drawn by doubt, give a narrower interval than drawn evenly; both hold the truth."""
    rng, width, hits = np.random.default_rng(5), {"even": 0.0, "doubt": 0.0}, 0
    for _ in range(60):
        scores, errors = _judged(rng, 2000, 0.01, 0.45)
        labels = np.where(errors > 0, 1 - np.round(scores), np.round(scores))
        for name, model in (
            ("even", error_model([], [])),
            ("doubt", error_model(scores[:500], labels[:500])),
        ):
            chances = label_probabilities(scores, model, 200)
            drawn = rng.random(2000) < chances
            found = combined_rate_of_sample(
                labels[drawn], scores[drawn], scores[~drawn], chances[drawn]
            ).interval
            width[name] += found.high - found.low
            hits += found.low <= labels.mean() <= found.high
    assert width["doubt"] < width["even"]
    assert hits / 120 >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / 120)


@pytest.mark.parametrize(("estimate", "num", "worth"), [(0.8, 60, 90.0), (0.5, 40, 40.0), (0.95, 20, 30.0)])
def test_the_forecast_is_the_number_that_makes_it_narrow(estimate: float, num: int, worth: float) -> None:
    wide = Interval(estimate, estimate - 0.2, min(estimate + 0.2, 1.0), num, "wilson combined")
    more = labels_left(wide, worth, 0.05)
    n = (num + more) * worth / num
    z, p = 1.959964, estimate
    half = z / (n + z * z) * math.sqrt(n * p * (1 - p) + z * z / 4)
    assert half == pytest.approx(0.05, abs=0.001)
    assert labels_left(wide, worth, 0.05, num_others=more - 1) is None
    assert labels_left(wide, worth, 0.3) == 0
