"""Quality control of review queues over REST: agreement, annotators, consensus, confusion. The numbers are made in `review.control`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends

from heedloop.schema import AuthorKind
from heedloop_server.answers.review_control import (
    AgreementAnswer,
    AnnotatorsAnswer,
    ConfusionAnswer,
    ConsensusAnswer,
)
from heedloop_server.errors import Invalid, NotFound
from heedloop_server.http.auth import scoped
from heedloop_server.http.openapi import answers
from heedloop_server.review.control.agreement import agreement_by_slice, agreement_of_question
from heedloop_server.review.control.annotators import annotators
from heedloop_server.review.control.bias import AnswerFacts, bias
from heedloop_server.review.control.confusion import as_labels, confusion, confusion_by_slice
from heedloop_server.review.control.consensus import Method
from heedloop_server.review.control.labels import Label, Unit
from heedloop_server.review.control.reviewed import ReviewedQueue, read_queue
from heedloop_server.review.questions import Question
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.review.control import answer_facts, said_by

__all__ = ["reviewed", "router"]

router = APIRouter()

Reviewer = Annotated[ProjectStore, Depends(scoped("review"))]
SLICES = ("model", "prompt_name", "prompt_version", "service", "environment", "tag", "source")
Against = Literal["judge", "model", "user"]


def reviewed(project: ProjectStore, queue_id: str) -> ReviewedQueue:
    """Read a queue; raises `NotFound`."""
    found = read_queue(project, queue_id)
    if found is None:
        raise NotFound(f"there is no review queue {queue_id[:80]!r} in this project")
    return found


@router.get("/v1/review/queues/{queue_id}/agreement")
@answers(AgreementAnswer)
def get_agreement(project: Reviewer, queue_id: str, by: str | None = None) -> dict[str, Any]:
    """How far annotators agree, per question; with `by` also per slice, the least agreement first."""
    found = reviewed(project, queue_id)
    slices = None if by is None else _slices(project, found, by)
    questions: list[dict[str, Any]] = []
    for question in found.questions:
        entry = agreement_of_question(question, found.judged)
        if slices is not None:
            entry["slices"] = agreement_by_slice(question, found.judged, slices)
        questions.append(entry)
    return {"questions": questions, "by": by, "num_items": len({j.item_id for j in found.judged})}


@router.get("/v1/review/queues/{queue_id}/annotators")
@answers(AnnotatorsAnswer)
def get_annotators(project: Reviewer, queue_id: str) -> dict[str, Any]:
    """Every annotator's record, and what judgements go along with that should not matter."""
    found = reviewed(project, queue_id)
    records = annotators(found.questions, found.judged, found.gold)
    rows = answer_facts(project, (found.items[i] for i in {j.item_id for j in found.judged}))
    facts = {i: [_facts(rows.get(t)) for t in item.targets] for i, item in found.items.items()}
    tendencies = [bias(q, found.judged, facts) for q in found.questions]
    return {
        "annotators": [r.to_json() for r in records],
        "bias": [t for t in tendencies if t is not None],
        "num_gold": len(found.gold),
    }


def _facts(row: Row | None) -> AnswerFacts:
    if row is None:
        return AnswerFacts(0)
    metadata = cast(Mapping[str, str], row["metadata"])
    return AnswerFacts(row["num_chars"], row["model"], metadata.get("language", ""))


@router.get("/v1/review/queues/{queue_id}/consensus")
@answers(ConsensusAnswer)
def get_consensus(project: Reviewer, queue_id: str, method: Method = "dawid_skene") -> dict[str, Any]:
    """One label per item and question, with its confidence; a reviewer's adjudication stands over it."""
    found = reviewed(project, queue_id)
    return {"method": method, "questions": found.consensus(method)}


@router.get("/v1/review/queues/{queue_id}/confusion")
@answers(ConfusionAnswer)
def get_confusion(
    project: Reviewer, queue_id: str, against: Against, by: str | None = None
) -> dict[str, Any]:
    """People's consensus beside a judge model's rating of the same name, the users' thumb, or the model's own label."""
    found = reviewed(project, queue_id)
    slices = None if by is None else _slices(project, found, by)
    agreed = found.consensus("dawid_skene")
    questions: list[dict[str, Any]] = []
    for question in found.questions:
        if question.kind not in ("thumb", "scale", "category"):
            continue
        people, other = as_labels(agreed[question.name]), _other(project, found, question, against)
        entry = {"question": question.name, **confusion(question, people, other)}
        if slices is not None:
            entry["slices"] = confusion_by_slice(question, people, other, slices)
        questions.append(entry)
    return {"against": against, "by": by, "questions": questions}


def _other(
    project: ProjectStore, found: ReviewedQueue, question: Question, against: Against
) -> dict[Unit, Label]:
    """Unit -> what the other said of it."""
    units = {
        (item.item_id, str(n)): target
        for item in found.items.values()
        for n, target in enumerate(item.targets)
    }
    if against == "model":
        rows = answer_facts(project, found.items.values())
        own = {u: rows[t]["short_answer"].strip() for u, t in units.items() if t in rows}
        return {u: text for u, text in own.items() if text in question.choices}
    name = "thumb" if against == "user" and question.kind == "thumb" else question.name
    kind: AuthorKind = "end_user" if against == "user" else "model"
    said = said_by(project, kind, name, list(units.values()))
    return {u: _label(question, said[t]) for u, t in units.items() if t in said}


def _label(question: Question, said: float | str) -> Label:
    return said if question.kind == "category" else round(float(said))


def _slices(project: ProjectStore, found: ReviewedQueue, by: str) -> dict[str, str]:
    """Item id -> the value of a field of its first answer's call."""
    if by == "source":
        return {i: item.source for i, item in found.items.items()}
    if by not in SLICES and not by.startswith("metadata."):
        raise Invalid(f"{by[:80]!r} is no slice; use {', '.join(SLICES)} or metadata.KEY", field="by")
    rows = answer_facts(project, found.items.values())
    return {i: _value(rows.get(item.targets[0]), by) for i, item in found.items.items()}


def _value(row: Row | None, by: str) -> str:
    if row is None:
        return ""
    if by.startswith("metadata."):
        return str(row["metadata"].get(by.removeprefix("metadata."), ""))
    return ", ".join(sorted(row["tags"])) if by == "tag" else str(row[by])
