"""A reviewer's word on an item: the feedback that it becomes, and what of an earlier word is taken back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from heedloop.schema import Author, Feedback, Target, answer_hash
from heedloop_server.curate.evidence import ADJUDICATION
from heedloop_server.review.judgement import JudgementContext, feedback_of, retractions
from heedloop_server.review.questions import Question
from heedloop_server.store.review.assignments import ReviewItem
from heedloop_server.store.review.control import Adjudication

REASON = "adjudication"
"""Name of the comment that holds the reviewer's reason."""


@dataclass(frozen=True, slots=True)
class _About:
    questions: Sequence[Question]
    item: ReviewItem
    texts: Sequence[str]
    session_id: str = ""


def adjudication_feedback(
    project: str,
    questions: Sequence[Question],
    item: ReviewItem,
    texts: Sequence[str],
    now: Adjudication,
    before: Adjudication | None,
    session_id: str = "",
) -> list[Feedback]:
    """What to store for a reviewer's word: its feedback, marked as an adjudication, and retractions of the word before.

    Args:
        texts: the texts of the item's answers, in its own order.
        session_id: of an item that is a session.
        before: the word that this one replaces, also another reviewer's.
    """
    about = _About(questions, item, texts, session_id)
    feedback = _feedback(about, now, now.judged_at)
    if before is None:
        return feedback
    earlier = _feedback(about, before, now.judged_at)
    return feedback + retractions(project, earlier, feedback, _judged(about, now, now.judged_at))


def _feedback(about: _About, word: Adjudication, at: datetime) -> list[Feedback]:
    judged = _judged(about, word, at)
    result = feedback_of(about.questions, dict(word.answers), judged)
    reason = Feedback(
        "comment",
        judged.targets[0],
        name=REASON,
        comment=word.reason,
        author=Author("annotator", word.reviewer),
        created_at=at,
        id=f"review:{judged.assignment_id}:{word.revision}:{REASON}:0",
        guideline=str(word.guideline) if word.guideline else None,
        queue_item=word.item_id,
        solicited=True,
    )
    return [replace(f, metadata={**f.metadata, ADJUDICATION: "true"}) for f in [*result, reason]]


def _judged(about: _About, word: Adjudication, at: datetime) -> JudgementContext:
    item = about.item
    return JudgementContext(
        _id(item.item_id),
        item.item_id,
        word.reviewer,
        [Target(trace_id=t, span_id=s) for t, s in item.targets],
        [answer_hash(t) for t in about.texts],
        tuple(range(len(item.targets))),
        word.guideline,
        item.sampling_probability,
        word.revision,
        at,
        about.session_id,
    )


def _id(item_id: str) -> str:
    """Takes the place of an assignment's id in the feedback's own ids."""
    return hashlib.blake2b(f"adjudication\x1f{item_id}".encode(), digest_size=16).hexdigest()
