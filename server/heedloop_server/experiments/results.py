"""What an experiment found so far: every metric of every arm, the sample ratio, and one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from heedloop.responses.experiments import (
    ArmResult,
    ArmUnits,
    Experiment,
    ExperimentResults,
    MetricResult,
    SampleRatio,
)
from heedloop.schema import ExperimentMetric
from heedloop_server.experiments.judged import judged_outcomes
from heedloop_server.experiments.sentences import sentence_of
from heedloop_server.statistics.randomised import (
    Mean,
    UnitSums,
    arm_mean,
    confidence_sequence,
    difference,
    log_e_value,
    log_ratio_e_value,
    thompson_probabilities,
    units_needed,
)
from heedloop_server.statistics.sequential import DECISION
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.experiment_outcomes import Outcomes, read_outcomes
from heedloop_server.store.experiments import read_looks

RATIO_ALARM = 100.0
"""The e-value at which units are held not to have got their arms as stated: wrong in at most 1 of 100 experiments."""
_MAX_LOG = 700.0


def experiment_results(project: ProjectStore, experiment: Experiment, now: datetime) -> ExperimentResults:
    """Everything that was found up to now; empty of an experiment that never ran."""
    spec, calls = experiment.spec, _outcomes(project, experiment, ExperimentMetric("error"))
    metrics = [metric_result(experiment, spec.metric, None, _outcomes(project, experiment, spec.metric).sums)]
    metrics += [
        metric_result(experiment, g.metric, g.margin, _outcomes(project, experiment, g.metric).sums)
        for g in spec.guardrails
    ]
    ratio = sample_ratio(experiment, calls)
    return ExperimentResults(
        experiment=experiment,
        sentence=sentence_of(experiment, metrics[0], ratio),
        metrics=metrics,
        sample_ratio=ratio,
        looks=read_looks(project, experiment, now),
    )


def _outcomes(project: ProjectStore, experiment: Experiment, metric: ExperimentMetric) -> Outcomes:
    if experiment.started_at is None:
        return Outcomes([], 0)
    if metric.kind == "judge":
        return judged_outcomes(project, experiment, metric.name)
    return read_outcomes(project, experiment, metric)


def means_of(experiment: Experiment, metric: ExperimentMetric, sums: Sequence[UnitSums]) -> list[Mean | None]:
    """The mean of each arm."""
    arms = range(len(experiment.spec.arms))
    return [arm_mean([s for s in sums if s.arm == a], is_share=not metric.is_amount) for a in arms]


def step_probabilities(project: ProjectStore, experiment: Experiment) -> tuple[float, ...]:
    """The probabilities of the arms for the units of the next step: by weight, or by how likely each is the best so far."""
    spec = experiment.spec
    if spec.assignment == "thompson" and experiment.started_at is not None:
        means = means_of(experiment, spec.metric, _outcomes(project, experiment, spec.metric).sums)
        known = [m for m in means if m is not None]
        if len(known) == len(means):
            better = spec.metric.higher_is_better
            return thompson_probabilities(known, higher_is_better=better, floor=spec.floor)
    return spec.weights


def metric_result(
    experiment: Experiment, metric: ExperimentMetric, margin: float | None, sums: Sequence[UnitSums]
) -> MetricResult:
    """All arms by one metric; `margin` is that of a guardrail.

    Every other arm is compared with the control. Their decisions share one in twenty wrong ones, those of guardrails too.
    """
    spec = experiment.spec
    means = means_of(experiment, metric, sums)
    num_others = len(means) - 1
    guards = len(spec.guardrails) if margin is not None else 1
    alpha = 1 / (DECISION * num_others * guards)
    arms = [
        _arm(experiment, metric, place, means, alpha if margin is not None else 1 / DECISION)
        for place in range(len(means))
    ]
    limit = None if margin is None else math.log1p(margin) if metric.is_amount else margin
    return MetricResult(
        metric=metric,
        margin=margin,
        arms=arms,
        breached_by=[] if limit is None else [a.arm for a in arms if _is_beyond(a, metric, limit)],
        units_needed=_needed(experiment, metric, means) if margin is None else None,
    )


def _arm(
    experiment: Experiment, metric: ExperimentMetric, place: int, means: Sequence[Mean | None], alpha: float
) -> ArmResult:
    spec, mean, control = experiment.spec, means[place], means[0]
    found = interval = evidence = None
    if place and mean is not None and control is not None:
        found = difference(mean, control, is_share=not metric.is_amount)
    is_enough = found is not None and min(m.units for m in (mean, control) if m) >= spec.min_units
    if found is not None:
        evidence = math.exp(min(log_e_value(found, spec.effect), _MAX_LOG))
        units = sum(m.units for m in (mean, control) if m)
        interval = confidence_sequence(found, spec.effect, units, alpha=alpha) if is_enough else None
    return ArmResult(
        arm=spec.arms[place].name,
        num_units=mean.units if mean else 0,
        num=round(mean.n) if mean else 0,
        mean=mean.value if mean else None,
        difference=interval,
        e_value=evidence if is_enough else None,
        is_better=(found.value > 0) == metric.higher_is_better if found and found.value else None,
        decided=is_enough and evidence is not None and evidence >= DECISION * (len(means) - 1),
    )


def _is_beyond(arm: ArmResult, metric: ExperimentMetric, limit: float) -> bool:
    """True where an arm is worse than the control by more than the limit for certain."""
    if arm.difference is None:
        return False
    return (-arm.difference.high if metric.higher_is_better else arm.difference.low) > limit


def _needed(experiment: Experiment, metric: ExperimentMetric, means: Sequence[Mean | None]) -> int | None:
    """For the arm that takes most; None before every arm has units."""
    spec, needed = experiment.spec, 0
    for mean in means[1:]:
        if mean is None or means[0] is None:
            return None
        found = difference(mean, means[0], is_share=not metric.is_amount)
        if found is None or found.variance <= 0:
            return None
        units = mean.units + means[0].units
        if not metric.is_amount:  # where next to nothing differed yet, an arm with the effect would
            least = spec.effect * (1 - spec.effect) / mean.units
            found = found._replace(variance=max(found.variance, least))
        alpha = 1 / (DECISION * (len(means) - 1))
        needed = max(needed, units_needed(found, units, spec.effect, alpha))
    return needed * len(means) // 2


def sample_ratio(experiment: Experiment, calls: Outcomes) -> SampleRatio:
    """Whether the units whose calls were recorded have the stated probabilities of their arms."""
    arms = experiment.spec.arms
    counts = [[0] * len(arms) for _ in experiment.steps]
    for s in calls.sums:
        counts[s.step][s.arm] += s.units
    probabilities = [s.probabilities for s in experiment.steps]
    evidence = math.exp(min(log_ratio_e_value(counts, probabilities), _MAX_LOG)) if counts else 1.0
    expected = [
        sum(sum(c) * p[a] for c, p in zip(counts, probabilities, strict=True)) for a in range(len(arms))
    ]
    units = [
        ArmUnits(arm=arm.name, num_units=sum(c[a] for c in counts), expected=expected[a])
        for a, arm in enumerate(arms)
    ]
    return SampleRatio(e_value=evidence, alarm=evidence >= RATIO_ALARM, arms=units, num_mixed=calls.num_mixed)
