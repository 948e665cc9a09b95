"""Learning from rows: the epochs that SFT, reward models, DPO and KTO share."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from heedloop_trainer.nn.distributed import World, full_state, load_full_state
from heedloop_trainer.nn.optimiser import (
    Optimiser,
    OptimiserConfig,
    Sums,
    backward_sums,
    check_finite,
    minibatches,
    num_steps,
)
from heedloop_trainer.nn.sequences import PromptConfig
from heedloop_trainer.runs.folder import ResumeState, RunFolder, flatten_state, restore_state

__all__ = ["Epochs", "SupervisedConfig", "learn", "load_point", "save_point"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedConfig(PromptConfig):
    """Settings that SFT, reward models, DPO and KTO share.

    Attributes:
        batch_size: rows per optimiser step.
        epochs: passes over the rows.
        max_steps: end after this many optimiser steps; 0 ends with the last epoch.
        max_tokens: tokens per micro-batch, padding included; lower it when memory runs out, the result stays the same.
        max_response_tokens: longer completions lose their end.
        bfloat16: compute in bfloat16 over float32 weights.
        seed: decides the order of the rows.
    """

    epochs: int = 1
    batch_size: int = 32
    max_steps: int = 0
    max_tokens: int = 8192
    max_response_tokens: int = 1024
    bfloat16: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epochs:
    """How often and in which portions rows are learned from.

    Attributes:
        lengths: tokens of each row's forward, for the token budget; as many as there are rows.
        count: passes over the rows.
        batch_size: rows per optimiser step.
        max_tokens: tokens per micro-batch, padding included.
        seed: decides the order of the rows.
        max_steps: optimiser steps at most; 0 sets no limit.
    """

    lengths: Sequence[int]
    count: int
    batch_size: int
    max_tokens: int
    seed: int
    max_steps: int = 0

    @classmethod
    def of(cls, config: SupervisedConfig, lengths: Sequence[int]) -> Epochs:
        """As a method's configuration says."""
        return cls(
            lengths, config.epochs, config.batch_size, config.max_tokens, config.seed, config.max_steps
        )

    def __post_init__(self) -> None:
        for name, value in (
            ("epochs", self.count),
            ("batch_size", self.batch_size),
            ("max_tokens", self.max_tokens),
        ):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if self.max_steps < 0:
            raise ValueError(f"max_steps must be 0 (no limit) or more, not {self.max_steps}")

    @property
    def total_steps(self) -> int:
        every = num_steps(len(self.lengths), self.batch_size, self.count)
        return min(every, self.max_steps) if self.max_steps else every

    @property
    def last_epoch(self) -> int:
        """Steps of the last epoch, or of the part of it that there is: what final metrics are means of."""
        per_epoch = num_steps(len(self.lengths), self.batch_size, 1)
        return self.total_steps % per_epoch or per_epoch

    def steps(self) -> Iterator[list[int]]:
        """The rows of each optimiser step, epoch after epoch."""
        per_epoch = (
            minibatches(len(self.lengths), self.batch_size, seed=self.seed, epoch=epoch)
            for epoch in range(self.count)
        )
        return itertools.islice(itertools.chain.from_iterable(per_epoch), self.total_steps)


def learn(
    epochs: Epochs,
    module: nn.Module,
    optimiser_config: OptimiserConfig,
    run: RunFolder,
    *,
    denominator: Callable[[list[int]], float],
    loss_sums: Callable[[list[int]], tuple[torch.Tensor, Sums]],
    describe: Callable[[dict[str, float], float], dict[str, float]],
    records: Sequence[Any] = (),
    prepare: Callable[[list[int]], None] | None = None,
    own_rates: Mapping[str, float] | None = None,
    progress: str | None = None,
    world: World = World(),  # noqa: B008  (frozen)
) -> None:
    """Run the epochs: one optimiser step per minibatch, one metrics row per step, resume points where they are due.

    Args:
        module: the wrapped model, already in training mode and (over several ranks) sharded.
        denominator: rows of a minibatch -> what their summed losses are divided by.
        loss_sums: rows of a micro-batch -> (summed loss, named sums for the logs).
        records: what the rows' numbers stand for, so that an error can name them.
        prepare: called with the minibatch's rows before its losses.
        own_rates: learning rates of single parameters by name.
        describe: (named sums, denominator) -> the metrics to log.
        progress: label of the progress bar; None shows none.

    Raises:
        DivergenceError: a loss or a gradient is not finite.
    """
    optimiser = Optimiser(module, optimiser_config, epochs.total_steps, own_rates)
    resumed = load_point(run, {"model": module}, {"model": optimiser})
    done = 0 if resumed is None else resumed.step
    bar = tqdm(total=epochs.total_steps, desc=progress, disable=progress is None, leave=False, initial=done)
    for step, rows in enumerate(epochs.steps()):
        if step < done:
            continue
        started = time.perf_counter()
        if prepare is not None:
            prepare(rows)
        total = denominator(rows)
        sums = backward_sums(
            world.share(rows),
            epochs.lengths,
            loss_sums,
            denominator=total,
            max_tokens=epochs.max_tokens,
            world=world,
        )
        found = [records[i] for i in rows] if records else []
        check_finite({"loss": sums["loss"]}, step, found)
        norm = optimiser.step()
        check_finite({"gradient's norm": norm}, step, found)
        metrics = describe(sums, total)
        elapsed = time.perf_counter() - started
        run.log(step, **metrics, grad_norm=norm, step_s=elapsed)
        bar.set_postfix({k: f"{v:.3g}" for k, v in list(metrics.items())[:2]}, refresh=False)
        bar.update()
        if run.due(step + 1):
            save_point(run, step + 1, {"model": module}, {"model": optimiser}, world=world)
    bar.close()


def save_point(
    run: RunFolder,
    step: int,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimiser],
    values: Mapping[str, Any] | None = None,
    *,
    world: World = World(),  # noqa: B008
) -> None:
    """Write a resume point of these modules, optimisers and plain values."""
    tensors: dict[str, torch.Tensor] = {}
    trees: dict[str, Any] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{k}": v for k, v in full_state(module).items()}
    for name, optimiser in optimisers.items():
        found, trees[name] = flatten_state(f"optimiser/{name}", optimiser.state())
        tensors |= found
    if world.is_first:
        run.save_state(step, tensors, {"optimisers": trees, **(values or {})})
    world.barrier()


def load_point(
    run: RunFolder, modules: Mapping[str, nn.Module], optimisers: Mapping[str, Optimiser]
) -> ResumeState | None:
    """Continue from the run's resume point; answers it, or None where there is none."""
    state = run.load_state()
    if state is None:
        return None
    for name, module in modules.items():
        prefix = f"{name}/"
        load_full_state(
            module, {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
        )
    for name, optimiser in optimisers.items():
        optimiser.restore(restore_state(state.tensors, state.values["optimisers"][name]))
    return state
