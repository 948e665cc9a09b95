"""Review queues: made, changed, looked at. Filling them is in `fills`, what annotators do in them in `work`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Annotated, Any, NotRequired, cast

from fastapi import Body, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from heedloop import responses
from heedloop.schema import to_json, utc_now
from heedloop_server.errors import Conflict, Invalid, NotFound
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, AnyStore, Queues
from heedloop_server.normalise.values import scrub
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.questions import why_incompatible
from heedloop_server.review.queue import Guideline, changed, new_queue, read_guideline
from heedloop_server.review.submission import release
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.review.assignments import REMOVED, insert_items
from heedloop_server.store.review.queues import guidelines_of, insert_guideline, insert_queue, list_queues
from heedloop_server.store.review.team import Member, list_members

router = Router()


class NewGuidelineText(TypedDict):
    """The guideline that a new queue comes with."""

    text: str
    examples: NotRequired[list[dict[str, str]]]


class NewGuideline(NewGuidelineText):
    """A new version of a guideline."""

    send_back: NotRequired[bool]


class QueueChanges(TypedDict, total=False):
    """What of a queue can be changed."""

    name: str
    description: str
    status: responses.QueueStatus
    questions: list[dict[str, Any]]
    judgements_per_item: int
    lease_s: int
    due_at: str | None
    gold_share: float
    show: list[str]
    suggestions: bool
    annotators: list[str]
    until: responses.EnoughJudgements
    max_judgements: int
    confidence: float
    order: responses.ItemOrder
    by_language: bool
    second_share: float
    second_by: list[str]
    rules: list[dict[str, Any]]
    webhook_url: str
    stuck_hours: int
    on_careless: responses.OnCareless
    suspended: list[str]
    uncounted: list[str]


class NewQueue(QueueChanges, total=False):
    """A queue to be made: `name` and `questions` are needed."""

    guideline: NewGuidelineText | None


Viewer = Annotated[Principal, Depends(require("annotate", "review", "admin"))]
Json = Annotated[dict[str, Any], AfterValidator(scrub), Body()]

_NEVER = datetime.max.replace(tzinfo=timezone.utc)


# -------------------------------------------------------------------------------------------------------------- queues


@router.get("/v1/review/queues")
def get_queues(store: AnyStore, queues: Queues, who: Viewer, archived: bool = False) -> responses.QueueList:
    """The queues that the caller may work in, those that are due first; all for reviewers and admins. Archived ones where asked for."""
    project = store.project(who.project)
    me = list_members(project).get(who.author, Member(who.author))
    seen = [
        q
        for q in list_queues(project)
        if (me.is_among(q.annotators) or sees_all(who)) and (archived or q.status != "archived")
    ]
    seen.sort(key=lambda q: q.due_at or _NEVER)
    found: list[responses.Queue] = []
    for queue in seen:
        with queues.locked_queue(who.project, queue.queue_id) as opened:
            found.append(_response(opened, who))
    return responses.QueueList(queues=found)


@router.get("/v1/review/queues/{queue_id}")
def get_queue(queues: Queues, who: Viewer, queue_id: str) -> responses.Queue:
    """One queue with its guideline and the caller's own progress."""
    with queues.locked_queue(who.project, queue_id) as opened:
        if not may_see(who, opened):
            raise NotFound(f"there is no queue {queue_id!r} in this project")
        return _response(opened, who)


@router.post("/v1/review/queues", status_code=201)
@accepts(NewQueue)
def post_queue(store: AnyStore, queues: Queues, who: AdminKey, body: Json) -> responses.Queue:
    """Make a queue; `guideline` may come with it."""
    project = store.project(who.project)
    queue = new_queue(
        body,
        queue_id=secrets.token_hex(8),
        created_by=who.author,
        created_at=utc_now(),
        seed=secrets.token_hex(16),
    )
    guideline = _guideline(body.get("guideline"), 1, who, field="guideline")
    if guideline is not None:
        insert_guideline(project, queue.queue_id, guideline)
    insert_queue(project, queue)
    write_audit(store, who, "create_queue", queue.queue_id, {"name": queue.name})
    return get_queue(queues, who, queue.queue_id)


@router.patch("/v1/review/queues/{queue_id}")
@responds(also=[409])
@accepts(QueueChanges)
def patch_queue(queues: Queues, who: AdminKey, queue_id: str, body: Json) -> responses.Queue:
    """Change settings; once something was judged, questions only so that the answers stay answers to them."""
    with queues.locked_queue(who.project, queue_id) as opened:
        queue = changed(opened.queue, body)
        details: dict[str, Any] = {"changed": sorted(body)}
        if queue.questions != opened.queue.questions:
            if opened.work.was_judged() and (
                why := why_incompatible(opened.queue.questions, queue.questions)
            ):
                raise Conflict(why, field="questions")
            queue = replace(queue, questions_version=opened.queue.questions_version + 1)
            details |= {
                "questions_version": queue.questions_version,
                "questions_before": [to_json(q.response()) for q in opened.queue.questions],
            }
        opened.change(queue)
        write_audit(opened.project.store, who, "change_queue", queue_id, details)
        return _response(opened, who)


@router.delete("/v1/review/queues/{queue_id}")
def delete_queue(queues: Queues, who: AdminKey, queue_id: str) -> responses.DeletedQueue:
    """Take a queue away. The judgements made in it are feedback and stay; to keep the queue to look at, archive it."""
    with queues.locked_queue(who.project, queue_id) as opened:
        queue = replace(opened.queue, status="deleted")
        opened.change(queue)
        write_audit(opened.project.store, who, "delete_queue", queue_id, {"name": queue.name})
    return responses.DeletedQueue(queue_id=queue_id, deleted=True)


class Removal(BaseModel):
    """Items to take out of a queue."""

    model_config = ConfigDict(extra="forbid")
    item_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=10_000)]


@router.post("/v1/review/queues/{queue_id}/items/remove")
def remove_items(queues: Queues, who: AdminKey, queue_id: str, body: Removal) -> responses.RemovedItems:
    """Take items out: nobody is offered them any more, and they count nowhere. What was judged of them stays feedback."""
    with queues.locked_queue(who.project, queue_id) as opened:
        known = [i for i in dict.fromkeys(body.item_ids) if i in opened.work.items]
        removed = [replace(opened.work.items[i], gold=REMOVED) for i in known]
        insert_items(opened.project, queue_id, removed)
        opened.work.take_items(removed)
        write_audit(opened.project.store, who, "remove_items", queue_id, {"num": len(known)})
    return responses.RemovedItems(removed=len(known), unknown=len(set(body.item_ids)) - len(known))


class LeaseRelease(BaseModel):
    """Whose leases end; everybody's where nobody is named."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotated[str, Field(max_length=256)] = ""


@router.post("/v1/review/queues/{queue_id}/release")
def release_leases(
    queues: Queues, who: AdminKey, queue_id: str, body: LeaseRelease
) -> responses.ReleasedLeases:
    """End leases now, so that others are offered the items; drafts are kept."""
    with queues.locked_queue(who.project, queue_id) as opened:
        num = release(opened, body.annotator)
        write_audit(opened.project.store, who, "release_leases", queue_id, {"num": num})
    return responses.ReleasedLeases(released=num)


def sees_all(who: Principal) -> bool:
    """True for reviewers and admins."""
    return bool(who.scopes & {"review", "admin"})


def may_see(who: Principal, opened: OpenQueue) -> bool:
    """True for reviewers and admins, and for the annotators of the queue."""
    return sees_all(who) or opened.work.admits(who.author)


def _response(opened: OpenQueue, who: Principal) -> responses.Queue:
    """The queue, as far as the caller may know it."""
    now = utc_now()
    mine = opened.work.progress(who.author, now)
    if not sees_all(who):
        return opened.queue.response(opened.guideline, mine)
    whole = opened.queue.response_to_reviewer(opened.guideline, mine, opened.work.totals(now))
    hook = opened.queue.webhook_url and "admin" in who.scopes
    return replace(whole, webhook_secret=opened.queue.webhook_secret) if hook else whole


# ----------------------------------------------------------------------------------------------------------- guideline


@router.put("/v1/review/queues/{queue_id}/guideline")
@accepts(NewGuideline)
def put_guideline(queues: Queues, who: AdminKey, queue_id: str, body: Json) -> responses.Queue:
    """A new version of the guideline; `send_back` asks again for what was judged under older ones."""
    send_back = body.get("send_back", False)
    if not isinstance(send_back, bool):
        raise Invalid(f"send_back must be true or false, not {send_back!r}", field="send_back")
    with queues.locked_queue(who.project, queue_id) as opened:
        made = _guideline(
            {k: v for k, v in body.items() if k != "send_back"}, opened.guideline.number + 1, who
        )
        guideline = replace(cast(Guideline, made), send_back=send_back)
        insert_guideline(opened.project, queue_id, guideline)
        opened.guideline = guideline
        if send_back:
            queue = replace(opened.queue, judged_from=guideline.number)
            opened.change(queue)
        write_audit(
            opened.project.store, who, "change_guideline", queue_id, {"version": guideline.number, "send_back": send_back}
        )  # fmt: skip
        return _response(opened, who)


@router.get("/v1/review/queues/{queue_id}/guidelines")
def get_guidelines(queues: Queues, who: Viewer, queue_id: str) -> responses.GuidelineList:
    """Every version of the guideline, the newest first."""
    with queues.locked_queue(who.project, queue_id) as opened:
        if not may_see(who, opened):
            raise NotFound(f"there is no queue {queue_id!r} in this project")
    found = [g.response() for g in guidelines_of(opened.project, queue_id) if g.number]
    return responses.GuidelineList(guidelines=found)


def _guideline(given: Any, number: int, who: Principal, *, field: str = "") -> Guideline | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise Invalid("guideline must be an object with text and examples", field=field)
    entry = cast(Mapping[str, Any], given)
    unknown = sorted(set(entry) - {"text", "examples"})
    if unknown:
        raise Invalid(f"{unknown[0]!r} is no field of a guideline; it has text, examples", field=unknown[0])
    text, examples = read_guideline(entry, field=field)
    return Guideline(number, text, examples, created_at=utc_now(), created_by=who.author)
