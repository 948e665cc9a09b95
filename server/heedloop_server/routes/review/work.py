"""An annotator's work: the next items, drafts, judgements, skips, and taking them back."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from heedloop.responses import (
    AssignmentPage,
    AssignmentsAhead,
    JudgedAssignment,
    Progress,
    ReopenedAssignment,
    ReviewAssignment,
    StoredDraft,
    extended,
)
from heedloop.schema import SchemaError, utc_now
from heedloop_server.errors import NotFound, ServerError
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.ingest.feedback_writer import Outcome
from heedloop_server.normalise.values import scrub
from heedloop_server.review.item_view import assignment_response, suggestions_of
from heedloop_server.review.queue_service import OpenQueue, ReviewQueueService
from heedloop_server.review.submission import Submitted, keep_draft, own, record, reopen, skip, submit
from heedloop_server.routes.review.queues import queue_service_of
from heedloop_server.store.connection import StoreError
from heedloop_server.store.review.assignments import Assignment
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
def post_next(request: Request, who: Worker, queue_id: str, body: Next) -> AssignmentsAhead:
    """What the caller holds already, the oldest first, then new leases; fewer where nothing is left."""
    queue_service = queue_service_of(request)
    with queue_service.locked_queue(who.project, queue_id) as opened:
        if not opened.queue.admits(who.author):
            raise NotFound(f"there is no queue {queue_id!r} for you in this project")
        return _further(queue_service, opened, who, body.count, body.holding)


@router.put("/v1/review/assignments/{assignment_id}/draft")
@responds(also=[409])
def put_draft(request: Request, who: Worker, assignment_id: str, body: Draft) -> StoredDraft:
    """Keep unfinished answers; the lease begins anew."""
    queue_service = queue_service_of(request)
    with _queue(queue_service, who, assignment_id) as opened:
        a = own(opened, assignment_id, who.author)
        kept = keep_draft(queue_service, opened, a, body.answers, key_id=who.key_id)
    return StoredDraft(
        assignment_id=kept.assignment_id,
        state=kept.state,
        expires_at=kept.expires_at,
        guideline_version=opened.guideline.number,
        sent_back=a.guideline < opened.queue.judged_from,
        queue_status=opened.queue.status,
    )


@router.post("/v1/review/assignments/{assignment_id}/submit")
@responds(also=[409])
def post_submit(request: Request, who: Worker, assignment_id: str, body: Submission) -> JudgedAssignment:
    """Store a judgement; it is feedback, on disk, when this answers. The same again changes nothing."""
    queue_service = queue_service_of(request)
    with _queue(queue_service, who, assignment_id) as opened:
        a = own(opened, assignment_id, who.author)
        with queue_service.together(opened):
            done = submit(
                queue_service,
                opened,
                a,
                body.answers,
                key_id=who.key_id,
                duration_ms=min(body.duration_ms, _DAY_MS),
                guideline=body.guideline_version,
                revision=body.revision,
                hashes=body.answer_hashes,
            )
            try:
                further = _further(queue_service, opened, who, body.next, body.holding)
            except (ServerError, StoreError):
                queue_service.repair_later(
                    who.project, queue_id=done.queue_id
                )  # where the judgement is stored already
                raise
        recorded = record(queue_service, who.project, done)
    _wait(queue_service, who, done, recorded)
    return extended(
        JudgedAssignment, further, state="done", feedback=done.feedback_ids, training=done.training
    )


@router.post("/v1/review/assignments/{assignment_id}/skip")
@responds(also=[409])
def post_skip(request: Request, who: Worker, assignment_id: str, body: Skip) -> JudgedAssignment:
    """Leave an item to others."""
    queue_service = queue_service_of(request)
    with _queue(queue_service, who, assignment_id) as opened, queue_service.together(opened):
        skip(queue_service, opened, own(opened, assignment_id, who.author), body.reason)
        further = _further(queue_service, opened, who, body.next, body.holding)
    return extended(JudgedAssignment, further, state="skipped", feedback=[], training=None)


@router.post("/v1/review/assignments/{assignment_id}/reopen")
@responds(also=[409])
def post_reopen(request: Request, who: Worker, assignment_id: str) -> ReopenedAssignment:
    """Take a judgement or a skip back; the item is the caller's again, with the old answers as draft."""
    queue_service = queue_service_of(request)
    with _queue(queue_service, who, assignment_id) as opened:
        a, retractions = reopen(
            queue_service, opened, own(opened, assignment_id, who.author), key_id=who.key_id
        )
        shown = _shown(queue_service, opened, [a])
        progress = _progress(opened, who)
        recorded = record(queue_service, who.project, retractions) if retractions is not None else None
    if retractions is not None:
        _wait(queue_service, who, retractions, recorded)
    return extended(ReopenedAssignment, shown[0], progress=progress)


@router.get("/v1/review/queues/{queue_id}/mine")
def get_mine(
    request: Request,
    who: Worker,
    queue_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> AssignmentPage:
    """The caller's own assignments that are done or skipped, newest first."""
    queue_service = queue_service_of(request)
    with queue_service.locked_queue(who.project, queue_id) as opened:
        if not opened.queue.admits(who.author):
            raise NotFound(f"there is no queue {queue_id!r} for you in this project")
        after = _after(cursor)
        mine = [a for a in opened.work.of_annotator(who.author) if a.item_id in opened.work.items]
        mine = [a for a in mine if after is None or (a.judged_at, a.item_id) < after][:limit]
        whole = queue_service.all_whole(opened, mine)
        last = mine[-1] if len(mine) == limit else None
        return AssignmentPage(
            assignments=_shown(queue_service, opened, whole),
            next_cursor=write_cursor(last.judged_at, last.item_id) if last else None,
        )


# ------------------------------------------------------------------------------------------------------------- details


def _queue(queue_service: ReviewQueueService, who: Principal, assignment_id: str) -> Any:
    """The open queue of an assignment, for a `with`."""
    if len(assignment_id) != 32 or not set(assignment_id) <= set("0123456789abcdef"):
        raise NotFound(f"there is no assignment {assignment_id[:80]!r} in this project")
    return queue_service.locked_queue(who.project, queue_service.queue_of(who.project, assignment_id))


def _further(
    queue_service: ReviewQueueService, opened: OpenQueue, who: Principal, count: int, holding: list[str]
) -> AssignmentsAhead:
    """What the caller should work on next, besides what they say they hold."""
    now = utc_now()
    held = opened.work.held(who.author, now)
    others = [a for a in held if a.assignment_id not in holding]
    chosen = others[:count] if opened.queue.status in ("open", "paused") else []
    queue_service.renew(opened, [*chosen, *(a for a in held if a.assignment_id in holding)])
    chosen = [opened.work.assignment(a.assignment_id) or a for a in chosen]
    if len(chosen) < count and opened.queue.status == "open":
        chosen += queue_service.lease(opened, who.author, count - len(chosen), key_id=who.key_id)
    return AssignmentsAhead(
        assignments=_shown(queue_service, opened, chosen), progress=_progress(opened, who)
    )


def _progress(opened: OpenQueue, who: Principal) -> Progress:
    mine = opened.work.progress(who.author, utc_now())
    return replace(mine, items=mine.done + mine.remaining)


def _shown(
    queue_service: ReviewQueueService, opened: OpenQueue, assignments: list[Assignment]
) -> list[ReviewAssignment]:
    """Assignments with their content, without those whose answers are gone."""
    calls = queue_service.contents(opened, [a.item_id for a in assignments])
    there = [queue_service.whole(opened, a) for a in assignments if a.item_id in calls]
    suggestions = _suggestions(opened, there) if opened.queue.suggestions else {}
    return [
        assignment_response(opened.queue, a, calls[a.item_id], suggestions.get(a.assignment_id, {}))
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


def _wait(
    queue_service: ReviewQueueService, who: Principal, done: Submitted, recorded: Future[list[Outcome]] | None
) -> None:
    """Until the feedback is stored; where the store refuses it now, it is stored later from the assignment's row."""
    if recorded is None:
        return
    try:
        recorded.result()
    except ServerError:
        queue_service.repair_later(who.project, done.queue_id)
        raise


def _after(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    at, (item_id,) = read_cursor(cursor, 1)
    if len(item_id) != 32:
        raise SchemaError("cursor", "is no cursor of assignments")
    return at, item_id
