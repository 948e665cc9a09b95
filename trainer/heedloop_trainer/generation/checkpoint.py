"""Answers of a local checkpoint for `heedloop review generate --checkpoint` and `heedloop evaluate FOLDER`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from heedloop.schema import Message, PromptRow
from heedloop_trainer.evaluation.evaluate import sample_responses
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer, prompts_as_trained


def answerer(
    folder: Path, *, temperature: float = 0.8, max_tokens: int = 512, seed: int = 0, device: str = "cpu"
) -> Callable[[Sequence[Message], int], list[str]]:
    """What gives several sampled answers of the checkpoint to one prompt; every call draws new random numbers."""
    policy, tokenizer = load_policy(folder, device=device).eval(), load_tokenizer(folder)
    written, calls = prompts_as_trained(folder), 0

    def answer(prompt: Sequence[Message], num: int) -> list[str]:
        nonlocal calls
        calls += 1
        config = SamplingConfig(max_new_tokens=max_tokens, temperature=temperature, seed=seed + calls)
        rows = [PromptRow(tuple(prompt))] * num
        return [r.text for r in sample_responses(policy, tokenizer, rows, config, written=written)]

    return answer
