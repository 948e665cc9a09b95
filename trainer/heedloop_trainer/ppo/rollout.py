"""Rollouts: responses with everything PPO needs to know about them, measured before any update."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from heedloop.schema import Message, PromptRow
from heedloop_trainer.methods.reward_ensemble import RewardEnsemble
from heedloop_trainer.nn.distributed import World
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import RewardModel, plain_model
from heedloop_trainer.nn.optimiser import shared_groups
from heedloop_trainer.nn.sequences import TokenSequence, collate
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.episodes import Episode
from heedloop_trainer.ppo.losses import length_mask
from heedloop_trainer.ppo.models import Models


@dataclass(frozen=True, slots=True)
class Response:
    """What a reward function sees of one sampled answer.

    Attributes:
        text: without special tokens; of an episode, that of its last turn.
        turns: the messages behind the prompt, tool results included; none where there was no environment.
        token_ids: with the stop token, where it was reached.
        ended: False where the answer was cut off at the length limit.
    """

    prompt: PromptRow
    text: str
    token_ids: list[int]
    ended: bool
    turns: tuple[Message, ...] = ()


RewardFunction = Callable[[Sequence[Response]], Sequence[float]]
"""A reward in Python: one finite number per response."""


def function_scores(function: RewardFunction, responses: Sequence[Response]) -> list[float]:
    """What a reward function gives for these responses.

    Raises:
        ValueError: it gave something else than one finite number per response.
    """
    given = function(responses)
    try:
        scores = [float(v) for v in given]
    except (TypeError, ValueError) as err:
        raise ValueError(
            f"the reward function must give a list of numbers, one per response, not {given!r:.80}"
        ) from err
    if len(scores) != len(responses):
        raise ValueError(f"the reward function gave {len(scores)} numbers for {len(responses)} responses")
    for i, score in enumerate(scores):
        if not math.isfinite(score):
            raise ValueError(f"the reward of response {i} is {score}; rewards must be finite")
    return scores


log = logging.getLogger(__name__)

OUTLIER = 20.0
"""A function's number this many typical distances from the median is warned about."""

_PADDED = ("old_log_probs", "reference_log_probs", "entropy", "values", "turn_rewards")
_PER_ROW = ("lengths", "ended", "final_values", "scores", "raw_scores", "disagreement")


@dataclass
class Rollout:
    """Sampled responses and their measurements. Padded tensors are float32 [B, R] on the CPU, zero after the end; they hold the
    tokens that the policy wrote, and nothing for those an environment wrote.

    Attributes:
        old_log_probs: by the training forward of the policy that sampled; what ratios are taken against.
        reference_log_probs: by the same forward of the frozen reference.
        entropy: of the policy at each token, nats.
        values: V before each token; final_values: [B], V after the last one. Zero without a critic.
        scores: [B], what the reward model and the reward function gave, normalised, before penalties.
        ended: bool [B].
        drift: mean |sampler's - training forward's log-probability|.
        turn_rewards: what an environment paid, on the last token of each turn.
        disagreement: [B], standard deviation between the members of a reward ensemble; 0 without one.
    """

    sequences: list[TokenSequence]
    responses: list[Response]
    lengths: torch.Tensor
    ended: torch.Tensor
    old_log_probs: torch.Tensor
    reference_log_probs: torch.Tensor
    entropy: torch.Tensor
    values: torch.Tensor
    final_values: torch.Tensor
    scores: torch.Tensor
    raw_scores: torch.Tensor
    drift: float
    disagreement: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    turn_rewards: torch.Tensor | None = None

    @property
    def width(self) -> int:
        return self.old_log_probs.shape[1]

    @property
    def mask(self) -> torch.Tensor:
        """Bool [B, R], True on response tokens."""
        return length_mask(self.lengths, self.width)

    @property
    def kl(self) -> torch.Tensor:
        """k1 per token against the reference, [B, R], zero after the end."""
        return self.old_log_probs - self.reference_log_probs


def merge_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """The whole rollout from the ranks' parts, where rank r of n measured rows r, r + n, r + 2n, …"""
    if len(parts) == 1:
        return parts[0]
    width = max(p.width for p in parts)
    counts = [len(p.sequences) for p in parts]
    rows = [(k, i) for i in range(max(counts)) for k in range(len(parts)) if i < counts[k]]

    def listed(name: str) -> list[Any]:
        return [getattr(parts[k], name)[i] for k, i in rows]

    def padded(name: str) -> torch.Tensor:
        return torch.stack([F.pad(v, (0, width - len(v))) for v in listed(name)])

    tokens = [float(p.lengths.sum()) for p in parts]
    return Rollout(
        **{n: listed(n) for n in ("sequences", "responses")},
        **{n: torch.stack(listed(n)) for n in _PER_ROW},
        **{n: padded(n) for n in _PADDED},
        drift=sum(p.drift * t for p, t in zip(parts, tokens, strict=True)) / sum(tokens),
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of responses, float32 [B] each: normalised, raw, and how far an ensemble's members disagree (0 without)."""

    normalised: torch.Tensor
    raw: torch.Tensor
    spread: torch.Tensor


@dataclass
class Scorer:
    """Scores of responses: a reward model, a Python function, or their sum.

    Attributes:
        reward_model: its gain and bias are applied; where its tokenizer differs from the policy's, the text is read anew.
        gain, bias: a second normalisation, fitted on the reference policy's own answers.
        clip: normalised scores of the reward model beyond this count as this; None clips nothing.
    """

    reward_model: RewardModel | None = None
    reward_function: RewardFunction | None = None
    same_tokens: bool = True
    encoder: Encoder | None = None
    max_tokens: int = 16_384
    gain: float = 1.0
    bias: float = 0.0
    clip: float | None = None
    _warned: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        if self.reward_model is None and self.reward_function is None:
            raise ValueError("PPO needs a reward: a reward model, a Python function, or both")

    def __call__(self, responses: Sequence[Response], sequences: Sequence[TokenSequence]) -> Scores:
        """The scores of these responses.

        Raises:
            ValueError: the reward function gave the wrong number of values, or one that is not finite.
        """
        raw, spread = torch.zeros(len(responses)), torch.zeros(len(responses))
        if self.reward_model is not None:
            read = self._reward_sequences(responses, sequences)
            if isinstance(self.reward_model, RewardEnsemble):
                each = self.reward_model.each(read, max_tokens=self.max_tokens)
                raw, spread = each.mean(0), each.std(0, unbiased=False)
            else:
                raw = self.reward_model.score(read, max_tokens=self.max_tokens)
        normalised = self.normalised(raw) if self.reward_model is not None else raw
        if self.reward_function is not None:
            own = torch.tensor(function_scores(self.reward_function, responses))
            self._warn_of_outliers(own)
            raw, normalised = raw + own, normalised + own
        if not torch.isfinite(normalised).all():
            bad = int((~torch.isfinite(normalised)).nonzero()[0])
            raise ValueError(
                f"the reward of response {bad} is {float(normalised[bad])}; rewards must be finite"
            )
        return Scores(normalised, raw, spread)

    def _knows(self, sequences: Sequence[TokenSequence]) -> bool:
        """False where a token has no embedding in the reward model: a pad that was added to the policy alone."""
        if not isinstance(self.reward_model, RewardModel) or self.encoder is None:
            return True
        size = plain_model(self.reward_model.model).get_input_embeddings().weight.shape[0]
        return max(max(s.response_ids) for s in sequences) < size

    def normalised(self, raw: torch.Tensor) -> torch.Tensor:
        """A reward model's scores by the second gain and bias, clipped."""
        scores = raw * self.gain + self.bias
        if self.clip is None:
            return scores
        num_clipped = int((scores.abs() > self.clip).sum())
        if num_clipped:
            self._warn(
                "%d rewards beyond %g standard deviations count as that many", num_clipped, float(self.clip)
            )
        return scores.clamp(-self.clip, self.clip)

    def _warn_of_outliers(self, own: torch.Tensor) -> None:
        """One number that outweighs all others would be nearly all that a rollout teaches."""
        if len(own) < 4 or not torch.isfinite(own).all():
            return
        away = (own - own.median()).abs()
        typical = max(1.0, float(away.median()))
        if float(away.max()) > OUTLIER * typical and float(away.max()) > 0.5 * float(away.sum()):
            self._warn(
                "one reward (%g) lies %g times farther from the median than is typical: it outweighs its rollout",
                float(own[away.argmax()]),
                float(away.max()) / typical,
            )

    def _warn(self, text: str, *values: float) -> None:
        if text not in self._warned:
            log.warning(text, *values)
            self._warned.add(text)

    def _reward_sequences(
        self, responses: Sequence[Response], sequences: Sequence[TokenSequence]
    ) -> Sequence[TokenSequence]:
        if self.same_tokens and self._knows(sequences):
            return sequences
        if self.encoder is None:
            raise ValueError("the policy wrote a token that its reward model does not know")
        return self.encoder.sequences(
            [(*r.prompt.prompt, *r.turns[:-1]) for r in responses],
            [r.text for r in responses],
            tools=[r.prompt.tools for r in responses],
            ended=[r.ended for r in responses],
        )


@torch.no_grad()
def measure(
    config: PPOConfig,
    models: Models,
    *,
    episodes: Sequence[Episode],
    scorer: Scorer,
    world: World = World(),  # noqa: B008
) -> Rollout:
    """Score sampled responses with all models: old and reference log-probabilities, entropy, values, rewards.

    Policy and reference are both read at the sampler's temperature. What the sampler itself said of its tokens goes into
    `drift` and nowhere else.
    """
    temperature = config.sampling.temperature
    sequences = [e.sequence for e in episodes]
    responses = [
        Response(e.prompt, e.turns[-1].text, e.response_ids, e.ended, e.turns if len(e.turns) > 1 else ())
        for e in episodes
    ]
    scores = scorer(responses, sequences)
    lengths = torch.tensor([s.num_trained for s in sequences])
    padded = {
        name: torch.zeros(len(sequences), int(lengths.max()))
        for name in ("old", "reference", "entropy", "values", "rewards")
    }
    for row, episode in enumerate(episodes):
        padded["rewards"][row, : len(episode.rewards)] = torch.tensor(episode.rewards)
    final = torch.zeros(len(sequences))
    all_lengths = [len(s) for s in sequences]
    rows = list(range(len(sequences)))
    for group, _ in shared_groups(rows, all_lengths, max_tokens=config.max_tokens, world=world):
        batch = collate([sequences[i] for i in group], models.actor.device)
        width = padded["old"].shape[1]

        def keep(name: str, flat: torch.Tensor) -> None:
            padded[name][group] = batch.unflatten(flat, width).cpu()  # noqa: B023

        own = models.actor(batch, temperature=temperature, with_entropy=True)
        keep("old", own.log_probs)
        keep("entropy", own.entropy)
        keep("reference", models.anchor(batch, temperature=temperature).log_probs)
        values, last = (own.values, own.final_values) if models.critic is None else models.critic(batch)
        if values is not None and last is not None:
            keep("values", values)
            final[group] = last.cpu()
    sampled = np.concatenate([e.log_probs for e in episodes])
    trained = padded["old"][length_mask(lengths, padded["old"].shape[1])].numpy()
    return Rollout(
        sequences=sequences,
        responses=responses,
        lengths=lengths,
        ended=torch.tensor([e.ended for e in episodes]),
        old_log_probs=padded["old"],
        reference_log_probs=padded["reference"],
        entropy=padded["entropy"],
        values=padded["values"],
        final_values=final,
        scores=scores.normalised,
        raw_scores=scores.raw,
        disagreement=scores.spread,
        turn_rewards=padded["rewards"],
        drift=float(np.abs(sampled - trained).mean()),
    )
