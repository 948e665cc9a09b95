"""Items of a review queue for those who settle them: every judgement, the reviewer's own word, and exchange with other tools."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from fastapi import Body, Depends, Query
from typing_extensions import TypedDict

from heedloop.responses import ItemPage, ItemWithContent, ListedItem, extended
from heedloop.schema import Call, SchemaError, utc_now
from heedloop_server.errors import Conflict, NotFound
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import Queues, ReviewProject
from heedloop_server.review.control.adjudication import adjudication_feedback
from heedloop_server.review.control.reviewed import ReviewedQueue, State, read_queue
from heedloop_server.review.item_view import shown_answer
from heedloop_server.review.responses import check_judgement
from heedloop_server.review.submission import send_back
from heedloop_server.routes.review.control import reviewed
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.assignments import ReviewItem, find_item
from heedloop_server.store.review.content import calls_at, question_previews
from heedloop_server.store.review.control import Adjudication, adjudications_of, insert_adjudication

router = Router()

Who = Annotated[Principal, Depends(require("review"))]
SHOWN_FACTS = ("model", "prompt_name", "prompt_version", "service", "environment")
MAX_REASON = 10_000
_AT_ONCE = 500

_settling = threading.Lock()
"""Two words on one item at once must have two revisions; between servers the later one of the same revision counts."""


class NewAdjudication(TypedDict):
    """A reviewer's word on an item, answers in the item's own order."""

    answers: dict[str, Any]
    reason: str


@router.get("/v1/review/queues/{queue_id}/items")
def get_items(
    project: ReviewProject,
    queue_id: str,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> ItemPage:
    """Items in the queue's order, with everybody's judgements; `state` chooses open, done, disagreement or adjudicated ones."""
    start = _start(cursor)
    queue = reviewed(project, queue_id)
    found = list(queue.responses(state))
    page = found[start : start + limit]
    more = start + limit < len(found)
    # all answers of an item answer the same question
    shown = [queue.items[i.item_id] for i in page]
    firsts = {item.item_id: (item.targets[0], item.call_times[0]) for item in shown}
    asked = question_previews(project, firsts.values())
    return ItemPage(
        items=[extended(ListedItem, i, asked=asked.get(firsts[i.item_id][0], "")) for i in page],
        next_cursor=str(start + limit) if more else None,
    )


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 9:
        raise SchemaError("cursor", "is no cursor of items")
    return int(cursor)


@router.get("/v1/review/items/{item_id}")
def get_item(project: ReviewProject, item_id: str) -> ItemWithContent:
    """One item: the prompt, the answers, and every judgement of them."""
    queue_id, item = _item(project, item_id)
    return _whole(project, reviewed(project, queue_id), item)


def _item(project: ProjectStore, item_id: str) -> tuple[str, ReviewItem]:
    found = find_item(project, item_id)
    if found is None:
        raise NotFound(f"there is no review item {item_id[:80]!r} in this project")
    return found


def _whole(project: ProjectStore, found: ReviewedQueue, item: ReviewItem) -> ItemWithContent:
    calls = _calls(project, item)
    [listed] = [i for i in found.responses() if i.item_id == item.item_id]
    return extended(
        ItemWithContent,
        listed,
        queue_id=found.queue.queue_id,
        messages=list(calls[0].input_messages),
        is_session=item.is_session,
        answers=[shown_answer(c, SHOWN_FACTS, is_turn=item.is_session) for c in calls],
    )


def _calls(project: ProjectStore, item: ReviewItem) -> list[Call]:
    """The item's answers in its own order."""
    found = calls_at(project, zip(item.targets, item.call_times, strict=True))
    if any(t not in found for t in item.targets):
        raise Conflict("an answer of this item is not in the store any more: erased, or past its retention")
    return [found[t] for t in item.targets]


class SendBack(TypedDict):
    """Whose judgement of an item is sent back, and why."""

    annotator: str
    remark: str


@router.post("/v1/review/items/{item_id}/send-back")
@responds(also=[409])
@accepts(SendBack)
def post_send_back(
    project: ReviewProject, queues: Queues, who: Who, item_id: str, body: Annotated[dict[str, Any], Body()]
) -> ItemWithContent:
    """Send one judgement back to its annotator with a remark: it is taken back, and they are asked first."""
    queue_id, item = _item(project, item_id)
    remark, annotator = body.get("remark"), body.get("annotator")
    if not isinstance(remark, str) or not remark.strip() or len(remark) > MAX_REASON:
        raise SchemaError("remark", f"must say why, in 1 to {MAX_REASON:,} characters")
    with queues.locked_queue(who.project, queue_id) as opened:
        a = opened.work.of(item_id, annotator) if isinstance(annotator, str) else None
        if a is None:
            raise NotFound(f"{str(annotator)[:80]!r} has not judged this item")
        gone = send_back(opened, a, remark, key_id=who.key_id)
    queues.record_all(who.project, queue_id, gone.feedback, who.key_id)
    return _whole(project, reviewed(project, queue_id), item)


@router.post("/v1/review/items/{item_id}/adjudicate")
@accepts(NewAdjudication)
def adjudicate(
    project: ReviewProject, queues: Queues, who: Who, item_id: str, body: Annotated[dict[str, Any], Body()]
) -> ItemWithContent:
    """The reviewer's word on an item: it stands over the annotators' judgements, which stay; a later one replaces it."""
    queue_id, item = _item(project, item_id)
    found = reviewed(project, queue_id)
    calls = _calls(project, item)
    texts = [c.output_text for c in calls]
    session = (calls[0].session_id or "") if item.is_session else ""
    questions = found.queue.questions
    given = check_judgement(questions, body.get("answers"), texts, is_session=item.is_session)
    reason = _reason(body)
    with _settling:
        before = adjudications_of(project, queue_id, [item_id]).get(item_id)
        word = Adjudication(
            item_id,
            who.author,
            given,
            reason,
            max((j.guideline_version for j in found.judged), default=0),
            utc_now(),
            1 if before is None else before.revision + 1,
            tuple(t for t, _ in item.targets),
        )
        if before is None or (before.answers, before.reason, before.reviewer) != (given, reason, who.author):
            said = adjudication_feedback(who.project, questions, item, texts, word, before, session)
            queues.record(who.project, said, who.key_id).result()
            insert_adjudication(project, queue_id, word)
    again = read_queue(project, queue_id)
    assert again is not None  # noqa: S101  queues are closed, never deleted
    return _whole(project, again, item)


def _reason(body: dict[str, Any]) -> str:
    unknown = sorted(set(body) - {"answers", "reason"})
    if unknown:
        raise SchemaError(unknown[0][:80], "is no field of an adjudication; it has answers and reason")
    reason = body.get("reason")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON:
        raise SchemaError("reason", f"must say why, in 1 to {MAX_REASON:,} characters")
    return reason
