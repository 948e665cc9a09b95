"""Judgements whose feedback did not reach the store, and retractions likewise: a server ended, or the store went away, between two inserts."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from heedloop.schema import Feedback, utc_now
from heedloop_server.review.judgement import feedback_of, judged, retractions
from heedloop_server.store.review.assignments import Assignment, standing_feedback, unrecorded

if TYPE_CHECKING:
    from heedloop_server.review.queue_service import OpenQueue, ReviewQueueService

__all__ = ["repair"]

log = logging.getLogger("heedloop.review")


def repair(queue_service: ReviewQueueService, opened: OpenQueue) -> int:
    """Make the feedback of a queue say what its assignments say; returns how many assignments needed it.

    The client ids are those that the first attempt had, so that doing it twice changes nothing.
    """
    num = 0
    for a in unrecorded(opened.project, opened.queue.queue_id):
        said = _current_feedback(queue_service, opened, a)
        if said:
            queue_service.record(opened.project.project, said, a.key_id).result()
            num += 1
    if num:
        log.warning(
            "stored the feedback of %d judgements of queue %s that an earlier server left behind",
            num,
            opened.queue.queue_id,
        )
    return num


def _current_feedback(queue_service: ReviewQueueService, opened: OpenQueue, a: Assignment) -> list[Feedback]:
    calls = queue_service.contents(opened, [a.item_id]).get(a.item_id)
    if calls is None:
        return []  # the answer was erased, and with it what was said about it
    about = judged(opened.work.items[a.item_id], a, calls)
    now = feedback_of(opened.queue.questions, dict(a.answers or {}), about) if a.state == "done" else []
    standing = standing_feedback(opened.project, a.item_id, a.annotator)
    gone = retractions(
        opened.project.project, standing, now, replace(about, judged_at=max(about.judged_at, utc_now()))
    )
    return gone + now
