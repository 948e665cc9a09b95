"""Differences of paired values: what they cover with near-copies among the prompts, and where next to nothing differs."""

import numpy as np
import pytest

from heedloop_server.statistics.paired import mean_difference


def test_it_is_the_mean_of_the_differences_and_fewer_than_two_groups_say_nothing() -> None:
    found = mean_difference([3.0, 5.0, 9.0], [1.0, 4.0, 9.0], ["a", "b", "c"])
    assert found is not None
    assert found.estimate == pytest.approx(1.0)
    assert found.low == pytest.approx(1 - 4.302653 * (1 / 3) ** 0.5)  # Student's t of 2 degrees, variance 1
    assert mean_difference([3.0, 5.0], [1.0, 4.0], ["a", "a"]) is None
    with pytest.raises(ValueError, match="there must be as many"):
        mean_difference([3.0], [1.0], ["a", "b"])


def test_equal_differences_do_not_make_it_certain() -> None:
    same = mean_difference([1.0] * 20, [1.0] * 20, range(20))
    assert same is not None
    assert same.low < 0 < same.high
    slower = mean_difference([200.0] * 20, [100.0] * 20, range(20))
    assert slower is not None
    assert slower.low < 100 < slower.high


@pytest.mark.parametrize("num", [10, 39, 200])
@pytest.mark.parametrize("copies", [1, 3])
def test_where_every_prompt_differs_the_side_is_known(num: int, copies: int) -> None:
    """All answers became right, or all became wrong: as certain as Clopper and Pearson are of as many successes of as many."""
    one, none = [1.0] * num * copies, [0.0] * num * copies
    groups = [n // copies for n in range(num * copies)]
    gain, loss = mean_difference(one, none, groups), mean_difference(none, one, groups)
    assert gain is not None
    assert loss is not None
    assert (gain.estimate, gain.high, loss.estimate, loss.low) == (1, 1, -1, -1)
    assert gain.low == pytest.approx(-loss.high)
    assert gain.low == pytest.approx(2 * 0.025 ** (1 / num) - 1, abs=1 / num)
    assert gain.low > 0


@pytest.mark.parametrize("is_binary", [True, False])
def test_it_covers_the_truth_where_prompts_come_in_groups(is_binary: bool) -> None:
    """60 groups of 1 to 4 near-copies that are answered alike; a group has its own gain."""
    rng, covered, num = np.random.default_rng(3), 0, 400
    for _ in range(num):
        sizes = rng.integers(1, 5, 60)
        groups = np.repeat(np.arange(60), sizes)
        if is_binary:
            a = np.repeat(rng.random(60) < 0.8, sizes).astype(float)
            b = np.repeat(rng.random(60) < 0.7, sizes).astype(float)
            truth = 0.1
        else:
            gain = np.repeat(rng.normal(30, 50, 60), sizes)
            b = rng.normal(500, 100, len(groups))
            a, truth = b + gain + rng.normal(0, 20, len(groups)), 30.0
        found = mean_difference(a, b, list(groups))
        assert found is not None
        covered += found.low <= truth <= found.high
    assert covered / num >= 0.93
