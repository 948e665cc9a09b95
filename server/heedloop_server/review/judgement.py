"""A judgement as the Feedback that it becomes, and the retractions that a changed one needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from heedloop.schema import THUMB, Author, Call, CharRange, Feedback, Ranking, Scale, Target, answer_hash
from heedloop_server.curate.evidence import UNORDERED
from heedloop_server.review.questions import Question
from heedloop_server.review.responses import Judgement
from heedloop_server.store.review.assignments import Assignment, ReviewItem

CLIENT_ID_PREFIX = "review:"
"""How the client ids of feedback from review begin; `review:<assignment>:<revision>:<question>:<n>`."""


@dataclass(frozen=True, slots=True)
class JudgementContext:
    """What a judgement is about, by whom and when.

    Attributes:
        targets: the item's answers in their own order, each a span.
        hashes: the `answer_hash` of each answer's text.
        shown_order: indices into `targets` in the order in which the annotator saw them.
        session_id: of an item that is a session: what is asked once is about it.
        revision: 1 for the first submission of the assignment; a changed one has the next number.
    """

    assignment_id: str
    item_id: str
    annotator: str
    targets: Sequence[Target]
    hashes: Sequence[str]
    shown_order: Sequence[int]
    guideline: int
    sampling_probability: float | None
    revision: int
    judged_at: datetime
    session_id: str = ""


def context_of(item: ReviewItem, a: Assignment, calls: Sequence[Call]) -> JudgementContext:
    """What a judgement of this assignment is about, as its row says; `calls` are the item's answers in its own order."""
    return JudgementContext(
        assignment_id=a.assignment_id,
        item_id=a.item_id,
        annotator=a.annotator,
        targets=[Target(trace_id=t, span_id=s) for t, s in item.targets],
        hashes=[answer_hash(c.output_text) for c in calls],
        shown_order=a.shown_order,
        guideline=a.guideline,
        sampling_probability=item.sampling_probability,
        revision=a.revision,
        judged_at=a.judged_at,
        session_id=(calls[0].session_id or "") if item.is_session else "",
    )


def feedback_of(
    questions: Sequence[Question], judgement: Judgement, about: JudgementContext
) -> list[Feedback]:
    """The Feedback of a judgement, the same for the same arguments, client ids included.

    `judgement` is checked and in the item's own order.
    """
    by_name = {q.name: q for q in questions}
    result: list[Feedback] = []
    for name, value in judgement.items():
        for n, feedback in enumerate(_feedback_of_question(by_name[name], value, about)):
            result.append(replace(feedback, id=_client_id(about, name, str(n))))
    return result


def retractions(
    project: str, before: Sequence[Feedback], now: Sequence[Feedback], at: JudgementContext
) -> list[Feedback]:
    """Retractions of the feedback `before` that is not in `now`."""
    kept = {f.identity(project) for f in now}
    return [
        replace(f, id=_client_id(at, f.name, f"gone{n}"), created_at=at.judged_at, retracted=True)
        for n, f in enumerate(before)
        if f.identity(project) not in kept
    ]


def _client_id(about: JudgementContext, question: str, part: str) -> str:
    return f"{CLIENT_ID_PREFIX}{about.assignment_id}:{about.revision}:{question}:{part}"


def _feedback_of_question(question: Question, value: Any, about: JudgementContext) -> Iterator[Feedback]:
    if question.kind in ("comparison", "ranking"):
        yield _ranked(question, value, about)
    elif question.listed(len(about.targets)):
        for i, entry in enumerate(value):
            if entry is not None:
                yield from _about_one(question, entry, i, about)
    else:
        yield from _about_one(question, value, 0, about)


def _about_one(question: Question, value: Any, index: int, about: JudgementContext) -> Iterator[Feedback]:
    target = about.targets[index]
    if about.session_id and not question.per_answer:
        target = Target(session_id=about.session_id)
    match question.kind:
        case "thumb":
            yield _feedback("rating", question, target, about, value=float(value), scale=THUMB)
        case "scale":
            scale = Scale(question.min, question.max)
            yield _feedback("rating", question, target, about, value=float(value), scale=scale)
        case "number":
            scale = Scale(question.min, question.max)
            yield _feedback("rating", question, target, about, value=value, scale=scale)
        case "choices":
            for choice in question.choices:
                said = _feedback("rating", question, target, about, value=float(choice in value), scale=THUMB)
                yield replace(said, name=f"{question.name}: {choice}")
        case "category":
            scale = Scale(categories=question.choices)
            more = {} if question.ordered else {UNORDERED: "true"}
            yield _feedback("rating", question, target, about, value=value, scale=scale, metadata=more)
        case "text":
            # about all answers of an item: there is no target that means them all, so it stands at the first and says so
            several = not question.per_answer and len(about.targets) > 1
            more = {"about_answers": str(len(about.targets))} if several else {}
            yield _feedback("comment", question, target, about, comment=value, metadata=more)
        case "correction":
            yield _feedback("correction", question, target, about, correction=value)
        case "flags":
            for mark in value:
                yield _flag(question, mark["category"], mark, target, about)
        case _:
            for mark in value:
                place = CharRange(mark["start"], mark["end"], about.hashes[index])
                yield _flag(question, mark["label"], mark, replace(target, range=place), about)


def _flag(
    question: Question, category: str, mark: dict[str, Any], target: Target, about: JudgementContext
) -> Feedback:
    details = {"severity": mark.get("severity"), "comment": mark.get("comment")}
    return _feedback("flag", question, target, about, category=category, **details)


def _ranked(question: Question, value: dict[str, Any], about: JudgementContext) -> Feedback:
    if question.kind == "comparison":
        preferred = value["preferred"]
        ranks = tuple(1 if preferred in (None, i) else 2 for i in range(len(about.targets)))
    else:
        ranks = tuple(value["ranks"])
    ranking = Ranking(
        tuple(about.targets),
        ranks,
        shown_order=tuple(about.shown_order),
        all_bad=value.get("all_bad", False),
        strength=value.get("strength"),
    )
    return _feedback("comparison", question, about.targets[0], about, ranking=ranking)


def _feedback(
    kind: Any, question: Question, target: Target, about: JudgementContext, **content: Any
) -> Feedback:
    return Feedback(
        kind=kind,
        target=target,
        name=question.name,
        author=Author("annotator", about.annotator),
        created_at=about.judged_at,
        guideline=str(about.guideline) if about.guideline else None,
        queue_item=about.item_id,
        sampling_probability=about.sampling_probability,
        solicited=True,
        **content,
    )
