"""Telling a project's webhook of its feedback: each once it is stored, at least once, in the order in which it came.

The writer notes what is to be told before it stores it, so that a crash between the two forgets nothing; the note holds no content.
What is told is read when it is sent, so that nothing erased is. A note is taken out once it is delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from heedloop.responses import FeedbackWebhook
from heedloop_server.http.responses import json_value
from heedloop_server.store.admin.alerts import FEEDBACK, Delivery, HistoryRow, save_history
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.feedback import StoredFeedback, get_feedback


def note_feedback(project: ProjectStore, hook: Mapping[str, Any], entries: Sequence[StoredFeedback]) -> None:
    """Note what the webhook shall be told of; what an import brings only where it was asked for."""
    told = [e for e in entries if hook["imports"] or "import" not in e.feedback.metadata]
    rows = [
        HistoryRow(
            project.project,
            FEEDBACK,
            f"{e.feedback_id}/{e.version}",
            e.received_at,
            {},
            Delivery("pending", next_at=e.received_at),
        )
        for e in told
    ]
    save_history(project, rows)


def feedback_of(project: ProjectStore, row: HistoryRow) -> dict[str, Any] | None:
    """The feedback that a note means, as `GET /v1/feedback` has it; None where it is not stored, or no more."""
    feedback_id, _, version = row.change_id.partition("/")
    now, history = get_feedback(project, UUID(feedback_id))
    words = [w for w in (now, *history) if w is not None and w.version == int(version)]
    return json_value(words[0].response()) if words else None


def described(project: ProjectStore, hook: Mapping[str, Any] | None) -> FeedbackWebhook | None:
    """The webhook with what waits for it and what it did not take."""
    if not hook:
        return None
    row = project.row(
        """
        SELECT
            countIf(delivery_status = 'pending') AS waiting,
            countIf(delivery_status = 'failed') AS failed,
            argMax(delivery_error, delivery_at) AS error
        FROM alert_history FINAL
        WHERE project_id = {project:String} AND alert_id = {feedback:String}
        """,
        {"feedback": FEEDBACK},
    )
    counts = row or {"waiting": 0, "failed": 0, "error": ""}
    return FeedbackWebhook(
        url=hook["url"],
        imports=hook["imports"],
        num_waiting=counts["waiting"],
        num_failed=counts["failed"],
        last_error=counts["error"] or None,
    )
