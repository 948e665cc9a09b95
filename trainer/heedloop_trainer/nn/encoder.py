"""From rows and messages to token sequences, with one tokenizer and its chat template."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from heedloop.schema import Comparison, Demonstration, Message, ToolDefinition, answer_messages
from heedloop_trainer.nn.chat import CHANGES, ChatTemplate, PromptError, WrittenPrompt, end_of_turn
from heedloop_trainer.nn.long_prompts import shorten
from heedloop_trainer.nn.sequences import TokenSequence

log = logging.getLogger(__name__)
Row = TypeVar("Row", bound=Any)


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
    _num_answers: int = field(default=0, repr=False)

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
        self._num_answers += 1
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

    def report(self) -> dict[str, float]:
        """The counts as metrics, with a warning in the log for each share of prompts or answers that was cut."""
        for noun, count, total, setting in (
            ("distinct prompts", self.counts["prompt_cut"], len(self._prompts), "max_prompt_tokens"),
            ("answers", self.counts["answer_cut"], self._num_answers, "max_response_tokens"),
        ):
            if count:
                share = 100 * count / total
                log.warning(
                    "%d of %d %s (%.0f%%) were cut to %s %d",
                    count,
                    total,
                    noun,
                    share,
                    setting,
                    getattr(self, setting),
                )
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


def readable(rows: Sequence[Row], encoders: Iterable[Encoder]) -> list[Row]:
    """The rows that all of these can write: the policy's chat template and its reward model's may refuse different ones."""
    for encoder in encoders:
        rows = encoder.rows(rows).rows
    return list(rows)


def answers_of(row: Any) -> list[tuple[Message, ...]]:
    """The answers of a row of any form, each as its messages; a comparison has two, a prompt none."""
    names = [n for n in ("completion", "chosen", "rejected") if hasattr(row, n)]
    return [answer_messages(getattr(row, n), getattr(row, f"{n}_messages")) for n in names]
