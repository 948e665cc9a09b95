"""What is said of an experiment at its edges: no outcome differs, a few units of an amount, arms that lack units."""

from __future__ import annotations

import math

import pytest

from heedloop.responses.experiments import Experiment, MetricResult, RampStep, SampleRatio
from heedloop.schema import Arm, ExperimentMetric, ExperimentSpec, utc_now
from heedloop_server.experiments.results import metric_result
from heedloop_server.experiments.sentences import sentence_of
from heedloop_server.statistics.randomised import UnitSums

RIGHT = SampleRatio(e_value=1.0, alarm=False, arms=[], num_mixed=0)


def running(kind: str, **more) -> Experiment:
    spec = ExperimentSpec("e", (Arm("a"), Arm("b")), metric=ExperimentMetric(kind), min_units=30, **more)
    step = RampStep(share=1.0, probabilities=[0.5, 0.5], at=utc_now())
    return Experiment(
        name="e", round=1, state="running", spec=spec, salt="s", steps=[step], serving="a", reason="", created_by="me",
        created_at=utc_now(), started_at=utc_now(), decided_at=None,
    )  # fmt: skip


def compared(experiment: Experiment, *arms: list[float]) -> MetricResult:
    sums = [
        UnitSums(0, i, 0.5, len(y), len(y), sum(y), len(y), sum(y), sum(v * v for v in y))
        for i, y in enumerate(arms)
    ]
    return metric_result(experiment, experiment.spec.metric, None, sums)


@pytest.mark.parametrize("effect", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("num", [100, 50_000])
@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_units_needed_are_no_fewer_where_no_outcome_differed_yet(
    outcome: float, num: int, effect: float
) -> None:
    """A difference of `effect` is found by units in which it is seen; one error in a hundred is not in two of them."""
    same = compared(running("error", effect=effect), [outcome] * num, [outcome] * num)
    assert same.units_needed is not None
    assert same.units_needed > 5 / effect


@pytest.mark.parametrize("kind", ["latency", "cost"])
@pytest.mark.parametrize("effect", [0.05, 0.0005])
def test_the_interval_of_a_few_units_of_an_amount_can_be_said(kind: str, effect: float) -> None:
    """One unit waited for an hour: the ratio's interval ends at a power of ten that no float holds."""
    experiment = running(kind, effect=effect)
    result = compared(experiment, [1e6] * 40, [*[1e6] * 39, 3.6e12])
    assert result.arms[1].difference is not None
    assert "(-100.0% to over +1,000%)" in sentence_of(experiment, result, RIGHT)
    assert experiment.spec.metric.change(result.arms[1].difference.high) == pytest.approx(10)


def test_a_change_is_read_as_it_was() -> None:
    assert ExperimentMetric("latency").change_words(math.log(1.25)) == "+25.0%"
    assert ExperimentMetric("cost").change_words(math.log(0.5)) == "-50.0%"
    assert ExperimentMetric("thumb").change_words(-0.031) == "-3.1 points"


def test_which_arm_lacks_units_is_said() -> None:
    experiment = running("thumb")
    said = sentence_of(experiment, compared(experiment, [1.0] * 51, [0.0] * 19), RIGHT)
    assert said == "Too little is known yet: each arm needs 30 units with a thumb; a has 51, b has 19."
