"""A model that answers: questions asked at the same time are generated together, as model servers do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from heedloop.schema import Message
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import stop_ids

MAX_ANSWER_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model said. `finish_reason` is `stop`, or `length` where the token limit cut it off."""

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str


class ServedModel:
    """A checkpoint under a name, sampled at temperature 1.

    Requests that wait when the event loop comes round are generated as one batch. What is sampled depends on the seed and
    the order of the requests alone, so that a demo with the same seed shows the same answers.
    """

    def __init__(self, name: str, folder: Path, *, seed: int = 0, batch_size: int = 128) -> None:
        self.name = name
        self.max_tokens = MAX_ANSWER_TOKENS
        self.tokenizer = load_tokenizer(folder)
        model = load_policy(folder).eval()
        self._generate = CachedGenerator(model, stop_ids(model, self.tokenizer))
        self._encoder = Encoder(self.tokenizer, 160, MAX_ANSWER_TOKENS)
        self._sampling = SamplingConfig(max_new_tokens=MAX_ANSWER_TOKENS, batch_size=batch_size, seed=seed)
        self._waiting: list[tuple[list[int], asyncio.Future[Completion]]] = []
        self._num_batches = 0

    async def complete(self, messages: tuple[Message, ...]) -> Completion:
        """The model's answer to a conversation."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._answer_waiting)
        self._waiting.append((self._encoder.prompts([messages])[0], future))
        return await future

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        prompts = [prompt for prompt, _ in waiting]
        generations = self._generate(prompts, self._sampling, step=self._num_batches)
        self._num_batches += 1
        for (prompt, future), generation in zip(waiting, generations, strict=True):
            text = self._encoder.decode(generation.response_ids).strip()
            reason = "stop" if generation.ended else "length"
            if not future.cancelled():
                future.set_result(Completion(text, len(prompt), len(generation.response_ids), reason))
