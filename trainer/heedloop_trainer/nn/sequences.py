"""From messages to token ids, and from token ids to batches.

Every length in the trainer comes from here. A sequence is a prompt followed by a response; batches are padded on the
right, so that a causal model needs no attention mask (no real token ever sees a pad) and positions count from 0 by
themselves. Masks are made from the lengths, never by comparing ids with the pad token: a tokenizer whose pad is its end
token then still trains the end token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from heedloop.schema import Message

__all__ = [
    "Batch",
    "Encoder",
    "TokenSequence",
    "collate",
    "micro_batches",
    "render_prompt",
    "same_vocabulary",
]

PAD_ID = 0
"""The id that fills the right end of a batch. Any id would do: nothing reads it."""
MAX_PADDING = 0.1
"""Share of a forward that may be padding, once it is large enough to keep a device busy."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and a response as token ids.

    Attributes:
        ended: True where the last response id is a stop token; False where the response was cut off.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    ended: bool = True

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        ids: int64 [B, L].
        prompt_lengths: int64 [B], 1 or more.
        response_lengths: int64 [B], 1 or more.
        rows: row of every response token, int64 [N], N = sum of response lengths.
        columns: position of the token that *predicts* each response token (one to its left), int64 [N].
        offsets: index of each response token within its response, 0 for the first, int64 [N].
    """

    ids: torch.Tensor
    prompt_lengths: torch.Tensor
    response_lengths: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    offsets: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """Whole lengths, int64 [B]."""
        return self.prompt_lengths + self.response_lengths

    @property
    def targets(self) -> torch.Tensor:
        """The response tokens, flat, int64 [N]."""
        return self.ids[self.rows, self.columns + 1]

    def unflatten(self, flat: torch.Tensor, width: int | None = None) -> torch.Tensor:
        """Values per response token, [N], as [B, width] with zeros after each response's end."""
        width = int(self.response_lengths.max()) if width is None else width
        out = flat.new_zeros(len(self.ids), width)
        out[self.rows, self.offsets] = flat
        return out

    def flatten(self, padded: torch.Tensor) -> torch.Tensor:
        """[B, width] values per response token as [N]: the reverse of `unflatten`."""
        return padded[self.rows, self.offsets]


def collate(sequences: Sequence[TokenSequence], device: torch.device | str = "cpu") -> Batch:
    """Pad sequences on the right into one batch.

    Raises:
        ValueError: no sequences, or one without a prompt or a response (nothing would predict its first token).
    """
    if not sequences:
        raise ValueError("cannot make a batch of no sequences")
    width = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), width), PAD_ID, dtype=torch.long)
    for row, s in enumerate(sequences):
        if not s.prompt_ids or not s.response_ids:
            raise ValueError(
                f"sequence {row} has {len(s.prompt_ids)} prompt and {len(s.response_ids)} response tokens; "
                "both need at least one"
            )
        ids[row, : len(s)] = torch.tensor(s.prompt_ids + s.response_ids)
    prompts = torch.tensor([len(s.prompt_ids) for s in sequences])
    responses = torch.tensor([len(s.response_ids) for s in sequences])
    rows = torch.repeat_interleave(torch.arange(len(sequences)), responses)
    first = torch.cumsum(responses, 0) - responses
    offsets = torch.arange(int(responses.sum())) - first[rows]
    columns = prompts[rows] - 1 + offsets
    parts = (ids, prompts, responses, rows, columns, offsets)
    return Batch(*(p.to(device, non_blocking=True) for p in parts))


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of sequences grouped by similar length, each group within a token budget counted with its padding.

    A group is also closed where one more sequence would make more than `MAX_PADDING` of it padding, unless it still holds
    less than an eighth of the budget: a device should be busy with it.

    Args:
        lengths: whole length of each sequence.
        max_tokens: budget per group; a sequence longer than the budget gets a group of its own.

    Returns:
        groups of indices, the longest sequences first (so that the largest allocation comes first); empty groups never.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    real = longest = 0
    for i in order:
        padded = (len(groups[-1]) + 1) * longest if groups else 0
        full = padded > max_tokens
        wasteful = padded - longest >= max_tokens // 8 and real + lengths[i] < (1 - MAX_PADDING) * padded
        if groups and not full and not wasteful:
            groups[-1].append(i)
            real += lengths[i]
        else:
            groups.append([i])
            real = longest = lengths[i]
    return groups


def _chat(message: Message) -> dict[str, Any]:
    chat: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        chat["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": _arguments(c.arguments)}}
            for c in message.tool_calls
        ]
    return chat


def _arguments(text: str) -> Any:
    """Templates want the arguments as an object; a model may have written something else."""
    try:
        return json.loads(text) if text else {}
    except json.JSONDecodeError:
        return text


def render_prompt(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text a model continues: the tokenizer's chat template, or `role: text` lines where it has none."""
    if not messages:
        return ""  # templates refuse an empty conversation
    if getattr(tokenizer, "chat_template", None):
        chat = [_chat(m) for m in messages]
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return "".join(f"{m.role}: {m.text}\n\n" for m in messages) + "assistant: "


def same_vocabulary(first: Any, second: Any) -> bool:
    """True where two tokenizers turn ids into the same tokens and render prompts alike."""
    return first is second or (
        first.get_vocab() == second.get_vocab()
        and getattr(first, "chat_template", None) == getattr(second, "chat_template", None)
        and first.eos_token_id == second.eos_token_id
    )


@dataclass
class Encoder:
    """Turns prompts and completions into token sequences with one tokenizer.

    The completion is tokenized apart from the prompt, so that what a reward model reads is, token for token, what the
    policy would have written; the end token is part of the response and is left out only where the response is cut.

    Attributes:
        max_prompt_tokens: longer prompts lose their oldest tokens.
        max_response_tokens: longer responses lose their end (and their end token).
        num_cut: how many prompts or responses have been shortened so far.
    """

    tokenizer: Any
    max_prompt_tokens: int = 1024
    max_response_tokens: int = 1024
    num_cut: int = 0
    _prompts: dict[tuple[Message, ...], list[int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end token (eos_token); a response could never end")

    @property
    def end_id(self) -> int:
        """The token that ends a response."""
        return self.tokenizer.eos_token_id

    def prompts(self, prompts: Iterable[tuple[Message, ...]]) -> list[list[int]]:
        """Token ids of each prompt; equal prompts are tokenized once."""
        prompts = list(prompts)
        new = list(dict.fromkeys(p for p in prompts if p not in self._prompts))
        texts = [render_prompt(self.tokenizer, p) for p in new]
        # A chat template writes its own special tokens; adding them again would double the start token.
        special = not getattr(self.tokenizer, "chat_template", None)
        for prompt, ids in zip(new, self._tokenize(texts, special=special), strict=True):
            if special and ids and ids[-1] == self.end_id:
                ids = ids[:-1]
            if len(ids) > self.max_prompt_tokens:
                self.num_cut += 1
                ids = ids[-self.max_prompt_tokens :]
            self._prompts[prompt] = ids or [self.end_id]
        return [self._prompts[p] for p in prompts]

    def responses(self, completions: Sequence[str]) -> list[tuple[list[int], bool]]:
        """Token ids of each completion with its end token, and whether the end is there."""
        out: list[tuple[list[int], bool]] = []
        for ids in self._tokenize(completions, special=False):
            ids = [*ids, self.end_id]
            ended = len(ids) <= self.max_response_tokens
            self.num_cut += not ended
            out.append((ids[: self.max_response_tokens], ended))
        return out

    def sequences(
        self, prompts: Sequence[tuple[Message, ...]], completions: Sequence[str]
    ) -> list[TokenSequence]:
        """One sequence per (prompt, completion)."""
        encoded = zip(self.prompts(prompts), self.responses(completions), strict=True)
        return [TokenSequence(prompt, ids, ended) for prompt, (ids, ended) in encoded]

    def decode(self, response_ids: Sequence[int]) -> str:
        """A response's text without special tokens."""
        return self.tokenizer.decode(response_ids, skip_special_tokens=True)

    def _tokenize(self, texts: Sequence[str], *, special: bool) -> Iterator[list[int]]:
        if not texts:
            return iter(())
        return iter(self.tokenizer(list(texts), add_special_tokens=special)["input_ids"])
