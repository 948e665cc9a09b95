"""Reward models: one number per answer, learned from which of two answers people found better."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from heedloop.schema import Comparison, RatedCompletion, Unpaired
from heedloop_trainer.methods.losses import bradley_terry, davidson, pointwise_logistic, rao_kupper
from heedloop_trainer.methods.supervised import Objective, SupervisedConfig, learn, validating
from heedloop_trainer.nn.chat import end_of_turn
from heedloop_trainer.nn.distributed import World, full_state, shard, unsharded
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import CLASSIFIER_HEADS, RewardModel, evaluating, plain_model
from heedloop_trainer.nn.optimiser import OptimiserConfig, Sums
from heedloop_trainer.nn.sequences import TokenSequence, collate, micro_batches
from heedloop_trainer.runs.folder import RunFolder, TrainingResult

NORMALISING_SEQUENCES = 256
"""Answers that gain and bias are fitted on, as in OpenAI's own code (the N implementation details of RLHF)."""


@dataclass(frozen=True, slots=True)
class RewardConfig(SupervisedConfig):
    """Settings of a reward model.

    Attributes:
        epochs: passes over the comparisons; one is usual, since reward models overfit quickly.
        batch_size: comparisons per optimiser step.
        ties: what a tie says: `davidson` or `rao_kupper` fit it with a likelihood of its own; `drop` leaves ties out.
        tie_learning_rate: of the two numbers that say how readily people call a tie and put thumbs up; the model's own rate
            would be far too slow for them.
        head_rate: the head's learning rate in learning rates of the body. `heedloop train reward` takes 10 for the fresh head of
            an encoder, which learns next to nothing in one epoch otherwise.
        label_smoothing: share of judgements expected to be the wrong way round, 0 up to 0.5. Decided pairs only.
        margin_scale: factor on the rows' margins; 0 ignores them.
        centring: weight of (chosen + rejected)^2, which keeps rewards near 0 (arXiv 2312.09244).
    """

    epochs: int = 1
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(1e-5, warmup_share=0.05, schedule="cosine")
    )
    ties: Literal["davidson", "rao_kupper", "drop"] = "davidson"
    tie_learning_rate: float = 0.02
    head_rate: float = 1.0
    label_smoothing: float = 0.0
    margin_scale: float = 1.0
    centring: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must be 0 or more and below 0.5, not {self.label_smoothing}")


class _Judge(nn.Module):
    """A reward model and the numbers that are fitted with it: how readily people call a tie, and put thumbs up."""

    def __init__(self, reward: RewardModel, tie_parameter: float, *, max_tokens: int | None) -> None:
        super().__init__()
        self.reward, self.max_tokens = reward, max_tokens
        self.tie_parameter = nn.Parameter(torch.full((1,), tie_parameter, device=reward.device))
        self.thumb_intercept = nn.Parameter(torch.zeros(1, device=reward.device))

    def forward(self, sequences: list[TokenSequence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Outputs of each sequence, [len(sequences), num_outputs], the tie parameter and the intercept of thumbs, [1] each."""
        device = next(self.parameters()).device
        groups = [list(range(len(sequences)))]
        if self.max_tokens is not None:  # chosen and rejected differ in length: less padding apart
            groups = micro_batches([len(s) for s in sequences], self.max_tokens)
        outputs = torch.cat([self.reward(collate([sequences[i] for i in g], device)) for g in groups])
        place = torch.tensor([i for g in groups for i in g], device=device)
        # The parameters are given back from here, since over several ranks they are only whole inside forward.
        return (
            torch.zeros_like(outputs).index_copy(0, place, outputs),
            self.tie_parameter * 1.0,
            self.thumb_intercept * 1.0,
        )


JudgedRow = Comparison | Unpaired | RatedCompletion
"""What a reward model can learn from: which of two is better, a thumb alone, ratings by name."""


class _Judgements(Objective[JudgedRow]):
    """The likelihood of judgements under a `_Judge`."""

    metrics = ("accuracy",)

    def __init__(
        self, config: RewardConfig, encoder: Encoder, dimensions: Sequence[str], rows: Sequence[JudgedRow]
    ) -> None:
        super().__init__(config, encoder, rows)
        self.dimensions = dimensions
        # Without a tie anywhere, Bradley-Terry is the whole model.
        self.any_ties = any(isinstance(r, Comparison) and r.tie for r in self.rows)
        self.any_thumbs = any(isinstance(r, Unpaired) for r in self.rows)

    def loss_sums(self, module: nn.Module, rows: list[int]) -> tuple[torch.Tensor, Sums]:
        outputs, tie_parameter, intercept = module([s for i in rows for s in self.sequences[i]])
        found = judged_losses(
            self.config,
            [self.rows[i] for i in rows],
            outputs,
            tie_parameter if self.any_ties else None,
            intercept,
            self.dimensions,
        )
        weight = self.weights[rows].to(outputs.device)
        right, decided = weight * found.right, weight * found.decided
        return (weight * found.losses).sum(), {"right": right.sum(), "decided": decided.sum()}

    def describe(self, sums: Mapping[str, float], total: float) -> dict[str, float]:
        """Accuracy is the share of the decided comparisons."""
        accuracy = sums["right"] / max(sums["decided"], 1e-9)
        return {"loss": sums["loss"], "accuracy": accuracy, "weight": total}


def train_reward(
    config: RewardConfig,
    rows: Sequence[JudgedRow],
    model: nn.Module,
    tokenizer: Any,
    run: RunFolder | None = None,
    *,
    validation: Sequence[JudgedRow] = (),
    progress: str | None = None,
    world: World = World(),  # noqa: B008
) -> TrainingResult:
    """Train `model` in place on judgements, then store the gain and bias that normalise its rewards.

    A reward model that has them already keeps them: its scale is what KL prices and limits were chosen for. The answers of an
    encoder are cut to its positions.

    Comparisons and thumbs train the first output, the reward; ratings train the outputs that bear their names
    (`models.name_outputs`), each a logistic regression on the rating as a share. The loss is the weighted mean over the
    minibatch's rows, so that weight 2 equals the row twice.

    Args:
        rows: comparisons (ties are fitted as `config.ties` says), thumbs alone, rated completions; ratings whose name no
            output has are left out.
        model: a sequence classifier of transformers with one label, and one more for each rating's name.
        tokenizer: its tokenizer.
        run: where metrics, resume points and lineage go; in memory where None.
        validation: rows held out, looked at where `eval_every` says.

    Raises:
        ValueError: there are no rows, or the tokenizer pads with its end token and the saved model would therefore read
            its reward at another token than `from_pretrained` does.
    """
    reward = RewardModel(model, tokenizer, bfloat16=config.bfloat16)
    if reward.causal:
        check_padding(model, tokenizer)
    else:
        config = within_positions(config, model)
    rows = [r for r in rows if _usable(r, config, reward.dimensions)]
    if not rows:
        raise ValueError(
            "there are no comparisons to learn from; pairs come from comparisons, corrections and thumbs"
        )
    reward.keep_text_settings(config)
    make = functools.partial(_Judgements, config, Encoder.of(config, tokenizer), reward.dimensions)
    objective = make(rows)
    # Ranks must forward equally often, since they gather each block together: there, all of a micro-batch at once.
    budget = config.max_tokens if world.size == 1 else None
    first = first_tie_parameter([r for r in objective.rows if isinstance(r, Comparison)], config.ties)
    judge = shard(_Judge(reward, first, max_tokens=budget).train(), world)
    own_rates = dict.fromkeys(("tie_parameter", "thumb_intercept"), config.tie_learning_rate)
    if config.head_rate != 1:
        heads = [n for n, _ in judge.named_parameters() if not {*n.split(".")}.isdisjoint(CLASSIFIER_HEADS)]
        own_rates |= dict.fromkeys(heads, config.head_rate * config.optimiser.learning_rate)
    result = learn(
        objective,
        judge,
        run or RunFolder.in_memory("reward"),
        validation=validating(config, make, [r for r in validation if _usable(r, config, reward.dimensions)]),
        own_rates=own_rates,
        progress=progress,
        world=world,
    )
    result = replace(result, metrics=result.metrics | _fitted(objective, full_state(judge)))
    if reward.is_normalised:  # a trained reward model goes on: its scale is what others have been tuned to
        return result
    settled = reward if world.size == 1 else RewardModel(unsharded(model), tokenizer)
    every = [s for of_row in objective.sequences for s in of_row]
    fit_gain_and_bias(settled, every, max_tokens=config.max_tokens)
    reward.normalise(gain=settled.gain, bias=settled.bias)
    return result


def _fitted(objective: _Judgements, state: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The numbers fitted beside the rewards, where rows had something to say on them."""
    names = {"tie_parameter": objective.any_ties, "thumb_intercept": objective.any_thumbs}
    return {n: float(state[n]) for n, is_fitted in names.items() if is_fitted}


def _usable(row: JudgedRow, config: RewardConfig, dimensions: Sequence[str]) -> bool:
    if row.weight <= 0:
        return False
    if isinstance(row, Comparison):
        return not (row.tie and config.ties == "drop")
    return isinstance(row, Unpaired) or any(n in dimensions[1:] for n in row.ratings)


@dataclass(frozen=True, slots=True)
class JudgedLosses:
    """Per row, [B]: the loss, and for decided comparisons whether the model agrees."""

    losses: torch.Tensor
    right: torch.Tensor
    decided: torch.Tensor


def judged_losses(
    config: RewardConfig,
    rows: Sequence[JudgedRow],
    outputs: torch.Tensor,
    tie_parameter: torch.Tensor | None,
    thumb_intercept: torch.Tensor,
    dimensions: Sequence[str],
) -> JudgedLosses:
    """The negative log-likelihood of each judgement.

    Args:
        outputs: [N, num_outputs], the rows' sequences one after another: two of a comparison, one of the others.
        tie_parameter: of the tie model; None where plain Bradley-Terry is fitted.
        dimensions: names of the outputs.
    """
    losses = outputs.new_zeros(len(rows))
    right, decided = torch.zeros_like(losses), torch.zeros_like(losses)
    counts = [2 if isinstance(r, Comparison) else 1 for r in rows]
    place = list(itertools.accumulate(counts, initial=0))
    kinds: dict[type, list[int]] = {}
    for i, row in enumerate(rows):
        kinds.setdefault(type(row), []).append(i)
    if pairs := kinds.get(Comparison):
        first, second = (outputs[[place[i] + k for i in pairs], 0] for k in (0, 1))
        found = _pair_losses(config, tie_parameter, first, second, [rows[i] for i in pairs])
        losses[pairs] = found + config.centring * (first + second).square()
        decided[pairs] = torch.tensor([float(not rows[i].tie) for i in pairs], device=outputs.device)
        right[pairs] = (first > second) * decided[pairs]
    if thumbs := kinds.get(Unpaired):
        scores = outputs[[place[i] for i in thumbs], 0]
        labels = torch.tensor([rows[i].label for i in thumbs], device=outputs.device)
        losses[thumbs] = pointwise_logistic(scores, labels, thumb_intercept)
    for i in kinds.get(RatedCompletion, []):
        named = {n: v for n, v in rows[i].ratings.items() if n in dimensions[1:]}
        wanted = torch.tensor(list(named.values()), device=outputs.device)
        given = outputs[place[i], [dimensions.index(n) for n in named]]
        losses[i] = F.binary_cross_entropy_with_logits(given, wanted.to(given.dtype))
    return JudgedLosses(losses, right, decided)


def _pair_losses(
    config: RewardConfig,
    tie_parameter: torch.Tensor | None,
    first: torch.Tensor,
    second: torch.Tensor,
    rows: Sequence[Comparison],
) -> torch.Tensor:
    """Negative log-likelihood of each judgement, [B]; of Bradley-Terry where there is no tie parameter."""
    margin = config.margin_scale * torch.tensor([r.margin or 0.0 for r in rows], device=first.device)
    if tie_parameter is None:
        return bradley_terry(first, second, margin=margin, label_smoothing=config.label_smoothing)
    tie = torch.tensor([r.tie for r in rows], device=first.device)
    likelihood = davidson if config.ties == "davidson" else rao_kupper
    gap = first - second
    losses = likelihood(gap - margin, tie, tie_parameter)
    if not config.label_smoothing:
        return losses
    turned = likelihood(-gap - margin, tie, tie_parameter)
    smoothed = (1 - config.label_smoothing) * losses + config.label_smoothing * turned
    return torch.where(tie, losses, smoothed)


def first_tie_parameter(rows: Sequence[Comparison], ties: str) -> float:
    """The tie parameter that explains the share of ties between answers of equal reward, in logarithms."""
    total = sum(r.weight for r in rows) or 1.0
    share = min(0.95, max(1e-3, sum(r.weight for r in rows if r.tie) / total))
    if ties == "rao_kupper":
        # P(tie | equal) = tanh(eta / 2)
        return math.log(2 * math.atanh(share))
    return math.log(2 * share / (1 - share))


def within_positions(config: RewardConfig, model: nn.Module) -> RewardConfig:
    """The configuration with lengths that fit an encoder's positions: at least a quarter of them is the prompt's."""
    limit = getattr(plain_model(model).config, "max_position_embeddings", None)
    if limit is None:
        return config
    limit -= 2  # RoBERTa and its kin count positions from behind the padding's
    answer = min(config.max_response_tokens, limit * 3 // 4)
    return replace(
        config, max_response_tokens=answer, max_prompt_tokens=min(config.max_prompt_tokens, limit - answer)
    )


def check_padding(model: nn.Module, tokenizer: Any) -> None:
    """Refuse a classifier that, once saved, would read its number at another token than we trained.

    `transformers` finds the last token by comparing ids with the pad id. Ours ends every sequence with the end token, so a
    pad equal to it (or none) makes `from_pretrained` users read the token before it.
    """
    pad, end = model.config.pad_token_id, end_of_turn(tokenizer)
    if pad is None or pad == end:
        raise ValueError(
            f"the classifier's pad token id is {pad} and the end token's {end}: give the tokenizer a pad "
            "token of its own (`models.own_pad_token` adds one and makes room for it) before training a reward model"
        )


@torch.no_grad()
def fit_gain_and_bias(
    reward: RewardModel, sequences: Sequence[TokenSequence], *, max_tokens: int = 16_384
) -> None:
    """Set gain and bias so that rewards of `sequences` have mean 0 and variance 1, and store them with the model.

    At most `NORMALISING_SEQUENCES` of them are read, evenly spread: more would cost a third of an epoch and change little.
    """
    sequences = sequences[:: math.ceil(len(sequences) / NORMALISING_SEQUENCES)]
    with evaluating(reward):
        raw = reward.outputs(sequences, max_tokens=max_tokens)[:, 0].double()
    deviation = float(raw.std(unbiased=False))
    gain = 1.0 / deviation if deviation > 1e-8 and math.isfinite(deviation) else 1.0
    reward.normalise(gain=gain, bias=-float(raw.mean()) * gain)
