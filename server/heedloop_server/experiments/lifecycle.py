"""The states of an experiment (draft, running, paused, decided) and the one way from each to the next. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from heedloop.responses.experiments import AssignmentPlan, Experiment, ExperimentState, RampStep
from heedloop.schema import Arm, ExperimentSpec, Prompt, SchemaError
from heedloop_server.errors import Conflict
from heedloop_server.experiments.hash_line import segments
from heedloop_server.experiments.rules import next_share


def new_experiment(
    spec: ExperimentSpec, before: Experiment | None, created_by: str, now: datetime
) -> Experiment:
    """A draft; `before` is the newest round of its name. A draft takes the place of a draft, of a decided round the next.

    Raises:
        Conflict: the newest round is running or paused.
    """
    if before is not None and before.state in ("running", "paused"):
        raise Conflict(f"{spec.name} is {before.state}; decide it before a new round of it is defined")
    next_round = 1 if before is None else before.round + (before.state == "decided")
    return Experiment(
        name=spec.name,
        round=next_round,
        state="draft",
        spec=spec,
        salt=secrets.token_hex(8),
        steps=[],
        serving=spec.control,
        reason="",
        created_by=created_by,
        created_at=now,
        started_at=None,
        decided_at=None,
    )


def started(experiment: Experiment, probabilities: Sequence[float], now: datetime) -> Experiment:
    """A draft that runs from now on, with the first step of its ramp; a paused one goes on with the same arms."""
    if experiment.state == "paused":
        return replace(experiment, state="running", reason="")
    _check_state(experiment, "draft", "paused")
    running = replace(experiment, state="running", started_at=now)
    return ramped(running, experiment.spec.ramp[0], probabilities, now)


def paused(experiment: Experiment, reason: str) -> Experiment:
    """Everybody gets the control and nothing is counted until it goes on."""
    _check_state(experiment, "running")
    return replace(experiment, state="paused", reason=reason or "by hand")


def ramped(
    experiment: Experiment, share: float | None, probabilities: Sequence[float], now: datetime
) -> Experiment:
    """The units up to `share` of the hash line (None: the ramp's next step) join; those before keep their arms.

    Raises:
        SchemaError: the share is not larger than that of now.
        Conflict: the ramp has no more steps.
    """
    _check_state(experiment, "running")
    chosen = next_share(experiment) if share is None else share
    if chosen is None:
        raise Conflict(f"{experiment.name} has taken every step of its ramp")
    taken = experiment.steps[-1].share if experiment.steps else 0.0
    if not taken < chosen <= 1:
        raise SchemaError(
            "share", f"{chosen:g} is not above {taken:g} and up to 1: units never leave an experiment"
        )
    step = RampStep(share=chosen, probabilities=list(probabilities), at=now)
    return replace(experiment, steps=[*experiment.steps, step])


def decided(experiment: Experiment, arm: str, reason: str, now: datetime) -> Experiment:
    """Everybody gets this arm from now on."""
    _check_state(experiment, "running", "paused")
    names = [a.name for a in experiment.spec.arms]
    if arm not in names:
        raise SchemaError("arm", f"{arm!r:.80} is not one of {', '.join(names)}")
    return replace(
        experiment, state="decided", serving=arm, reason=reason or "it was chosen by hand.", decided_at=now
    )


def _check_state(experiment: Experiment, *states: ExperimentState) -> None:
    if experiment.state not in states:
        raise Conflict(f"{experiment.name} is {experiment.state}, not {' or '.join(states)}")


def with_prompts(experiment: Experiment, prompts: Mapping[str, Prompt]) -> Experiment:
    """With the versions of the prompts that its arms name by their labels: what a label names later changes nothing."""
    arms = [
        replace(a, prompt=f"{prompts[a.prompt].name}@{prompts[a.prompt].version}") if a.prompt else a
        for a in experiment.spec.arms
    ]
    return replace(experiment, spec=replace(experiment.spec, arms=tuple(arms)))


def plan_of(experiment: Experiment, prompts: Mapping[str, Prompt]) -> AssignmentPlan:
    """What the SDK needs to assign units; a paused or decided experiment has no segments."""
    running = experiment.state == "running"
    ends, arms, probabilities = segments(experiment.steps if running else [])
    names = [a.name for a in experiment.spec.arms]
    return AssignmentPlan(
        name=experiment.name,
        round=experiment.round,
        salt=experiment.salt,
        ends=ends,
        segments=arms,
        probabilities=probabilities,
        arms=names,
        parameters=[_parameters(a, prompts.get(a.prompt)) for a in experiment.spec.arms],
        serving=names.index(experiment.serving),
        prompts=[prompts.get(a.prompt) for a in experiment.spec.arms],
    )


def _parameters(arm: Arm, prompt: Prompt | None) -> dict[str, Any]:
    """An arm's own over its prompt's settings, and the prompt's words: its text, or messages as chat APIs take them."""
    if prompt is None:
        return dict(arm.parameters)
    messages = [{"role": m.role, "content": m.text} for m in prompt.messages]
    return {**prompt.settings, **arm.parameters, "prompt": prompt.text or messages}


def served_rounds(rounds: Sequence[Experiment]) -> list[Experiment]:
    """The newest round of each name that was ever started, by name."""
    newest: dict[str, Experiment] = {}
    for experiment in rounds:
        known = newest.get(experiment.name)
        if experiment.state != "draft" and (known is None or experiment.round > known.round):
            newest[experiment.name] = experiment
    return [newest[name] for name in sorted(newest)]
