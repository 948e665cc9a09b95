"""Supervised fine-tuning: the model learns to say what people wrote or liked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from heedloop.schema import Demonstration
from heedloop_trainer.methods.supervised import Objective, SupervisedConfig, learn, validating
from heedloop_trainer.nn.distributed import World, shard
from heedloop_trainer.nn.encoder import Encoder, LossTurns
from heedloop_trainer.nn.models import Policy
from heedloop_trainer.nn.optimiser import OptimiserConfig, Sums
from heedloop_trainer.nn.sequences import collate
from heedloop_trainer.runs.folder import RunFolder, TrainingResult


@dataclass(frozen=True, slots=True)
class SFTConfig(SupervisedConfig):
    """Settings of supervised fine-tuning.

    Attributes:
        epochs: passes over the demonstrations.
        batch_size: demonstrations per optimiser step.
        loss_turns: the assistant turns that are learned: the demonstration alone (`last`), or those of its prompt as well
            (`all`). What the model did not write, such as tool results, never carries loss.
    """

    epochs: int = 2
    loss_turns: LossTurns = "last"
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(2e-5, warmup_share=0.05, schedule="cosine")
    )


class _Cross(Objective[Demonstration]):
    """Cross-entropy on completion tokens, end token included."""

    total = "tokens"

    def denominator(self, rows: list[int]) -> float:
        """Weighted tokens, so that weight 2 equals the row twice."""
        return float(sum(self.weights[i] * sum(s.num_trained for s in self.sequences[i]) for i in rows))

    def loss_sums(self, module: nn.Module, rows: list[int]) -> tuple[torch.Tensor, Sums]:
        batch = collate([s for i in rows for s in self.sequences[i]], next(module.parameters()).device)
        losses = -module(batch).log_probs
        owners = torch.tensor([i for i in rows for _ in self.sequences[i]])
        weight = self.weights[owners].to(losses.device)[batch.rows]
        return (weight * losses).sum(), {}


def train_sft(
    config: SFTConfig,
    rows: Sequence[Demonstration],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
    validation: Sequence[Demonstration] = (),
    progress: str | None = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `model` in place on demonstrations: cross-entropy on completion tokens (end token included), weighted by row.

    The mean is over the minibatch's tokens: sum of weight x token losses / sum of weight x tokens, so that weight 2
    equals the row twice.

    Args:
        rows: demonstrations; those of weight 0 are left out.
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        run: where metrics, resume points and lineage go; in memory where None.
        validation: rows held out, looked at where `eval_every` says.

    Raises:
        ValueError: there are no rows, or the chat template can write none of them.
    """
    make = functools.partial(_Cross, config, Encoder.of(config, tokenizer))
    objective = make(rows)
    if not objective.rows:
        raise ValueError(
            "there are no demonstrations to learn from; a snapshot with corrections or liked answers has some"
        )
    return learn(
        objective,
        shard(Policy(model, bfloat16=config.bfloat16).train(), world),
        run or RunFolder.in_memory("sft"),
        validation=validating(config, make, validation),
        progress=progress,
        world=world,
    )


def demonstration_loss(
    config: SFTConfig, rows: Sequence[Demonstration], model: nn.Module, tokenizer: Any
) -> float | None:
    """Loss per token in nats on demonstrations, weighted as in training; None where the template can write none."""
    objective = _Cross(config, Encoder.of(config, tokenizer), rows, needed=False)
    return objective.loss(Policy(model, bfloat16=config.bfloat16)) if objective.rows else None
