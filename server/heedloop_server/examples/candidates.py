"""What may be an example: an answer with the judgements on it, and what is never one. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from heedloop.schema import AnswerExample

MAX_CHARS = 6_000
"""Longer questions and answers are no examples: a few would fill a prompt."""
_MASKED = re.compile(r"\[(?:masked|key|email|iban|card|phone|dropped: a redaction rule failed)\]")
"""What `heedloop.Redactor` and the masks of secrets leave behind."""
_CONTROL = re.compile(r"<\|[^|<>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>")
"""Control tokens of chat templates: a text that writes them would speak as another role."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one author thought of an answer."""

    feedback_id: str
    author_kind: str
    author: str
    """The author's id, else the call's user, session or trace: who an anonymous judgement is from."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer with a like or a correction.

    Attributes:
        correction: the newest correction's text; empty where there is none.
    """

    trace_id: str
    span_id: str
    question: str
    answer: str
    prompt_name: str = ""
    language: str = ""
    likes: tuple[Opinion, ...] = ()
    dislikes: tuple[Opinion, ...] = ()
    correction: str = ""
    corrected_by: Opinion | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its call."""
        return self.trace_id, self.span_id


@dataclass(frozen=True, slots=True)
class Supported:
    """A candidate as an example, with those on whose word it is one."""

    example: AnswerExample
    supporters: frozenset[str]


def question_key(text: str) -> str:
    """Equal for questions that differ in case and white space alone."""
    return " ".join(text.casefold().split())


def may_be_example(question: str, answer: str) -> bool:
    """False for what is empty, too long, masked, or would speak as another role."""
    return all(
        text.strip() and len(text) <= MAX_CHARS and not _MASKED.search(text) and not _CONTROL.search(text)
        for text in (question, answer)
    )


def cleaned(candidate: Candidate) -> Candidate | None:
    """The candidate without an answer or correction that can be no example; None where nothing is left."""
    liked = bool(candidate.likes) and may_be_example(candidate.question, candidate.answer)
    corrected = candidate.corrected_by is not None and may_be_example(
        candidate.question, candidate.correction
    )
    if not liked and not corrected:
        return None
    kept = candidate if liked else replace(candidate, likes=())
    return kept if corrected else replace(kept, correction="", corrected_by=None)


def as_example(
    candidate: Candidate, score: float, *, authors: Collection[str], min_likes: int
) -> Supported | None:
    """The example that a candidate is by the word of these kinds of authors; None where they give no reason.

    A correction stands in place of the answer; else more must like the answer than not.
    """
    why, answer, grounds = "liked", candidate.answer, [o for o in candidate.likes if o.author_kind in authors]
    by = candidate.corrected_by
    if by is not None and by.author_kind in authors:
        why, answer, grounds = "corrected", candidate.correction, [by]
    elif len(grounds) < min_likes or len(grounds) <= sum(
        o.author_kind in authors for o in candidate.dislikes
    ):
        return None
    example = AnswerExample(
        question=candidate.question,
        answer=answer,
        why="corrected" if why == "corrected" else "liked",
        score=score,
        trace_id=candidate.trace_id,
        span_id=candidate.span_id,
        feedback_ids=tuple(o.feedback_id for o in grounds[:8]),
    )
    return Supported(example, frozenset(o.author for o in grounds))
