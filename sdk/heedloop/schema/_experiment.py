"""What an experiment is: arms that units are assigned to, the metric that decides, and what must not get worse."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heedloop.schema._checks import (
    SchemaError,
    check_choice,
    check_number,
    check_object,
    check_pattern,
    check_record,
    check_text,
    check_tuple,
)
from heedloop.schema._json import canonical_json
from heedloop.schema._kinds import (
    ASSIGNMENT_RULES,
    DECIDERS,
    EXPERIMENT_METRICS,
    MAX_TEXT_CHARS,
    AssignmentRule,
    Decider,
    ExperimentMetricKind,
)
from heedloop.schema._prompt import PROMPT_NAME

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_IS_NAME = "a name: a to z, then a to z, 0 to 9, _ and -, at most 64"
_PROMPT = re.compile(rf"{PROMPT_NAME.pattern}@([1-9][0-9]{{0,8}}|[a-z][a-z0-9_.-]{{0,63}})")
MAX_ARMS = 8
MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class ExperimentMetric:
    """What is measured of each arm.

    Attributes:
        kind: `thumb` (share of thumbs up), `rating` (mean of a named rating as a share of its scale), `judge` (annotators' rate
            among judged answers, from a judge and its audits), `error` (share of failed calls), `latency` (mean time of a call),
            `cost` (mean cost of a call).
        name: the rating's name, or the judge's id.
    """

    kind: ExperimentMetricKind
    name: str = ""

    def __post_init__(self) -> None:
        check_choice(self.kind, EXPERIMENT_METRICS, "metric.kind")
        check_text(self.name, "metric.name", empty=True)
        if (self.kind in ("rating", "judge")) != bool(self.name):
            raise SchemaError("metric.name", "a rating has its name, a judge its id, and no other metric any")

    @property
    def higher_is_better(self) -> bool:
        """True for what users and judges say; errors, latency and cost are better when lower."""
        return self.kind in ("thumb", "rating", "judge")

    @property
    def is_amount(self) -> bool:
        """True where arms are compared by the ratio of their means; shares are compared by their difference."""
        return self.kind in ("latency", "cost")

    def change(self, difference: float) -> float:
        """A difference as it is read: of shares itself; of amounts, where it is a logarithm of a ratio, a part of the control.

        An amount's is at most 10: the interval of a few units may end at any power of ten.
        """
        return math.expm1(min(difference, math.log(11))) if self.is_amount else difference

    def change_words(self, difference: float) -> str:
        """A difference as `+3.1 points`, or that of an amount as `-12.0%`."""
        change = self.change(difference)
        if not self.is_amount:
            return f"{100 * change:+.1f} points"
        return "over +1,000%" if change >= 10 else f"{change:+.1%}"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that must not get worse by more than `margin`: points of a share (0.02), or a part of an amount (0.1 is 10%)."""

    metric: ExperimentMetric
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_record(self.metric, ExperimentMetric, "guardrails.metric")
        if not 0 <= check_number(self.margin, "guardrails.margin") < 10:
            raise SchemaError("guardrails.margin", f"{self.margin:g} is not from 0 to 10")


@dataclass(frozen=True, slots=True)
class Arm:
    """One variant.

    Attributes:
        parameters: what `heedloop.assign` gives the app: a prompt's text, a model, settings.
        weight: its part of the units, relative to the other arms'.
        run: id of the training run whose checkpoint it serves; empty where there is none.
        prompt: the version of a prompt of the registry that it serves, `NAME@VERSION` or `NAME@LABEL`, where the start of the
            experiment puts the label's version; empty where there is none. Its words are the parameter `prompt`, its
            settings are parameters too, under the arm's own.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    run: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        check_pattern(self.name, _NAME, "arms.name", _IS_NAME)
        check_object(self.parameters, "arms.parameters")
        if self.prompt:
            check_pattern(self.prompt, _PROMPT, "arms.prompt", "NAME@VERSION or NAME@LABEL of a prompt")
        if self.prompt and "prompt" in self.parameters:
            raise SchemaError(
                "arms.prompt", f"{self.name} has a prompt among its parameters as well; give one"
            )
        check_text(self.run, "arms.run", empty=True)
        if not 0 < check_number(self.weight, "arms.weight") <= 1e6:
            raise SchemaError("arms.weight", f"{self.weight:g} is not above 0 and up to 1,000,000")
        if (size := len(canonical_json(dict(self.parameters)))) > MAX_TEXT_CHARS:
            raise SchemaError(
                "arms.parameters", f"are {size:,} characters as JSON; at most {MAX_TEXT_CHARS:,}"
            )


@dataclass(frozen=True, slots=True)
class ExperimentSpec:
    """An experiment as it is defined; once it runs it never changes.

    Attributes:
        arms: two or more; the first is the control, which everybody else gets.
        unit: what the app assigns by: `user`, `session`, an organisation.
        effect: the difference worth finding: points of a share, or a part of an amount. It tunes the evidence: any difference
            is found in the end, this one soonest.
        ramp: shares of all units that are in the experiment (in any arm) after each step, rising.
        ramp_hours: the next step is taken so many hours after the last where nothing speaks against it; null: by hand.
        promote: whether a winner is served to everybody at once (`rule`) or when someone says so (`hand`). A breached guardrail,
            and a candidate that is worse, are always rolled back by themselves.
        max_days: after so many days without a decision the control is kept.
        assignment: `fixed` shares by the arms' weights, or `thompson`: each step's units go to an arm with the probability that
            it is the best so far, at least `floor`. What was assigned before stays.
        min_units: units that each arm must have before anything is decided.
        webhook_url: is told of every change that the server makes by itself.
    """

    name: str
    arms: tuple[Arm, ...]
    metric: ExperimentMetric = ExperimentMetric("thumb")
    guardrails: tuple[Guardrail, ...] = ()
    unit: str = "user"
    effect: float = 0.05
    ramp: tuple[float, ...] = (0.1, 0.5, 1.0)
    ramp_hours: float | None = None
    promote: Decider = "hand"
    max_days: int = 28
    assignment: AssignmentRule = "fixed"
    floor: float = 0.1
    min_units: int = 100
    webhook_url: str = ""

    def __post_init__(self) -> None:
        check_pattern(self.name, _NAME, "name", _IS_NAME)
        check_text(self.unit, "unit")
        check_text(self.webhook_url, "webhook_url", limit=2048, empty=True)
        check_choice(self.promote, DECIDERS, "promote")
        check_choice(self.assignment, ASSIGNMENT_RULES, "assignment")
        check_record(self.metric, ExperimentMetric, "metric")
        for name, cls in (("arms", Arm), ("guardrails", Guardrail)):
            check_tuple(getattr(self, name), name)
            for part in getattr(self, name):
                check_record(part, cls, name)
        if not 2 <= len(self.arms) <= MAX_ARMS or len({a.name for a in self.arms}) < len(self.arms):
            raise SchemaError("arms", f"must be 2 to {MAX_ARMS} with different names")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not 0 < check_number(self.effect, "effect") <= 1:
            raise SchemaError("effect", f"{self.effect:g} is not above 0 and up to 1")
        if not 0 < check_number(self.floor, "floor") <= 1 / len(self.arms):
            raise SchemaError("floor", f"{self.floor:g} is not above 0 and up to 1 / {len(self.arms)} arms")
        if self.ramp_hours is not None and not 0 < check_number(self.ramp_hours, "ramp_hours") <= 8760:
            raise SchemaError("ramp_hours", f"{self.ramp_hours:g} is not above 0 and up to 8760")
        for name, low, high in (("max_days", 1, 366), ("min_units", 30, 10**9)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SchemaError(name, f"{value!r:.40} is not a whole number from {low} to {high}")
        check_tuple(self.ramp, "ramp")
        shares = [check_number(s, "ramp") for s in self.ramp]
        rising = all(a < b for a, b in zip([0.0, *shares], shares, strict=False))
        if not 1 <= len(shares) <= MAX_STEPS or not rising or shares[-1] > 1:
            raise SchemaError("ramp", f"must be 1 to {MAX_STEPS} rising shares above 0 and up to 1")

    @property
    def control(self) -> str:
        """The name of the arm that everybody outside gets."""
        return self.arms[0].name

    @property
    def weights(self) -> tuple[float, ...]:
        """Each arm's share of the units in the experiment; the sum is 1."""
        total = sum(a.weight for a in self.arms)
        return tuple(a.weight / total for a in self.arms)
