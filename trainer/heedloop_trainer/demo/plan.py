"""How much of everything the demo does, and when its simulated days are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from heedloop_trainer.demo.pretrain import FAST, Size
from heedloop_trainer.demo.visits import Period
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.reward import RewardConfig
from heedloop_trainer.methods.sft import SFTConfig
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.ppo.train import PPOConfig

MODEL_NAMES: Mapping[str, str] = {"base": "fernleaf-base", "sft": "fernleaf-sft", "ppo": "fernleaf-ppo"}
"""The names under which the stages' models serve."""

FULL_MINUTES = 4.0
"""What the full plan takes on two quiet cores, about."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes and settings of one demo.

    Attributes:
        size: of the base model and its text.
        base_visits, sft_visits: questions of early users to the base model (half under each version of the prompt) and to
            the SFT model.
        base_pairs, sft_pairs: questions of early users that get two answers to compare.
        fresh_visits: held-out questions of fresh users to each model.
        evaluated: held-out questions on which the candidate prompt is tried before its release.
        live_visits, waves: visits that come between two looks at a release, and how often at most.
    """

    size: Size = field(default_factory=Size)
    base_visits: int = 1600
    base_pairs: int = 400
    sft_visits: int = 800
    sft_pairs: int = 800
    fresh_visits: int = 1200
    evaluated: int = 200
    live_visits: int = 256
    waves: int = 8
    sft: SFTConfig = field(default_factory=SFTConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)


@dataclass(frozen=True, slots=True)
class Days:
    """The simulated fortnight that ends now: which model serves when, and when fresh users come."""

    now: datetime

    def _between(self, first: float, last: float) -> Period:
        return self.now - timedelta(days=first), self.now - timedelta(days=last)

    @property
    def base_v1(self) -> Period:
        """The base model under the first version of the prompt."""
        return self._between(14, 11)

    @property
    def base_v2(self) -> Period:
        """The base model under the second version."""
        return self._between(11, 8)

    @property
    def sft(self) -> Period:
        """The SFT model."""
        return self._between(8, 4)

    @property
    def ppo(self) -> Period:
        """The PPO model; it ends some minutes ago, so that no feedback lies in the future."""
        return self._between(4, 0.01)


def full_plan(seed: int, *, minutes: float = FULL_MINUTES) -> Plan:
    """The demo proper, scaled to about so many minutes on two quiet cores (1.5 to 30)."""
    scale = min(max(minutes, 1.5), 30.0) / FULL_MINUTES
    plan = Plan(sft=_sft(seed), reward=_reward(seed), ppo=_ppo(seed))
    return replace(
        plan,
        size=replace(plan.size, num_documents=int(plan.size.num_documents * scale)),
        base_visits=int(plan.base_visits * scale),
        base_pairs=int(plan.base_pairs * scale),
        sft_visits=int(plan.sft_visits * scale),
        sft_pairs=int(plan.sft_pairs * scale),
        fresh_visits=int(plan.fresh_visits * scale),
    )


def fast_plan(seed: int) -> Plan:
    """For tests: two layers, a few steps of everything. It proves the road, not the learning."""
    return Plan(
        size=FAST,
        base_visits=60,
        base_pairs=20,
        sft_visits=30,
        sft_pairs=20,
        fresh_visits=40,
        evaluated=8,
        live_visits=16,
        waves=2,
        sft=replace(_sft(seed), epochs=1),
        reward=replace(_reward(seed), epochs=1),
        ppo=replace(_ppo(seed), num_rollouts=2, batch_size=16),
    )


def _sft(seed: int) -> SFTConfig:
    return SFTConfig(epochs=2, batch_size=32, optimiser=_rate(1e-3), seed=seed)


def _reward(seed: int) -> RewardConfig:
    return RewardConfig(epochs=2, batch_size=32, optimiser=_rate(3e-4), seed=seed)


def _ppo(seed: int) -> PPOConfig:
    return PPOConfig(
        num_rollouts=20,
        batch_size=96,
        epochs=2,
        minibatches=2,
        sampling=SamplingConfig(max_new_tokens=64, batch_size=128, seed=seed),
        kl_coefficient=0.2,
        kl_stop=0.1,
        actor=OptimiserConfig(2e-4),
        critic=OptimiserConfig(5e-4),
        seed=seed,
    )


def _rate(learning_rate: float) -> OptimiserConfig:
    return OptimiserConfig(learning_rate, warmup_share=0.05, schedule="cosine")
