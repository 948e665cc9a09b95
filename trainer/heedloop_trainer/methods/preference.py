"""DPO and KTO: learning from judgements without a reward model. Cheap and robust where there is little feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from heedloop.schema import Comparison, Unpaired
from heedloop_trainer.methods.losses import dpo, kto
from heedloop_trainer.methods.supervised import Epochs, SupervisedConfig, learn
from heedloop_trainer.nn.distributed import World, shard
from heedloop_trainer.nn.models import Policy, reference_policy
from heedloop_trainer.nn.optimiser import OptimiserConfig, Sums, seeded_permutation, shared_groups
from heedloop_trainer.nn.sequences import Encoder, TokenSequence, collate
from heedloop_trainer.runs.folder import RunFolder, TrainingResult

__all__ = ["DPOConfig", "KTOConfig", "train_dpo", "train_kto"]


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
def fixed_log_probs(
    policy: Policy,
    sequences: Sequence[TokenSequence],
    max_tokens: int,
    world: World = World(),  # noqa: B008
) -> torch.Tensor:
    """`response_log_probs` of many sequences without gradient, on the CPU."""
    out = torch.zeros(len(sequences))
    lengths = [len(s) for s in sequences]
    for group, _ in shared_groups(range(len(sequences)), lengths, max_tokens=max_tokens, world=world):
        out[group] = response_log_probs(policy, [sequences[i] for i in group]).cpu()
    return out


def train_dpo(
    config: DPOConfig,
    rows: Sequence[Comparison],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
    reference: nn.Module | None = None,
    progress: str | None = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `model` in place so that it prefers the chosen completions more than its reference does.

    Args:
        reference: the frozen policy; the model as it comes in, where None.

    Raises:
        ValueError: no comparison is decided, or the chat template can write none of them.
    """
    run = run or RunFolder.in_memory("dpo")
    rows = [r for r in rows if r.weight > 0 and not r.tie]
    if not rows:
        raise ValueError("there are no decided comparisons to learn from")
    encoder = Encoder.of(config, tokenizer)
    encoded = encoder.rows(rows)
    rows, report = encoded.rows, encoder.report(len(encoded.rows))
    sequences = [pair[side] for side in (0, 1) for pair in encoded.sequences]
    anchor = reference_policy(model, reference, bfloat16=config.bfloat16)
    fixed = fixed_log_probs(anchor, sequences, config.max_tokens)
    policy = shard(Policy(model, bfloat16=config.bfloat16).train(), world)
    weights, count = torch.tensor([r.weight for r in rows]), len(rows)

    def loss_sums(group: list[int]) -> tuple[torch.Tensor, Sums]:
        both = group + [count + i for i in group]
        sums = response_log_probs(policy, [sequences[i] for i in both])
        frozen, weight = fixed[both].to(sums.device), weights[group].to(sums.device)
        chosen, rejected = sums.split(len(group))
        reference_chosen, reference_rejected = frozen.split(len(group))
        losses = dpo(
            chosen,
            rejected,
            reference_chosen,
            reference_rejected,
            beta=config.beta,
            label_smoothing=config.label_smoothing,
        )
        gaps = config.beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
        return (weight * losses).sum(), {
            "accuracy": (weight * (gaps > 0)).sum(),
            "margin": (weight * gaps).sum(),
            "chosen_shift": (weight * (chosen - reference_chosen)).sum(),
        }

    lengths = [2 * max(len(sequences[i]), len(sequences[count + i])) for i in range(count)]
    epochs = Epochs.of(config, lengths)
    learn(
        epochs,
        policy,
        config.optimiser,
        run,
        denominator=lambda group: float(weights[group].sum()),
        loss_sums=loss_sums,
        records=rows,
        describe=_per_row,
        progress=progress,
        world=world,
    )
    return _result(run, epochs, ("loss", "accuracy", "margin", "chosen_shift"), report)


def train_kto(
    config: KTOConfig,
    rows: Sequence[Unpaired],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
    reference: nn.Module | None = None,
    progress: str | None = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `model` in place towards liked and away from disliked completions.

    The KL that separates gain from loss is estimated on the minibatch with completions moved to other prompts
    (arXiv 2402.01306, section 4.1), and carries no gradient.

    Raises:
        ValueError: there are fewer than two rows, or the chat template can write none of them.
    """
    run = run or RunFolder.in_memory("kto")
    rows = [r for r in rows if r.weight > 0]
    if len(rows) < 2:
        raise ValueError(f"KTO needs at least two judged completions; there are {len(rows)}")
    encoder = Encoder.of(config, tokenizer)
    encoded = encoder.rows(rows)
    rows, report = encoded.rows, encoder.report(len(encoded.rows))
    sequences = [s for [s] in encoded.sequences]
    anchor = reference_policy(model, reference, bfloat16=config.bfloat16)
    fixed = fixed_log_probs(anchor, sequences, config.max_tokens)
    mismatched = _Mismatched.of(rows, sequences, anchor, config)
    policy = shard(Policy(model, bfloat16=config.bfloat16).train(), world)
    weights, labels = torch.tensor([r.weight for r in rows]), torch.tensor([r.label for r in rows])
    liked, disliked = side_weights(config, weights, labels)
    kl = torch.zeros(())

    def prepare(group: list[int]) -> None:
        kl.copy_(mismatched.kl(policy, group, config.max_tokens, world))

    def loss_sums(group: list[int]) -> tuple[torch.Tensor, Sums]:
        sums = response_log_probs(policy, [sequences[i] for i in group])
        label, weight = labels[group].to(sums.device), weights[group].to(sums.device)
        log_ratio = sums - fixed[group].to(sums.device)
        losses = kto(
            log_ratio,
            label,
            kl.to(sums.device),
            beta=config.beta,
            desirable_weight=liked,
            undesirable_weight=disliked,
        )
        return (weight * losses).sum(), {
            "liked_shift": (weight * log_ratio * label).sum(),
            "disliked_shift": (weight * log_ratio * ~label).sum(),
            "kl": kl.to(sums.device) * weight.sum(),
        }

    epochs = Epochs.of(config, [len(s) for s in sequences])
    learn(
        epochs,
        policy,
        config.optimiser,
        run,
        denominator=lambda group: float(weights[group].sum()),
        loss_sums=loss_sums,
        records=rows,
        describe=_per_row,
        prepare=prepare,
        progress=progress,
        world=world,
    )
    return _result(run, epochs, ("loss", "liked_shift", "disliked_shift", "kl"), report)


@dataclass(frozen=True, slots=True)
class _Mismatched:
    """Completions under other prompts, with their log-probabilities by the reference: what KTO estimates its KL on."""

    sequences: list[TokenSequence]
    fixed: torch.Tensor

    @classmethod
    def of(
        cls, rows: Sequence[Unpaired], sequences: Sequence[TokenSequence], anchor: Policy, config: KTOConfig
    ) -> _Mismatched:
        moved = [
            TokenSequence(sequences[k].prompt_ids, s.response_ids, s.ended, s.written)
            for s, k in zip(sequences, mismatched_prompts(rows, config.seed), strict=True)
        ]
        return cls(moved, fixed_log_probs(anchor, moved, config.max_tokens))

    @torch.no_grad()
    def kl(self, policy: nn.Module, group: list[int], max_tokens: int, world: World) -> torch.Tensor:
        """Mean log-ratio of a minibatch's completions under other prompts, over all ranks, 0 or more."""
        total = torch.zeros(2)
        lengths = [len(s) for s in self.sequences]
        for part, weight in shared_groups(world.share(group), lengths, max_tokens=max_tokens, world=world):
            now = response_log_probs(policy, [self.sequences[i] for i in part]).cpu()
            total += weight * torch.stack([(now - self.fixed[part]).sum(), torch.tensor(float(len(part)))])
        world.add(total)
        return (total[0] / total[1].clamp(min=1)).clamp(min=0)


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


def _per_row(sums: dict[str, float], total: float) -> dict[str, float]:
    shares = {name: value / total for name, value in sums.items() if name != "loss"}
    return {"loss": sums["loss"], **shares, "weight": total}


def _result(
    run: RunFolder, epochs: Epochs, names: Sequence[str], report: Mapping[str, float]
) -> TrainingResult:
    tail = run.history[-epochs.last_epoch :]
    metrics = {name: sum(r[name] for r in tail) / len(tail) for name in names}
    return TrainingResult({**metrics, "num_rows": float(len(epochs.lengths)), **report}, run.history)
