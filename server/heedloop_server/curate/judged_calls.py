"""Judged calls: answers with the prompt they answered, found by what a feedback names, and the judgements on them."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from heedloop.schema import (
    Call,
    Feedback,
    Message,
    Target,
    ToolCall,
    ToolDefinition,
    answer_text,
    canonical_json,
)
from heedloop_server.curate.contexts import context_of
from heedloop_server.seen_answers import seen_call

TRUNCATED = "heedloop.truncated"
"""Span attribute that names the attributes which the SDK cut to its size limit."""

_CONTENT = ("gen_ai.input.messages", "gen_ai.output.messages", "heedloop.input", "heedloop.output")
_PROVIDER_ITEM = "_call"
"""Ending of the parts in which the Responses API reports a call of the provider's own tools, such as `web_search_call`."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One stored feedback: the schema's record with the id and version under which the server keeps it."""

    feedback_id: str
    version: int
    feedback: Feedback


@dataclass(frozen=True, slots=True)
class Answer:
    """A call that can be judged and trained on.

    Attributes:
        key: `trace_id:span_id`.
        written: the call whose words the row holds: `call`, or the model call inside it that had used tools.
        prompt: what was asked; consecutive messages of the assistant are one.
        text: what the answer says, without its tool calls.
        completion: the answer as text, a line per tool call.
        messages: the whole answer, where it is more than one message of plain text; see `heedloop.schema`.
        tools: the function tools that were offered.
        question: hash of the prompt without its system messages: equal questions were the same prompt, whatever
            the instructions were.
        context: hash of the system messages and the tools.
        content: hash of the answer's text, tool calls and results: equal ones are the same answer, whatever the ids of
            its tool calls and the order of their arguments.
        text_key: hash of question, context and content: the same answer given twice is one thing to judge.
    """

    key: str
    call: Call
    written: Call
    prompt: tuple[Message, ...]
    text: str
    completion: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...]
    question: str
    context: str
    content: str
    text_key: str


def question_text(prompt: Iterable[Message]) -> str:
    """The conversation without system messages, a line per message.

    Instructions are left out because a long shared one would make all prompts of an app look alike.
    """
    return "\n".join(
        f"{m.role}: {answer_text((m,)) if m.tool_calls else m.text}" for m in prompt if not m.is_instruction
    )


class AnswerIndex:
    """The answers among some calls, by span, trace and response.

    Attributes:
        answers: by key, in the order of their times.
        dropped: reason -> number of answers that cannot be used: `no_prompt`, `no_completion`, `truncated`, `has_media`,
            `several_choices`, `tool_of_provider`, `turns_of_others`.
    """

    def __init__(self, calls: Iterable[Call], relatives: Iterable[Call] = ()) -> None:
        """`relatives` are further spans of the calls' traces: they decide which call a trace means, and make no rows."""
        self.answers: dict[str, Answer] = {}
        self.dropped: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._of_trace: dict[str, list[Call]] = {}
        self._of_response: dict[str, str] = {}
        own = sorted(calls, key=_age)
        for call in sorted([*own, *relatives], key=_age):
            self._of_trace.setdefault(call.trace_id, []).append(call)
        self._spans = {_key(c): c for of_trace in self._of_trace.values() for c in of_trace}
        for call in own:
            self._add(call)

    def resolve(self, target: Target) -> Answer | None:
        """The answer that a target names; None where it is not there, cannot be used, or is a whole session."""
        return self.answers.get(self._named(target) or "")

    def reason(self, target: Target) -> str:
        """Why `resolve` found nothing."""
        if target.session_id is not None:
            return "about_a_session"
        key = self._named(target)
        if key is None or key not in self._spans:
            return "unknown_target"
        return self._reasons.get(key, "outside_the_filters")

    def _named(self, target: Target) -> str | None:
        """The key of the call that a target means: a trace's is the answer that its user saw."""
        if target.response_id is not None:
            return self._of_response.get(target.response_id)
        of_trace = self._of_trace.get(target.trace_id or "", [])
        if target.span_id is None:
            return _key(seen_call(of_trace)) if of_trace else None
        key = f"{target.trace_id}:{target.span_id}"
        span = self._spans.get(key)
        # a framework's span around the whole trace, without an answer of its own, stands for the trace
        if span is not None and not span.operation and span.parent_span_id is None and len(of_trace) > 1:
            return _key(seen_call(of_trace))
        return key

    def _add(self, call: Call) -> None:
        key = _key(call)
        written = _written_inside(call, self._of_trace[call.trace_id])
        reason = _unusable(written)
        if reason is None:
            self.answers[key] = _answer(call, written)
        else:
            self._reasons[key] = reason
            self.dropped[reason] += bool(call.operation)
        if call.response_id:
            self._of_response.setdefault(call.response_id, key)


def _age(call: Call) -> tuple[object, str, str]:
    return call.start_time, call.trace_id, call.span_id


def _key(call: Call) -> str:
    return f"{call.trace_id}:{call.span_id}"


def _written_inside(call: Call, of_trace: Sequence[Call]) -> Call:
    """The model call inside an answer that wrote its text with the help of tools; the call itself where there is none.

    A row of question and final answer alone would teach to claim what the tools had found or done.
    """
    text = call.output_text.strip()
    if not text or len(of_trace) < 2:
        return call
    end = call.start_time + timedelta(microseconds=call.duration_ns // 1000)
    for inner in reversed(of_trace):
        if (
            inner is not call
            and call.start_time <= inner.start_time <= end
            and inner.output_text.strip() == text
            and any(m.role == "tool" for m in inner.input_messages)
            and not any(m.role == "tool" for m in call.input_messages)
        ):
            return inner
    return call


def _unusable(call: Call) -> str | None:
    if any(name in call.attributes.get(TRUNCATED, "") for name in _CONTENT):
        return "truncated"
    messages = (*call.input_messages, *call.output_messages)
    if any(kind.endswith(_PROVIDER_ITEM) for m in messages for kind in m.media):
        return "tool_of_provider"
    if any(m.media for m in messages):
        return "has_media"
    if not any(m.text or m.tool_calls for m in call.input_messages):
        return "no_prompt"
    # An empty answer is an answer (people prefer silence to some); one that was never recorded is not.
    if not call.output_messages or all(
        m.reasoning and not m.text and not m.tool_calls for m in call.output_messages
    ):
        return "no_completion"
    return _inexpressible(call)


def _inexpressible(call: Call) -> str | None:
    """Why a chat template could not write this answer after its prompt."""
    of_provider = {t.name for t in call.tool_definitions if t.type != "function"}
    if any(
        t.name in of_provider for m in (*call.input_messages, *call.output_messages) for t in m.tool_calls
    ):
        return "tool_of_provider"
    roles = [m.role for m in call.output_messages]
    if not set(roles) <= {"assistant", "tool"} or roles[-1] != "assistant":
        return "turns_of_others"
    if len(roles) > 1 and "tool" not in roles and len(call.finish_reasons) == len(roles):
        return "several_choices"
    return None


def _answer(call: Call, written: Call) -> Answer:
    """The answer that `call` is, with the words of `written`."""
    prompt = one_turn_each(written.input_messages)
    answer_feedback = one_turn_each(written.output_messages)
    text = "\n".join(m.text for m in answer_feedback if m.text and m.role == "assistant")
    question = _hash([compared(m) for m in prompt if not m.is_instruction])
    content = _hash(
        [_visible(text)]
        if len(answer_feedback) == 1 and not answer_feedback[0].tool_calls
        else [compared(m) for m in answer_feedback]
    )
    context = context_of(written)
    return Answer(
        key=_key(call),
        call=call,
        written=written,
        prompt=prompt,
        text=text,
        completion=answer_text(answer_feedback),
        messages=() if answer_feedback == (Message("assistant", text),) else answer_feedback,
        tools=tuple(t for t in written.tool_definitions if t.type == "function"),
        question=question,
        context=context,
        content=content,
        text_key=hashlib.sha256(f'["{question}","{context}","{content}"]'.encode()).hexdigest(),
    )


def one_turn_each(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with those that follow each other from the assistant joined: clients send a turn's parts apart."""
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        if last is not None and last.role == message.role == "assistant":
            out[-1] = replace(
                last,
                text="\n".join(t for t in (last.text, message.text) if t),
                reasoning="\n".join(t for t in (last.reasoning, message.reasoning) if t) or None,
                tool_calls=last.tool_calls + message.tool_calls,
                media=last.media + message.media,
            )
        else:
            out.append(message)
    return tuple(out)


def compared(message: Message) -> list[object]:
    """What makes two messages the same: not their reasoning, the ids of tool calls or the order of arguments."""
    return [message.role, _visible(message.text), [[t.name, _arguments(t)] for t in message.tool_calls]]


def _visible(text: str) -> str:
    """A text without what nobody sees of it: white space around it, and how its accents are encoded."""
    return unicodedata.normalize("NFC", text).strip()


def _arguments(call: ToolCall) -> str:
    """A tool call's arguments in one form, whatever the order of their keys and the spaces between them."""
    try:
        return canonical_json(json.loads(call.arguments))
    except (ValueError, RecursionError):
        return call.arguments


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode("utf-8", "replace")).hexdigest()
