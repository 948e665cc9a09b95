"""Chat templates: the token ids that a model reads of a conversation, and those it writes as its answer.

The template decides both. A turn ends with the token that the template writes after an answer, which need not be the
tokenizer's `eos_token` (Gemma, Phi-3, many fine-tunes). Control tokens that occur inside messages are encoded as text,
so that only the template opens and closes turns. What a template refuses is written in a form that it accepts (the
system turn folded into the first user turn, neighbouring turns of one role merged), or the row cannot be used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from heedloop.schema import Message, ToolDefinition
from heedloop.schema.chat import chat_messages, chat_tools

NO_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
    "{% if loop.last and m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""What is written where a tokenizer has no chat template: `role: text` lines."""
PASS_THROUGH = "{{ messages[0]['content'] }}"  # noqa: S105
PROBE = "xqprobe"
THINKING = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)
CLOSED_THOUGHT = re.compile(r"((?:(?!<think>).)*?)</think>[ \t]*\n\s*(.*)", re.DOTALL)
"""An answer that begins inside a thought: its tags are no part of a sentence."""
REFUSALS = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError)
"""What a template raises on messages it was not made for: `raise_exception`, or an accident such as None + text."""


CHANGES = {
    "ids_shortened": "the chat template wants tool call ids of nine letters and digits; others were replaced",
    "system_folded": "the chat template refuses or loses system turns; they stand at the head of the user turn",
    "turns_merged": "the chat template refuses neighbouring turns of one role; they are one turn",
    "tools_lost": "the chat template does not write tool definitions; the model does not see them",
}
"""What a stricter template makes necessary, and how a warning says it."""


class PromptError(ValueError):
    """A conversation cannot be written for this model.

    Attributes:
        reason: a short name to count by, such as `template_refuses`.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """A prompt as the model reads it, up to where its answer begins.

    Attributes:
        messages: as they were written: folded or merged where the template asked for it.
        tools: the tool definitions.
        text: the rendered text.
        changes: names in `CHANGES` of what had to be changed for the template.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...]
    text: str
    ids: list[int]
    changes: tuple[str, ...] = ()


class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: with or without a `chat_template`; where there is none, `NO_TEMPLATE` is used.
        variables: further variables of the template, such as `enable_thinking`.
    """

    def __init__(self, tokenizer: Any, variables: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self.variables = tokenizer, dict(variables or {})
        self.exists = bool(getattr(tokenizer, "chat_template", None))
        self._source: str | None = None if self.exists else self._plain_template()
        # Gemma adds line breaks and runs of spaces as tokens: they are ordinary text.
        added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if not t.content.isspace()}
        names = sorted({*added.values(), *tokenizer.all_special_tokens} - {""}, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self._special_ids = {*added, *tokenizer.all_special_ids}

    def _plain_template(self) -> str:
        """`NO_TEMPLATE`, behind the start token where the tokenizer writes one by itself."""
        start = self.tokenizer.bos_token_id
        starts = start is not None and start in self.tokenizer("")["input_ids"]
        return ("{{ bos_token }}" if starts else "") + NO_TEMPLATE

    # ------------------------------------------------------------------------------------------- the end of a turn

    @functools.cached_property
    def end_id(self) -> int:
        """The token that the template writes after an answer; the tokenizer's end token where it writes none.

        Raises:
            ValueError: there is neither.
        """
        last, inner = self._after_answer(), self._after_answer(Message("user", "again"))
        # What follows an answer also inside a conversation ends the turn; the rest ends the text (Phi-4's <|endoftext|>).
        common = [a for a, _ in itertools.takewhile(lambda p: p[0] == p[1], zip(last, inner, strict=False))]
        for ids in (common, last):
            run = self._first_special_run(ids)
            if run:  # Command-R writes two: the last of those that follow one another ends the turn.
                return run[-1] if ids is common else run[0]
        if self.tokenizer.eos_token_id is None:
            raise ValueError(
                "the tokenizer has no end token (eos_token) and its chat template writes none; a response could never end"
            )
        return self.tokenizer.eos_token_id

    def _first_special_run(self, ids: list[int]) -> list[int]:
        special = [i in self._special_ids for i in ids]
        if True not in special:
            return []
        first = special.index(True)
        return list(itertools.takewhile(self._special_ids.__contains__, ids[first:]))

    def _after_answer(self, *following: Message) -> list[int]:
        for chat in self._chats([Message("user", "hello"), Message("assistant", PROBE), *following]):
            with contextlib.suppress(*REFUSALS):
                text = self._render(chat, (), generate=False)
                if PROBE in text:
                    return self._plain_ids(text.rsplit(PROBE, 1)[1])
        return []

    # ----------------------------------------------------------------------------------------------------- prompts

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolDefinition] = ()) -> WrittenPrompt:
        """The prompt up to where the answer begins.

        Raises:
            PromptError: the template refuses the conversation in every form, or loses its tool calls.
        """
        tools = tuple(tools)
        if not messages:  # templates refuse an empty conversation
            return WrittenPrompt((), tools, "", [self.end_id])
        problem, lossy = "", None
        for changes, form in _forms(messages):
            for chat in self._chats(form):
                try:
                    text = self._render(chat, tools, generate=True)
                except REFUSALS as err:
                    problem = problem or f"{type(err).__name__}: {err}"
                    continue
                if _loses_tool_calls(form, text):
                    continue
                written = functools.partial(self._written, tuple(form), tools, text, chat, changes)
                if not _loses_text(form, text):
                    return written()
                lossy = lossy or written
        if lossy is not None:
            return lossy()
        if not problem:
            raise PromptError(
                "template_has_no_tool_calls",
                "the chat template does not write tool calls; they would be lost",
            )
        raise PromptError("template_refuses", f"the chat template refuses the conversation ({problem})")

    def _written(
        self,
        messages: tuple[Message, ...],
        tools: tuple[ToolDefinition, ...],
        text: str,
        chat: list[dict[str, Any]],
        changes: tuple[str, ...],
    ) -> WrittenPrompt:
        if tools and not any(t.name in text for t in tools):
            changes = (*changes, "tools_lost")
        ids = self._ids(chat, tools, text, generate=True)
        return WrittenPrompt(messages, tools, text, ids or [self.end_id], changes)

    # ----------------------------------------------------------------------------------------------------- answers

    def answer(self, prompt: WrittenPrompt, answer: Message) -> list[int]:
        """Token ids of an answer to a prompt, the end of its turn included.

        Raises:
            PromptError: the template does not write the answer's tool calls.
        """
        spoken = self._with_reasoning(answer).text.strip()
        for chat, text in self._renderings(prompt, answer):
            rest = text.removeprefix(prompt.text)
            if rest == text or _loses_tool_calls([answer], rest) or spoken not in rest:
                continue
            if not answer.tool_calls and rest.rstrip() == answer.text.rstrip():
                break  # nothing but the answer: this template writes no end
            ids = self._ids(chat, prompt.tools, text, generate=False)
            if ids[: len(prompt.ids)] == prompt.ids:
                return self._up_to_end(ids[len(prompt.ids) :])
            if not self._controls.search(
                answer.text
            ):  # a token joins the prompt's end and the answer's start
                return self._up_to_end(self._plain_ids(rest))
        if answer.tool_calls:
            raise PromptError(
                "template_has_no_tool_calls", "the chat template does not write the answer's tool calls"
            )
        return [*self.text_ids(self._continuation(prompt, answer)), self.end_id]

    def _renderings(
        self, prompt: WrittenPrompt, answer: Message
    ) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """The conversation with its answer, as template input and as text, in every form that the template accepts."""
        if not prompt.messages:
            return
        for _, form in _forms([*prompt.messages, answer]):
            for chat in self._chats(form):
                with contextlib.suppress(*REFUSALS):
                    yield chat, self._render(chat, prompt.tools, generate=False)

    def _continuation(self, prompt: WrittenPrompt, answer: Message) -> str:
        """What a model writes after a prompt whose end its template does not repeat before an answer.

        Where the prompt has opened a thought, an answer that was recorded as it was written only closes it.
        """
        if not prompt.text.rstrip().endswith("<think>"):
            return answer.text
        answer = self._with_reasoning(answer)
        closed = None if answer.reasoning else CLOSED_THOUGHT.fullmatch(answer.text)
        reasoning, text = closed.groups() if closed else (answer.reasoning or "", answer.text)
        return f"{reasoning.strip()}\n</think>\n\n{text}"

    def _up_to_end(self, ids: list[int]) -> list[int]:
        if self.end_id in ids:
            return ids[: ids.index(self.end_id) + 1]
        while ids and not self.tokenizer.decode(ids[-1:]).strip() and ids[-1] not in self._special_ids:
            ids = ids[:-1]  # the line break that a template without an end token writes
        if ids and ids[-1] in self._special_ids:
            return ids  # some end a tool call with a token of its own
        return [*ids, self.end_id]

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text apart; the control tokens in it are text."""
        return self._ids(
            [{"role": "assistant", "content": text}], (), text, generate=False, source=PASS_THROUGH
        )

    # --------------------------------------------------------------------------------------------------- rendering

    @functools.cached_property
    def _template_text(self) -> str:
        template = self.tokenizer.chat_template
        return "" if not self.exists else template if isinstance(template, str) else json.dumps(template)

    def _chats(self, messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
        """The messages as templates want them: tool arguments as an object or as text, the content as text or in parts."""
        messages = [self._with_known_role(self._with_reasoning(m)) for m in messages]
        yield chat_messages(messages)
        if any(m.tool_calls for m in messages):
            yield chat_messages(messages, parse=False)
        if "content" in self._template_text and "type" in self._template_text:
            yield chat_messages(messages, parts=True)

    def _with_known_role(self, message: Message) -> Message:
        """OpenAI's name for instructions as the one that a template knows."""
        if message.role != "developer" or "developer" in self._template_text:
            return message
        return dataclasses.replace(message, role="system")

    def _with_reasoning(self, message: Message) -> Message:
        """Reasoning written inside the text goes where the template looks for it."""
        found = THINKING.fullmatch(message.text) if message.role == "assistant" else None
        if found is None or message.reasoning or "</think>" not in self._template_text:
            return message
        return dataclasses.replace(message, reasoning=found[1].strip(), text=found[2])

    def _render(self, chat: list[dict[str, Any]], tools: Sequence[ToolDefinition], *, generate: bool) -> str:
        return self.tokenizer.apply_chat_template(
            chat,
            tools=chat_tools(tools) or None,
            chat_template=self._source,
            tokenize=False,
            add_generation_prompt=generate,
            **self.variables,
        )

    def _ids(
        self,
        chat: list[dict[str, Any]],
        tools: Sequence[ToolDefinition],
        text: str,
        *,
        generate: bool,
        source: str | None = None,
    ) -> list[int]:
        """Token ids of a rendered text, where the control tokens inside messages and tools are text."""
        if not self._controls.search(json.dumps([chat, chat_tools(tools)], ensure_ascii=False)):
            return self._plain_ids(text)
        try:
            return self.tokenizer.apply_chat_template(
                chat,
                tools=chat_tools(tools) or None,
                chat_template=source or self._source,
                add_generation_prompt=generate,
                return_dict=False,
                sanitize_control_tokens=True,
                **self.variables,
            )
        except ValueError as err:
            raise PromptError("control_token", f"a control token inside a message: {err}") from err

    def _plain_ids(self, text: str) -> list[int]:
        # silent about long texts: they are cut to the model's length afterwards
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an answer, by the tokenizer's chat template."""
    return ChatTemplate(tokenizer).end_id


def _loses_tool_calls(messages: Sequence[Message], text: str) -> bool:
    return any(c.name not in text for m in messages for c in m.tool_calls)


def _loses_text(messages: Sequence[Message], text: str) -> bool:
    """True where the template left a message's text out (a system turn, or content that it wants in parts)."""
    spoken = (m.text.strip() for m in messages if m.is_instruction or m.role == "user")
    return any(t not in text for t in spoken)


# --------------------------------------------------------------------------------------- what templates refuse


def _forms(messages: Sequence[Message]) -> Iterator[tuple[tuple[str, ...], list[Message]]]:
    """The conversation as it is, then what a stricter template may accept, with the names of what was changed."""
    form: list[Message] = list(messages)
    changes: tuple[str, ...] = ()
    yield changes, form
    for name, change in (
        ("ids_shortened", _short_ids),
        ("system_folded", _fold_system),
        ("turns_merged", _merge_turns),
    ):
        changed = change(form)
        if changed != form:
            form, changes = changed, (*changes, name)
            yield changes, form


def _short_ids(messages: Sequence[Message]) -> list[Message]:
    """Tool call ids as Mistral's templates demand them: nine letters and digits."""

    def short(call_id: str | None) -> str | None:
        return None if call_id is None else hashlib.sha256(call_id.encode()).hexdigest()[:9]

    def renamed(message: Message) -> Message:
        if not message.tool_calls and message.tool_call_id is None:
            return message
        calls = tuple(dataclasses.replace(c, id=short(c.id)) for c in message.tool_calls)
        return dataclasses.replace(message, tool_calls=calls, tool_call_id=short(message.tool_call_id))

    return [renamed(m) for m in messages]


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    """System turns at the head of the next user turn, or as a user turn where none follows."""
    out: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.is_instruction:
            waiting.append(message.text)
        elif message.role == "user" and waiting:
            out.append(dataclasses.replace(message, text="\n\n".join([*waiting, message.text])))
            waiting = []
        else:
            out.append(message)
    return [*out, Message("user", "\n\n".join(waiting))] if waiting else out


def _merge_turns(messages: Sequence[Message]) -> list[Message]:
    """Neighbouring user or assistant turns as one."""
    out: list[Message] = []
    for message in messages:
        before = out[-1] if out else None
        if before is None or before.role != message.role or message.role not in ("user", "assistant"):
            out.append(message)
            continue
        text = "\n\n".join(t for t in (before.text, message.text) if t)
        out[-1] = dataclasses.replace(before, text=text, tool_calls=before.tool_calls + message.tool_calls)
    return out
