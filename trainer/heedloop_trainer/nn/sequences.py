"""From messages to token ids, and from token ids to batches.

Every length in the trainer comes from here. A sequence is a prompt followed by a response; batches are padded on the
right, so that a causal model needs no attention mask (no real token ever sees a pad) and positions count from 0 by
themselves. Masks are made from the lengths, never by comparing ids with the pad token: a tokenizer whose pad is its end
token then still trains the end token.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import torch

from heedloop.schema import Comparison, Demonstration, Message, ToolDefinition, answer_messages
from heedloop_trainer.nn.chat import CHANGES, ChatTemplate, PromptError, WrittenPrompt, end_of_turn
from heedloop_trainer.nn.long_prompts import shorten

__all__ = [
    "Batch",
    "EncodedRows",
    "Encoder",
    "LossTurns",
    "PromptConfig",
    "TokenSequence",
    "answers_of",
    "collate",
    "micro_batches",
    "render_prompt",
    "same_vocabulary",
]

log = logging.getLogger(__name__)
Row = TypeVar("Row", bound=Any)

PAD_ID = 0
"""The id that fills the right end of a batch. Any id would do: nothing reads it."""
MAX_PADDING = 0.1
"""Share of a forward that may be padding, once it is large enough to keep a device busy."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and a response as token ids.

    Attributes:
        ended: True where the last response id is a stop token; False where the response was cut off.
        written: per response token, True where the model wrote it (only those carry loss); None where it wrote all.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    ended: bool = True
    written: list[bool] | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)

    @property
    def mask(self) -> list[bool]:
        """Per response token, True where it carries loss."""
        return [True] * len(self.response_ids) if self.written is None else self.written

    @property
    def num_trained(self) -> int:
        """Response tokens that carry loss."""
        return sum(self.mask)

    def followed_by(self, turn: TokenSequence) -> TokenSequence | None:
        """This sequence with a later turn of the same conversation, or None where that does not begin with this one."""
        whole = self.prompt_ids + self.response_ids
        if turn.prompt_ids[: len(whole)] != whole:
            return None
        between = turn.prompt_ids[len(whole) :]
        mask = self.mask + [False] * len(between) + turn.mask
        return TokenSequence(
            self.prompt_ids, self.response_ids + between + turn.response_ids, turn.ended, mask
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        ids: int64 [B, L].
        prompt_lengths: int64 [B], 1 or more.
        response_lengths: int64 [B], 1 or more.
        rows: row of every response token that carries loss (all, unless a sequence says otherwise), int64 [N].
        columns: position of the token that *predicts* each response token (one to its left), int64 [N].
        offsets: index of each of these tokens among those of its response, 0 for the first, int64 [N].
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
    if any(s.written is not None for s in sequences):
        carries_loss = torch.tensor([v for s in sequences for v in s.mask])
        rows, columns = rows[carries_loss], columns[carries_loss]
        counts = torch.tensor([s.num_trained for s in sequences])
        offsets = torch.arange(len(rows)) - (torch.cumsum(counts, 0) - counts)[rows]
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


def render_prompt(tokenizer: Any, messages: Sequence[Message], tools: tuple[ToolDefinition, ...] = ()) -> str:
    """The text a model continues: the tokenizer's chat template, or `role: text` lines where it has none."""
    return ChatTemplate(tokenizer).prompt(messages, tools).text


def same_vocabulary(first: Any, second: Any) -> bool:
    """True where two tokenizers turn ids into the same tokens, but for an added pad, and render prompts alike."""
    added = {(t.pad_token, t.pad_token_id) for t in (first, second)}
    return first is second or (
        first.get_vocab().items() ^ second.get_vocab().items() <= added
        and getattr(first, "chat_template", None) == getattr(second, "chat_template", None)
        and end_of_turn(first) == end_of_turn(second)
    )


LongPrompts = Literal["cut", "leave_out"]
"""What becomes of a prompt that is too long: cut inside its longest message, or its row left out."""
LossTurns = Literal["last", "all"]
"""The assistant turns that carry loss: the row's answer alone, or those of its prompt as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """How prompts are written for the model.

    Attributes:
        max_prompt_tokens: longer prompts are shortened (or left out): system turns and the last turn stay, the longest
            message is cut in its middle, or the oldest turns go.
        long_prompts: `cut` shortens prompts that are too long, `leave_out` leaves their rows out.
        chat_template_kwargs: further variables of the chat template, such as `{"enable_thinking": false}`.
    """

    max_prompt_tokens: int = 1024
    long_prompts: LongPrompts = "cut"
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncodedRows(Generic[Row]):
    """Rows and the token sequences of each: two of a comparison, none of a prompt, one or more of everything else."""

    rows: list[Row]
    sequences: list[list[TokenSequence]]


@dataclass
class Encoder:
    """Turns prompts and answers into token sequences with one tokenizer.

    A prompt's ids are the chat template's; an answer's are what the template writes from there to the end of the turn, so
    that training, sampling and rewards see the same tokens. The end token is left out only where the answer is cut.

    Attributes:
        max_prompt_tokens: longer prompts are shortened: see `long_prompts.shorten`.
        max_response_tokens: longer answers lose their end (and their end token).
        chat_template_kwargs: further variables of the chat template, such as `enable_thinking`.
        long_prompts: `cut` shortens prompts that are too long, `leave_out` leaves their rows out.
        counts: what was changed or left out so far, by reason.
    """

    tokenizer: Any
    max_prompt_tokens: int = 1024
    max_response_tokens: int = 1024
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    long_prompts: LongPrompts = "cut"
    counts: Counter[str] = field(default_factory=Counter, repr=False)
    _prompts: dict[Any, WrittenPrompt | PromptError] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.chat = ChatTemplate(self.tokenizer, self.chat_template_kwargs)
        end = self.chat.end_id
        if not self.chat.exists:
            log.warning(
                "this tokenizer has NO CHAT TEMPLATE: prompts are written as 'role: text' lines and answers end with %r. "
                "A chat model needs its own template (--chat-template FILE)",
                self.tokenizer.convert_ids_to_tokens(end),
            )

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self.chat.end_id

    @property
    def num_cut(self) -> int:
        """How many prompts or answers have been shortened so far."""
        return self.counts["prompt_cut"] + self.counts["answer_cut"]

    @classmethod
    def of(cls, config: PromptConfig, tokenizer: Any, max_response_tokens: int | None = None) -> Encoder:
        """As a method's configuration says; the longest answer may be given apart."""
        if max_response_tokens is None:
            max_response_tokens = getattr(config, "max_response_tokens", 1024)
        return cls(
            tokenizer,
            config.max_prompt_tokens,
            max_response_tokens,
            config.chat_template_kwargs,
            config.long_prompts,
        )

    def rows(
        self, rows: Sequence[Row], *, loss_turns: LossTurns = "last", needed: bool = True
    ) -> EncodedRows[Row]:
        """The rows that can be learned from, with their token sequences; the others are counted, and logged by reason.

        Left out are rows that the chat template cannot write, and decided comparisons whose answers are the same tokens
        (they differ only behind the cut).

        Args:
            loss_turns: `all` also makes the earlier assistant turns of a prompt something to learn.
            needed: False where it is no error that none is left.

        Raises:
            ValueError: there were rows, and none is left.
        """
        problems: dict[str, list[tuple[Any, str]]] = {}
        kept: EncodedRows[Row] = EncodedRows([], [])
        for row in rows:
            try:
                if loss_turns == "all":
                    [answer] = answers_of(row)
                    found = self._turns((*row.prompt, *answer), 0, row.tools)
                else:
                    found = self._answers(row)
            except PromptError as err:
                problems.setdefault(err.reason, []).append((row, str(err)))
                continue
            kept.rows.append(row)
            kept.sequences.append(found)
        for reason, refused in problems.items():
            self.left_out(reason, [r for r, _ in refused], refused[0][1])
        if needed and rows and not kept.rows:
            raise ValueError(
                f"none of the {len(rows)} rows can be used: {next(iter(problems.values()))[0][1]}"
            )
        return kept

    def _answers(self, row: Any) -> list[TokenSequence]:
        """The answers of a row: one sequence each (a demonstration may need more); none of the form `prompts`."""
        self._prompt(row.prompt, row.tools)
        found: list[TokenSequence] = []
        for answer in answers_of(row):
            turns = self._turns((*row.prompt, *answer), len(row.prompt), row.tools)
            if len(turns) != 1 and not isinstance(row, Demonstration):
                raise PromptError(
                    "answer_in_parts",
                    "the model cannot read an answer of several turns at once: its template writes earlier turns otherwise, "
                    "or they are longer than max_prompt_tokens",
                )
            found += turns
        decided = isinstance(row, Comparison) and not row.tie
        if decided and found[0].response_ids == found[1].response_ids:
            raise PromptError(
                "equal_answers",
                f"chosen and rejected are the same within max_response_tokens {self.max_response_tokens:,}",
            )
        return found

    def _turns(
        self, conversation: tuple[Message, ...], start: int, tools: tuple[ToolDefinition, ...]
    ) -> list[TokenSequence]:
        """The assistant turns of a conversation from message `start` on, each behind what stood before it.

        Turns share a sequence where the template writes the conversation before a turn as it wrote it for the turn before;
        what the model did not write carries no loss there. Where it does not (templates that take old reasoning out), a
        turn gets a sequence of its own.
        """
        out: list[TokenSequence] = []
        for i in range(start, len(conversation)):
            message = conversation[i]
            if message.role != "assistant" or (i == 0 and start == 0):
                continue
            turn = self._sequence(conversation[:i], message, tools, ended=True)
            joined = out[-1].followed_by(turn) if out else None
            if joined is None:
                out.append(turn)
            else:
                out[-1] = joined
        if not out:
            raise PromptError("no_answer", "there is no assistant turn to learn")
        return out

    def left_out(self, reason: str, rows: Sequence[Any], text: str) -> None:
        """Count rows that are not learned from, and say so with a few of their traces."""
        if not rows:
            return
        self.counts["left_out"] += len(rows)
        self.counts[f"left_out/{reason}"] += len(rows)
        traces = list(dict.fromkeys(t for r in rows for t in r.trace_ids))[:3]
        log.warning("%d rows are left out: %s (traces: %s)", len(rows), text, ", ".join(traces) or "unknown")

    def prompts(
        self,
        prompts: Iterable[tuple[Message, ...]],
        tools: Sequence[tuple[ToolDefinition, ...]] | None = None,
    ) -> list[list[int]]:
        """Token ids of each prompt; equal prompts are written once.

        Raises:
            PromptError: the template cannot write one of them (`rows` tells those apart).
        """
        prompts = list(prompts)
        return [self._prompt(p, t).ids for p, t in zip(prompts, tools or [()] * len(prompts), strict=True)]

    def sequences(
        self,
        prompts: Sequence[tuple[Message, ...]],
        answers: Sequence[str],
        *,
        tools: Sequence[tuple[ToolDefinition, ...]] | None = None,
        ended: Sequence[bool] | None = None,
    ) -> list[TokenSequence]:
        """One sequence per (prompt, answer of one text).

        Args:
            ended: False where an answer was cut when it was written, so that it has no end; all ended where None.
        """
        tools = tools or [()] * len(answers)
        ends = ended or [True] * len(answers)
        return [
            self._sequence(p, Message("assistant", a), t, e)
            for p, a, t, e in zip(prompts, answers, tools, ends, strict=True)
        ]

    def _sequence(
        self, prompt: tuple[Message, ...], answer: Message, tools: tuple[ToolDefinition, ...], ended: bool
    ) -> TokenSequence:
        written = self._prompt(prompt, tools)
        ids = self.chat.answer(written, answer)
        if not ended:
            ids = ids[:-1] or ids
        if len(ids) > self.max_response_tokens:
            self.counts["answer_cut"] += 1
            ids, ended = ids[: self.max_response_tokens], False
        return TokenSequence(written.ids, ids, ended)

    def _prompt(self, prompt: tuple[Message, ...], tools: tuple[ToolDefinition, ...] = ()) -> WrittenPrompt:
        key = (prompt, tools)
        if key not in self._prompts:
            try:
                self._prompts[key] = self._fitted(prompt, tools)
            except PromptError as err:
                self._prompts[key] = err
        found = self._prompts[key]
        if isinstance(found, PromptError):
            raise found
        return found

    def ids_between(
        self,
        prompt: tuple[Message, ...],
        turns: tuple[Message, ...],
        following: tuple[Message, ...],
        tools: tuple[ToolDefinition, ...] = (),
    ) -> list[int]:
        """Token ids from the end of the last of `turns`, the model's, to where its answer to `following` begins.

        Raises:
            PromptError: the template writes the turns otherwise once others follow.
        """
        conversation = (*self._prompt(prompt, tools).messages, *turns)
        before = self.chat.prompt(conversation[:-1], tools)
        ids = before.ids + self.chat.answer(before, conversation[-1])
        whole = self.chat.prompt((*conversation, *following), tools).ids
        if whole[: len(ids)] != ids:
            raise PromptError(
                "turns_rewritten",
                "the chat template writes a turn otherwise once others follow it; such a model cannot be trained over several turns",
            )
        return whole[len(ids) :]

    def _fitted(self, prompt: tuple[Message, ...], tools: tuple[ToolDefinition, ...]) -> WrittenPrompt:
        """The prompt within its limit."""
        written = self.chat.prompt(prompt, tools)
        for change in written.changes:
            self.counts[f"prompt_{change}"] += 1
        if len(written.ids) <= self.max_prompt_tokens:
            return written
        short = None
        if self.long_prompts == "cut":
            short = shorten(
                written.messages, self.max_prompt_tokens, lambda m: len(self.chat.prompt(m, tools).ids)
            )
        if short is None:
            raise PromptError(
                "prompt_too_long",
                f"a prompt of {len(written.ids):,} tokens is longer than max_prompt_tokens {self.max_prompt_tokens:,}",
            )
        self.counts["prompt_cut"] += 1
        return self.chat.prompt(short, tools)

    def report(self, num_rows: int) -> dict[str, float]:
        """The counts as metrics, with a warning in the log for each share of prompts or answers that was cut."""
        for what, setting in (("prompt", "max_prompt_tokens"), ("answer", "max_response_tokens")):
            count = self.counts[f"{what}_cut"]
            if count:
                log.warning(
                    "%d %ss (%.0f%% of %d rows) were cut to %s %d",
                    count, what, 100 * count / max(1, num_rows), num_rows, setting, getattr(self, setting),
                )  # fmt: skip
        for change, text in CHANGES.items():
            if count := self.counts[f"prompt_{change}"]:
                log.warning("%d prompts: %s", count, text)
        return {
            "num_cut": float(self.num_cut),
            **{f"num_{k}": float(v) for k, v in sorted(self.counts.items())},
        }

    def decode(self, response_ids: Sequence[int]) -> str:
        """An answer's text without special tokens."""
        return self.tokenizer.decode(response_ids, skip_special_tokens=True)


def answers_of(row: Any) -> list[tuple[Message, ...]]:
    """The answers of a row of any form, each as its messages; a comparison has two, a prompt none."""
    names = [n for n in ("completion", "chosen", "rejected") if hasattr(row, n)]
    return [answer_messages(getattr(row, n), getattr(row, f"{n}_messages")) for n in names]
