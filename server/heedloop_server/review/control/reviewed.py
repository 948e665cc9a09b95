"""A queue as quality control sees it: its questions, judgements, expected answers and adjudications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from heedloop import responses
from heedloop_server.review.adaptive import accuracies, num_wanted, votes_of
from heedloop_server.review.control.consensus import Method, consensus_of_question
from heedloop_server.review.control.labels import Judged, labels, unit_item
from heedloop_server.review.questions import Question
from heedloop_server.review.queue import Queue
from heedloop_server.review.responses import draft_to_stored
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.assignments import (
    REMOVED,
    Assignment,
    ReviewItem,
    changed_items,
    judgements_of,
    unfinished_of,
)
from heedloop_server.store.review.control import Adjudication, adjudications_of, lead_notes
from heedloop_server.store.review.queues import find_queue
from heedloop_server.store.review.team import GROUP

LABELLED = frozenset({"thumb", "scale", "category", "choices", "flags", "ranges", "comparison", "ranking"})
"""Kinds of questions that annotators can agree on; texts and corrections are not among them."""
State = responses.ItemState


@dataclass(frozen=True)
class ReviewedQueue:
    """A queue with everything that was judged in it.

    Attributes:
        judged: judgements that count, under no guideline that was sent back.
        gold: item id -> the expected answers.
        unfinished: drafts and skips.
    """

    queue: Queue
    items: Mapping[str, ReviewItem]
    judged: Sequence[Judged]
    gold: Mapping[str, Judged]
    adjudications: Mapping[str, Adjudication]
    unfinished: Sequence[Judged] = ()
    notes: Mapping[str, Sequence[responses.LeadNote]] = field(default_factory=dict)

    @property
    def questions(self) -> list[Question]:
        """Those with labels."""
        return [q for q in self.queue.questions if q.kind in LABELLED]

    @property
    def adjudicated(self) -> dict[str, Judged]:
        """Item id -> the reviewer's answers."""
        return {
            i: Judged(i, w.reviewer, w.answers, w.judged_at, None, _own_order(self.items[i]))
            for i, w in self.adjudications.items()
        }

    @cached_property
    def by_item(self) -> dict[str, list[Judged]]:
        """Item id -> its judgements, by annotator."""
        result: dict[str, list[Judged]] = {}
        for one in sorted(self.judged, key=lambda j: (j.item_id, j.annotator)):
            result.setdefault(one.item_id, []).append(one)
        return result

    def consensus(self, method: Method) -> dict[str, list[responses.ConsensusRow]]:
        """Question -> the consensus of every unit."""
        return {
            q.name: consensus_of_question(
                q, self.judged, method=method, gold=self.gold, adjudicated=self.adjudicated
            )
            for q in self.questions
        }

    def disagreements(self) -> dict[str, list[str]]:
        """Item id -> the questions to which its annotators gave different answers."""
        result: dict[str, list[str]] = {}
        for question in self.questions:
            by_unit: dict[tuple[str, ...], set[object]] = {}
            for _, unit, label in labels(question, self.judged):
                by_unit.setdefault(unit, set()).add(label)
            for item_id in sorted({unit_item(u) for u, values in by_unit.items() if len(values) > 1}):
                result.setdefault(item_id, []).append(question.name)
        return result

    def state(self, item_id: str, num: int, differs: bool) -> State:
        """The state of an item with `num` judgements."""
        if item_id in self.adjudications:
            return "adjudicated"
        if differs:
            return "disagreement"
        if num >= self.num_wanted(item_id):
            return "done"
        return "open"

    def num_wanted(self, item_id: str) -> int:
        """How many judgements an item should have."""
        num = self.queue.judgements_per_item
        if self.queue.until != "number":
            done = sorted(self.by_item.get(item_id, ()), key=lambda j: j.submitted_at)
            votes = [votes_of(self.queue.questions, j) for j in done]
            num = num_wanted(self.queue, votes, self._accuracy)
        return num + self.queue.has_second(item_id)

    @cached_property
    def _accuracy(self) -> Mapping[str, float]:
        votes = ([votes_of(self.queue.questions, j) for j in found] for found in self.by_item.values())
        return accuracies(self.queue.questions, votes)

    def skips_by_item(self) -> dict[str, list[Judged]]:
        """Item id -> the skips of it, with their reasons."""
        result: dict[str, list[Judged]] = {}
        for one in self.unfinished:
            if one.state == "skipped":
                result.setdefault(one.item_id, []).append(one)
        return result

    @property
    def annotators(self) -> set[str]:
        """Those whom the queue names; where it names none, those who have worked in it."""
        return {a for a in self.queue.annotators if not a.startswith(GROUP)} or {
            j.annotator for j in (*self.judged, *self.unfinished)
        }

    def responses(self, only: State | None = None) -> Iterable[responses.ReviewItem]:
        """The items in the queue's order, as the REST API has them; those in one state where it is named."""
        by_item, differs = self.by_item, self.disagreements()
        skips_by_item, annotators = self.skips_by_item(), self.annotators
        agreed: dict[str, dict[str, list[responses.ConsensusRow]]] = {}
        for name, rows in self.consensus("majority").items():
            for row in rows:
                agreed.setdefault(row.item_id, {}).setdefault(name, []).append(row)
        for item in sorted(self.items.values(), key=lambda i: (i.position, i.item_id)):
            judged = by_item.get(item.item_id, [])
            skips = skips_by_item.get(item.item_id, [])
            state = self.state(item.item_id, len(judged), item.item_id in differs)
            if state == "open" and skips and annotators <= {j.annotator for j in (*judged, *skips)}:
                state = "skipped"  # no annotator is left to be offered it
            if only in (None, state):
                word = self.adjudications.get(item.item_id)
                yield responses.picked(
                    responses.ReviewItem,
                    item,
                    targets=[responses.ReviewTarget(trace_id=t, span_id=s) for t, s in item.targets],
                    state=state,
                    disagreements=differs.get(item.item_id, []),
                    judgements=[_judgement(j) for j in judged],
                    skips=[_skip(j) for j in skips],
                    notes=list(self.notes.get(item.item_id, ())),
                    consensus=agreed.get(item.item_id, {}),
                    adjudicated=None
                    if word is None
                    else responses.picked(responses.Adjudication, word, guideline_version=word.guideline),
                )


def read_queue(project: ProjectStore, queue_id: str) -> ReviewedQueue | None:
    """A queue with everything that was judged in it; None where there is none of this id."""
    queue = find_queue(project, queue_id)
    if queue is None:
        return None
    items = {i.item_id: i for i in changed_items(project, queue_id, None)[0] if i.gold != REMOVED}
    judged = [
        _judged(a)
        for a in judgements_of(project, queue_id)
        if a.item_id in items and a.guideline >= queue.judged_from and a.annotator not in queue.uncounted
    ]
    gold = {
        i.item_id: Judged(i.item_id, "", i.expected, queue.created_at, None, _own_order(i))
        for i in items.values()
        if i.gold and i.expected is not None
    }
    adjudications = {i: w for i, w in adjudications_of(project, queue_id).items() if i in items}
    unfinished = [_unfinished(queue, a) for a in unfinished_of(project, queue_id) if a.item_id in items]
    notes = {
        i: [responses.LeadNote(annotator=r["annotator"], text=r["text"], written_at=r["at"]) for r in rows]
        for i, rows in lead_notes(project).items()
        if i in items
    }
    return ReviewedQueue(queue, items, judged, gold, adjudications, unfinished, notes)


def _unfinished(queue: Queue, a: Assignment) -> Judged:
    """A draft in the item's own order of answers, or a skip."""
    if a.state == "skipped":
        return replace(_judged(a), answers={}, state="skipped", reason=a.reason)
    draft = draft_to_stored(queue.questions, a.draft or {}, a.shown_order)
    return replace(_judged(a), answers=draft, submitted_at=a.leased_at, state="draft")


def _judged(a: Assignment) -> Judged:
    return Judged(
        a.item_id,
        a.annotator,
        a.answers or {},
        a.judged_at,
        a.duration_ms or None,
        a.shown_order,
        a.guideline,
    )


def _own_order(item: ReviewItem) -> tuple[int, ...]:
    return tuple(range(len(item.targets)))


def _judgement(one: Judged) -> responses.ItemJudgement:
    return responses.picked(responses.ItemJudgement, one, shown_order=list(one.shown_order))


def _skip(one: Judged) -> responses.ItemSkip:
    return responses.picked(responses.ItemSkip, one, skipped_at=one.submitted_at)
