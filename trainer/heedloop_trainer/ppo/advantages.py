"""What a rollout is learned towards: rewards per token, advantages, returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.losses import (
    apply_whitening,
    generalised_advantages,
    grpo_advantages,
    rloo_advantages,
    token_rewards,
    whitening_moments,
    whitening_spread,
)
from heedloop_trainer.ppo.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Targets:
    """What a rollout is learned towards. Float32 [B, R] unless said otherwise.

    Attributes:
        valid: bool [B, R], True on the tokens that are learned from.
        advantages: whitened over the whole rollout (GRPO: within groups); returns: the critic's targets.
        rewards: per token, KL penalty and score.
        final_scores: [B], the scores after penalties.
        spread: standard deviation of the advantages before whitening.
    """

    valid: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    rewards: torch.Tensor
    final_scores: torch.Tensor
    spread: float


def make_targets(config: PPOConfig, rollout: Rollout, kl_coefficient: float) -> Targets:
    """Rewards, advantages and returns of a rollout."""
    cut = ~rollout.ended
    scores = rollout.scores - config.missing_end_penalty * cut
    if config.truncation == "bootstrap":
        # The answer did not end, so it has no score yet: the critic's value stands for the rest of it.
        scores = torch.where(cut, torch.full_like(scores, -config.missing_end_penalty), scores)
    rewards = token_rewards(scores, rollout.kl, rollout.lengths, kl_coefficient=kl_coefficient)
    if rollout.turn_rewards is not None:
        rewards = rewards + rollout.turn_rewards
    learned = rollout.ended if config.truncation == "mask" else torch.ones_like(rollout.ended)
    valid = rollout.mask & learned[:, None]
    if config.estimator == "rloo":
        advantages = rloo_advantages(rewards.sum(1), config.group_size, learned)[:, None] * rollout.mask
        returns = torch.zeros_like(advantages)
    elif config.estimator == "grpo":
        each = grpo_advantages(rewards.sum(1), config.group_size, learned, floor=config.whiten_floor)
        advantages = each[:, None] * rollout.mask
        returns = torch.zeros_like(advantages)
    else:
        final = rollout.final_values * cut * (config.truncation == "bootstrap")
        both = generalised_advantages(
            rewards,
            rollout.values,
            rollout.lengths,
            final_values=final,
            discount=config.discount,
            trace_decay=config.trace_decay,
        )
        advantages, returns = both.advantages, both.returns
    moments = whitening_moments(advantages, valid)
    white = advantages
    if config.estimator != "grpo":  # which has standardised them already
        white = apply_whitening(advantages, valid, moments, floor=config.whiten_floor)
    return Targets(valid, white, returns, rewards, scores, whitening_spread(moments))
