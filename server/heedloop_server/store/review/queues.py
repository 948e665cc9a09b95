"""Review's queues and their guidelines as rows."""

from __future__ import annotations

import json
import time

from heedloop_server.review.queue import NO_GUIDELINE, Guideline, Queue, queue_from_record
from heedloop_server.store.connection import ProjectStore, Row, Store

QUEUE = "queue:"
"""How the id begins under which what happens in a queue stands among the alerts' states and deliveries."""


def insert_queue(project: ProjectStore, queue: Queue) -> None:
    """Store a queue, new or changed."""
    record = json.dumps(queue.to_record(), ensure_ascii=False)
    project.insert(
        "review_queues",
        [{"queue_id": queue.queue_id, "record": record, "version": time.time_ns()}],
        **project.lasting,
    )


def find_queue(project: ProjectStore, queue_id: str) -> Queue | None:
    """The queue of this id."""
    row = project.row(
        """
        SELECT record
        FROM review_queues FINAL
        WHERE project_id = {project:String} AND queue_id = {queue:String}
        """,
        {"queue": queue_id},
        **project.fresh,
    )
    queue = queue_from_record(json.loads(row["record"])) if row else None
    return None if queue is None or queue.status == "deleted" else queue


def projects_with_queues(store: Store) -> list[str]:
    """The projects that have a queue."""
    rows = store.rows("SELECT DISTINCT project_id FROM review_queues FINAL ORDER BY project_id")
    return [r["project_id"] for r in rows]


def list_queues(project: ProjectStore) -> list[Queue]:
    """All queues, the newest first."""
    rows = project.rows("SELECT record FROM review_queues FINAL WHERE project_id = {project:String}")
    result = [q for r in rows if (q := queue_from_record(json.loads(r["record"]))).status != "deleted"]
    return sorted(result, key=lambda q: (q.created_at, q.queue_id), reverse=True)


def insert_guideline(project: ProjectStore, queue_id: str, guideline: Guideline) -> None:
    """Store one version of a queue's guideline."""
    row = {
        "queue_id": queue_id,
        "number": guideline.number,
        "text": guideline.text,
        "examples": json.dumps([dict(e) for e in guideline.examples], ensure_ascii=False),
        "send_back": guideline.send_back,
        "created_by": guideline.created_by,
        "created_at": guideline.created_at,
    }
    project.insert("review_guidelines", [row], **project.lasting)


def guidelines_of(project: ProjectStore, queue_id: str) -> list[Guideline]:
    """Every version of a queue's guideline, the newest first; never empty."""
    rows = project.rows(
        """
        SELECT
            number,
            text,
            examples,
            send_back,
            created_at,
            created_by
        FROM review_guidelines FINAL
        WHERE project_id = {project:String} AND queue_id = {queue:String}
        ORDER BY number DESC
        """,
        {"queue": queue_id},
    )
    return [_guideline(r) for r in rows] or [NO_GUIDELINE]


def _guideline(row: Row) -> Guideline:
    values: Row = {**row, "examples": tuple(json.loads(row["examples"]))}
    return Guideline(**values)
