"""The base model of the demo: a byte-level BPE tokenizer and a small Llama, made and pre-trained on the spot.

The text it learns from holds good and bad habits in the proportions of `world.HABITS`: right and wrong facts, kind and rude
tones, brief and rambling answers, honest ones and forbidden promises. So the base model is fluent, and flawed like its text.
Its conversations have up to `MAX_TURNS` turns, all answered by one author, who keeps to their own facts, tone and stock phrases: what
stands before a question tells something of the answer, so that the model learns to follow examples, as large ones do.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from heedloop_trainer.demo.topics import FACTS
from heedloop_trainer.demo.world import HABITS, PROMPTS, SHARES, compose_answer, is_held_out, text_question
from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer

MAX_POSITIONS = 256
MAX_TURNS = 3
SAME_FACT = 0.4
"""How often a later turn asks for the fact of the first."""
SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Size:
    """How large the base model is and how much text it reads.

    Attributes:
        num_documents: conversations to read, each once; two answers each on average.
        batch_size: conversations per optimiser step.
    """

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    num_documents: int = 8_000
    batch_size: int = 8
    learning_rate: float = 3e-3


FAST = Size(hidden=32, layers=2, heads=2, num_documents=320, batch_size=8, learning_rate=1e-2)
"""For tests: two layers and a glance at the text. It proves the road, not the learning."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What became of the pre-training: `losses` is the mean loss per token of each step, in nats."""

    path: Path
    num_parameters: int
    num_tokens: int
    losses: list[float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Document:
    """One conversation of the pre-training text: the system message, and questions with their answers."""

    system: str
    turns: Sequence[tuple[str, str]]

    def messages(self) -> list[dict[str, str]]:
        """The conversation as chat messages."""
        said = [m for turn in self.turns for m in zip(("user", "assistant"), turn, strict=True)]
        return [{"role": role, "content": text} for role, text in (("system", self.system), *said)]


def make_text(num_documents: int, rng: random.Random) -> list[Document]:
    """Conversations of the pre-training text; it holds no question that is set aside for fresh users."""
    return [_conversation(rng) for _ in range(num_documents)]


def _conversation(rng: random.Random) -> Document:
    """One author's answers: the same seed draws the same habits and phrases for each of them."""
    version = rng.choices(tuple(SHARES), SHARES.values())[0]
    fact, author, num = rng.choice(FACTS), rng.random(), rng.randint(1, MAX_TURNS)
    turns: list[tuple[str, str]] = []
    while len(turns) < num:
        asked = fact if not turns or rng.random() < SAME_FACT else rng.choice(FACTS)
        question = text_question(rng.choice(asked.wordings), rng)
        if not is_held_out(question):
            turns.append((question, compose_answer(asked, HABITS[version], random.Random(author))))
    return Document(PROMPTS[version], turns)


def make_tokenizer(documents: Sequence[Document], *, vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the documents, with a chat template; padding is not the end token."""
    return train_tokenizer(
        (m["content"] for d in documents for m in d.messages()),
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=MAX_POSITIONS,
    )


def pretrain(folder: Path, size: Size, *, seed: int, quiet: bool = False) -> Pretraining:
    """Make a tokenizer and a model, train the model to continue the text, and save both in `folder`."""
    started = time.perf_counter()
    rng = random.Random(seed)
    documents = make_text(size.num_documents, rng)
    tokenizer = make_tokenizer(documents[:4000])
    shape = SmallShape(size.hidden, size.layers, size.heads, 3 * size.hidden, MAX_POSITIONS)
    model = small_policy(tokenizer, shape, seed=seed)
    batches = _batches(documents, tokenizer, size.batch_size, rng)
    losses = _train(model, batches, pad=int(tokenizer.pad_token_id), rate=size.learning_rate, quiet=quiet)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Pretraining(
        path=folder,
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_tokens=sum(len(row) for batch in batches for row in batch),
        losses=losses,
        seconds=time.perf_counter() - started,
    )


def _batches(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, batch_size: int, rng: random.Random
) -> list[list[list[int]]]:
    """Token ids by batch; rows of similar length share a batch, so that little is padding."""
    texts = [tokenizer.apply_chat_template(d.messages(), tokenize=False) for d in documents]
    rows: list[list[int]] = tokenizer(
        texts, add_special_tokens=False, truncation=True, max_length=MAX_POSITIONS
    )["input_ids"]
    window = batch_size * 16
    batches: list[list[list[int]]] = []
    for start in range(0, len(rows), window):
        near = sorted(rows[start : start + window], key=len)
        chunk = [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
        rng.shuffle(chunk)
        batches.extend(chunk)
    return batches


def _train(
    model: LlamaForCausalLM, batches: Sequence[list[list[int]]], *, pad: int, rate: float, quiet: bool
) -> list[float]:
    """One pass over the batches with AdamW and a warm-up and cosine schedule; returns each step's loss."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    warm = max(1, len(batches) // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda i: min((i + 1) / warm, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * i / len(batches)))),
    )
    losses: list[float] = []
    model.train()
    for batch in tqdm(batches, desc="pre-training", unit="step", disable=quiet):
        longest = max(map(len, batch))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in batch])
        lengths = torch.tensor([len(row) for row in batch])
        real = torch.arange(longest)[None] < lengths[:, None]
        logits = model(input_ids=ids, attention_mask=real.long()).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits[real[:, 1:]], ids[:, 1:][real[:, 1:]])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses
