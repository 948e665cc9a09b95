"""Alarms against reward hacking: the proxy goes up and what it stands for does not.

After each rollout a `Watch` looks at a held-out reward model (another seed, or the other half of the judgements), at length,
at diversity and at how far an ensemble disagrees. One bad rollout is noise; an alarm needs the trend of a window. (Only a
sampler that is not the policy is a fault at once.) Which of these happens first depends on the flaw in the reward (arXiv 2210.10760 for the shape of the curves).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heedloop_trainer.evaluation.evaluate import score_responses
from heedloop_trainer.nn.models import RewardModel
from heedloop_trainer.ppo.rollout import Response, RewardFunction


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    """When a run is stopped.

    Attributes:
        window: rollouts that are compared with the first `window` ones; no alarm before 2 x window.
        held_out_drop: the held-out reward has fallen by more than this many of its first rollouts' standard deviations
            while the proxy has risen.
        rise: the proxy has risen where it did by more than this many standard errors of the difference between the two
            windows: less is noise.
        length_growth: mean length has grown beyond this factor.
        distinct_share: the share of distinct token pairs has fallen below this share of what it was.
        disagreement_growth: the spread between the judges of an ensemble has grown beyond this factor.
        correlation: correlation of reward and length above which a growth in length by half is already alarming.
        drift: mean difference per token, in nats, between the sampler's log-probabilities and the policy's own. bfloat16 makes
            some 0.01; more is a fault, and needs no trend.
    """

    window: int = 5
    held_out_drop: float = 0.5
    rise: float = 3.0
    length_growth: float = 2.0
    distinct_share: float = 0.4
    disagreement_growth: float = 3.0
    correlation: float = 0.8
    drift: float = 0.03


class Watch:
    """Asked by `train_ppo` after every rollout; answers why the run should stop, or None.

    It remembers nothing: what it compares with stands in the run's own metrics, so that a run that goes on after a crash is
    held to its first rollouts, not to those after the crash.

    Args:
        judges: reward models or functions that the policy is *not* trained against; their mean is the held-out reward,
            and from two on their spread is watched as well.
    """

    def __init__(
        self, config: AlarmConfig | None = None, judges: Sequence[RewardModel | RewardFunction] = ()
    ) -> None:
        self.config = config or AlarmConfig()
        self.judges = list(judges)

    def __call__(
        self,
        earlier: Sequence[Mapping[str, float]],
        metrics: dict[str, float],
        responses: Sequence[Response],
    ) -> str | None:
        """The reason to stop, in a sentence, or None; what the judges said is added to `metrics`.

        Args:
            earlier: metrics of all rollouts before this one; metrics: this one's.
        """
        if self.judges:
            for name, value in self._judged(responses).items():
                # An ensemble that is trained against says itself how far its members part.
                metrics.setdefault(name, value)
        where = f"at rollout {len(earlier)}"
        if (reason := self._drift(metrics)) is not None:
            return f"{where} {reason}"
        rows, window = [*earlier, metrics], self.config.window
        if len(rows) < 2 * window:
            return None
        before, now = _means(rows[:window]), _means(rows[-window:])
        deviation = max(rows[0].get("objective/held_out_std", 1.0), 1e-6)
        checks = (
            self._held_out(before, now, deviation),
            self._length(before, now),
            self._distinct(before, now),
            self._disagreement(before, now),
        )
        reason = next((r for r in checks if r is not None), None)
        return None if reason is None else f"{where} {reason}"

    def _judged(self, responses: Sequence[Response]) -> dict[str, float]:
        scores = np.stack([score_responses(responses, judge) for judge in self.judges])
        return {
            "objective/held_out_score": float(scores.mean()),
            "objective/held_out_std": float(scores.mean(0).std()),
            "objective/disagreement": float(scores.std(0).mean()),
        }

    def _drift(self, metrics: Mapping[str, float]) -> str | None:
        drift = metrics.get("sampler/drift", 0.0)
        if drift <= self.config.drift:
            return None
        return (
            f"the sampler's log-probabilities differ from the policy's by {drift:.3f} nats per token (limit {self.config.drift:g}): "
            "it samples from other weights, at another temperature, or not from the whole vocabulary"
        )

    def _held_out(self, before: _Means, now: _Means, deviation: float) -> str | None:
        noise = np.hypot(before.score_error, now.score_error)
        if np.isnan(now.held_out) or not now.score - before.score > self.config.rise * noise:
            return None
        drop = (before.held_out - now.held_out) / deviation
        if drop <= self.config.held_out_drop:
            return None
        return (
            f"the reward rose from {before.score:.2f} to {now.score:.2f} while the held-out reward fell from "
            f"{before.held_out:.2f} to {now.held_out:.2f} ({drop:.1f} standard deviations): the policy is exploiting its reward "
            "model"
        )

    def _length(self, before: _Means, now: _Means) -> str | None:
        growth = now.length / max(before.length, 1e-9)
        paid = growth > 1.5 and now.correlation > self.config.correlation
        if growth <= self.config.length_growth and not paid:
            return None
        return (
            f"responses have grown from {before.length:.0f} to {now.length:.0f} tokens (reward and length correlate "
            f"{now.correlation:+.2f}): the reward may be paid for length"
        )

    def _distinct(self, before: _Means, now: _Means) -> str | None:
        if now.distinct >= self.config.distinct_share * before.distinct:
            return None
        return (
            f"the share of distinct token pairs fell from {before.distinct:.2f} to {now.distinct:.2f}: answers become "
            "all alike"
        )

    def _disagreement(self, before: _Means, now: _Means) -> str | None:
        limit = self.config.disagreement_growth * before.disagreement
        if before.disagreement <= 1e-6 or now.disagreement <= limit:
            return None
        return (
            f"the reward models' disagreement grew from {before.disagreement:.2f} to {now.disagreement:.2f}: the policy is "
            "leaving the region in which the rewards were learned"
        )


@dataclass(frozen=True, slots=True)
class _Means:
    """Means over some rollouts; `held_out` is not a number where nobody judges beside the reward.

    `score_error` is the standard error of the mean score, from the spread between the rollouts.
    """

    score: float
    score_error: float
    held_out: float
    length: float
    distinct: float
    correlation: float
    disagreement: float


def _means(rows: Sequence[Mapping[str, float]]) -> _Means:
    def mean(name: str, absent: float) -> float:
        return float(np.mean([r.get(name, absent) for r in rows]))

    return _Means(
        score=mean("objective/score", 0.0),
        score_error=_standard_error([r.get("objective/score", 0.0) for r in rows]),
        held_out=mean("objective/held_out_score", float("nan")),
        length=mean("response/length", 0.0),
        distinct=mean("response/distinct_2", 0.0),
        correlation=mean("response/score_length_correlation", 0.0),
        disagreement=mean("objective/disagreement", 0.0),
    )


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
