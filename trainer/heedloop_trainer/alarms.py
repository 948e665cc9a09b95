"""Alarms against reward hacking: the proxy goes up and what it stands for does not.

After each rollout a `Watch` looks at a held-out reward model (another seed, or the other half of the judgements), at length,
at diversity and at how far an ensemble disagrees. One bad rollout is noise; an alarm needs the trend of a window. Which
of these happens first depends on the flaw in the reward (arXiv 2210.10760 for the shape of the curves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heedloop_trainer.evaluate import score_responses
from heedloop_trainer.models import RewardModel
from heedloop_trainer.rollout import Response, RewardFunction

__all__ = ["AlarmConfig", "Watch"]


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    """When a run is stopped.

    Attributes:
        window: rollouts that are compared with the first `window` ones; no alarm before 2 x window.
        held_out_drop: the held-out reward has fallen by more than this many of its first rollouts' standard deviations
            while the proxy has risen.
        length_growth: mean length has grown beyond this factor.
        distinct_share: the share of distinct token pairs has fallen below this share of what it was.
        disagreement_growth: the spread between the judges of an ensemble has grown beyond this factor.
        correlation: |correlation of reward and length| above which a growth in length by half is already alarming.
    """

    window: int = 5
    held_out_drop: float = 0.5
    length_growth: float = 2.0
    distinct_share: float = 0.4
    disagreement_growth: float = 3.0
    correlation: float = 0.8


class Watch:
    """Asked by `train_ppo` after every rollout; answers why the run should stop, or None.

    Args:
        judges: reward models or functions that the policy is *not* trained against; their mean is the held-out reward,
            and from two on their spread is watched as well.

    Attributes:
        history: what was seen at each rollout.
    """

    def __init__(
        self, config: AlarmConfig | None = None, judges: Sequence[RewardModel | RewardFunction] = ()
    ) -> None:
        self.config = config or AlarmConfig()
        self.judges = list(judges)
        self.history: list[dict[str, float]] = []
        self._first_deviation = 1.0

    def __call__(self, step: int, metrics: dict[str, float], responses: Sequence[Response]) -> str | None:
        """The reason to stop after rollout `step`, in a sentence, or None; what the judges said is added to `metrics`."""
        seen = {
            "score": metrics["objective/score"],
            "length": metrics["response/length"],
            "distinct": metrics["response/distinct_2"],
            "correlation": metrics["response/score_length_correlation"],
        }
        if self.judges:
            judged = self._judged(responses)
            metrics["objective/held_out_score"] = judged["held_out"]
            metrics.setdefault("objective/disagreement", judged["disagreement"])
            seen |= judged
        # An ensemble that is trained against says itself how far its members part.
        seen["disagreement"] = metrics.get("objective/disagreement", 0.0)
        self.history.append(seen)
        if len(self.history) < 2 * self.config.window:
            return None
        return self._reason(step)

    def _judged(self, responses: Sequence[Response]) -> dict[str, float]:
        scores = np.stack([score_responses(responses, judge) for judge in self.judges])
        if not self.history:
            self._first_deviation = max(float(scores.mean(0).std()), 1e-6)
        return {"held_out": float(scores.mean()), "disagreement": float(scores.std(0).mean())}

    def _reason(self, step: int) -> str | None:
        config = self.config
        before, now = (
            {name: float(np.mean([h[name] for h in part])) for name in self.history[0]}
            for part in (self.history[: config.window], self.history[-config.window :])
        )
        where = f"at rollout {step}"
        if "held_out" in now and now["score"] > before["score"]:
            drop = (before["held_out"] - now["held_out"]) / self._first_deviation
            if drop > config.held_out_drop:
                return (
                    f"{where} the reward rose from {before['score']:.2f} to {now['score']:.2f} while the held-out reward fell "
                    f"from {before['held_out']:.2f} to {now['held_out']:.2f} ({drop:.1f} standard deviations): the policy is "
                    "exploiting its reward model"
                )
        growth = now["length"] / max(before["length"], 1e-9)
        if growth > config.length_growth or (growth > 1.5 and now["correlation"] > config.correlation):
            return (
                f"{where} responses have grown from {before['length']:.0f} to {now['length']:.0f} tokens (reward and length "
                f"correlate {now['correlation']:+.2f}): the reward may be paid for length"
            )
        if now["distinct"] < config.distinct_share * before["distinct"]:
            return f"{where} the share of distinct token pairs fell from {before['distinct']:.2f} to {now['distinct']:.2f}: answers become all alike"
        limit = config.disagreement_growth * before["disagreement"]
        if before["disagreement"] > 1e-6 and now["disagreement"] > limit:
            return (
                f"{where} the reward models' disagreement grew from {before['disagreement']:.2f} to {now['disagreement']:.2f}: the "
                "policy is leaving the region in which the rewards were learned"
            )
        return None
