"""The open review queues of one server process: work is leased, and each judgement counts exactly once.

Every change is a row of `review_assignments` that is on disk before it is answered, and the memory follows the rows. In one process a
lock per queue makes changes exact. Where several servers share a ClickHouse, each reads what the others changed before it acts, and a
lease is *claimed* first: the claim is stored, then everything is read back. Whoever claims last sees all the other claims, so that of
too many at least one gives way: the one whose assignment id is greater withdraws at once, the one whose id is smaller waits until it sees
that the others withdrew or not. Nothing but leases needs this: an assignment itself belongs to one annotator alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from heedloop.schema import Call, Feedback, utc_now
from heedloop_server.errors import Conflict, NotFound, ServerError
from heedloop_server.ingest.feedback_writer import Outcome
from heedloop_server.review.assignments import MAX_HELD, Work
from heedloop_server.review.contents import Contents
from heedloop_server.review.judgement import context_of, feedback_of, retractions
from heedloop_server.review.queue import Guideline, Queue
from heedloop_server.review.responses import to_shown
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.review.assignments import (
    Assignment,
    changed_assignments,
    changed_items,
    find_assignment,
    insert_assignments,
    read_assignments,
    remark_of,
    standing_feedback,
    unrecorded,
)
from heedloop_server.store.review.content import calls_at
from heedloop_server.store.review.queues import find_queue, guidelines_of

log = logging.getLogger("heedloop.review")

MAX_OPEN = 128
_CLAIM = timedelta(seconds=10)
_PATIENCE_S = 2.0
_AHEAD = 7
"""Items whose content is read besides those that are handed out: the next requests then find it in memory."""

Record = Callable[[str, Sequence[Feedback], str], Future[list[Outcome]]]
"""Stores feedback: project, entries, key id."""


@dataclass(slots=True)
class OpenQueue:
    """A queue that this process works with; everything below happens under `lock`."""

    project: ProjectStore
    work: Work
    guideline: Guideline
    lock: threading.RLock = field(default_factory=threading.RLock)
    loaded: bool = False
    num_users: int = 0
    items_seen: datetime | None = None
    assignments_seen: datetime | None = None
    waiting: list[Assignment] | None = None

    @property
    def queue(self) -> Queue:
        return self.work.queue

    def reset(self) -> None:
        """Forget what is known; the next user reads it from the store."""
        self.work = Work(self.queue)
        self.items_seen = self.assignments_seen = None
        self.loaded = False


def assignment_id_of(queue_id: str, item_id: str, annotator: str) -> str:
    """The id of an annotator's assignment of an item: the same whenever it is made, so that it cannot be made twice."""
    text = "\x1f".join((queue_id, item_id, annotator))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def shown_order_of(assignment_id: str, num_answers: int) -> tuple[int, ...]:
    """A random order of the answers, which stays the same for the assignment."""
    drawn = [
        hashlib.blake2b(f"{assignment_id}/{i}".encode(), digest_size=8).digest() for i in range(num_answers)
    ]
    return tuple(sorted(range(num_answers), key=drawn.__getitem__))


class ReviewQueueService:
    """Open queues, their leases and the content of what is shown. Safe to call from any thread.

    Args:
        record: stores feedback (the feedback writer, with the ledger's count).
    """

    def __init__(self, store: Store, record: Record) -> None:
        self.record = record
        self._store = store
        self._shared = store.address.kind != "chdb"
        self._open: OrderedDict[tuple[str, str], OpenQueue] = OrderedDict()
        self._lock = threading.Lock()
        self._contents = Contents()
        self._unrecorded: set[tuple[str, str]] = set()

    # ------------------------------------------------------------------------------------------------------------ queues

    @contextmanager
    def locked_queue(self, project: str, queue_id: str) -> Generator[OpenQueue]:
        """The queue with everything that is known of it now, for the caller alone.

        Raises:
            NotFound: there is no such queue in this project.
        """
        opened = self._enter(project, queue_id)
        try:
            with opened.lock:
                if opened.queue.status == "deleted":
                    raise NotFound(f"there is no queue {queue_id!r} in this project")
                if not opened.loaded:
                    self._read(opened)
                    self._store_missing_feedback(opened)
                    opened.loaded = True
                elif self._shared:
                    self._look(opened)
                yield opened
        finally:
            with self._lock:
                opened.num_users -= 1

    def _enter(self, project: str, queue_id: str) -> OpenQueue:
        key = (project, queue_id)
        with self._lock:
            if key in self._open:
                return self._use(key)
        view = self._store.project(project)
        queue = find_queue(view, queue_id)
        if queue is None:
            raise NotFound(f"there is no queue {queue_id!r} in this project")
        opened = OpenQueue(view, Work(queue), guidelines_of(view, queue_id)[0])
        with self._lock:
            self._open.setdefault(key, opened)
            idle = [k for k, o in self._open.items() if not o.num_users and k != key]
            for closed in idle[: max(0, len(self._open) - MAX_OPEN)]:
                del self._open[closed]
            return self._use(key)

    def _use(self, key: tuple[str, str]) -> OpenQueue:
        self._open.move_to_end(key)
        self._open[key].num_users += 1
        return self._open[key]

    def _look(self, opened: OpenQueue) -> None:
        """Take over what other servers changed."""
        queue = find_queue(opened.project, opened.queue.queue_id)
        if queue is not None and queue != opened.queue:
            opened.work.set_queue(queue)
        opened.guideline = guidelines_of(opened.project, opened.queue.queue_id)[0]
        self._read(opened)

    def _read(self, opened: OpenQueue) -> None:
        queue_id = opened.queue.queue_id
        items, opened.items_seen = changed_items(opened.project, queue_id, opened.items_seen)
        opened.work.take_items(items)
        result, opened.assignments_seen = changed_assignments(
            opened.project, queue_id, opened.assignments_seen
        )
        opened.work.take(result)

    def queue_of(self, project: str, assignment_id: str) -> str:
        """The id of an assignment's queue.

        Raises:
            NotFound: there is no such assignment in this project.
        """
        with self._lock:
            for (of, queue_id), opened in self._open.items():
                if of == project and opened.work.assignment(assignment_id) is not None:
                    return queue_id
        result = find_assignment(self._store.project(project), assignment_id)
        if result is None:
            raise NotFound(
                f"there is no assignment {assignment_id!r} in this project; where an answer is erased, so is the work on it"
            )
        return result[0]

    def forget(self, project: str) -> None:
        """Read everything of a project again, because it was changed by others (an erasure, an import)."""
        with self._lock:
            opened = [o for (of, _), o in self._open.items() if of == project]
        for one in opened:
            with one.lock:
                one.reset()
        self._contents.clear()

    def repair_later(self, project: str, queue_id: str) -> None:
        """The feedback of a judgement of this queue could not be stored: look for it when the store is back."""
        with self._lock:
            self._unrecorded.add((project, queue_id))

    def run_maintenance(self) -> None:
        """Store the feedback that the store refused for a while."""
        with self._lock:
            due, self._unrecorded = self._unrecorded, set()
        for project, queue_id in due:
            try:
                with self.locked_queue(project, queue_id) as opened:
                    self._store_missing_feedback(opened)
            except ServerError:
                self.repair_later(project, queue_id)

    def _store_missing_feedback(self, opened: OpenQueue) -> None:
        """Store the feedback and retractions that did not follow their assignments: a server or the store stopped between the inserts.

        The client ids are those that the first attempt had, so that doing it twice changes nothing.
        """
        num = 0
        for a in unrecorded(opened.project, opened.queue.queue_id):
            if feedback := self._current_feedback(opened, a):
                self.record(opened.project.project, feedback, a.key_id).result()
                num += 1
        if num:
            log.warning(
                "stored the feedback of %d judgements of queue %s that an earlier server left behind",
                num,
                opened.queue.queue_id,
            )

    def _current_feedback(self, opened: OpenQueue, a: Assignment) -> list[Feedback]:
        calls = self.contents(opened, [a.item_id]).get(a.item_id)
        if calls is None:
            return []  # the answer was erased, and with it its feedback
        context = context_of(opened.work.items[a.item_id], a, calls)
        current = (
            feedback_of(opened.queue.questions, dict(a.answers or {}), context) if a.state == "done" else []
        )
        stored = standing_feedback(opened.project, a.item_id, a.annotator)
        retracted_at = replace(context, judged_at=max(context.judged_at, utc_now()))
        return retractions(opened.project.project, stored, current, retracted_at) + current

    # -------------------------------------------------------------------------------------------------------- assignments

    def whole(self, opened: OpenQueue, a: Assignment) -> Assignment:
        """The assignment with its words, read from the store where the memory has let go of them."""
        if a.whole:
            return a
        result = read_assignments(opened.project, opened.queue.queue_id, [(a.item_id, a.annotator)])
        return result.get((a.item_id, a.annotator), a)

    def all_whole(self, opened: OpenQueue, assignments: Sequence[Assignment]) -> list[Assignment]:
        """Assignments with their words, read in one go."""
        missing = [(a.item_id, a.annotator) for a in assignments if not a.whole]
        result = read_assignments(opened.project, opened.queue.queue_id, missing)
        return [result.get((a.item_id, a.annotator), a) for a in assignments]

    @contextmanager
    def together(self, opened: OpenQueue) -> Generator[None]:
        """What is kept inside is stored with one insert at the end. Where that fails, the memory is thrown away: the store is right."""
        opened.waiting = None if self._shared else []  # a claim must be seen by other servers at once
        try:
            try:
                yield
            except Conflict:
                self._flush(opened)  # what was kept before it, such as a draft, is right
                raise
            self._flush(opened)
        except BaseException:
            if opened.waiting:
                opened.reset()
            raise
        finally:
            opened.waiting = None

    def _flush(self, opened: OpenQueue) -> None:
        if opened.waiting:
            insert_assignments(opened.project, opened.queue.queue_id, opened.waiting)
            opened.waiting = []

    def keep(self, opened: OpenQueue, assignments: Sequence[Assignment]) -> None:
        """Store how assignments stand now, and remember it; the words of judgements are not kept in memory."""
        if opened.waiting is not None:
            opened.waiting += assignments
        else:
            insert_assignments(opened.project, opened.queue.queue_id, assignments)
        opened.work.take(a if a.state == "leased" else a.without_words() for a in assignments)

    def lease(self, opened: OpenQueue, annotator: str, num: int, *, key_id: str) -> list[Assignment]:
        """Up to `num` new leases for the annotator, of items whose answers are all there."""
        leased: list[Assignment] = []
        num = min(num, MAX_HELD - len(opened.work.held(annotator, utc_now())))
        while len(leased) < num:
            chosen = opened.work.next_items(annotator, utc_now(), num - len(leased) + _AHEAD)
            if not chosen:
                break
            wanted = chosen[: num - len(leased)]
            known = self._contents.holds((opened.project.project, i) for i in wanted)
            erased = self._forget_erased(opened, wanted if known else chosen)
            leased += self.lease_items(
                opened, annotator, [i for i in wanted if i not in erased], key_id=key_id
            )
        return leased

    def _forget_erased(self, opened: OpenQueue, item_ids: Sequence[str]) -> set[str]:
        """Those of the items whose answers are not in the store any more (erased, or past their retention), forgotten from now on."""
        there = self.contents(opened, item_ids)
        erased = {i for i in item_ids if i not in there}
        if erased:
            log.warning("%d items of queue %s have lost their answers", len(erased), opened.queue.queue_id)
            opened.work.drop_items(erased)
        return erased

    def lease_items(
        self, opened: OpenQueue, annotator: str, item_ids: Sequence[str], *, key_id: str, reason: str = ""
    ) -> list[Assignment]:
        """Leases of these items, without those that another annotator was given at the same moment."""
        if not item_ids:
            return []
        leases = [self._next_state(opened, annotator, i, key_id, reason) for i in item_ids]
        if not self._shared:
            self.keep(opened, leases)
            return leases
        claims = [replace(a, state="claimed", expires_at=utc_now() + _CLAIM) for a in leases]
        self.keep(opened, claims)
        decided = self._decide(opened, claims)
        until = utc_now() + timedelta(seconds=opened.queue.lease_s)
        moved = [
            c.moved(state="leased", expires_at=until)
            if won and utc_now() < c.expires_at
            else c.moved(state="withdrawn")
            for c, won in decided
        ]
        self.keep(opened, moved)
        return [a for a in moved if a.state == "leased"]

    def hold(self, opened: OpenQueue, annotator: str, item_id: str, *, key_id: str) -> Assignment:
        """A lease for a judgement that was made elsewhere: whatever others hold or have judged, nothing of it is turned away."""
        lease = self._next_state(opened, annotator, item_id, key_id, "")
        self.keep(opened, [lease])
        return lease

    def _next_state(
        self, opened: OpenQueue, annotator: str, item_id: str, key_id: str, reason: str
    ) -> Assignment:
        now = utc_now()
        until = now + timedelta(seconds=opened.queue.lease_s)
        known = opened.work.of(item_id, annotator)
        if known is not None:
            known = self.whole(opened, known)
            draft = as_shown(opened, known) if known.state == "done" else known.draft
            reason = known.reason if remark_of(known) else reason
            return known.moved(
                state="leased", leased_at=now, expires_at=until, guideline=opened.guideline.number, draft=draft, reason=reason, key_id=key_id
            )  # fmt: skip
        item = opened.work.items[item_id]
        assignment_id = assignment_id_of(opened.queue.queue_id, item_id, annotator)
        fresh = Assignment(
            item_id,
            annotator,
            assignment_id,
            "leased",
            now,
            until,
            opened.guideline.number,
            shown_order_of(assignment_id, len(item.targets)),
            trace_ids=tuple(t for t, _ in item.targets),
            key_id=key_id,
        )
        return fresh.moved()

    def _decide(self, opened: OpenQueue, claims: Sequence[Assignment]) -> list[tuple[Assignment, bool]]:
        """Which of our claims hold, by what the others claimed at the same time."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            self._read(opened)
            verdicts = [self._verdict(opened, c) for c in claims]
            if all(v is not None for v in verdicts) or time.monotonic() > end:
                return [(c, bool(v)) for c, v in zip(claims, verdicts, strict=True)]
            time.sleep(0.01)  # another server is about to say whether its claim holds

    def _verdict(self, opened: OpenQueue, claim: Assignment) -> bool | None:
        """True where the claim holds, False where it must give way, None while another one's fate decides."""
        if opened.work.items[claim.item_id].gold:
            return True
        others = opened.work.occupied_places(claim.item_id, claim.annotator, utc_now())
        num = opened.queue.judgements_per_item
        if len(others) < num:
            return True
        before = [o for o in others if o.state != "claimed" or o.assignment_id < claim.assignment_id]
        return None if len(before) < num else False

    def renew(self, opened: OpenQueue, assignments: Iterable[Assignment]) -> None:
        """Restart leases that are more than half over."""
        now = utc_now()
        lease = timedelta(seconds=opened.queue.lease_s)
        short = [a for a in assignments if now < a.expires_at < now + lease / 2]
        if short:
            self.keep(opened, [self.whole(opened, a).touched(expires_at=now + lease) for a in short])

    # ------------------------------------------------------------------------------------------------------------ content

    def contents(self, opened: OpenQueue, item_ids: Sequence[str]) -> dict[str, list[Call]]:
        """Item id -> its answers' calls in the item's own order, of the items whose answers are all there."""
        project = opened.project.project
        items = [opened.work.items[i] for i in item_ids if i in opened.work.items]
        result = {i.item_id: calls for i in items if (calls := self._contents.get((project, i.item_id)))}
        missing = [i for i in items if i.item_id not in result]
        if missing:
            wanted = [w for i in missing for w in zip(i.targets, i.call_times, strict=True)]
            calls = calls_at(opened.project, wanted)
            for item in missing:
                if all(t in calls for t in item.targets):
                    result[item.item_id] = [calls[t] for t in item.targets]
                    self._contents.put((project, item.item_id), result[item.item_id])
        return result


def as_shown(opened: OpenQueue, a: Assignment) -> dict[str, Any]:
    """A judgement's answers in the order shown, as a draft to go on from."""
    return to_shown(opened.queue.questions, dict(a.answers or {}), a.shown_order)
