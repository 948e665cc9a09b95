"""The gate before production: a new model is promoted only for a gain that is neither chance nor length.

`decide` looks at an evaluation of the new model against its parent (`evaluate.compare_policies`, as JSON) and answers with
every reason against it. People's judgements outrank it; it never outranks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What the gate demands.

    Attributes:
        num_prompts: the fewest held-out prompts that can show anything.
        max_length_ratio: new answers may be this much longer than the parent's, in the mean.
        min_ended_share: share of new answers that must end by themselves.
        max_regression: largest share of wins that any slice may lose against an even 0.5.
    """

    num_prompts: int = 50
    max_length_ratio: float = 1.5
    min_ended_share: float = 0.9
    max_regression: float = 0.1


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to promote, and every reason against it."""

    promote: bool
    reasons: tuple[str, ...]


def decide(win_rate: Mapping[str, Any], config: GateConfig = GateConfig()) -> Decision:
    """Promote, or say why not.

    Args:
        win_rate: `win_rate`, `length_controlled` (each with estimate, low, high), `length_ratio`, `num_prompts`, `new`
            (with `ended_share`), and optionally `judge_is_the_reward`, `slices`: name -> {estimate, low, high}, and `people`: the
            win rate by people's own comparisons, which no reward model overrules.
    """
    reasons = [
        *_gain(win_rate, config),
        *_length(win_rate, config),
        *_slices(win_rate, config),
        *_human_judgements(win_rate),
    ]
    return Decision(not reasons, tuple(reasons))


def _gain(found: Mapping[str, Any], config: GateConfig) -> list[str]:
    rate = found["win_rate"]
    reasons = []
    if found.get("judge_is_the_reward"):
        reasons.append(
            "the judge is the reward model that it was trained for: give another one as --held-out-reward"
        )
    if found["num_prompts"] < config.num_prompts:
        reasons.append(
            f"only {found['num_prompts']} held-out prompts; {config.num_prompts} are needed to decide anything"
        )
    if rate["low"] <= 0.5:
        reasons.append(
            f"the win rate {rate['estimate']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}] includes 0.5: no significant gain"
        )
    return reasons


def _length(found: Mapping[str, Any], config: GateConfig) -> list[str]:
    controlled = found["length_controlled"]
    reasons = []
    if (controlled["estimate"] - 0.5) * (found["win_rate"]["estimate"] - 0.5) < 0:
        reasons.append(
            f"at equal length the win rate is {controlled['estimate']:.3f}: the gain is one of length"
        )
    if found["length_ratio"] > config.max_length_ratio:
        reasons.append(
            f"answers are {found['length_ratio']:.2f} times as long; the limit is {config.max_length_ratio}"
        )
    ended = found.get("new", {}).get("ended_share", 1.0)
    if ended < config.min_ended_share:
        reasons.append(
            f"only {ended:.0%} of the new answers end by themselves; {config.min_ended_share:.0%} are needed"
        )
    return reasons


def _slices(found: Mapping[str, Any], config: GateConfig) -> list[str]:
    return [
        f"in slice {name!r} the win rate is {rate['estimate']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]: a regression"
        for name, rate in found.get("slices", {}).items()
        if rate["high"] < 0.5 or rate["estimate"] < 0.5 - config.max_regression
    ]


def _human_judgements(found: Mapping[str, Any]) -> list[str]:
    rate = found.get("people")
    if not rate or rate["estimate"] >= 0.5:
        return []
    return [
        f"people prefer the parent: the new answer won {rate['estimate']:.3f} of their {rate['n']} comparisons"
    ]
