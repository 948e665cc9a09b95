"""Learning from rows: the epochs that SFT, reward models, DPO and KTO share."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from heedloop_trainer.nn.distributed import World, full_state, load_full_state
from heedloop_trainer.nn.encoder import Encoder, PromptConfig
from heedloop_trainer.nn.models import evaluating
from heedloop_trainer.nn.optimiser import (
    Optimiser,
    OptimiserConfig,
    Sums,
    backward_sums,
    check_finite,
    minibatches,
    num_steps,
)
from heedloop_trainer.runs.folder import (
    ResumeState,
    RunFolder,
    TrainingResult,
    flatten_state,
    restore_state,
)

Row = TypeVar("Row", bound=Any)


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
        eval_every: steps between two looks at the validation split, the best of which is the checkpoint; 0 never looks.
        patience: looks without a lower validation loss after which training ends early; 0 goes on to the end.
        optimiser: learning rate, schedule and the rest of AdamW.
    """

    epochs: int = 1
    batch_size: int = 32
    max_steps: int = 0
    max_tokens: int = 8192
    max_response_tokens: int = 1024
    bfloat16: bool = False
    seed: int = 0
    eval_every: int = 0
    patience: int = 0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)


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


class Objective(Generic[Row]):
    """What a method learns from rows: their sequences, and the loss of a module on some of them.

    Args:
        config: the method's configuration.
        encoder: what writes the rows as tokens.
        rows: rows of the method's form; those of weight 0, and those that cannot be written, are left out.
        needed: False where it is no error that none is left.

    Attributes:
        metrics: names of what is logged beside the loss, each the mean over the rows' weights.
        total: the name under which the denominator is logged.
        lengths: tokens of each row's forward, padding included.

    Raises:
        ValueError: there were rows, and none can be learned from.
    """

    metrics: ClassVar[tuple[str, ...]] = ()
    total: ClassVar[str] = "weight"

    def __init__(
        self, config: SupervisedConfig, encoder: Encoder, rows: Sequence[Row], *, needed: bool = True
    ) -> None:
        encoded = encoder.rows(
            [r for r in rows if r.weight > 0],
            loss_turns=getattr(config, "loss_turns", "last"),
            needed=needed,
        )
        self.rows, self.sequences = encoded.rows, encoded.sequences
        self.weights = torch.tensor([r.weight for r in self.rows])
        self.lengths = [len(of_row) * max(map(len, of_row)) for of_row in self.sequences]
        self.config, self.report = config, encoder.report()

    def denominator(self, rows: list[int]) -> float:
        """What the summed losses of a minibatch are divided by."""
        return float(self.weights[rows].sum())

    def prepare(self, module: nn.Module, rows: list[int], world: World) -> None:
        """Called with a minibatch before its losses."""

    def loss_sums(self, module: nn.Module, rows: list[int]) -> tuple[torch.Tensor, Sums]:
        """The weighted sum of the losses of a micro-batch, and weighted sums of `metrics`."""
        raise NotImplementedError

    def describe(self, sums: Mapping[str, float], total: float) -> dict[str, float]:
        """A minibatch's metrics from its sums."""
        shares = {name: sums[name] / total for name in self.metrics}
        return {"loss": sums["loss"], **shares, self.total: total}

    def sums(self, module: nn.Module, rows: list[int], world: World) -> dict[str, float]:
        """The minibatch's metrics; its gradients are added up, where gradients are on."""
        self.prepare(module, rows, world)
        total = self.denominator(rows)
        sums = backward_sums(
            world.share(rows),
            self.lengths,
            lambda group: self.loss_sums(module, group),
            denominator=total,
            max_tokens=self.config.max_tokens,
            world=world,
        )
        return self.describe(sums, total)

    def loss(self, module: nn.Module, world: World = World()) -> float:  # noqa: B008  (frozen)
        """The mean loss over all rows, without gradients, in evaluation mode."""
        with evaluating(module):
            return self.sums(module, list(range(len(self.rows))), world)["loss"]


def validating(
    config: SupervisedConfig, make: Callable[[Sequence[Any]], Objective[Any]], rows: Sequence[Any]
) -> Objective[Any] | None:
    """The objective on held-out rows, where the configuration looks at them.

    Raises:
        ValueError: it does, and there are none.
    """
    if not config.eval_every:
        return None
    if not rows or not (found := make(rows)).rows:
        raise ValueError("eval_every looks at held-out rows, and there are none; leave it out, or give some")
    return found


def learn(
    objective: Objective[Any],
    module: nn.Module,
    run: RunFolder,
    *,
    validation: Objective[Any] | None = None,
    own_rates: Mapping[str, float] | None = None,
    progress: str | None = None,
    world: World = World(),  # noqa: B008  (frozen)
) -> TrainingResult:
    """Run the epochs: one optimiser step per minibatch, one metrics row per step, resume points where they are due.

    Where there is a validation, its loss is measured every `eval_every` steps and after the last one; the module ends with
    the weights of the lowest one, and stops early after `patience` measurements without a lower one.

    Args:
        objective: what is learned, on which rows.
        module: the wrapped model, already in training mode and (over several ranks) sharded.
        validation: the same objective on rows that are held out.
        own_rates: learning rates of single parameters by name.
        progress: label of the progress bar; None shows none.

    Returns:
        means over the last epoch, the number of rows and what was cut or left out.

    Raises:
        DivergenceError: a loss or a gradient is not finite.
    """
    config = objective.config
    epochs = Epochs.of(config, objective.lengths)
    optimiser = Optimiser(module, config.optimiser, epochs.total_steps, own_rates)
    best = None if validation is None else BestWeights(run, config.patience)
    resumed = load_point(run, {"model": module}, {"model": optimiser})
    done = 0 if resumed is None else resumed.step
    bar = progress_bar(progress, epochs.total_steps, done)
    for step, rows in enumerate(epochs.steps()):
        if step < done:
            continue
        if best is not None and best.is_over:
            break
        started = time.perf_counter()
        metrics = objective.sums(module, rows, world)
        records = [objective.rows[i] for i in rows]
        check_finite({"loss": metrics["loss"]}, step, records)
        norm = optimiser.step()
        check_finite({"gradient's norm": norm}, step, records)
        metrics |= {"grad_norm": norm, "step_s": time.perf_counter() - started}
        if validation is not None and best is not None and _is_due(config, epochs, step + 1):
            metrics["validation_loss"] = validation.loss(module, world)
            best.offer(metrics["validation_loss"], module)
        run.log(step, **metrics)
        bar.set_postfix({k: f"{v:.3g}" for k, v in list(metrics.items())[:2]}, refresh=False)
        bar.update()
        if run.due(step + 1):
            save_point(run, step + 1, {"model": module}, {"model": optimiser}, world=world)
    bar.close()
    found = _last_epoch(objective, epochs, run)
    if best is not None:
        found |= best.restore(module)
    return TrainingResult({**found, "num_rows": float(len(objective.rows)), **objective.report}, run.history)


def progress_bar(label: str | None, total: int, done: int) -> tqdm[Any]:
    """A bar on a terminal, none elsewhere or without a label."""
    shown = None if label else True  # tqdm's None: on a terminal only
    return tqdm(total=total, desc=label, disable=shown, leave=False, initial=done)


def _is_due(config: SupervisedConfig, epochs: Epochs, step: int) -> bool:
    return step % config.eval_every == 0 or step == epochs.total_steps


def _last_epoch(objective: Objective[Any], epochs: Epochs, run: RunFolder) -> dict[str, float]:
    """Means of the logged metrics over the last epoch, each step with its weight."""
    tail = run.history[-epochs.last_epoch :]
    weight = sum(r[objective.total] for r in tail)
    return {n: sum(r[n] * r[objective.total] for r in tail) / weight for n in ("loss", *objective.metrics)}


class BestWeights:
    """The weights with the lowest validation loss so far: in the run's folder, or in memory where it has none.

    What was measured is read from the run's own metrics, so that a run that goes on after a crash remembers it.

    Args:
        patience: measurements without a lower loss after which training is over; 0 never ends it.
    """

    def __init__(self, run: RunFolder, patience: int) -> None:
        self.run, self.patience = run, patience
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def _losses(self) -> list[float]:
        return [r["validation_loss"] for r in self.run.history if "validation_loss" in r]

    @property
    def is_over(self) -> bool:
        """True where the last `patience` measurements brought nothing lower."""
        losses = self._losses
        return 0 < self.patience < len(losses) - losses.index(min(losses)) if losses else False

    def offer(self, loss: float, module: nn.Module) -> None:
        """Keep the module's weights where this loss is the lowest."""
        state = full_state(module)  # gathered by all ranks together
        if loss >= min(self._losses, default=math.inf) or not self.run.writes:
            return
        if self.run.folder is None:
            self._weights = {k: v.detach().cpu().clone() for k, v in state.items()}
        else:
            self.run.save_tensors("best", state)

    def restore(self, module: nn.Module) -> dict[str, float]:
        """Give the module its best weights back; answers their loss."""
        weights = self._weights if self.run.folder is None else self.run.load_tensors("best")
        load_full_state(module, weights)
        return {"validation_loss": min(self._losses)}


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
