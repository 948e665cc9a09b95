"""Answers: calls with the prompt they answered, found by what a feedback names, and the judgements on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from heedloop.schema import Call, Feedback, Message, Target, canonical_json

__all__ = ["TRUNCATED", "Answer", "AnswerIndex", "Judgement", "question_text"]

TRUNCATED = "heedloop.truncated"
"""Span attribute that names the attributes which the SDK cut to its size limit."""

_CONTENT = ("gen_ai.input.messages", "gen_ai.output.messages", "heedloop.input", "heedloop.output")


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
        question: hash of the prompt without its system messages: equal questions were the same prompt, whatever
            the instructions were.
        text_key: hash of question and completion: equal texts given twice to one question are one thing to judge.
    """

    key: str
    call: Call
    prompt: tuple[Message, ...]
    completion: str
    question: str
    text_key: str


def question_text(prompt: Iterable[Message]) -> str:
    """The conversation without system messages, a line per message.

    Instructions are left out because a long shared one would make all prompts of an app look alike.
    """
    return "\n".join(f"{m.role}: {m.text}" for m in prompt if m.role not in ("system", "developer"))


class AnswerIndex:
    """The answers among some calls, by span, trace and response.

    Attributes:
        answers: by key, in the order of their times.
        dropped: reason -> number of answers that cannot be used: `no_prompt`, `no_completion`, `truncated`.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self.answers: dict[str, Answer] = {}
        self.dropped: Counter[str] = Counter()
        self._of_trace: dict[str, Answer] = {}
        self._of_response: dict[str, Answer] = {}
        for call in sorted(calls, key=lambda c: (c.start_time, c.trace_id, c.span_id)):
            reason = _unusable(call)
            if reason is None:
                self._add(_answer(call))
            else:
                self.dropped[reason] += 1

    def resolve(self, target: Target) -> Answer | None:
        """The answer that a target names; None where it is not there, or is a whole session."""
        if target.span_id is not None:
            return self.answers.get(f"{target.trace_id}:{target.span_id}")
        if target.trace_id is not None:
            return self._of_trace.get(target.trace_id)
        if target.response_id is not None:
            return self._of_response.get(target.response_id)
        return None

    def _add(self, answer: Answer) -> None:
        call = answer.call
        self.answers[answer.key] = answer
        first = self._of_trace.get(call.trace_id)
        # A trace's own judgement is about what the person saw: the outermost answer, the earliest of several.
        if first is None or (call.is_answer and not first.call.is_answer):
            self._of_trace[call.trace_id] = answer
        if call.response_id:
            self._of_response.setdefault(call.response_id, answer)


def _unusable(call: Call) -> str | None:
    if any(name in call.attributes.get(TRUNCATED, "") for name in _CONTENT):
        return "truncated"
    if not any(m.text or m.tool_calls for m in call.input_messages):
        return "no_prompt"
    # An empty answer is an answer (people prefer silence to some); one that was never recorded is not.
    if not call.output_messages:
        return "no_completion"
    return None


def _answer(call: Call) -> Answer:
    asked = [
        [m.role, m.text, [[t.name, t.arguments] for t in m.tool_calls]]
        for m in call.input_messages
        if m.role not in ("system", "developer")
    ]
    question = _sha256(canonical_json(asked))
    return Answer(
        key=f"{call.trace_id}:{call.span_id}",
        call=call,
        prompt=call.input_messages,
        completion=call.output_text,
        question=question,
        text_key=_sha256(f"{question}|{call.output_text}"),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
