"""Decoding by transformers' continuous batching: rows of very different length share the device without waiting for each other.

For many prompts whose answers vary in length; on a CPU it is an order of magnitude slower than the cached decoder. What is
sampled follows torch's own generator, seeded by (seed, step): the same call gives the same answers, another batch does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import ContinuousBatchingConfig, GenerationConfig

from heedloop_trainer.generation.cached import Generation, SamplingConfig
from heedloop_trainer.nn.models import Policy, evaluating, plain_model


class ContinuousGenerator:
    """A `Generator` over `generate_batch`; full support, log-probabilities from the engine."""

    def __init__(self, model: nn.Module, stops: frozenset[int]) -> None:
        self.policy, self.stops = Policy(model), stops

    def __call__(
        self,
        prompts: Sequence[list[int]],
        config: SamplingConfig,
        *,
        step: int = 0,
        rows: Sequence[int] | None = None,  # noqa: ARG002  (the protocol's; the engine draws for all rows at once)
    ) -> list[Generation]:
        """One response per prompt, in the prompts' order.

        Raises:
            RuntimeError: the engine gave up on a request.
        """
        torch.manual_seed(config.seed * 1_000_003 + step)
        wanted = GenerationConfig(
            do_sample=config.temperature > 0,
            temperature=config.temperature or 1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=config.max_new_tokens,
            eos_token_id=sorted(self.stops) or -1,
            pad_token_id=0,
        )
        batching = ContinuousBatchingConfig(return_logprobs=True)
        if (
            self.policy.device.type == "cpu"
        ):  # the engine would reserve most of the memory, as it does of a GPU's
            lengths = [len(p) + config.max_new_tokens for p in prompts]
            batching.max_batch_tokens = max(sum(map(len, prompts)), len(prompts))
            batching.num_blocks = sum(n // batching.page_size + 1 for n in lengths)
        with evaluating(self.policy):
            done = plain_model(self.policy.model).generate_batch(
                [list(p) for p in prompts], generation_config=wanted, continuous_batching_config=batching
            )
        # Requests are numbered in the prompts' order, and come back in the order in which they ended.
        found = [done[name] for name in sorted(done, key=lambda n: int(n.rsplit("_", 1)[1]))]
        failed = [o.error for o in found if o.error]
        if failed or len(found) != len(prompts):
            raise RuntimeError(
                f"continuous batching answered {len(found)} of {len(prompts)} prompts: {failed[:1]}"
            )
        return [
            Generation(list(o.generated_tokens), list(o.logprobs), o.generated_tokens[-1] in self.stops)
            for o in found
        ]
