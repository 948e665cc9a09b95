"""What an experiment's numbers allow to be said, in one sentence of plain text."""

from __future__ import annotations

from heedloop.responses.experiments import ArmResult, Experiment, MetricResult, SampleRatio
from heedloop.schema import ExperimentMetric

_UNITS_WITH = {"thumb": "a thumb", "error": "a call", "latency": "a call", "cost": "a cost"}
_WORDS = {"thumb": "thumbs up", "error": "errors", "latency": "latency", "cost": "cost"}


def metric_words(metric: ExperimentMetric) -> str:
    """A metric in words."""
    return _WORDS.get(metric.kind) or f"{metric.kind} {metric.name}"


def evidence_words(e_value: float) -> str:
    """An e-value, without digits that say nothing."""
    if e_value >= 1e6:
        return "over 1,000,000"
    return f"{e_value:,.0f}" if e_value >= 100 else f"{e_value:.3g}"


def sentence_of(experiment: Experiment, result: MetricResult, ratio: SampleRatio) -> str:
    """The state of an experiment and what its deciding metric shows."""
    if experiment.state == "draft":
        return "It is a draft and was not started."
    if experiment.state == "decided":
        return f"{experiment.serving} is served to everybody: {experiment.reason}"
    if ratio.alarm:
        return (
            "Units did not get their arms with the stated probabilities, so that nothing can be concluded: "
            + ", ".join(f"{a.arm} has {a.num_units:,} of {a.expected:,.0f} expected" for a in ratio.arms)
            + "."
        )
    paused = f" It is paused: {experiment.reason}" if experiment.state == "paused" else ""
    return _compared(experiment, result) + paused


def _compared(experiment: Experiment, result: MetricResult) -> str:
    arms = [a for a in result.arms[1:] if a.difference is not None]
    if not arms:
        least, words = (
            experiment.spec.min_units,
            _UNITS_WITH.get(result.metric.kind) or metric_words(result.metric),
        )
        seen = ", ".join(f"{a.arm} has {a.num_units:,}" for a in result.arms)
        return f"Too little is known yet: each arm needs {least:,} units with {words}; {seen}."
    best = max(arms, key=lambda a: (a.decided, a.is_better or False, a.e_value or 0.0))
    return verdict_words(result.metric, best, experiment.spec.control, result.units_needed)


def verdict_words(metric: ExperimentMetric, arm: ArmResult, control: str, needed: int | None = None) -> str:
    """One arm against the control."""
    if arm.difference is None:
        return f"{arm.arm} has too few units."
    low, high = (metric.change_words(v) for v in (arm.difference.low, arm.difference.high))
    numbers = (
        f"{metric_words(metric)} {metric.change_words(arm.difference.estimate)} ({low} to {high}), "
        f"e-value {evidence_words(arm.e_value or 0.0)}"
    )
    if arm.decided:
        return f"{arm.arm} is {'better' if arm.is_better else 'worse'} than {control}: {numbers}."
    left = f"; about {needed:,} units in all tell a difference that matters" if needed else ""
    return f"Not decided yet: {arm.arm} against {control}, {numbers}{left}."
