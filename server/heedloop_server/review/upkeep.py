"""What is done for queues while nobody asks: rules fill them, webhooks are told, careless annotators are paused and replaced."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from heedloop.schema import format_time, parse_time, utc_now
from heedloop_server.errors import ServerError
from heedloop_server.review.control.annotators import annotators
from heedloop_server.review.control.reviewed import read_queue
from heedloop_server.review.filling import Placing, add_items
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.queue import Queue
from heedloop_server.review.queue_service import ReviewQueueService
from heedloop_server.review.rules import drawn_by
from heedloop_server.review.submission import release, rewrite_judgements
from heedloop_server.store.admin.alerts import Delivery, HistoryRow, read_state, save_history, save_state
from heedloop_server.store.connection import ProjectStore, Store, StoreError
from heedloop_server.store.review.queues import QUEUE, list_queues, projects_with_queues

log = logging.getLogger("heedloop.review")

EVERY_S = 30.0
MOST_NAMED = 1_000
"""Items that one message names."""
GROWTH = 1.1
"""Annotators are looked at again when there are so many times as many judgements."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a queue: `items_done`, `queue_done`, `stuck` or `careless`."""

    kind: str
    details: Mapping[str, Any]


class QueueUpkeep:
    """Looks after all queues in rounds; doing a round twice, or on two servers, changes nothing."""

    def __init__(self, store: Store, queue_service: ReviewQueueService) -> None:
        self._store = store
        self._service = queue_service
        self._looked_at: dict[tuple[str, str], datetime] = {}
        self._next: datetime | None = None

    def round(self, now: datetime) -> None:
        """Do what is due; a queue that fails does not stop the others."""
        if self._next is not None and now < self._next:
            return
        self._next = now + timedelta(seconds=EVERY_S)
        for name in projects_with_queues(self._store):
            project = self._store.project(name)
            for queue in list_queues(project):
                try:
                    self.look_after(project, queue, now)
                except (ServerError, StoreError, ValueError) as err:
                    log.warning("upkeep of queue %s: %s", queue.queue_id, err)

    def look_after(self, project: ProjectStore, queue: Queue, now: datetime) -> None:
        """Fill one queue by its rules, and say what happened in it."""
        if queue.status in ("open", "paused") and queue.rules:
            self._fill(project, queue, now)
        if queue.status != "archived" and (queue.webhook_url or queue.on_careless != "tell"):
            self._watch(project, queue, now)

    # ------------------------------------------------------------------------------------------------------------- rules

    def _fill(self, project: ProjectStore, queue: Queue, now: datetime) -> None:
        for rule in queue.rules:
            key = (queue.queue_id, format(sorted(rule.items())))
            drawn = drawn_by(project, rule, seed=queue.seed, looked_at=self._looked_at.get(key), now=now)
            fill(self._service, project.project, queue.queue_id, rule, drawn)
            self._looked_at[key] = now

    # ------------------------------------------------------------------------------------------------------------ events

    def _watch(self, project: ProjectStore, queue: Queue, now: datetime) -> None:
        name = QUEUE + queue.queue_id
        before = read_state(project, name)
        with self._service.locked_queue(project.project, queue.queue_id) as opened:
            events, state = _progress_events(opened, before, now)
            num = opened.work.totals(now).judgements
        if num >= GROWTH * before.get("num_looked_at", 0) and num:
            state["num_looked_at"] = num + 1
            events += self._careless(project, queue, state)
        if state != before:
            save_history(project, [_row(project, queue, e, now) for e in events if queue.webhook_url])
            save_state(project, name, state)

    def _careless(self, project: ProjectStore, queue: Queue, state: dict[str, Any]) -> list[Event]:
        found = read_queue(project, queue.queue_id)
        if found is None:
            return []
        known: Sequence[str] = state.get("careless", [])
        everyone = annotators(found.questions, found.judged, found.gold)
        new = [a for a in everyone if a.careless and a.author_id not in known]
        state["careless"] = [*known, *(a.author_id for a in new)]
        for one in new:
            if queue.on_careless != "tell":
                self._suspend(project, queue, one.author_id)
        done = {"tell": "nothing", "pause": "paused", "replace": "paused and asked others again"}
        return [
            Event(
                "careless",
                {"annotator": a.author_id, "reasons": a.reasons, "done": done[queue.on_careless]},
            )
            for a in new
        ]

    def _suspend(self, project: ProjectStore, queue: Queue, annotator: str) -> None:
        with self._service.locked_queue(project.project, queue.queue_id) as opened:
            now = opened.queue
            names = [*now.suspended, *([annotator] if annotator not in now.suspended else [])]
            uncounted = now.uncounted
            if now.on_careless == "replace" and annotator not in uncounted:
                uncounted = (*uncounted, annotator)
            opened.change(replace(now, suspended=tuple(names), uncounted=uncounted))
            release(opened, annotator)


def fill(
    queue_service: ReviewQueueService, project: str, queue_id: str, rule: Mapping[str, Any], drawn: Any
) -> int:
    """Add what a rule took; returns how many items are new. What was judged before a share drew it belongs to the share."""
    if not drawn.items:
        return 0
    with queue_service.locked_queue(project, queue_id) as opened, opened.together():
        undrawn = {i for i, item in opened.work.items.items() if item.sampling_probability is None}
        filled = add_items(opened, rule["source"], drawn, placing=Placing(rule.get("priority") or None))
        drawn_now = [i for i in undrawn if opened.work.items[i].sampling_probability is not None]
        feedback = rewrite_judgements(opened, drawn_now)
    queue_service.record_all(project, queue_id, feedback, "rule")
    return filled.added


def _progress_events(
    opened: OpenQueue, before: Mapping[str, Any], now: datetime
) -> tuple[list[Event], dict[str, Any]]:
    """What happened since the last look, and the state after it."""
    work, queue, events, state = opened.work, opened.queue, list[Event](), dict(before)
    since = parse_time(before["done_until"]) if "done_until" in before else queue.created_at
    if done := work.done_since(since):
        ids = [i for _, i in done]
        events.append(Event("items_done", {"num": len(ids), "item_ids": ids[:MOST_NAMED]}))
        state["done_until"] = format_time(done[-1][0])
    counts = work.totals(now)
    is_done = counts.items > 0 and counts.done == counts.items
    if is_done and not before.get("is_done"):
        events.append(Event("queue_done", {"num_items": counts.items, "num_judgements": counts.judgements}))
    state["is_done"] = is_done
    last = max(work.last_activity() or queue.created_at, queue.created_at)
    idle = bool(queue.stuck_hours) and now - last > timedelta(hours=queue.stuck_hours)
    skipped = work.skipped_by_all()[:MOST_NAMED]
    reason = "skipped_by_all" if skipped else "idle" if idle and counts.items > counts.done else ""
    if (
        reason
        and queue.status == "open"
        and (reason, skipped) != (before.get("stuck"), before.get("skipped"))
    ):
        details = {"reason": reason, "item_ids": skipped, "since": format_time(last)}
        events.append(Event("stuck", details))
    state |= {"stuck": reason, "skipped": skipped}
    return events, state


def _row(project: ProjectStore, queue: Queue, event: Event, now: datetime) -> HistoryRow:
    """An event that is due to be told; its id is made of what happened, so that two servers write one row."""
    change = {"event": event.kind, "queue_id": queue.queue_id, "name": queue.name, **event.details}
    text = f"{project.project}/{queue.queue_id}/{sorted(change.items())}"
    change_id = hashlib.sha256(text.encode()).hexdigest()[:24]
    delivery = Delivery("pending", next_at=utc_now())
    change["at"] = format_time(now)
    return HistoryRow(project.project, QUEUE + queue.queue_id, change_id, now, change, delivery)
