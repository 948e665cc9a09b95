"""An annotator's work: the next items, drafts, judgements, skips, and taking them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from heedloop import responses
from heedloop.schema import Author, Feedback, SchemaError, Target, utc_now
from heedloop_server.errors import NotFound
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import Queues
from heedloop_server.normalise.values import scrub
from heedloop_server.review.item_view import assignment_response, suggestions_of
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.queue_service import ReviewQueueService
from heedloop_server.review.submission import Submitted, keep_draft, own, reopen, skip, submit
from heedloop_server.review.training import compare
from heedloop_server.store.review.assignments import LEAD_NOTE, Assignment, remark_of
from heedloop_server.store.review.content import model_feedback

router = Router()

Worker = Annotated[Principal, Depends(require("annotate"))]

Ids = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)]
Answers = dict[str, Any]
_DAY_MS = 86_400_000


class _Body(BaseModel):
    """A body; lone surrogates, legal in JSON and in no UTF-8, are replaced, because the store could not take them."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: Any) -> Any:
        return scrub(given)


class Next(_Body):
    """How many items the caller wants, besides those that they work on already."""

    count: Annotated[int, Field(ge=1, le=3)] = 1
    holding: Ids = []


class Draft(_Body):
    """Unfinished answers."""

    answers: Answers


class Submission(_Body):
    """A judgement, and how many further items to answer with."""

    answers: Answers
    duration_ms: Annotated[int, Field(ge=0)] = 0
    guideline_version: int | None = None
    revision: Annotated[int, Field(ge=0)] | None = None
    answer_hashes: Annotated[list[str], Field(max_length=100)] | None = None
    next: Annotated[int, Field(ge=0, le=3, strict=True)] = 0
    holding: Ids = []


class Skip(_Body):
    """Why the caller will not judge it."""

    reason: Annotated[str, Field(max_length=10_000)] = ""
    next: Annotated[int, Field(ge=0, le=3, strict=True)] = 0
    holding: Ids = []


@router.post("/v1/review/queues/{queue_id}/next")
def post_next(queues: Queues, who: Worker, queue_id: str, body: Next) -> responses.AssignmentsAhead:
    """What the caller holds already, the oldest first, then new leases; fewer where nothing is left."""
    with queues.locked_queue(who.project, queue_id) as opened:
        if not opened.work.admits(who.author):
            raise NotFound(f"there is no queue {queue_id!r} for you in this project")
        return _further(opened, who, body.count, body.holding)


@router.put("/v1/review/assignments/{assignment_id}/draft")
@responds(also=[409])
def put_draft(queues: Queues, who: Worker, assignment_id: str, body: Draft) -> responses.StoredDraft:
    """Keep unfinished answers; the lease begins anew."""
    with _queue(queues, who, assignment_id) as opened:
        a = own(opened, assignment_id, who.author)
        kept = keep_draft(opened, a, body.answers, key_id=who.key_id)
    return responses.picked(
        responses.StoredDraft,
        kept,
        guideline_version=opened.guideline.number,
        sent_back=a.guideline < opened.queue.judged_from,
        queue_status=opened.queue.status,
    )


@router.post("/v1/review/assignments/{assignment_id}/submit")
@responds(also=[409])
def post_submit(
    queues: Queues, who: Worker, assignment_id: str, body: Submission
) -> responses.JudgedAssignment:
    """Store a judgement; it is feedback, on disk, when this answers. The same again changes nothing."""
    with _queue(queues, who, assignment_id) as opened:
        a = own(opened, assignment_id, who.author)
        with opened.together():
            done = submit(
                opened,
                a,
                body.answers,
                key_id=who.key_id,
                duration_ms=min(body.duration_ms, _DAY_MS),
                guideline=body.guideline_version,
                revision=body.revision,
                hashes=body.answer_hashes,
            )
            with queues.repairing(
                who.project, opened.queue.queue_id
            ):  # where the judgement is stored already
                further = _further(opened, who, body.next, body.holding)
        recorded = _record(queues, opened, who, done)
    recorded()
    return responses.extended(
        responses.JudgedAssignment, further, state="done", feedback=done.feedback_ids, training=done.training
    )


@router.post("/v1/review/assignments/{assignment_id}/skip")
@responds(also=[409])
def post_skip(queues: Queues, who: Worker, assignment_id: str, body: Skip) -> responses.JudgedAssignment:
    """Leave an item to others."""
    with _queue(queues, who, assignment_id) as opened, opened.together():
        skip(opened, own(opened, assignment_id, who.author), body.reason)
        further = _further(opened, who, body.next, body.holding)
    return responses.extended(
        responses.JudgedAssignment, further, state="skipped", feedback=[], training=None
    )


@router.post("/v1/review/assignments/{assignment_id}/reopen")
@responds(also=[409])
def post_reopen(queues: Queues, who: Worker, assignment_id: str) -> responses.ReopenedAssignment:
    """Take a judgement or a skip back; the item is the caller's again, with the old answers as draft."""
    with _queue(queues, who, assignment_id) as opened:
        a, retractions = reopen(opened, own(opened, assignment_id, who.author), key_id=who.key_id)
        shown = _shown(opened, [a])
        progress = _progress(opened, who)
        recorded = _record(queues, opened, who, retractions)
    recorded()
    return responses.extended(responses.ReopenedAssignment, shown[0], progress=progress)


class Note(_Body):
    """What an annotator wants the lead to know about an item."""

    text: Annotated[str, Field(min_length=1, max_length=10_000)]


@router.post("/v1/review/assignments/{assignment_id}/note", status_code=201)
def post_note(queues: Queues, who: Worker, assignment_id: str, body: Note) -> responses.StoredNote:
    """Write to the lead about an item: a comment under its own name, and no part of the judgement. A later one replaces it."""
    with _queue(queues, who, assignment_id) as opened:
        a = own(opened, assignment_id, who.author)
        trace_id, span_id = opened.work.items[a.item_id].targets[0]
    note = Feedback(
        "comment",
        Target(trace_id=trace_id, span_id=span_id),
        name=LEAD_NOTE,
        comment=body.text,
        author=Author("annotator", who.author),
        queue_item=a.item_id,
        solicited=True,
    )
    queues.record(who.project, [note], who.key_id).result()
    return responses.StoredNote(feedback_id=str(note.identity(who.project)))


@router.get("/v1/review/queues/{queue_id}/record")
def get_record(queues: Queues, who: Worker, queue_id: str) -> responses.OwnRecord:
    """The caller's own work in a queue: how much, how long, and how many training answers were right."""
    with queues.locked_queue(who.project, queue_id) as opened:
        if not opened.work.admits(who.author):
            raise NotFound(f"there is no queue {queue_id!r} for you in this project")
        items = opened.work.items
        mine = [a for a in opened.work.of_annotator(who.author) if a.item_id in items]
        training = [a for a in mine if a.state == "done" and items[a.item_id].gold == "training"]
        results = [
            compare(opened.queue.questions, items[a.item_id], a.shown_order, dict(a.answers or {}))
            for a in opened.all_whole(training)
        ]
        held = opened.work.held(who.author, utc_now())
    done = [a for a in mine if a.state == "done"]
    return responses.OwnRecord(
        done=len(done),
        skipped=len(mine) - len(done),
        sent_back=sum(bool(remark_of(a)) for a in held),
        hours=sum(a.duration_ms for a in done) / 3_600_000,
        training=len(results),
        training_right=sum(all(r.correct.values()) for r in results),
    )


@router.get("/v1/review/queues/{queue_id}/mine")
def get_mine(
    queues: Queues,
    who: Worker,
    queue_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> responses.AssignmentPage:
    """The caller's own assignments that are done or skipped, newest first."""
    with queues.locked_queue(who.project, queue_id) as opened:
        if not opened.work.admits(who.author):
            raise NotFound(f"there is no queue {queue_id!r} for you in this project")
        after = _after(cursor)
        mine = [a for a in opened.work.of_annotator(who.author) if a.item_id in opened.work.items]
        mine = [a for a in mine if after is None or (a.judged_at, a.item_id) < after][:limit]
        whole = opened.all_whole(mine)
        last = mine[-1] if len(mine) == limit else None
        return responses.AssignmentPage(
            assignments=_shown(opened, whole),
            next_cursor=write_cursor(last.judged_at, last.item_id) if last else None,
        )


# ------------------------------------------------------------------------------------------------------------- details


def _queue(queues: ReviewQueueService, who: Principal, assignment_id: str) -> Any:
    """The open queue of an assignment, for a `with`."""
    if len(assignment_id) != 32 or not set(assignment_id) <= set("0123456789abcdef"):
        raise NotFound(f"there is no assignment {assignment_id[:80]!r} in this project")
    return queues.locked_queue(who.project, queues.queue_of(who.project, assignment_id))


def _further(opened: OpenQueue, who: Principal, count: int, holding: list[str]) -> responses.AssignmentsAhead:
    """What the caller should work on next, besides what they say they hold."""
    now = utc_now()
    held = opened.work.held(who.author, now)
    others = [a for a in held if a.assignment_id not in holding]
    chosen = others[:count] if opened.queue.status in ("open", "paused") else []
    if opened.work.is_suspended(who.author):
        chosen = []
    opened.renew([*chosen, *(a for a in held if a.assignment_id in holding)])
    chosen = [opened.work.assignment(a.assignment_id) or a for a in chosen]
    if len(chosen) < count and opened.queue.status == "open":
        chosen += opened.lease(who.author, count - len(chosen), key_id=who.key_id)
    return responses.AssignmentsAhead(assignments=_shown(opened, chosen), progress=_progress(opened, who))


def _progress(opened: OpenQueue, who: Principal) -> responses.Progress:
    mine = opened.work.progress(who.author, utc_now())
    return replace(mine, items=mine.done + mine.remaining)


def _shown(opened: OpenQueue, assignments: list[Assignment]) -> list[responses.ReviewAssignment]:
    """Assignments with their content, without those whose answers are gone."""
    calls = opened.contents([a.item_id for a in assignments])
    there = [opened.whole(a) for a in assignments if a.item_id in calls]
    suggestions = _suggestions(opened, there) if opened.queue.suggestions else {}
    return [
        assignment_response(
            opened.queue,
            opened.work.items[a.item_id],
            a,
            calls[a.item_id],
            suggestions.get(a.assignment_id, {}),
        )
        for a in there
    ]


def _suggestions(opened: OpenQueue, assignments: list[Assignment]) -> dict[str, dict[str, Any]]:
    items = {a.assignment_id: opened.work.items[a.item_id] for a in assignments}
    keys = [t for i in items.values() for t in i.targets]
    said = model_feedback(opened.project, keys) if keys else []
    questions = opened.queue.questions
    return {
        a.assignment_id: suggestions_of(
            questions, t := items[a.assignment_id].targets, [s for s in said if s[0] in t], a.shown_order
        )
        for a in assignments
    }


def _record(
    queues: ReviewQueueService, opened: OpenQueue, who: Principal, done: Submitted | None
) -> Callable[[], None]:
    """Begin to store the feedback of a judgement whose assignment is stored; the result waits for it."""
    queue_id = opened.queue.queue_id
    with queues.repairing(who.project, queue_id):
        storing = [queues.record(who.project, done.feedback, who.key_id)] if done and done.feedback else []

    def wait() -> None:
        with queues.repairing(who.project, queue_id):
            for one in storing:
                one.result()

    return wait


def _after(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    at, (item_id,) = read_cursor(cursor, 1)
    if len(item_id) != 32:
        raise SchemaError("cursor", "is no cursor of assignments")
    return at, item_id
