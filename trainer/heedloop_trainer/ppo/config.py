"""Settings of PPO, RLOO and GRPO, and which of them cannot go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.nn.encoder import PromptConfig
from heedloop_trainer.nn.optimiser import OptimiserConfig


@dataclass(frozen=True, slots=True)
class PPOConfig(PromptConfig):
    """Settings of PPO, RLOO and GRPO.

    Attributes:
        estimator: `ppo` (a critic and generalised advantages), `rloo` (leave-one-out over `group_size` responses) or `grpo`
            (standardised within `group_size` responses).
        num_rollouts: rollout steps.
        batch_size: responses per rollout step; a multiple of group_size.
        group_size: responses per prompt; 2 or more for RLOO.
        epochs: passes over each rollout.
        minibatches: optimiser steps per pass, so a rollout has epochs x minibatches of them.
        max_turns: turns of the model in an episode, where there is an environment.
        sampling: length and temperature of responses; the temperature is used in every forward.
        kl_coefficient: beta, the price of one nat of KL to the reference, taken out of the reward per token.
        kl_target: steer beta towards this KL per response in nats; None keeps it fixed.
        kl_horizon: responses over which beta moves by its error: larger is slower.
        kl_stop: end the updates of a rollout when the policy has moved this far (k3, nats per token) from the one that
            sampled; None never does.
        kl_budget: end the run when the KL per response to the reference exceeds this many nats; None never does.
        discount: gamma; 1, since a response is judged as a whole.
        trace_decay: lambda of generalised advantage estimation.
        clip_range: of the policy's ratio.
        value_clip: of the critic's change; None for no clipping.
        whiten_floor: advantages with a smaller spread than this are not blown up to 1.
        missing_end_penalty: taken off the score of a response that did not end.
        truncation: what a cut-off response is: `bootstrap` (not terminal: the critic says what would have come),
            `mask` (not learned from), or `score` (terminal and scored as it is, for tasks of fixed length).
        normalise_on_reference: bring rewards of the first rollout, which the reference policy writes, to mean 0 and
            variance 1, and keep that gain and bias. Only for reward models; a function's numbers mean what they say.
        reward_clip: a reward model's normalised scores beyond plus or minus this many standard deviations count as that many;
            None clips nothing. A function's numbers are never clipped; one that outweighs its rollout is warned about.
        critic_body: `separate` (a model of its own) or `shared` (a value head on the policy's body: half the memory and
            half the training, while the two losses pull at the same weights).
        value_coefficient: what the value loss counts beside the policy's, where they share a body.
        actor, critic: their optimisers; a shared body has the actor's, its value head the critic's learning rate.
        max_tokens: tokens per micro-batch, padding included; lower it when memory runs out, the result stays the same.
        bfloat16: compute in bfloat16 over float32 weights.
        seed: decides prompts' order, sampling and minibatches.
    """

    estimator: Literal["ppo", "rloo", "grpo"] = "ppo"
    num_rollouts: int = 100
    batch_size: int = 64
    group_size: int = 1
    epochs: int = 2
    minibatches: int = 4
    max_turns: int = 4
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    kl_coefficient: float = 0.05
    kl_target: float | None = None
    kl_horizon: float = 10_000.0
    kl_stop: float | None = 0.05
    kl_budget: float | None = None
    discount: float = 1.0
    trace_decay: float = 0.95
    clip_range: float = 0.2
    value_clip: float | None = 0.2
    whiten_floor: float = 0.1
    missing_end_penalty: float = 1.0
    truncation: Literal["bootstrap", "mask", "score"] = "bootstrap"
    normalise_on_reference: bool = True
    reward_clip: float | None = 10.0
    critic_body: Literal["separate", "shared"] = "separate"
    value_coefficient: float = 0.1
    actor: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-6))
    critic: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(5e-6))
    max_tokens: int = 8192
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group_size < 1 or self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of group_size {self.group_size}"
            )
        name = self.estimator.upper()
        if self.estimator != "ppo" and self.group_size < 2:
            raise ValueError(f"{name} compares responses to one prompt: group_size must be 2 or more")
        if self.estimator != "ppo" and self.truncation == "bootstrap":
            raise ValueError(f"{name} has no critic to bootstrap from: truncation must be mask or score")
        if not 1 <= self.minibatches <= self.batch_size or self.epochs < 1:
            raise ValueError("epochs must be 1 or more, and minibatches between 1 and batch_size")
        if self.max_turns < 1:
            raise ValueError(f"max_turns must be 1 or more, not {self.max_turns}")
        if self.reward_clip is not None and not self.reward_clip > 0:
            raise ValueError(f"reward_clip must be above 0, not {self.reward_clip}")
        if self.sampling.temperature <= 0:
            raise ValueError("rollouts need a temperature above 0")

    @property
    def steps_per_rollout(self) -> int:
        return self.epochs * self.minibatches
