"""DPO and KTO: learning from judgements without a reward model. Cheap and robust where there is little feedback."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from heedloop.schema import Comparison, Unpaired
from heedloop_trainer.methods.losses import dpo, kto
from heedloop_trainer.methods.supervised import Objective, Row, SupervisedConfig, learn, validating
from heedloop_trainer.nn.distributed import World, shard
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import Policy, evaluating, reference_policy
from heedloop_trainer.nn.optimiser import OptimiserConfig, Sums, seeded_permutation, shared_groups
from heedloop_trainer.nn.sequences import TokenSequence, collate, micro_batches
from heedloop_trainer.runs.folder import RunFolder, TrainingResult

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DPOConfig(SupervisedConfig):
    """Settings of direct preference optimisation.

    Attributes:
        epochs: passes over the comparisons; ties are left out.
        batch_size: comparisons per optimiser step.
        beta: how dearly moving away from the reference is paid.
        label_smoothing: share of judgements expected to be the wrong way round, 0 up to 0.5.
    """

    epochs: int = 1
    beta: float = 0.1
    label_smoothing: float = 0.0
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-6, warmup_share=0.1))


@dataclass(frozen=True, slots=True)
class KTOConfig(SupervisedConfig):
    """Settings of Kahneman-Tversky optimisation, for thumbs that come alone.

    Attributes:
        epochs: passes over the rows.
        batch_size: rows per optimiser step; its KL estimate needs at least 4, better 16 to 128.
        beta: how dearly moving away from the reference is paid.
        desirable_weight, undesirable_weight: weights of liked and disliked rows; None balances the two sums of weights.
        seed: decides the order of the rows and the mismatched pairs.
    """

    epochs: int = 1
    beta: float = 0.1
    desirable_weight: float | None = None
    undesirable_weight: float | None = None
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-6, warmup_share=0.1))

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError("KTO estimates a KL from mismatched pairs: batch_size must be 2 or more")


def response_log_probs(policy: nn.Module, sequences: Sequence[TokenSequence]) -> torch.Tensor:
    """Summed log-probability of each response, float32 [len(sequences)], with gradient."""
    batch = collate(sequences, next(policy.parameters()).device)
    flat = policy(batch).log_probs
    return torch.zeros(len(sequences), device=flat.device).index_add(0, batch.rows, flat)


@torch.no_grad()
def fixed_log_probs(policy: Policy, sequences: Sequence[TokenSequence], max_tokens: int) -> torch.Tensor:
    """`response_log_probs` of many sequences without gradient, on the CPU."""
    out = torch.zeros(len(sequences))
    for group in micro_batches([len(s) for s in sequences], max_tokens):
        out[group] = response_log_probs(policy, [sequences[i] for i in group]).cpu()
    return out


class _Anchored(Objective[Row]):
    """An objective on how far the policy moves from its reference, whose log-probabilities are measured once.

    Attributes:
        fixed: the reference's log-probability of every answer, [number of rows, answers of a row].
    """

    def __init__(
        self,
        config: SupervisedConfig,
        encoder: Encoder,
        anchor: Policy,
        rows: Sequence[Row],
        *,
        needed: bool = True,
    ) -> None:
        super().__init__(config, encoder, rows, needed=needed)
        every = [s for of_row in self.sequences for s in of_row]
        width = len(self.sequences[0]) if self.rows else 1
        self.fixed = fixed_log_probs(anchor, every, config.max_tokens).view(-1, width)

    def shifts(self, module: nn.Module, rows: list[int]) -> torch.Tensor:
        """log policy - log reference of every answer of the rows, [len(rows), answers of a row]."""
        now = response_log_probs(module, [s for i in rows for s in self.sequences[i]])
        return now.view(len(rows), -1) - self.fixed[rows].to(now.device)


class _Direct(_Anchored[Comparison]):
    """Direct preference optimisation: how much more than the reference the policy prefers the chosen answer."""

    metrics = ("accuracy", "margin", "chosen_shift")

    def loss_sums(self, module: nn.Module, rows: list[int]) -> tuple[torch.Tensor, Sums]:
        chosen, rejected = self.shifts(module, rows).unbind(1)
        weight = self.weights[rows].to(chosen.device)
        beta = self.config.beta
        losses = dpo(chosen, rejected, beta=beta, label_smoothing=self.config.label_smoothing)
        return (weight * losses).sum(), {
            "accuracy": (weight * (chosen > rejected)).sum(),
            "margin": (weight * beta * (chosen - rejected)).sum(),
            "chosen_shift": (weight * chosen).sum(),
        }


def train_dpo(
    config: DPOConfig,
    rows: Sequence[Comparison],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
    reference: nn.Module | None = None,
    validation: Sequence[Comparison] = (),
    progress: str | None = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `model` in place so that it prefers the chosen completions more than its reference does.

    Args:
        reference: the frozen policy; the model as it comes in, where None.
        validation: rows held out, looked at where `eval_every` says.

    Raises:
        ValueError: no comparison is decided, or the chat template can write none of them.
    """
    rows, validation = ([r for r in given if not r.tie] for given in (rows, validation))
    if not any(r.weight > 0 for r in rows):
        raise ValueError("there are no decided comparisons to learn from")
    anchor = reference_policy(model, reference, bfloat16=config.bfloat16)
    make = functools.partial(_Direct, config, Encoder.of(config, tokenizer), anchor)
    return learn(
        make(rows),
        shard(Policy(model, bfloat16=config.bfloat16).train(), world),
        run or RunFolder.in_memory("dpo"),
        validation=validating(config, make, validation),
        progress=progress,
        world=world,
    )


class _KahnemanTversky(_Anchored[Unpaired]):
    """Kahneman-Tversky optimisation: towards liked and away from disliked answers.

    The KL that separates gain from loss is estimated on the minibatch with completions moved to other prompts
    (arXiv 2402.01306, section 4.1), and carries no gradient.
    """

    metrics = ("liked_shift", "disliked_shift", "kl")

    def __init__(self, config: KTOConfig, encoder: Encoder, anchor: Policy, rows: Sequence[Unpaired]) -> None:
        super().__init__(config, encoder, anchor, rows)
        self.labels = torch.tensor([r.label for r in self.rows], dtype=torch.bool)
        self.liked, self.disliked = side_weights(config, self.weights, self.labels)
        self.moved = [
            TokenSequence(self.sequences[k][0].prompt_ids, s.response_ids, s.ended, s.written)
            for [s], k in zip(self.sequences, mismatched_prompts(self.rows, config.seed), strict=True)
        ]
        self.moved_fixed = fixed_log_probs(anchor, self.moved, config.max_tokens)
        self.kl = torch.zeros(())

    @torch.no_grad()
    def prepare(self, module: nn.Module, rows: list[int], world: World) -> None:
        """Estimate the KL: the mean log-ratio of completions under other prompts, over all ranks, 0 or more."""
        total = torch.zeros(2)
        lengths = [len(s) for s in self.moved]
        groups = shared_groups(world.share(rows), lengths, max_tokens=self.config.max_tokens, world=world)
        for part, weight in groups:
            now = response_log_probs(module, [self.moved[i] for i in part]).cpu()
            total += weight * torch.tensor([float((now - self.moved_fixed[part]).sum()), float(len(part))])
        world.add(total)
        self.kl = (total[0] / total[1].clamp(min=1)).clamp(min=0)

    def loss_sums(self, module: nn.Module, rows: list[int]) -> tuple[torch.Tensor, Sums]:
        log_ratio = self.shifts(module, rows)[:, 0]
        label, weight, kl = (t.to(log_ratio.device) for t in (self.labels[rows], self.weights[rows], self.kl))
        losses = kto(
            log_ratio,
            label,
            kl,
            beta=self.config.beta,
            desirable_weight=self.liked,
            undesirable_weight=self.disliked,
        )
        return (weight * losses).sum(), {
            "liked_shift": (weight * log_ratio * label).sum(),
            "disliked_shift": (weight * log_ratio * ~label).sum(),
            "kl": kl * weight.sum(),
        }


def train_kto(
    config: KTOConfig,
    rows: Sequence[Unpaired],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
    reference: nn.Module | None = None,
    validation: Sequence[Unpaired] = (),
    progress: str | None = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `model` in place towards liked and away from disliked completions.

    Raises:
        ValueError: there are fewer than two rows, or the chat template can write none of them.
    """
    anchor = reference_policy(model, reference, bfloat16=config.bfloat16)
    make = functools.partial(_KahnemanTversky, config, Encoder.of(config, tokenizer), anchor)
    objective = make(rows)
    if len(objective.rows) < 2:
        raise ValueError(
            f"KTO needs at least two judged completions; there are {len(objective.rows)} that can be used"
        )
    labels = set(objective.labels.tolist())
    if len(labels) == 1:
        side, other = ("liked", "disliked") if labels == {True} else ("disliked", "liked")
        log.warning("all completions are %s: KTO learns nothing of what is %s", side, other)
    return learn(
        objective,
        shard(Policy(model, bfloat16=config.bfloat16).train(), world),
        run or RunFolder.in_memory("kto"),
        validation=validating(config, make, validation),
        progress=progress,
        world=world,
    )


class ImplicitRewards(_Anchored[Comparison]):
    """beta log(policy / reference) of both answers of comparisons (arXiv 2305.18290): what a policy has learned of them."""

    def margins(self, policy: Policy) -> np.ndarray:
        """Log-odds that `chosen` wins, [number of rows]."""
        with evaluating(policy):
            every = [s for of_row in self.sequences for s in of_row]
            now = fixed_log_probs(policy, every, self.config.max_tokens).view(len(self.rows), -1)
        moved = self.config.beta * (now - self.fixed).double().numpy()
        return moved[:, 0] - moved[:, 1]


def mismatched_prompts(rows: Sequence[Unpaired], seed: int) -> list[int]:
    """For every row the index of a row whose prompt its completion is moved to: another prompt, where there is one."""
    order = seeded_permutation(len(rows), seed, 3)
    place = {row: k for k, row in enumerate(order)}
    out: list[int] = []
    for i, row in enumerate(rows):
        following = (order[(place[i] + step) % len(rows)] for step in range(1, len(rows)))
        out.append(
            next((k for k in following if rows[k].prompt != row.prompt), order[(place[i] + 1) % len(rows)])
        )
    return out


def side_weights(config: KTOConfig, weights: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Weights of liked and disliked rows: as configured, or such that both sides weigh the same in sum."""
    up, down = float(weights[labels].sum()), float(weights[~labels].sum())
    if up == 0 or down == 0:
        balanced = (1.0, 1.0)
    else:
        balanced = (max(1.0, down / up), max(1.0, up / down))
    return (
        balanced[0] if config.desirable_weight is None else config.desirable_weight,
        balanced[1] if config.undesirable_weight is None else config.undesirable_weight,
    )
