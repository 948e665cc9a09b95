"""Supervised fine-tuning: the model learns to say what people wrote or liked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from heedloop.schema import Demonstration
from heedloop_trainer.methods.supervised import Epochs, SupervisedConfig, learn
from heedloop_trainer.nn.distributed import World, shard
from heedloop_trainer.nn.models import Policy
from heedloop_trainer.nn.optimiser import OptimiserConfig, Sums
from heedloop_trainer.nn.sequences import Encoder, LossTurns, collate
from heedloop_trainer.runs.folder import RunFolder, TrainingResult

__all__ = ["SFTConfig", "train_sft"]


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


def train_sft(
    config: SFTConfig,
    rows: Sequence[Demonstration],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
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

    Raises:
        ValueError: there are no rows, or the chat template can write none of them.
    """
    run = run or RunFolder.in_memory("sft")
    rows = [r for r in rows if r.weight > 0]
    if not rows:
        raise ValueError(
            "there are no demonstrations to learn from; a snapshot with corrections or liked answers has some"
        )
    encoder = Encoder.of(config, tokenizer)
    encoded = encoder.rows(rows, loss_turns=config.loss_turns)
    rows, sequences = encoded.rows, encoded.sequences
    weights = torch.tensor([r.weight for r in rows])
    tokens = torch.tensor([sum(s.num_trained for s in of_row) for of_row in sequences], dtype=torch.float32)
    report = encoder.report(len(rows))
    policy = shard(Policy(model, bfloat16=config.bfloat16).train(), world)

    def loss_sums(group: list[int]) -> tuple[torch.Tensor, Sums]:
        batch = collate([s for i in group for s in sequences[i]], next(policy.parameters()).device)
        losses = -policy(batch).log_probs
        owners = torch.tensor([i for i in group for _ in sequences[i]])
        weight = weights[owners].to(losses.device)[batch.rows]
        return (weight * losses).sum(), {}

    def describe(sums: dict[str, float], total: float) -> dict[str, float]:
        return {"loss": sums["loss"], "tokens": total}

    epochs = Epochs.of(config, [len(of_row) * max(map(len, of_row)) for of_row in sequences])
    learn(
        epochs,
        policy,
        config.optimiser,
        run,
        denominator=lambda group: float((weights[group] * tokens[group]).sum()),
        loss_sums=loss_sums,
        records=rows,
        describe=describe,
        progress=progress,
        world=world,
    )
    tail = run.history[-epochs.last_epoch :]
    metrics = {"loss": sum(r["loss"] for r in tail) / len(tail), "num_rows": float(len(rows)), **report}
    return TrainingResult(metrics, run.history)
