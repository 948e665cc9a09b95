"""PPO and RLOO: the policy learns to say what the reward prefers without leaving its reference far behind.

One rollout step reads top to bottom in `train_ppo`: sample, measure, reward, advantages, update. RLOO is the same loop
without a critic: the advantage is the difference to the other responses to the same prompt.

What makes it right rather than almost right, and the test that holds each detail, is listed in docs/training.md.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from heedloop.schema import PromptRow
from heedloop_trainer.distributed import World, full_state, shard
from heedloop_trainer.models import (
    Policy,
    RewardModel,
    ValueModel,
    frozen_copy,
    reference_policy,
    sequence_classifier_from,
    stop_ids,
    value_model_from,
)
from heedloop_trainer.optimiser import Optimiser, OptimiserConfig, Sums, backward_sums, seeded_permutation
from heedloop_trainer.policy_math import (
    KLController,
    apply_whitening,
    generalised_advantages,
    kl_k3,
    masked_mean,
    policy_loss,
    rloo_advantages,
    token_rewards,
    value_loss,
    whitening_moments,
)
from heedloop_trainer.rollout import RewardFunction, Rollout, Scorer, measure, merge_rollouts, same_vocabulary
from heedloop_trainer.runs import RunFolder, TrainingResult
from heedloop_trainer.sampling import CachedGenerator, Generator, SamplingConfig
from heedloop_trainer.sequences import Encoder, collate
from heedloop_trainer.supervised import load_point, save_point

__all__ = ["PPOConfig", "train_ppo"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Settings of PPO and RLOO.

    Attributes:
        estimator: `ppo` (a critic and generalised advantages) or `rloo` (leave-one-out over `group_size` responses).
        num_rollouts: rollout steps.
        batch_size: responses per rollout step; a multiple of group_size.
        group_size: responses per prompt; 2 or more for RLOO.
        epochs: passes over each rollout.
        minibatches: optimiser steps per pass, so a rollout has epochs x minibatches of them.
        sampling: length and temperature of responses; the temperature is used in every forward.
        kl_coefficient: beta, the price of one nat of KL to the reference, taken out of the reward per token.
        kl_target: steer beta towards this KL per response in nats; None keeps it fixed.
        kl_stop: end the updates of a rollout when the policy has moved this far (k3, nats per token) from the one that
            sampled; None never does.
        kl_budget: end the run when the KL per response to the reference exceeds this many nats; None never does.
        discount: gamma; 1, since a response is judged as a whole.
        trace_decay: lambda of generalised advantage estimation.
        clip_range: of the policy's ratio; value_clip: of the critic's change, None for no clipping.
        whiten_floor: advantages with a smaller spread than this are not blown up to 1.
        missing_end_penalty: taken off the score of a response that did not end.
        truncation: what a cut-off response is: `bootstrap` (not terminal: the critic says what would have come),
            `mask` (not learned from), or `score` (terminal and scored as it is, for tasks of fixed length).
        normalise_on_reference: bring rewards of the first rollout, which the reference policy writes, to mean 0 and
            variance 1, and keep that gain and bias. Only for reward models; a function's numbers mean what they say.
        actor, critic: their optimisers.
        max_tokens: tokens per micro-batch, padding included; lower it when memory runs out, the result stays the same.
        max_prompt_tokens: longer prompts lose their oldest tokens.
        bfloat16: compute in bfloat16 over float32 weights.
        seed: decides prompts' order, sampling and minibatches.
    """

    estimator: Literal["ppo", "rloo"] = "ppo"
    num_rollouts: int = 100
    batch_size: int = 64
    group_size: int = 1
    epochs: int = 2
    minibatches: int = 4
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
    actor: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-6))
    critic: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(5e-6))
    max_tokens: int = 8192
    max_prompt_tokens: int = 1024
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group_size < 1 or self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of group_size {self.group_size}"
            )
        if self.estimator == "rloo" and self.group_size < 2:
            raise ValueError("RLOO compares responses to one prompt: group_size must be 2 or more")
        if self.estimator == "rloo" and self.truncation == "bootstrap":
            raise ValueError("RLOO has no critic to bootstrap from: truncation must be mask or score")
        if not 1 <= self.minibatches <= self.batch_size or self.epochs < 1:
            raise ValueError("epochs must be 1 or more, and minibatches between 1 and batch_size")
        if self.sampling.temperature <= 0:
            raise ValueError("rollouts need a temperature above 0")

    @property
    def steps_per_rollout(self) -> int:
        return self.epochs * self.minibatches


def train_ppo(
    config: PPOConfig,
    prompts: Sequence[PromptRow],
    policy: nn.Module,
    tokenizer: Any,
    *,
    reference: nn.Module | None = None,
    reward_model: RewardModel | None = None,
    reward_function: RewardFunction | None = None,
    value_model: nn.Module | None = None,
    generator: Generator | None = None,
    run: RunFolder | None = None,
    progress: str | None = None,
    watch: Any = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `policy` in place.

    Args:
        prompts: what is answered, drawn evenly in an order that the seed decides.
        policy: a causal language model of transformers (or a LoRA of one).
        reference: the frozen policy of the KL penalty; a copy of the policy as it comes in, where None.
        reward_model: scores whole responses; used with its tokenizer.
        reward_function: scores responses in Python; added to the reward model's score where both are given.
        value_model: a sequence classifier whose head is the value head; made from the reward model where None (from the
            policy where that cannot be), with a zero head.
        generator: writes the responses; the cached decoder where None.
        run: where metrics, resume points and lineage go; in memory where None.
        progress: label of the progress bar; None shows none.
        watch: `alarms.Watch`, asked after every rollout whether the run should stop.

    Raises:
        ValueError: no prompts, no reward, or a reward that is not finite.
    """
    if not prompts:
        raise ValueError("there are no prompts to answer")
    run = run or RunFolder.in_memory("ppo" if config.estimator == "ppo" else "rloo")
    # Decoding gathers nothing: over several ranks each has a whole copy of the policy to sample from.
    writer = policy if world.size == 1 else frozen_copy(policy)
    sampler = generator or CachedGenerator(writer, stop_ids(policy, tokenizer), bfloat16=config.bfloat16)
    anchor = reference_policy(policy, reference, bfloat16=config.bfloat16)
    critic = _critic(config, policy, reward_model, value_model, tokenizer)
    actor = Policy(policy, bfloat16=config.bfloat16)
    for module in (actor, critic, anchor if reference is not policy else None):
        if module is not None and not hasattr(module.model, "disable_adapter"):
            shard(module, world)
    encoder = Encoder(tokenizer, config.max_prompt_tokens, config.sampling.max_new_tokens)
    scorer = _scorer(config, reward_model, reward_function, tokenizer)
    total = config.num_rollouts * config.steps_per_rollout
    optimisers = {"actor": Optimiser(actor, config.actor, total)}
    modules: dict[str, nn.Module] = {"actor": actor}
    if critic is not None:
        optimisers["critic"] = Optimiser(critic, config.critic, total)
        modules["critic"] = critic
    controller = KLController(config.kl_coefficient, config.kl_target, config.kl_horizon)
    done = _resume(run, modules, optimisers, controller, scorer)
    prompt_ids = encoder.prompts([p.prompt for p in prompts])
    stopped: str | None = None
    bar = tqdm(total=config.num_rollouts, desc=progress, disable=progress is None, leave=False, initial=done)
    for step in range(done, config.num_rollouts):
        clock = _Clock()
        chosen = rollout_prompts(len(prompts), config, step)
        if writer is not policy:
            writer.load_state_dict({k.removeprefix("model."): v for k, v in full_state(actor).items()})
        mine = world.share(range(len(chosen)))
        own_ids = [prompt_ids[chosen[i]] for i in mine]
        generations = sampler(own_ids, config.sampling, step=step, rows=mine)
        clock.lap("generate_s")
        part = measure(
            generations,
            [prompts[chosen[i]] for i in mine],
            own_ids,
            policy=actor,
            reference=anchor,
            value_model=critic,
            scorer=scorer,
            encoder=encoder,
            temperature=config.sampling.temperature,
            max_tokens=config.max_tokens,
            world=world,
        )
        rollout = merge_rollouts(world.gather(part))
        if step == 0 and config.normalise_on_reference and reward_model is not None:
            _normalise_on(rollout, scorer)
        clock.lap("measure_s")
        targets = make_targets(config, rollout, controller.coefficient)
        updates = update(config, rollout, targets, actor, critic, optimisers, step, world=world)
        clock.lap("update_s")
        metrics = describe_rollout(rollout, targets, controller.coefficient) | updates
        run.log(step, **metrics, **clock.laps)
        controller.update(metrics["objective/kl"], len(rollout.sequences))
        bar.set_postfix(
            score=f"{metrics['objective/score']:.3f}", kl=f"{metrics['objective/kl']:.2f}", refresh=False
        )
        bar.update()
        if run.due(step + 1):
            values = {"kl_coefficient": controller.coefficient, "gain": scorer.gain, "bias": scorer.bias}
            save_point(run, step + 1, modules, optimisers, values, world=world)
        stopped = _reason_to_stop(config, metrics, watch, rollout, step)
        if stopped is not None:
            break
    bar.close()
    return TrainingResult(_final_metrics(run.history), run.history, stopped)


# ------------------------------------------------------------------------------------------------- before the loop


def _critic(
    config: PPOConfig,
    policy: nn.Module,
    reward_model: RewardModel | None,
    value_model: nn.Module | None,
    tokenizer: Any,
) -> ValueModel | None:
    if config.estimator == "rloo":
        return None
    if value_model is None:
        usable = (
            reward_model is not None
            and reward_model.tokenizer is not None
            and same_vocabulary(reward_model.tokenizer, tokenizer)
        )
        value_model = (
            value_model_from(reward_model.model)
            if usable
            else sequence_classifier_from(policy, zero_head=True)
        )
    device = next(policy.parameters()).device
    return ValueModel(value_model.to(device), bfloat16=config.bfloat16)


def _scorer(
    config: PPOConfig,
    reward_model: RewardModel | None,
    reward_function: RewardFunction | None,
    tokenizer: Any,
) -> Scorer:
    own = None if reward_model is None else reward_model.tokenizer
    same = own is None or same_vocabulary(own, tokenizer)
    encoder = None if same else Encoder(own, config.max_prompt_tokens, 4 * config.sampling.max_new_tokens)
    if reward_model is not None:
        reward_model.eval().requires_grad_(False)
    return Scorer(reward_model, reward_function, same, encoder, config.max_tokens)


def _resume(
    run: RunFolder,
    modules: dict[str, nn.Module],
    optimisers: dict[str, Optimiser],
    controller: KLController,
    scorer: Scorer,
) -> int:
    state = load_point(run, modules, optimisers)
    if state is None:
        return 0
    controller.coefficient = state.values["kl_coefficient"]
    scorer.gain, scorer.bias = state.values["gain"], state.values["bias"]
    return state.step


def rollout_prompts(count: int, config: PPOConfig, step: int) -> list[int]:
    """Indices of the prompts of one rollout, each repeated group_size times: pass after pass over all prompts."""
    wanted = config.batch_size // config.group_size
    first = step * wanted
    picked: list[int] = []
    while len(picked) < wanted:
        position = first + len(picked)
        epoch, start = divmod(position, count)
        order = seeded_permutation(count, config.seed, 1, epoch)
        picked += order[start : start + wanted - len(picked)]
    return [i for i in picked for _ in range(config.group_size)]


def _normalise_on(rollout: Rollout, scorer: Scorer) -> None:
    """Fit the second gain and bias on the first rollout, and apply them to it."""
    deviation = float(rollout.raw_scores.std(unbiased=False))
    if scorer.reward_function is not None or deviation < 1e-6:
        return
    scorer.gain, scorer.bias = 1.0 / deviation, -float(rollout.raw_scores.mean()) / deviation
    rollout.scores = rollout.raw_scores * scorer.gain + scorer.bias


# ------------------------------------------------------------------------------------------------- one rollout


@dataclass(frozen=True, slots=True)
class Targets:
    """What a rollout is learned towards. Float32 [B, R] unless said otherwise.

    Attributes:
        valid: bool [B, R], True on the tokens that are learned from.
        advantages: whitened over the whole rollout; returns: the critic's targets.
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
    learned = rollout.ended if config.truncation == "mask" else torch.ones_like(rollout.ended)
    valid = rollout.mask & learned[:, None]
    if config.estimator == "rloo":
        advantages = rloo_advantages(rewards.sum(1), config.group_size, learned)[:, None] * rollout.mask
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
    white = apply_whitening(advantages, valid, moments, floor=config.whiten_floor)
    spread = float(
        (moments[2] / moments[0].clamp(min=1) - (moments[1] / moments[0].clamp(min=1)) ** 2)
        .clamp(min=0)
        .sqrt()
    )
    return Targets(valid, white, returns, rewards, scores, spread)


def update(
    config: PPOConfig,
    rollout: Rollout,
    targets: Targets,
    actor: Policy,
    critic: ValueModel | None,
    optimisers: dict[str, Optimiser],
    step: int,
    *,
    world: World = World(),  # noqa: B008
) -> dict[str, float]:
    """The optimiser steps of one rollout: epochs x minibatches, unless the KL stop ends them early."""
    tokens = targets.valid.sum(1)
    if not bool(targets.valid.any()):
        log.warning(
            "no response of rollout %d ended within %d tokens, so there is nothing to learn from: allow longer ones, or teach the "
            "model to end by SFT first",
            step,
            config.sampling.max_new_tokens,
        )
    rows = [i for i in range(len(tokens)) if tokens[i] > 0]
    lengths = [len(s) for s in rollout.sequences]
    done: list[dict[str, float]] = []
    actor.train()
    for epoch in range(config.epochs):
        order = [rows[i] for i in seeded_permutation(len(rows), config.seed, 2, step, epoch)]
        for part in _split(order, config.minibatches):
            total = float(tokens[part].sum())
            sums = backward_sums(
                world.share(part),
                lengths,
                lambda group: _policy_sums(config, rollout, targets, actor, group),
                denominator=total,
                max_tokens=config.max_tokens,
                world=world,
            )
            entry = {name: sums[name] / total for name in ("ratio", "clipped", "kl")}
            entry |= {"policy_loss": sums["loss"], "ratio_max": sums["ratio_max"]}
            done.append(entry)
            if config.kl_stop is not None and entry["kl"] > config.kl_stop:
                optimisers["actor"].discard()
                return _update_metrics(done, optimisers, stopped_early=True)
            entry["grad_norm"] = optimisers["actor"].step()
            if critic is not None:
                critic.train()
                sums = backward_sums(
                    world.share(part),
                    lengths,
                    lambda group: _value_sums(config, rollout, targets, critic, group),
                    denominator=total,
                    max_tokens=config.max_tokens,
                    world=world,
                )
                entry["value_loss"] = sums["loss"]
                entry["value_grad_norm"] = optimisers["critic"].step()
    return _update_metrics(done, optimisers, stopped_early=False)


def _split(order: list[int], parts: int) -> list[list[int]]:
    """`order` in `parts` portions of nearly equal size; empty ones are left out."""
    bounds = [round(k * len(order) / parts) for k in range(parts + 1)]
    return [order[a:b] for a, b in itertools.pairwise(bounds) if b > a]


def _policy_sums(
    config: PPOConfig, rollout: Rollout, targets: Targets, actor: Policy, group: list[int]
) -> tuple[torch.Tensor, Sums]:
    batch = collate([rollout.sequences[i] for i in group], actor.device)
    out = actor(batch, temperature=config.sampling.temperature)
    old = batch.flatten(rollout.old_log_probs[group].to(actor.device))
    advantages = batch.flatten(targets.advantages[group].to(actor.device))
    loss = policy_loss(out.log_probs, old, advantages, clip_range=config.clip_range)
    return loss.loss_sum, {
        "ratio": loss.ratio_sum,
        "clipped": loss.clipped_sum,
        "kl": loss.kl_sum,
        "ratio_max": loss.ratio_max,
    }


def _value_sums(
    config: PPOConfig, rollout: Rollout, targets: Targets, critic: ValueModel, group: list[int]
) -> tuple[torch.Tensor, Sums]:
    batch = collate([rollout.sequences[i] for i in group], critic.device)
    values, _ = critic(batch)
    old = batch.flatten(rollout.values[group].to(critic.device))
    returns = batch.flatten(targets.returns[group].to(critic.device))
    return value_loss(values, old, returns, clip_range=config.value_clip), {}


# ------------------------------------------------------------------------------------------------- metrics


def _update_metrics(
    done: list[dict[str, float]], optimisers: dict[str, Optimiser], *, stopped_early: bool
) -> dict[str, float]:
    if not done:
        return {"policy/num_updates": 0.0, "policy/stopped_early": 0.0}

    def mean(name: str) -> float:
        found = [e[name] for e in done if name in e]
        return sum(found) / len(found) if found else 0.0

    metrics = {
        "policy/first_ratio": done[0]["ratio"],
        "policy/ratio": mean("ratio"),
        "policy/ratio_max": max(e["ratio_max"] for e in done),
        "policy/clip_share": mean("clipped"),
        "policy/kl": done[-1]["kl"],
        "policy/loss": mean("policy_loss"),
        "policy/grad_norm": mean("grad_norm"),
        "policy/num_updates": float(sum("grad_norm" in e for e in done)),
        "policy/stopped_early": float(stopped_early),
        "policy/num_steps": float(optimisers["actor"].num_steps),
    }
    if "critic" in optimisers:
        metrics |= {"value/loss": mean("value_loss"), "value/grad_norm": mean("value_grad_norm")}
    return metrics


def describe_rollout(rollout: Rollout, targets: Targets, kl_coefficient: float) -> dict[str, float]:
    """Masked diagnostics of one rollout, by the field's usual names."""
    mask = rollout.mask
    kl = rollout.kl.sum(1)
    lengths = rollout.lengths.float()
    k3 = kl_k3(rollout.old_log_probs, rollout.reference_log_probs)
    metrics = {
        "objective/score": float(rollout.scores.mean()),
        "objective/raw_score": float(rollout.raw_scores.mean()),
        "objective/score_std": float(rollout.scores.std(unbiased=False)),
        "objective/kl": float(kl.mean()),
        "objective/kl_per_token": float(masked_mean(rollout.kl, mask)),
        "objective/kl_k3_per_token": float(masked_mean(k3, mask)),
        "objective/kl_coefficient": kl_coefficient,
        "objective/rlhf_reward": float(targets.rewards.sum(1).mean()),
        "policy/entropy": float(masked_mean(rollout.entropy, mask)),
        "response/length": float(lengths.mean()),
        "response/ended_share": float(rollout.ended.float().mean()),
        "response/distinct_2": distinct_bigrams([r.token_ids for r in rollout.responses]),
        "response/score_length_correlation": _correlation(rollout.scores, lengths),
        "response/tokens": float(lengths.sum()),
        "sampler/drift": rollout.drift,
        "advantage/spread": targets.spread,
    }
    if bool(rollout.values.any()):
        returns, values = targets.returns[targets.valid], rollout.values[targets.valid]
        left = (returns - values).var(unbiased=False) / returns.var(unbiased=False).clamp(min=1e-8)
        metrics["value/explained_variance"] = float(1 - left)
    return metrics


def distinct_bigrams(responses: Sequence[Sequence[int]]) -> float:
    """Share of token pairs that are different from all others; falls when answers become all alike."""
    pairs = [p for ids in responses for p in itertools.pairwise(ids)]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = a.norm() * b.norm()
    return float((a * b).sum() / scale) if scale > 1e-8 else 0.0


def _final_metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """Means over the last tenth of the rollouts."""
    tail = history[-max(1, len(history) // 10) :]
    names = ("objective/score", "objective/kl", "response/length", "response/ended_share", "policy/entropy")
    return {n: sum(r[n] for r in tail) / len(tail) for n in names} if tail else {}


def _reason_to_stop(
    config: PPOConfig, metrics: dict[str, float], watch: Any, rollout: Rollout, step: int
) -> str | None:
    if config.kl_budget is not None and metrics["objective/kl"] > config.kl_budget:
        return f"KL to the reference is {metrics['objective/kl']:.2f} nats per response, over the budget of {config.kl_budget}"
    return None if watch is None else watch(step, metrics, rollout)


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[f"time/{name}"] = now - self._last
        self._last = now
