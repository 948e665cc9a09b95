"""Decoding with shapes that never change: a static cache, and on CUDA one graph that is replayed for every token.

An eager decoding step of a small model waits for its hundreds of kernel launches; replayed as a graph it waits for memory only.
Sampling itself is in the graph, so that a token costs no work of Python. On the CPU the very same steps run one by one, which is
how the tests compare them with `CachedGenerator`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import StaticCache

from heedloop_trainer.generation.cached import (
    CachedGenerator,
    Decoding,
    Generation,
    SamplingConfig,
    choose_tokens,
)
from heedloop_trainer.nn.models import Policy, plain_model
from heedloop_trainer.nn.sequences import PAD_ID

PROMPT_STEP = 64
"""Prompts are padded to a multiple of this, so that few shapes (and graphs) are needed."""
CHECK_EVERY = 16
"""Tokens between two looks at whether everybody has ended: each look waits for the device."""
WARM_UPS = 3


class StaticGenerator(CachedGenerator):
    """As `CachedGenerator`, with the same random numbers and tokens; best for responses of similar length.

    Holds a bfloat16 copy of the policy where `bfloat16` is asked for, refreshed at every call: autocast would read the float32
    weights again for every token.

    Raises:
        ValueError: the model has layers with a sliding window, or an attention that takes no ready-made mask.
    """

    def __init__(self, model: nn.Module, stops: frozenset[int], *, bfloat16: bool = False) -> None:
        config = plain_model(model).config
        kinds = set(getattr(config, "layer_types", None) or ())
        if kinds - {"full_attention"}:
            raise ValueError(
                f"layers of kind {sorted(kinds)} have caches of other shapes; use the cached generator"
            )
        if config._attn_implementation not in ("sdpa", "eager"):
            raise ValueError(
                f"attention {config._attn_implementation!r} takes no ready-made mask; load it with sdpa"
            )
        super().__init__(model, stops)
        self._source = model if bfloat16 else None
        if bfloat16:
            self.policy = Policy(copy.deepcopy(model).to(torch.bfloat16))
        self._decoders: dict[tuple[int, int, int, float], _Decoder] = {}

    def _way_of(self) -> Decoding:
        return "padded"  # what it cannot decode is refused above

    @torch.no_grad()
    def _refresh(self) -> None:
        if self._source is None:
            return
        for own, new in zip(self.policy.model.parameters(), self._source.parameters(), strict=True):
            own.copy_(new)

    def __call__(self, *args: Any, **kwargs: Any) -> list[Generation]:
        """One response per prompt, in the prompts' order; see `CachedGenerator`."""
        self._refresh()
        return super().__call__(*args, **kwargs)

    def _decode(
        self, prompts: Sequence[list[int]], uniforms: np.ndarray, config: SamplingConfig
    ) -> list[Generation]:
        width = -(-max(map(len, prompts)) // PROMPT_STEP) * PROMPT_STEP
        # Always a whole batch: what is missing is decoded as copies of the first prompt and thrown away.
        spare = config.batch_size - len(prompts)
        rows = [*prompts, *([prompts[0]] * spare)]
        numbers = np.concatenate([uniforms, np.repeat(uniforms[:1], spare, 0)])
        key = (len(rows), width, config.max_new_tokens, config.temperature)
        if key not in self._decoders:
            self._decoders[key] = _Decoder(self.policy, *key, self.stops)
        return self._decoders[key](rows, numbers)[: len(prompts)]


class _Decoder:
    """One shape: its cache, its buffers, and on CUDA its graph."""

    def __init__(
        self, policy: Policy, size: int, width: int, count: int, temperature: float, stops: frozenset[int]
    ) -> None:
        self.policy, self.width, self.count, self.temperature = policy, width, count, temperature
        device, total = policy.device, width + count
        model = plain_model(policy.model)
        self.additive = model.config._attn_implementation == "eager"
        self.cache = StaticCache(config=model.config, max_cache_len=total)
        self.stops = torch.tensor(sorted(stops), device=device, dtype=torch.long)
        self.ids = torch.full((size, 1), PAD_ID, device=device)
        self.positions = torch.zeros(size, 1, dtype=torch.long, device=device)
        self.seen = torch.zeros(size, 1, 1, total, dtype=torch.bool, device=device)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.turn = torch.zeros(1, dtype=torch.long, device=device)
        self.numbers = torch.zeros(count, size, device=device)
        self.tokens = torch.zeros(count, size, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(count, size, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, prompts: Sequence[list[int]], numbers: np.ndarray) -> list[Generation]:
        if self.policy.device.type == "cuda" and self.graph is None:
            self._capture(prompts, numbers)
        self._prefill(prompts, numbers)
        for t in range(1, self.count):
            self.graph.replay() if self.graph is not None else self._step()
            if t % CHECK_EVERY == 0 and self._all_ended(t):
                break
        return self._results()

    def _prefill(self, prompts: Sequence[list[int]], numbers: np.ndarray) -> None:
        """Read the prompts, padded on the left, and write each row's first token."""
        device = self.policy.device
        ids = torch.full((len(prompts), self.width), PAD_ID)
        for i, prompt in enumerate(prompts):
            ids[i, self.width - len(prompt) :] = torch.tensor(prompt)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        places = torch.arange(self.width, device=device)
        real = places[None, :] >= self.width - lengths[:, None]
        self.cache.reset()
        self.tokens.zero_()
        self.numbers.copy_(torch.from_numpy(numbers).T)
        self.seen.zero_()
        self.seen[:, 0, 0, : self.width] = real
        mask = torch.zeros(
            len(prompts), 1, self.width, self.width + self.count, dtype=torch.bool, device=device
        )
        mask[..., : self.width] = (places[None, :] <= places[:, None]) & real[:, None, None, :]
        positions = (places[None, :] - (self.width - lengths)[:, None]).clamp(min=0)
        logits = self._logits(ids.to(device), positions, self._mask(mask))
        self.positions.copy_(lengths[:, None])
        self.column.fill_(self.width)
        self.turn.zero_()
        self._write(logits)

    def _step(self) -> None:
        """Read the last tokens, write the next ones. No shape and no decision depends on what was sampled."""
        self.seen.index_fill_(3, self.column, True)
        logits = self._logits(self.ids, self.positions, self._mask(self.seen))
        self.positions.add_(1)
        self.column.add_(1)
        self._write(logits)

    def _logits(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.policy.next_logits(
            ids, position_ids=positions, attention_mask=mask, past_key_values=self.cache, use_cache=True
        )

    def _write(self, logits: torch.Tensor) -> None:
        tokens, log_probs = choose_tokens(
            logits, self.numbers.index_select(0, self.turn)[0], self.temperature
        )
        self.tokens.index_copy_(0, self.turn, tokens[None])
        self.log_probs.index_copy_(0, self.turn, log_probs[None])
        self.ids.copy_(tokens[:, None])
        self.turn.add_(1)

    def _mask(self, seen: torch.Tensor) -> torch.Tensor:
        if not self.additive:
            return seen
        dtype = next(self.policy.model.parameters()).dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)

    def _capture(self, prompts: Sequence[list[int]], numbers: np.ndarray) -> None:
        """Record one step as a graph, after a few on a stream of their own, as CUDA wants it; the next prefill resets all."""
        self._prefill(prompts, numbers)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(min(WARM_UPS, self.count - 2)):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        if self.count < WARM_UPS + 3:
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self.graph = graph

    def _all_ended(self, t: int) -> bool:
        return bool(torch.isin(self.tokens[: t + 1], self.stops).any(0).all())

    def _results(self) -> list[Generation]:
        stopped = torch.isin(self.tokens, self.stops)
        ended = stopped.any(0).tolist()
        first = stopped.long().argmax(0).tolist()
        tokens, log_probs = self.tokens.T.tolist(), self.log_probs.T.tolist()
        lengths = [k + 1 if e else self.count for k, e in zip(first, ended, strict=True)]
        return [Generation(tokens[i][:n], log_probs[i][:n], ended[i]) for i, n in enumerate(lengths)]
