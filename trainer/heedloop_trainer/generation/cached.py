"""Generation: responses sampled from the policy over its full support.

There is no top-p and no top-k here: a rollout that leaves out the tail of the distribution biases every ratio by the mass
it kept. Each response draws from its own stream of uniform numbers, keyed by (seed, step, row), so
that neither the batch size nor the order of the rows changes what is sampled.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from heedloop_trainer.nn.models import Policy, evaluating, plain_model
from heedloop_trainer.nn.sequences import PAD_ID, TokenSequence, collate

log = logging.getLogger(__name__)

Decoding = Literal["padded", "even", "uncached"]
"""How a model is decoded: prompts padded on the left, prompts of one length only, or without a cache."""

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
    """Decoding with a growing cache: any model, any device.

    Prompts are sorted by length, so that a batch carries little left padding; with none at all no mask is made. Rows that
    have ended leave the batch when at least half of it is done. A few tokens are written when the model is first met: where
    they do not have the log-probabilities of the training forward, only prompts of one length are decoded together, and
    where that is not enough, all tokens are read again for each new one.
    """

    def __init__(self, model: nn.Module, stops: frozenset[int], *, bfloat16: bool = False) -> None:
        self.policy = Policy(model, bfloat16=bfloat16)
        self.stops = stops
        self.way: Decoding = self._way_of()

    def _way_of(self) -> Decoding:
        """The fastest way of decoding that gives this model's own distribution; found out once per model."""
        plain = plain_model(self.policy.model)
        if "heedloop_decoding" not in plain.__dict__:
            plain.heedloop_decoding = self._fastest_right()
        way: Decoding = plain.heedloop_decoding
        if way == "uncached":
            log.warning("%s cannot be decoded with a cache: sampling is slow", type(plain).__name__)
        return way

    def _fastest_right(self) -> Decoding:
        if self._is_right("padded"):
            return "padded"
        return "even" if self._is_right("even") else "uncached"

    def _is_right(self, way: Decoding) -> bool:
        """True where sampled tokens have the log-probabilities of the training forward, also after rows have left the batch."""
        size = min(1000, plain_model(self.policy.model).get_input_embeddings().weight.shape[0])
        prompts = [[(7 * k + i) % size for k in range(1, n)] for i, n in enumerate((9, 9, 7, 6, 4))]
        stops, self.stops, self.way = self.stops, frozenset(range(0, size, 2)), way
        exact = not self.policy.bfloat16 and next(self.policy.parameters()).dtype == torch.float32
        try:
            done = self(prompts, SamplingConfig(max_new_tokens=6))
            found = [TokenSequence(p, g.response_ids) for p, g in zip(prompts, done, strict=True)]
            with evaluating(self.policy):
                trained = self.policy(collate(found, self.policy.device)).log_probs.cpu()
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError, NotImplementedError):
            return False
        finally:
            self.stops = stops
        sampled = torch.tensor([x for g in done for x in g.log_probs])
        return bool(((trained - sampled).abs() < (1e-3 if exact else 0.2)).all())

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
            for part in self._parts(order, prompts, config.batch_size):
                uniforms = row_uniforms(config.seed, step, [keys[i] for i in part], config.max_new_tokens)
                done = self._decode([prompts[i] for i in part], uniforms, config)
                for i, generation in zip(part, done, strict=True):
                    out[i] = generation
                if on_progress is not None:
                    on_progress(len(part))
        return [g for g in out if g is not None]

    def _parts(self, order: list[int], prompts: Sequence[list[int]], size: int) -> Iterator[list[int]]:
        """The prompts that are decoded together: in batches, of one length where padding is not understood."""
        runs = [order]
        if self.way == "even":
            runs = [list(run) for _, run in itertools.groupby(order, key=lambda i: len(prompts[i]))]
        for run in runs:
            yield from (run[k : k + size] for k in range(0, len(run), size))

    def _decode(
        self, prompts: Sequence[list[int]], uniforms: np.ndarray, config: SamplingConfig
    ) -> list[Generation]:
        writing = _Writing(prompts, uniforms, config, self.stops, self.policy.device)
        if self.way == "uncached":
            return self._decode_uncached(prompts, writing)
        cache = DynamicCache(config=plain_model(self.policy.model).config)
        ids, positions, mask = writing.prompt_inputs()
        for t in range(config.max_new_tokens):
            logits = self.policy.next_logits(
                ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
            )
            tokens = writing.add(t, logits)
            if writing.all_done():
                break
            kept = writing.compact()
            if kept is not None:
                # Every kind of layer knows this; `batch_select_indices` forgets recurrent states.
                cache.reorder_cache(kept)
                tokens = tokens[kept]
            ids, positions, mask = writing.next_inputs(tokens)
        return writing.results()

    def _decode_uncached(self, prompts: Sequence[list[int]], writing: _Writing) -> list[Generation]:
        """Read everything again for every token, padded on the right as in training: slow, and right for any causal model."""
        texts = [list(p) for p in prompts]
        for t in range(writing.config.max_new_tokens):
            rows = writing.active.tolist()
            batch = collate([TokenSequence(texts[i], [PAD_ID]) for i in rows], self.policy.device)
            tokens = writing.add(t, self.policy.response_logits(batch))
            for row, token in zip(rows, tokens.tolist(), strict=True):
                texts[row].append(token)
            if writing.all_done():
                break
            writing.compact()
        return writing.results()


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
