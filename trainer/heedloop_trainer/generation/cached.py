"""Generation: responses sampled from the policy over its full support.

There is no top-p and no top-k here: a rollout that leaves out the tail of the distribution biases every ratio by the mass
it kept (TRAINING.md 1.2). Each response draws from its own stream of uniform numbers, keyed by (seed, step, row), so
that neither the batch size nor the order of the rows changes what is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import Cache, DynamicCache

from heedloop_trainer.nn.models import Policy, evaluating, plain_model
from heedloop_trainer.nn.sequences import PAD_ID

__all__ = [
    "CachedGenerator",
    "Generation",
    "Generator",
    "SamplingConfig",
    "body_forward",
    "choose_tokens",
    "row_uniforms",
]

COMPACT_SHARE = 0.5
"""When at most this share of the rows is still being written, the finished ones leave the batch and its cache."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How responses are sampled.

    Attributes:
        max_new_tokens: the longest response, end token included.
        temperature: 1 is the model's own distribution; 0 takes the most likely token.
        batch_size: prompts decoded together.
        seed: with the step and the row it keys every random number.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.batch_size < 1:
            raise ValueError("max_new_tokens and batch_size must be 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled response.

    Attributes:
        response_ids: with the stop token where it was reached.
        log_probs: the sampler's own log-probability of each token; only a drift alarm, never trained on.
        ended: True where a stop token was written, False where the length ran out.
    """

    response_ids: list[int]
    log_probs: list[float]
    ended: bool


class Generator(Protocol):
    """Anything that writes responses: the cached decoder here, CUDA graphs, continuous batching, a vLLM server."""

    def __call__(
        self,
        prompts: Sequence[list[int]],
        config: SamplingConfig,
        *,
        step: int = 0,
        rows: Sequence[int] | None = None,
    ) -> list[Generation]: ...


def row_uniforms(seed: int, step: int, rows: Sequence[int], count: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 [len(rows), count], each row from its own Philox stream."""
    out = np.empty((len(rows), count))
    for i, row in enumerate(rows):
        key = np.array([seed & (2**64 - 1), (step << 32) | row], dtype=np.uint64)
        out[i] = np.random.Generator(np.random.Philox(key=key)).random(count)
    return out


def choose_tokens(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens by inverting the distribution function at `uniforms`, and their log-probabilities.

    Args:
        logits: [B, V]; uniforms: [B] in [0, 1).

    Returns:
        int64 [B] and float32 [B], the latter under softmax(logits / temperature), or of the greedy choice at 0.
    """
    logits = logits.float()
    if temperature == 0:
        log_probs = torch.log_softmax(logits, -1)
        best = log_probs.max(-1)
        return best.indices, best.values
    log_probs = torch.log_softmax(logits / temperature if temperature != 1 else logits, -1)
    cumulative = log_probs.exp().cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding may bring u x total up to the total itself, which lies beyond every token.
    point = torch.minimum(
        uniforms.to(cumulative.dtype)[:, None] * total, torch.nextafter(total, torch.zeros_like(total))
    )
    tokens = torch.searchsorted(cumulative, point, right=True)
    return tokens[:, 0], log_probs.gather(-1, tokens)[:, 0]


class CachedGenerator:
    """Decoding with a growing key-value cache: any model, any device.

    Prompts are sorted by length, so that a batch carries little left padding; with none at all no mask is made. Rows that
    have ended leave the batch when at least half of it is done.
    """

    def __init__(self, model: nn.Module, stops: frozenset[int], *, bfloat16: bool = False) -> None:
        self.policy = Policy(model, bfloat16=bfloat16)
        self.stops = stops

    def __call__(
        self,
        prompts: Sequence[list[int]],
        config: SamplingConfig,
        *,
        step: int = 0,
        rows: Sequence[int] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """One response per prompt, in the prompts' order.

        Args:
            prompts: token ids; each at least one.
            step: the rollout's number; the same (seed, step, row) gives the same random numbers.
            rows: each prompt's row in the whole rollout, where this is one rank's part of it; 0, 1, … where None.
        """
        keys = list(range(len(prompts))) if rows is None else list(rows)
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        out: list[Generation | None] = [None] * len(prompts)
        with evaluating(self.policy):
            for start in range(0, len(order), config.batch_size):
                part = order[start : start + config.batch_size]
                uniforms = row_uniforms(config.seed, step, [keys[i] for i in part], config.max_new_tokens)
                done = self._decode([prompts[i] for i in part], uniforms, config)
                for i, generation in zip(part, done, strict=True):
                    out[i] = generation
                if on_progress is not None:
                    on_progress(len(part))
        return [g for g in out if g is not None]

    def _decode(
        self, prompts: Sequence[list[int]], uniforms: np.ndarray, config: SamplingConfig
    ) -> list[Generation]:
        writing = _Writing(prompts, uniforms, config, self.stops, self.policy.device)
        cache = DynamicCache(config=plain_model(self.policy.model).config)
        ids, positions, mask = writing.prompt_inputs()
        for t in range(config.max_new_tokens):
            with self.policy.arithmetic():
                hidden = body_forward(self.policy.model, ids, positions, mask, cache)
            tokens = writing.add(t, self.policy.logits(hidden[:, -1]))
            if writing.all_done():
                break
            kept = writing.compact()
            if kept is not None:
                cache.batch_select_indices(kept)
                tokens = tokens[kept]
            ids, positions, mask = writing.next_inputs(tokens)
        return writing.results()


def body_forward(
    model: nn.Module, ids: torch.Tensor, positions: Any, mask: Any, cache: Cache
) -> torch.Tensor:
    """Last hidden states, [B, T, H], of tokens that follow what the cache holds."""
    plain = plain_model(model)
    decoder = getattr(plain, plain.base_model_prefix)
    out = decoder(
        input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
    )
    return out.last_hidden_state


class _Writing:
    """The rows of one batch while they are being written: which are left, what they have said."""

    def __init__(
        self,
        prompts: Sequence[list[int]],
        uniforms: np.ndarray,
        config: SamplingConfig,
        stops: frozenset[int],
        device: torch.device,
    ) -> None:
        size, width = len(prompts), max(map(len, prompts))
        lengths = torch.tensor([len(p) for p in prompts])
        ids = torch.full((size, width), PAD_ID)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
        self.prompt_ids = ids.to(device)
        self.config = config
        self.stops = torch.tensor(sorted(stops), device=device)
        self.uniforms = torch.from_numpy(uniforms).to(device, torch.float32)
        self.tokens = torch.zeros(size, config.max_new_tokens, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(size, config.max_new_tokens, device=device)
        self.lengths = torch.zeros(size, dtype=torch.long, device=device)
        self.ended = torch.zeros(size, dtype=torch.bool, device=device)
        self.active = torch.arange(size, device=device)
        self.positions = lengths.to(device)
        padding = (width - lengths).to(device)
        self.mask: torch.Tensor | None = None
        if bool((lengths != width).any()):
            self.mask = (torch.arange(width, device=device)[None, :] >= padding[:, None]).long()

    def prompt_inputs(self) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if self.mask is None:
            return self.prompt_ids, None, None
        return self.prompt_ids, (self.mask.cumsum(-1) - 1).clamp(min=0), self.mask

    def add(self, t: int, logits: torch.Tensor) -> torch.Tensor:
        """Write token `t` of every active row that has not ended; answers the tokens of all active rows."""
        rows = self.active
        tokens, log_probs = choose_tokens(logits, self.uniforms[rows, t], self.config.temperature)
        open_rows = ~self.ended[rows]
        self.tokens[rows, t] = tokens
        self.log_probs[rows, t] = log_probs
        self.lengths[rows] += open_rows.long()
        self.ended[rows] |= torch.isin(tokens, self.stops)
        return tokens

    def all_done(self) -> bool:
        self.open = ~self.ended[self.active]
        self.num_open = int(self.open.sum())
        return self.num_open == 0

    def compact(self) -> torch.Tensor | None:
        """Indices of the rows to keep, where so many have ended that it pays; None otherwise."""
        if self.num_open > COMPACT_SHARE * len(self.active):
            return None
        kept = self.open.nonzero()[:, 0]
        self.active, self.positions = self.active[kept], self.positions[kept]
        self.mask = None if self.mask is None else self.mask[kept]
        return kept

    def next_inputs(
        self, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if self.mask is None:
            return tokens[:, None], None, None
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        positions = self.positions[:, None]
        self.positions = self.positions + 1
        return tokens[:, None], positions, self.mask

    def results(self) -> list[Generation]:
        lengths, ended = self.lengths.tolist(), self.ended.tolist()
        tokens, log_probs = self.tokens.tolist(), self.log_probs.tolist()
        return [Generation(tokens[i][:n], log_probs[i][:n], ended[i]) for i, n in enumerate(lengths)]
