"""What follows from an experiment's results by its own rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from heedloop.responses.experiments import Experiment, ExperimentResults
from heedloop_server.experiments.sentences import metric_words, verdict_words


@dataclass(frozen=True, slots=True)
class Action:
    """What the server does by itself: `roll_back` and `promote` decide, `ramp` takes the next step."""

    kind: Literal["roll_back", "promote", "pause", "ramp"]
    arm: str
    reason: str


def next_action(found: ExperimentResults, now: datetime) -> Action | None:
    """The action that is due; None where there is none.

    A breached guardrail comes first, then a sample ratio that is wrong, then the metric, the end of its days, and the ramp.
    """
    experiment = found.experiment
    if experiment.state != "running" or experiment.started_at is None:
        return None
    spec, control = experiment.spec, experiment.spec.control
    for guardrail in found.metrics[1:]:
        for arm in guardrail.arms:
            if arm.arm in guardrail.breached_by:
                words = metric_words(guardrail.metric)
                why = f"the guardrail {words} is breached; {verdict_words(guardrail.metric, arm, control)}"
                return Action("roll_back", control, why)
    if found.sample_ratio.alarm:
        return Action("pause", control, found.sentence)
    if (decided := _decision(found)) is not None:
        return decided
    if now >= experiment.started_at + timedelta(days=spec.max_days):
        return Action("roll_back", control, f"{spec.max_days} days went by without a decision.")
    return _ramp(experiment, now)


def _decision(found: ExperimentResults) -> Action | None:
    spec, result = found.experiment.spec, found.metrics[0]
    others = result.arms[1:]
    if all(a.decided and a.is_better is False for a in others):
        why = " ".join(verdict_words(result.metric, a, spec.control) for a in others)
        return Action("roll_back", spec.control, why)
    winners = [a for a in others if a.decided and a.is_better and a.difference is not None]
    if not winners or spec.promote != "rule":
        return None
    sign = 1 if result.metric.higher_is_better else -1
    best = max(winners, key=lambda a: sign * (a.difference.estimate if a.difference else 0.0))
    return Action("promote", best.arm, verdict_words(result.metric, best, spec.control))


def _ramp(experiment: Experiment, now: datetime) -> Action | None:
    spec, steps = experiment.spec, experiment.steps
    is_due = spec.ramp_hours is not None and now >= steps[-1].at + timedelta(hours=spec.ramp_hours)
    if not is_due or next_share(experiment) is None:
        return None
    return Action(
        "ramp", experiment.serving, f"{spec.ramp_hours:g} hours went by and nothing speaks against it."
    )


def next_share(experiment: Experiment) -> float | None:
    """The share of units after the next step of the ramp; None after the last."""
    taken = experiment.steps[-1].share if experiment.steps else 0.0
    return next((s for s in experiment.spec.ramp if s > taken), None)
