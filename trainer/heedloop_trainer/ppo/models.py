"""The models that PPO works with: the policy, its frozen reference, a critic, and their optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from heedloop_trainer.nn.classifiers import sequence_classifier_from, value_model_from
from heedloop_trainer.nn.distributed import World, shard
from heedloop_trainer.nn.encoder import same_vocabulary
from heedloop_trainer.nn.models import (
    Policy,
    PolicyWithValues,
    RewardModel,
    ValueModel,
    checkpoint_like,
    reference_policy,
    trains_adapters,
    with_lora,
)
from heedloop_trainer.nn.optimiser import Optimiser
from heedloop_trainer.ppo.config import PPOConfig


@dataclass(frozen=True, slots=True)
class Models:
    """What a rollout is measured with and what its updates train.

    Attributes:
        actor: the policy that is trained, with a value head where actor and critic share a body.
        critic: a value model of its own, or None (RLOO, or a shared body).
        anchor: the frozen reference.
        optimisers: by name, as `trained`.
    """

    actor: Policy
    critic: ValueModel | None
    anchor: Policy
    optimisers: dict[str, Optimiser]

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The modules whose weights change, by the names of their optimisers."""
        return {"actor": self.actor, **({} if self.critic is None else {"critic": self.critic})}


def ppo_models(
    config: PPOConfig,
    policy: nn.Module,
    reference: nn.Module | None,
    reward_model: RewardModel | None,
    value_model: nn.Module | None,
    tokenizer: Any,
    world: World,
) -> Models:
    """The models of a run, sharded over the ranks where there are several.

    Args:
        reference: the frozen policy of the KL penalty; a copy of `policy` where None.
        reward_model: what a fresh critic begins as, where it reads the same tokens.
        value_model: the critic, where it is not made here; none is made for RLOO or a shared body.
    """
    anchor = reference_policy(policy, reference, bfloat16=config.bfloat16)
    critic = None
    shared = config.estimator == "ppo" and config.critic_body == "shared"
    if config.estimator == "ppo" and not shared:
        value_model = _fresh_critic(policy, reward_model, tokenizer) if value_model is None else value_model
        if trains_adapters(policy):
            value_model = with_lora_like(value_model, policy, seed=config.seed)
        value_model = checkpoint_like(policy, value_model.to(next(policy.parameters()).device))
        critic = ValueModel(value_model, bfloat16=config.bfloat16)
    actor = (PolicyWithValues if shared else Policy)(policy, bfloat16=config.bfloat16)
    for module in (actor, critic, anchor):
        if module is not None and not hasattr(module.model, "disable_adapter"):
            shard(module, world)
    total = config.num_rollouts * config.steps_per_rollout
    own_rates = {"value_head.weight": config.critic.learning_rate} if shared else None
    optimisers = {"actor": Optimiser(actor, config.actor, total, own_rates)}
    if critic is not None:
        optimisers["critic"] = Optimiser(critic, config.critic, total)
    return Models(actor, critic, anchor, optimisers)


def with_lora_like(model: nn.Module, policy: Any, *, seed: int) -> nn.Module:
    """Adapters around a critic with the rank, scale and targets of the policy's."""
    settings = policy.peft_config["default"]
    targets = [] if isinstance(settings.target_modules, str) else sorted(settings.target_modules)
    return with_lora(model, rank=settings.r, alpha=settings.lora_alpha, targets=targets, seed=seed)


def _fresh_critic(policy: nn.Module, reward_model: RewardModel | None, tokenizer: Any) -> nn.Module:
    """A value model with a zero head, from the reward model where that reads the same tokens, else from the policy."""
    own = None if reward_model is None else reward_model.tokenizer
    if reward_model is not None and own is not None and reward_model.causal:
        size = reward_model.model.get_input_embeddings().weight.shape[0]
        if same_vocabulary(own, tokenizer) and size >= len(tokenizer):
            return value_model_from(reward_model.model)
    return sequence_classifier_from(policy, zero_head=True)
