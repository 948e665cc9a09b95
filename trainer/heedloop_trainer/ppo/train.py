"""PPO and RLOO: the policy learns to say what the reward prefers without leaving its reference far behind.

One rollout step reads top to bottom in `train_ppo`: sample, measure, reward, advantages, update. RLOO is the same loop
without a critic: the advantage is the difference to the other responses to the same prompt.

What makes it right rather than almost right, and the test that holds each detail, is listed in docs/training-methods.md.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from heedloop.schema import PromptRow
from heedloop_trainer.generation.cached import CachedGenerator, Generator
from heedloop_trainer.methods.supervised import load_point, progress_bar, save_point
from heedloop_trainer.nn.distributed import World, full_state
from heedloop_trainer.nn.encoder import Encoder, readable, same_vocabulary
from heedloop_trainer.nn.models import Policy, RewardModel, ValueModel, frozen_copy, stop_ids
from heedloop_trainer.nn.optimiser import Sums, backward_sums, check_finite, seeded_permutation
from heedloop_trainer.nn.sequences import collate
from heedloop_trainer.ppo.advantages import Targets, make_targets
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.episodes import Environment, Episode, play
from heedloop_trainer.ppo.losses import KLController, policy_loss, value_loss
from heedloop_trainer.ppo.metrics import describe_rollout, describe_updates, final_metrics
from heedloop_trainer.ppo.models import Models, ppo_models
from heedloop_trainer.ppo.rollout import (
    Response,
    RewardFunction,
    Rollout,
    Scorer,
    measure,
    merge_rollouts,
)
from heedloop_trainer.runs.folder import RunFolder, TrainingResult

__all__ = ["PPOConfig", "Watcher", "train_ppo"]

log = logging.getLogger(__name__)

Watcher = Callable[[Sequence[Mapping[str, float]], dict[str, float], Sequence[Response]], str | None]
"""Asked after every rollout for a reason to stop.

It gets the metrics of all rollouts before this one (those before a crash, too), this one's, which it may add to, and its
responses.
"""


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
    environment: Environment | None = None,
    run: RunFolder | None = None,
    progress: str | None = None,
    watch: Watcher | None = None,
    world: World = World(),  # noqa: B008  (frozen)
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
        environment: answers the policy's turns and may pay for them; the only reward where there is no other.
        run: where metrics, resume points and lineage go; in memory where None.
        progress: label of the progress bar; None shows none.
        watch: such as `alarms.Watch`, asked after every rollout whether the run should stop.

    Raises:
        ValueError: no prompts, no reward, or a reward that is not finite.
        DivergenceError: a loss or a gradient is not finite.
    """
    run = run or RunFolder.in_memory(config.estimator)
    encoder = Encoder.of(config, tokenizer, config.sampling.max_new_tokens)
    if environment is not None and reward_model is None:
        reward_function = reward_function or _nothing
    scorer = _scorer(config, reward_model, reward_function, tokenizer)
    if not scorer.same_tokens and scorer.encoder is not None:
        prompts = readable(prompts, [scorer.encoder])
    sampling = _Sampling(config, encoder, prompts, policy, generator, environment, world)
    report = encoder.report()
    models = ppo_models(config, policy, reference, reward_model, value_model, tokenizer, world)
    controller = KLController(config.kl_coefficient, config.kl_target, config.kl_horizon)
    done = _resume(run, models, controller, scorer)
    stopped: str | None = None
    bar = progress_bar(progress, config.num_rollouts, done)
    for step in range(done, config.num_rollouts):
        clock = _Clock()
        # Sample: every rank answers its share of the rollout's prompts.
        episodes = sampling.episodes(models.actor, step)
        clock.lap("generate_s")

        # Measure: old and reference log-probabilities by one and the same forward, values, rewards.
        part = measure(config, models, episodes=episodes, scorer=scorer, world=world)
        rollout = merge_rollouts(world.gather(part))
        if step == 0 and config.normalise_on_reference and reward_model is not None:
            _normalise_on(rollout, scorer)
        clock.lap("measure_s")

        # Learn: advantages over the whole rollout, then epochs x minibatches optimiser steps.
        targets = make_targets(config, rollout, controller.coefficient)
        updates = update(config, rollout, targets, models, step, world=world)
        clock.lap("update_s")

        metrics = describe_rollout(rollout, targets, controller.coefficient) | updates | clock.laps
        stopped = _reason_to_stop(config, metrics, watch, rollout, run.history)
        run.log(step, **metrics)
        controller.update(metrics["objective/kl"], len(rollout.sequences))
        _show(bar, metrics)
        if run.due(step + 1):
            _save(run, step + 1, models, controller, scorer, world)
        if stopped is not None:
            break
    bar.close()
    return TrainingResult(final_metrics(run.history) | report, run.history, stopped)


# ------------------------------------------------------------------------------------------------- before the loop


def _nothing(responses: Sequence[Response]) -> list[float]:
    """The score of responses that the environment alone pays for."""
    return [0.0] * len(responses)


def _scorer(
    config: PPOConfig,
    reward_model: RewardModel | None,
    reward_function: RewardFunction | None,
    tokenizer: Any,
) -> Scorer:
    own = None if reward_model is None else reward_model.tokenizer
    same = own is None or same_vocabulary(own, tokenizer)
    encoder = None if own is None or reward_model is None else reward_model.encoder()
    if reward_model is not None:
        reward_model.eval().requires_grad_(False)
    return Scorer(reward_model, reward_function, same, encoder, config.max_tokens, clip=config.reward_clip)


class _Sampling:
    """The episodes of each rollout; over several ranks each has a whole copy of the policy to sample from.

    Raises:
        ValueError: there are no prompts.
    """

    def __init__(
        self,
        config: PPOConfig,
        encoder: Encoder,
        prompts: Sequence[PromptRow],
        policy: nn.Module,
        generator: Generator | None,
        environment: Environment | None,
        world: World,
    ) -> None:
        if not prompts:
            raise ValueError("there are no prompts to answer")
        self.config, self.encoder, self.environment, self.world = config, encoder, environment, world
        self.prompts = encoder.rows(prompts).rows
        self.prompt_ids = encoder.prompts([p.prompt for p in self.prompts], [p.tools for p in self.prompts])
        self.copy = None if world.size == 1 else frozen_copy(policy)  # decoding gathers nothing
        writer, stops = policy if self.copy is None else self.copy, stop_ids(policy, encoder.tokenizer)
        self.generator = generator or CachedGenerator(writer, stops, bfloat16=config.bfloat16)

    def episodes(self, actor: Policy, step: int) -> list[Episode]:
        """This rank's episodes of a rollout."""
        if self.copy is not None:
            state = {k: v for k, v in full_state(actor).items() if k.startswith("model.")}
            self.copy.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
        chosen = rollout_prompts(len(self.prompts), self.config, step)
        mine = self.world.share(range(len(chosen)))
        rows, asked = ([of[chosen[i]] for i in mine] for of in (self.prompts, self.prompt_ids))
        return play(
            self.config,
            self.generator,
            self.encoder,
            rows,
            asked,
            step=step,
            rows=mine,
            environment=self.environment,
        )


def _resume(run: RunFolder, models: Models, controller: KLController, scorer: Scorer) -> int:
    """Finished rollouts, with everything as it was after them; 0 in a new run."""
    state = load_point(run, models.trained, models.optimisers)
    if state is None:
        return 0
    controller.coefficient = state.values["kl_coefficient"]
    scorer.gain, scorer.bias = state.values["gain"], state.values["bias"]
    return state.step


def _save(
    run: RunFolder, step: int, models: Models, controller: KLController, scorer: Scorer, world: World
) -> None:
    values = {"kl_coefficient": controller.coefficient, "gain": scorer.gain, "bias": scorer.bias}
    save_point(run, step, models.trained, models.optimisers, values, world=world)


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
    rollout.scores = scorer.normalised(rollout.raw_scores)


# ------------------------------------------------------------------------------------------------- one rollout


def update(
    config: PPOConfig,
    rollout: Rollout,
    targets: Targets,
    models: Models,
    step: int,
    *,
    world: World = World(),  # noqa: B008
) -> dict[str, float]:
    """The optimiser steps of one rollout: epochs x minibatches, unless the KL stop ends them early."""
    tokens = targets.valid.sum(1)
    rows = [i for i in range(len(tokens)) if tokens[i] > 0]
    if not rows:
        log.warning(
            "no response of rollout %d ended within %d tokens, so there is nothing to learn from: allow longer ones, or teach the "
            "model to end by SFT first",
            step,
            config.sampling.max_new_tokens,
        )
    lengths = [len(s) for s in rollout.sequences]
    actor, critic, adam = models.actor, models.critic, models.optimisers
    done: list[dict[str, float]] = []
    stopped_early = False
    actor.train()
    if critic is not None:
        critic.train()

    def gradients(part: list[int], total: float, loss_sums: LossSums) -> dict[str, float]:
        """Gradients of one minibatch, whose denominator is all its tokens, on every rank and in every micro-batch."""
        return backward_sums(
            world.share(part),
            lengths,
            loss_sums,
            denominator=total,
            max_tokens=config.max_tokens,
            world=world,
        )

    for part in _minibatches(config, rows, step):
        total = float(tokens[part].sum())
        records = [rollout.responses[i].prompt for i in part]
        sums = gradients(part, total, lambda group: _policy_sums(config, rollout, targets, actor, group))
        check_finite({"policy loss": sums["loss"]}, step, records)
        entry = {name: sums[name] / total for name in sums if name not in ("loss", "ratio_max")}
        entry |= {"policy_loss": sums["loss"], "ratio_max": sums["ratio_max"]}
        done.append(entry)
        if config.kl_stop is not None and entry["kl"] > config.kl_stop:
            adam["actor"].discard()
            stopped_early = True
            break
        entry["grad_norm"] = adam["actor"].step()
        check_finite({"policy gradient's norm": entry["grad_norm"]}, step, records)
        if critic is not None:
            sums = gradients(part, total, lambda group: _value_sums(config, rollout, targets, critic, group))
            check_finite({"value loss": sums["loss"]}, step, records)
            entry |= {"value_loss": sums["loss"], "value_grad_norm": adam["critic"].step()}
            check_finite({"value gradient's norm": entry["value_grad_norm"]}, step, records)
    return describe_updates(done, num_steps=adam["actor"].num_steps, stopped_early=stopped_early)


LossSums = Callable[[list[int]], tuple[torch.Tensor, Sums]]


def _minibatches(config: PPOConfig, rows: list[int], step: int) -> Iterator[list[int]]:
    """The rows of every optimiser step of a rollout: all rows once an epoch, in an order of the epoch's own."""
    for epoch in range(config.epochs):
        order = [rows[i] for i in seeded_permutation(len(rows), config.seed, 2, step, epoch)]
        bounds = [round(k * len(order) / config.minibatches) for k in range(config.minibatches + 1)]
        yield from (order[a:b] for a, b in itertools.pairwise(bounds) if b > a)


def _policy_sums(
    config: PPOConfig, rollout: Rollout, targets: Targets, actor: Policy, group: list[int]
) -> tuple[torch.Tensor, Sums]:
    batch = collate([rollout.sequences[i] for i in group], actor.device)
    out = actor(batch, temperature=config.sampling.temperature)
    old = batch.flatten(rollout.old_log_probs[group].to(actor.device))
    advantages = batch.flatten(targets.advantages[group].to(actor.device))
    found = policy_loss(out.log_probs, old, advantages, clip_range=config.clip_range)
    sums = {
        "ratio": found.ratio_sum,
        "clipped": found.clipped_sum,
        "kl": found.kl_sum,
        "ratio_max": found.ratio_max,
    }
    if out.values is None:
        return found.loss_sum, sums
    before = batch.flatten(rollout.values[group].to(actor.device))
    returns = batch.flatten(targets.returns[group].to(actor.device))
    loss = value_loss(out.values, before, returns, clip_range=config.value_clip)
    return found.loss_sum + config.value_coefficient * loss, {**sums, "value_loss": loss.detach()}


def _value_sums(
    config: PPOConfig, rollout: Rollout, targets: Targets, critic: ValueModel, group: list[int]
) -> tuple[torch.Tensor, Sums]:
    batch = collate([rollout.sequences[i] for i in group], critic.device)
    values, _ = critic(batch)
    old = batch.flatten(rollout.values[group].to(critic.device))
    returns = batch.flatten(targets.returns[group].to(critic.device))
    return value_loss(values, old, returns, clip_range=config.value_clip), {}


def _reason_to_stop(
    config: PPOConfig,
    metrics: dict[str, float],
    watch: Watcher | None,
    rollout: Rollout,
    history: Sequence[Mapping[str, float]],
) -> str | None:
    if config.kl_budget is not None and metrics["objective/kl"] > config.kl_budget:
        return f"KL to the reference is {metrics['objective/kl']:.2f} nats per response, over the budget of {config.kl_budget}"
    return None if watch is None else watch(history, metrics, rollout.responses)


def _show(bar: tqdm[Any], metrics: Mapping[str, float]) -> None:
    score, kl = (f"{metrics[f'objective/{name}']:.3f}" for name in ("score", "kl"))
    bar.set_postfix(score=score, kl=kl, refresh=False)
    bar.update()


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[f"time/{name}"] = now - self._last
        self._last = now
