"""Local models as judges for `heedloop judge run`: a checkpoint that is asked by a prompt, and a trained reward model."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM

from heedloop.schema import Comparison, JudgeSpec, Message
from heedloop_trainer.evaluation.judges import load_judge, margins_of
from heedloop_trainer.methods.reward_linear import LinearReward
from heedloop_trainer.nn.checkpoints import load_tokenizer

MAX_NEW_TOKENS = 256


def checkpoint(spec: JudgeSpec, folder: Path) -> Callable[[str], dict[str, Any]]:
    """What answers a prompt: `text`, `probabilities` of the verdicts where the spec reads them, and numbers of tokens.

    The probability of a verdict is that of its first token at the start of the model's turn. `max_tokens` and `device` are
    parameters of the spec; text is the most likely one.

    Raises:
        ValueError: two verdicts begin with the same token.
    """
    tokenizer = load_tokenizer(folder)
    model = cast(Any, AutoModelForCausalLM).from_pretrained(folder).eval()
    model.to(spec.parameters.get("device", "cpu"))
    firsts = {w: tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in spec.verdicts}
    if spec.parser == "token_probability" and len(set(firsts.values())) < len(firsts):
        raise ValueError(f"the verdicts {', '.join(firsts)} begin with the same token; name them otherwise")
    limit, lock = int(getattr(model.config, "max_position_embeddings", 1 << 20)), threading.Lock()

    def answer(prompt: str) -> dict[str, Any]:
        turn = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(
            turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        if ids.shape[1] + MAX_NEW_TOKENS > limit:
            raise ValueError(f"the prompt has {ids.shape[1]} tokens; the model reads {limit}")
        with lock, torch.inference_mode():
            return (
                _probabilities(model, ids, firsts)
                if spec.parser == "token_probability"
                else _text(model, tokenizer, ids, spec)
            )

    return answer


def _probabilities(model: Any, ids: torch.Tensor, firsts: Mapping[str, int]) -> dict[str, Any]:
    shares = torch.softmax(model(ids.to(model.device), logits_to_keep=1).logits[0, -1].float(), -1)
    found = {word: float(shares[token]) for word, token in firsts.items()}
    return {"probabilities": found, "input_tokens": ids.shape[1], "output_tokens": 1}


def _text(model: Any, tokenizer: Any, ids: torch.Tensor, spec: JudgeSpec) -> dict[str, Any]:
    num = int(spec.parameters.get("max_tokens", MAX_NEW_TOKENS))
    out = model.generate(
        ids.to(model.device),
        attention_mask=torch.ones_like(ids).to(model.device),
        max_new_tokens=num,
        do_sample=False,
    )
    new = out[0, ids.shape[1] :]
    text = tokenizer.decode(new, skip_special_tokens=True)
    return {"text": text, "input_tokens": ids.shape[1], "output_tokens": len(new)}


def reward(spec: JudgeSpec, folder: Path) -> Callable[[Sequence[Message], Sequence[str]], float]:
    """What gives an answer to a prompt (or the first of two answers, against the second) its value on 0 to 1.

    It is the logistic of the reward, or of the difference of both rewards, which is the probability that the first wins.
    """
    model = load_judge(folder, device=str(spec.parameters.get("device", "cpu")))
    lock = threading.Lock()

    def value(prompt: Sequence[Message], answers: Sequence[str]) -> float:
        with lock:
            if len(answers) > 1:
                row = Comparison(tuple(prompt), chosen=answers[0], rejected=answers[1])
                raw = float(margins_of(model, [row])[0])
            elif isinstance(model, LinearReward):
                raw = float(model.raw([answers[0]])[0])
            else:
                raw = model.reward_of(prompt, answers[0])
        return 1 / (1 + math.exp(-max(min(raw, 500.0), -500.0)))

    return value
