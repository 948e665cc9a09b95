"""Quality control of review queues over REST: agreement, annotators, consensus, confusion. The numbers are made in `review.control`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Literal, cast

from fastapi import Query

from heedloop import responses
from heedloop.schema import AuthorKind
from heedloop_server.errors import Invalid, NotFound
from heedloop_server.filters import Filters
from heedloop_server.http.responses import Router
from heedloop_server.http.services import ReviewProject
from heedloop_server.review.control.agreement import agreement_by_slice, agreement_of_question
from heedloop_server.review.control.annotators import annotators
from heedloop_server.review.control.bias import AnswerFacts, bias
from heedloop_server.review.control.confusion import Labelled, as_labels, confusion, confusion_by_slice
from heedloop_server.review.control.consensus import Method
from heedloop_server.review.control.labels import Judged, Label, Unit
from heedloop_server.review.control.pools import compare_pools, pools_of
from heedloop_server.review.control.reviewed import LABELLED, ReviewedQueue, read_queue
from heedloop_server.review.questions import Question
from heedloop_server.review.verdicts import RATING_KINDS, verdict_of
from heedloop_server.statistics.intervals import wilson
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.review.content import question_previews
from heedloop_server.store.review.control import answer_facts, count_coverage, ratings_by
from heedloop_server.store.review.team import list_members
from heedloop_server.store.review.verdicts import verdict_texts

router = Router()

OF_JUDGEMENTS = ("guideline", "week", "pool", "round", "layer")
"""What agreement can also be cut by: guideline version, week, group, calibration round, and whether a second layer judged it."""
SLICES = ("model", "prompt_name", "prompt_version", "service", "environment", "tag", "source")
Against = Literal["judge", "model", "user"]


def reviewed(project: ProjectStore, queue_id: str) -> ReviewedQueue:
    """Read a queue; raises `NotFound`."""
    found = read_queue(project, queue_id)
    if found is None:
        raise NotFound(f"there is no review queue {queue_id[:80]!r} in this project")
    return found


@router.get("/v1/review/queues/{queue_id}/agreement")
def get_agreement(project: ReviewProject, queue_id: str, by: str | None = None) -> responses.QueueAgreement:
    """How far annotators agree, per question; with `by` also per slice, the least agreement first."""
    found = reviewed(project, queue_id)
    slices = None if by is None else _slices_of_judgements(project, found, by)
    questions: list[responses.Agreement] = []
    for question in (q for q in found.queue.questions if q.kind in LABELLED or q.kind == "number"):
        parts = None if slices is None else agreement_by_slice(question, found.judged, slices)
        questions.append(replace(agreement_of_question(question, found.judged), slices=parts))
    num_items = len({j.item_id for j in found.judged})
    return responses.QueueAgreement(questions=questions, by=by, num_items=num_items)


@router.get("/v1/review/queues/{queue_id}/annotators")
def get_annotators(project: ReviewProject, queue_id: str) -> responses.QueueAnnotators:
    """Every annotator's record, and what judgements go along with that should not matter."""
    found = reviewed(project, queue_id)
    records = annotators(found.questions, found.judged, found.gold)
    rows = answer_facts(project, (found.items[i] for i in {j.item_id for j in found.judged}))
    facts = {i: [_facts(rows.get(t)) for t in item.targets] for i, item in found.items.items()}
    tendencies = [bias(q, found.judged, facts) for q in found.questions]
    return responses.QueueAnnotators(
        annotators=[r.response() for r in records],
        bias=[t for t in tendencies if t is not None],
        num_gold=len(found.gold),
    )


def _facts(row: Row | None) -> AnswerFacts:
    if row is None:
        return AnswerFacts(0)
    metadata = cast(Mapping[str, str], row["metadata"])
    return AnswerFacts(row["num_chars"], row["model"], metadata.get("language", ""))


@router.get("/v1/review/queues/{queue_id}/pools")
def get_pools(project: ReviewProject, queue_id: str) -> responses.QueuePools:
    """The groups of the team held against each other, per question."""
    found = reviewed(project, queue_id)
    pools = pools_of(found.judged, {m.author_id: m.groups for m in list_members(project).values()})
    return responses.QueuePools(questions=[compare_pools(q, pools) for q in found.questions])


@router.get("/v1/review/queues/{queue_id}/coverage")
def get_coverage(
    project: ReviewProject, queue_id: str, filters: Filters, by: str = "model"
) -> responses.QueueCoverage:
    """Of the answers that the filters take: how many of each value of a field are in the queue, and were judged in it."""
    reviewed(project, queue_id)
    if by not in SLICES[:-1] and not by.startswith("metadata."):
        raise Invalid(f"{by[:80]!r} is no field; use {', '.join(SLICES[:-1])} or metadata.KEY", field="by")
    values = [
        responses.CoveredValue(**row, share=wilson(row["num_judged"], row["num"]))
        for row in count_coverage(project, queue_id, filters, by)
    ]
    return responses.QueueCoverage(by=by, values=values)


@router.get("/v1/review/queues/{queue_id}/consensus")
def get_consensus(
    project: ReviewProject, queue_id: str, method: Method = "dawid_skene"
) -> responses.QueueConsensus:
    """One label per item and question, with its confidence; a reviewer's adjudication stands over it."""
    found = reviewed(project, queue_id)
    return responses.QueueConsensus(method=method, questions=found.consensus(method))


@router.get("/v1/review/queues/{queue_id}/confusion")
def get_confusion(
    project: ReviewProject, queue_id: str, against: Against, by: str | None = None
) -> responses.QueueConfusion:
    """People's consensus beside a judge model's rating of the same name, the users' thumb, or the model's own label."""
    found = reviewed(project, queue_id)
    slices = None if by is None else _slices(project, found, by)
    agreed = found.consensus("dawid_skene")
    questions: list[responses.Confusion] = []
    for question in found.questions:
        if question.kind not in RATING_KINDS:
            continue
        people, other = as_labels(agreed[question.name]), _other(project, found, question, against)
        parts = None if slices is None else confusion_by_slice(question, people, other, slices)
        whole = confusion(question, people, other)
        questions.append(replace(whole, question=question.name, slices=parts))
    return responses.QueueConfusion(against=against, by=by, questions=questions)


@router.get("/v1/review/queues/{queue_id}/confusion/answers")
def get_compared(
    project: ReviewProject,
    queue_id: str,
    against: Against,
    question: str,
    people: str | None = None,
    other: str | None = None,
    left_out: bool = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[int, Query(ge=0)] = 0,
) -> responses.ComparedAnswers:
    """The answers behind a cell of a confusion (`people`, `other`: its labels), or those that are in no cell (`left_out`)."""
    found = reviewed(project, queue_id)
    asked = next((q for q in found.questions if q.name == question and q.kind in RATING_KINDS), None)
    if asked is None:
        raise Invalid(f"{question[:80]!r} is no rating of this queue", field="question")
    consensus = as_labels(found.consensus("dawid_skene")[question])
    labels = _other(project, found, asked, against).labels
    chosen = [
        (unit, label, labels.get(unit))
        for unit, label in sorted(consensus.items())
        if (unit not in labels) == left_out
        and people in (None, str(label))
        and other in (None, str(labels.get(unit)))
    ]
    page = chosen[cursor : cursor + limit]
    more = len(chosen) > cursor + limit
    return responses.ComparedAnswers(
        answers=_compared(project, found, page), next_cursor=str(cursor + limit) if more else None
    )


def _compared(
    project: ProjectStore, found: ReviewedQueue, page: Sequence[tuple[Unit, Label, Label | None]]
) -> list[responses.ComparedAnswer]:
    places = [(found.items[unit[0]], int(unit[1])) for unit, _, _ in page]
    texts = question_previews(project, [(item.targets[i], item.call_times[i]) for item, i in places])
    return [
        responses.ComparedAnswer(
            item_id=item.item_id,
            trace_id=item.targets[i][0],
            span_id=item.targets[i][1],
            people=label,
            other=other,
            asked=texts.get(item.targets[i], ""),
        )
        for (item, i), (_, label, other) in zip(places, page, strict=True)
    ]


def _other(project: ProjectStore, found: ReviewedQueue, question: Question, against: Against) -> Labelled:
    """What the other said of the queue's answers."""
    units = {
        (item.item_id, str(n)): target
        for item in found.items.values()
        for n, target in enumerate(item.targets)
    }
    if against == "model":
        times = {t: at for i in found.items.values() for t, at in zip(i.targets, i.call_times, strict=True)}
        texts = verdict_texts(project, times, question.verdict_pattern)
        verdicts = {u: verdict_of(question, texts.get(t, "")) for u, t in units.items()}
        own = {u: v for u, v in verdicts.items() if v is not None}
        return Labelled(own, {u: texts[t] for u, t in units.items() if u not in own and texts.get(t)})
    name = "thumb" if against == "user" and question.kind == "thumb" else question.name
    kind: AuthorKind = "end_user" if against == "user" else "model"
    said = ratings_by(project, kind, name, list(units.values()))
    labels = {u: _label(question, said[t]) for u, t in units.items() if t in said}
    unknown = {u: str(said[units[u]]) for u, label in labels.items() if label is None}
    return Labelled({u: label for u, label in labels.items() if label is not None}, unknown)


def _label(question: Question, value: float | str) -> Label | None:
    """The value as a label of the question; None where it is none, such as a category that the question does not have."""
    if question.kind == "category":
        return value if value in question.choices else None
    return None if isinstance(value, str) else round(value)


def _slices_of_judgements(
    project: ProjectStore, found: ReviewedQueue, by: str
) -> Callable[[Judged], Iterable[str]]:
    """What slices a judgement counts in: of its own (guideline, week, pool), or of its item."""
    if by == "guideline":
        return lambda one: (f"version {one.guideline_version}",)
    if by == "week":
        return lambda one: (f"{one.submitted_at - timedelta(days=one.submitted_at.weekday()):%Y-%m-%d}",)
    if by == "pool":
        groups = {m.author_id: m.groups for m in list_members(project).values()}
        return lambda one: groups.get(one.annotator) or ("",)
    by_item = _slices(project, found, by)
    return lambda one: (by_item.get(one.item_id, ""),)


def _slices(project: ProjectStore, found: ReviewedQueue, by: str) -> dict[str, str]:
    """Item id -> the value of a field of its first answer's call."""
    if by == "source":
        return {i: item.source for i, item in found.items.items()}
    if by == "round":
        return {i: str((item.reason or {}).get("round", "")) for i, item in found.items.items()}
    if by == "layer":
        return {i: "judged again" if found.queue.has_second(i) else "once" for i in found.items}
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
