"""Experiments: what is assigned, how arms compare, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from heedloop.responses.intervals import Interval
from heedloop.schema import ExperimentMetric, ExperimentSpec, Prompt

ExperimentState = Literal["draft", "running", "paused", "decided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentPlan:
    """What the SDK needs to assign units by itself.

    Attributes:
        salt: hashed with the unit; the place of a unit is the first four bytes, big-endian, of BLAKE2b with 8 bytes over the
            UTF-8 text of salt, a zero byte and the unit.
        ends: the first place behind each segment of the hash line, rising; a unit behind the last is not in the experiment.
        segments: the arm of each segment, an index into `arms`; `probabilities` with which units of its step get that arm.
        parameters: of each arm, a registered prompt's words and settings among them.
        prompts: of each arm, the version of the registry that it serves; null where there is none.
        serving: the arm whose parameters all units outside of the experiment get.
    """

    name: str
    round: int
    salt: str
    ends: list[int]
    segments: list[int]
    probabilities: list[float]
    arms: list[str]
    parameters: list[dict[str, Any]]
    serving: int
    prompts: list[Prompt | None] = field(default_factory=list[Prompt | None])


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentPlans:
    """All experiments that were ever started, each in its newest round."""

    plans: list[AssignmentPlan]


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """Units from the end of the step before up to `share` of the hash line, and the probability of each arm for them."""

    share: float
    probabilities: list[float]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment with its state.

    Attributes:
        round: 1, 2, 3 … of the experiments with this name; the newest is what is served.
        steps: of the ramp, those that were taken.
        serving: name of the arm that units outside get; after a decision, everybody.
        reason: why it was decided or paused, one sentence.
    """

    name: str
    round: int
    state: ExperimentState
    spec: ExperimentSpec
    salt: str
    steps: list[RampStep]
    serving: str
    reason: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExperiment:
    """A draft, with the secret that signs what its webhook is sent."""

    experiment: Experiment
    webhook_secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentList:
    """All experiments in their newest round, newest first."""

    experiments: list[Experiment]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm by one metric.

    Attributes:
        num_units, num: units with an outcome, and outcomes.
        mean: of the outcomes: a share, nanoseconds, or a cost; null without any.
        difference: to the control with its always-valid interval, in points of a share or as the logarithm of the ratio of
            amounts; null of the control itself.
        e_value: evidence that it differs from the control; at 20 times the number of other arms it is decided.
        is_better: which way the estimate points; null where it is the control's or undefined.
        decided: the evidence is enough.
    """

    arm: str
    num_units: int
    num: int
    mean: float | None
    difference: Interval | None
    e_value: float | None
    is_better: bool | None
    decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """All arms by one metric.

    Attributes:
        margin: of a guardrail, how much worse an arm may be; null of the metric that decides.
        breached_by: of a guardrail, the arms that are worse by more than the margin for certain.
        units_needed: units in all arms with which a difference of the experiment's `effect` is found with 80% at one look.
    """

    metric: ExperimentMetric
    margin: float | None
    arms: list[ArmResult]
    breached_by: list[str]
    units_needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmUnits:
    """How many units were seen in an arm, and how many were to be expected of all that were seen."""

    arm: str
    num_units: int
    expected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Whether units got their arms with the stated probabilities: at an e-value of 100 they did not, and nothing is decided.

    `num_mixed` units were seen in more than one arm.
    """

    e_value: float
    alarm: bool
    arms: list[ArmUnits]
    num_mixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look of the server found of the metric that decides, by arm but the control."""

    at: datetime
    share: float
    arms: list[ArmResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResults:
    """An experiment with what it found so far; `sentence` says it in words, `looks` are hourly, oldest first."""

    experiment: Experiment
    sentence: str
    metrics: list[MetricResult]
    sample_ratio: SampleRatio
    looks: list[Look]
