"""What a training item tells the annotator afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedloop.responses import TrainingResult
from heedloop.schema import utc_now
from heedloop_server.review.control.labels import Judged, labels
from heedloop_server.review.questions import Question
from heedloop_server.review.responses import Judgement, to_shown
from heedloop_server.store.review.assignments import ReviewItem


def compare(
    questions: Sequence[Question], item: ReviewItem, shown_order: Sequence[int], judgement: Judgement
) -> TrainingResult:
    """`correct` per question that can be held against the expected answer, `expected` in the order shown, and `why`."""
    expected = dict(item.expected or {})
    correct = {
        q.name: _labels(q, item, shown_order, judgement) == wanted
        for q in questions
        if q.name in expected and (wanted := _labels(q, item, shown_order, expected))
    }
    return TrainingResult(
        correct=correct, expected=to_shown(questions, expected, shown_order), why=item.expected_why
    )


def _labels(
    question: Question, item: ReviewItem, shown_order: Sequence[int], judgement: Judgement
) -> dict[Any, Any]:
    one = Judged(item.item_id, "", judgement, utc_now(), shown_order=tuple(shown_order))
    return {unit: label for _, unit, label in labels(question, [one])}
