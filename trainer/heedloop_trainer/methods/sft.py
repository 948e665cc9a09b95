"""Supervised fine-tuning: the model learns to say what people wrote or liked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from heedloop.schema import Demonstration
from heedloop_trainer.methods.supervised import Epochs, learn
from heedloop_trainer.nn.distributed import World, shard
from heedloop_trainer.nn.models import Policy
from heedloop_trainer.nn.optimiser import OptimiserConfig, Sums
from heedloop_trainer.nn.sequences import Encoder, collate
from heedloop_trainer.runs.folder import RunFolder, TrainingResult

__all__ = ["SFTConfig", "train_sft"]


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """Settings of supervised fine-tuning.

    Attributes:
        epochs: passes over the demonstrations.
        batch_size: demonstrations per optimiser step.
        max_tokens: tokens per micro-batch, padding included; lower it when memory runs out, the result stays the same.
        max_prompt_tokens: longer prompts lose their oldest tokens.
        max_response_tokens: longer completions lose their end.
        bfloat16: compute in bfloat16 over float32 weights.
        seed: decides the order of the rows.
    """

    epochs: int = 2
    batch_size: int = 32
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(2e-5, warmup_share=0.05, schedule="cosine")
    )
    max_tokens: int = 8192
    max_prompt_tokens: int = 1024
    max_response_tokens: int = 1024
    bfloat16: bool = False
    seed: int = 0


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
        ValueError: there are no rows.
    """
    run = run or RunFolder.in_memory("sft")
    rows = [r for r in rows if r.weight > 0]
    if not rows:
        raise ValueError(
            "there are no demonstrations to learn from; a snapshot with corrections or liked answers has some"
        )
    encoder = Encoder(tokenizer, config.max_prompt_tokens, config.max_response_tokens)
    sequences = encoder.sequences([r.prompt for r in rows], [r.completion for r in rows])
    weights = torch.tensor([r.weight for r in rows])
    tokens = torch.tensor([len(s.response_ids) for s in sequences], dtype=torch.float32)
    policy = shard(Policy(model, bfloat16=config.bfloat16).train(), world)

    def loss_sums(group: list[int]) -> tuple[torch.Tensor, Sums]:
        batch = collate([sequences[i] for i in group], next(policy.parameters()).device)
        losses = -policy(batch).log_probs
        weight = weights[group].to(losses.device)[batch.rows]
        return (weight * losses).sum(), {}

    def describe(sums: dict[str, float], total: float) -> dict[str, float]:
        return {"loss": sums["loss"], "tokens": total}

    learn(
        Epochs.of(config, [len(s) for s in sequences]),
        policy,
        config.optimiser,
        run,
        denominator=lambda group: float((weights[group] * tokens[group]).sum()),
        loss_sums=loss_sums,
        describe=describe,
        progress=progress,
        world=world,
    )
    tail = run.history[-max(1, len(run.history) // config.epochs) :]
    metrics = {
        "loss": sum(r["loss"] for r in tail) / len(tail),
        "num_rows": float(len(rows)),
        "num_cut": float(encoder.num_cut),
    }
    return TrainingResult(metrics, run.history)
