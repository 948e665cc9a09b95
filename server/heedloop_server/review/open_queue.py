"""A review queue that one server process works with: who holds what, under one lock.

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
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from heedloop.schema import Call, Feedback, utc_now
from heedloop_server.errors import Conflict
from heedloop_server.review.assignments import MAX_HELD, Work
from heedloop_server.review.contents import Contents
from heedloop_server.review.judgement import context_of, feedback_of, retractions
from heedloop_server.review.queue import Guideline, Queue
from heedloop_server.review.responses import to_shown
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.assignments import (
    Assignment,
    changed_assignments,
    changed_items,
    insert_assignments,
    judgements_of,
    read_assignments,
    remark_of,
    standing_feedback,
)
from heedloop_server.store.review.content import calls_at
from heedloop_server.store.review.queues import find_queue, guidelines_of, insert_queue
from heedloop_server.store.review.team import list_members

log = logging.getLogger("heedloop.review")

_CLAIM = timedelta(seconds=10)
_PATIENCE_S = 2.0
_FEW = 1_000
"""Judgements up to which their words are read one by one."""
_AHEAD = 7
"""Items whose content is read besides those that are handed out: the next requests then find it in memory."""


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


@dataclass(slots=True)
class OpenQueue:
    """A queue that this process works with; everything below happens under `lock`.

    Attributes:
        cache: the calls that were shown last, in any queue.
        is_shared: True where other servers may work with the same queue.
        waiting: assignments to be stored at the end of `together`.
    """

    project: ProjectStore
    work: Work
    guideline: Guideline
    cache: Contents
    is_shared: bool
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
        members, self.work = self.work.members, Work(self.queue)
        self.work.members = members
        self.items_seen = self.assignments_seen = None
        self.loaded = False

    def look(self) -> None:
        """Take over what other servers changed."""
        queue = find_queue(self.project, self.queue.queue_id)
        if queue is not None and queue != self.queue:
            self.work.set_queue(queue)
        self.guideline = guidelines_of(self.project, self.queue.queue_id)[0]
        self.work.members = list_members(self.project)
        self.read()

    def read(self) -> None:
        queue_id = self.queue.queue_id
        items, self.items_seen = changed_items(self.project, queue_id, self.items_seen)
        self.work.take_items(items)
        result, self.assignments_seen = changed_assignments(self.project, queue_id, self.assignments_seen)
        self.read_votes([a for a in result if a.state == "done"])
        self.work.take(result)

    def read_votes(self, judged: Sequence[Assignment]) -> None:
        """Read what judgements say, where that decides how many more are wanted."""
        if self.queue.until == "number" or not judged:
            return
        queue_id = self.queue.queue_id
        if len(judged) > _FEW:
            self.work.take_votes(judgements_of(self.project, queue_id))
        else:
            self.work.take_votes(self.all_whole(judged))

    def change(self, queue: Queue) -> None:
        """Store changed settings and work by them."""
        insert_queue(self.project, queue)
        begins = self.queue.until == "number" != queue.until
        self.work.set_queue(queue)
        if begins:
            self.work.take_votes(judgements_of(self.project, queue.queue_id))

    def current_feedback(self, a: Assignment) -> list[Feedback]:
        calls = self.contents([a.item_id]).get(a.item_id)
        if calls is None:
            return []  # the answer was erased, and with it its feedback
        context = context_of(self.work.items[a.item_id], a, calls)
        current = (
            feedback_of(self.queue.questions, dict(a.answers or {}), context) if a.state == "done" else []
        )
        stored = standing_feedback(self.project, a.item_id, a.annotator)
        retracted_at = replace(context, judged_at=max(context.judged_at, utc_now()))
        return retractions(self.project.project, stored, current, retracted_at) + current

    def whole(self, a: Assignment) -> Assignment:
        """The assignment with its words, read from the store where the memory has let go of them."""
        if a.whole:
            return a
        result = read_assignments(self.project, self.queue.queue_id, [(a.item_id, a.annotator)])
        return result.get((a.item_id, a.annotator), a)

    def all_whole(self, assignments: Sequence[Assignment]) -> list[Assignment]:
        """Assignments with their words, read in one go."""
        missing = [(a.item_id, a.annotator) for a in assignments if not a.whole]
        result = read_assignments(self.project, self.queue.queue_id, missing)
        return [result.get((a.item_id, a.annotator), a) for a in assignments]

    @contextmanager
    def together(self) -> Generator[None]:
        """What is kept inside is stored with one insert at the end. Where that fails, the memory is thrown away: the store is right."""
        self.waiting = None if self.is_shared else []  # a claim must be seen by other servers at once
        try:
            try:
                yield
            except Conflict:
                self._flush()  # what was kept before it, such as a draft, is right
                raise
            self._flush()
        except BaseException:
            if self.waiting:
                self.reset()
            raise
        finally:
            self.waiting = None

    def _flush(self) -> None:
        if self.waiting:
            insert_assignments(self.project, self.queue.queue_id, self.waiting)
            self.waiting = []

    def keep(self, assignments: Sequence[Assignment]) -> None:
        """Store how assignments stand now, and remember it; the words of judgements are not kept in memory."""
        if self.waiting is not None:
            self.waiting += assignments
        else:
            insert_assignments(self.project, self.queue.queue_id, assignments)
        self.work.take_votes(a for a in assignments if a.state == "done" and a.answers is not None)
        self.work.take(a if a.state == "leased" else a.without_words() for a in assignments)

    def lease(self, annotator: str, num: int, *, key_id: str) -> list[Assignment]:
        """Up to `num` new leases for the annotator, of items whose answers are all there."""
        leased: list[Assignment] = []
        num = min(num, MAX_HELD - len(self.work.held(annotator, utc_now())))
        while len(leased) < num:
            chosen = self.work.next_items(annotator, utc_now(), num - len(leased) + _AHEAD)
            if not chosen:
                break
            wanted = chosen[: num - len(leased)]
            known = self.cache.holds((self.project.project, i) for i in wanted)
            erased = self._forget_erased(wanted if known else chosen)
            leased += self.lease_items(annotator, [i for i in wanted if i not in erased], key_id=key_id)
        return leased

    def _forget_erased(self, item_ids: Sequence[str]) -> set[str]:
        """Those of the items whose answers are not in the store any more (erased, or past their retention), forgotten from now on."""
        there = self.contents(item_ids)
        erased = {i for i in item_ids if i not in there}
        if erased:
            log.warning("%d items of queue %s have lost their answers", len(erased), self.queue.queue_id)
            self.work.drop_items(erased)
        return erased

    def lease_items(
        self, annotator: str, item_ids: Sequence[str], *, key_id: str, reason: str = ""
    ) -> list[Assignment]:
        """Leases of these items, without those that another annotator was given at the same moment."""
        if not item_ids:
            return []
        leases = [self._next_state(annotator, i, key_id, reason) for i in item_ids]
        if not self.is_shared:
            self.keep(leases)
            return leases
        claims = [replace(a, state="claimed", expires_at=utc_now() + _CLAIM) for a in leases]
        self.keep(claims)
        decided = self._decide(claims)
        until = utc_now() + timedelta(seconds=self.queue.lease_s)
        moved = [
            c.moved(state="leased", expires_at=until)
            if won and utc_now() < c.expires_at
            else c.moved(state="withdrawn")
            for c, won in decided
        ]
        self.keep(moved)
        return [a for a in moved if a.state == "leased"]

    def hold(self, annotator: str, item_id: str, *, key_id: str) -> Assignment:
        """A lease for a judgement that was made elsewhere: whatever others hold or have judged, nothing of it is turned away."""
        lease = self._next_state(annotator, item_id, key_id, "")
        self.keep([lease])
        return lease

    def _next_state(self, annotator: str, item_id: str, key_id: str, reason: str) -> Assignment:
        now = utc_now()
        until = now + timedelta(seconds=self.queue.lease_s)
        known = self.work.of(item_id, annotator)
        if known is not None:
            known = self.whole(known)
            draft = self.as_shown(known) if known.state == "done" else known.draft
            reason = known.reason if remark_of(known) else reason
            return known.moved(
                state="leased", leased_at=now, expires_at=until, guideline=self.guideline.number, draft=draft, reason=reason, key_id=key_id
            )  # fmt: skip
        item = self.work.items[item_id]
        assignment_id = assignment_id_of(self.queue.queue_id, item_id, annotator)
        fresh = Assignment(
            item_id,
            annotator,
            assignment_id,
            "leased",
            now,
            until,
            self.guideline.number,
            tuple(range(len(item.targets)))
            if item.is_session
            else shown_order_of(assignment_id, len(item.targets)),
            trace_ids=tuple(t for t, _ in item.targets),
            key_id=key_id,
        )
        return fresh.moved()

    def _decide(self, claims: Sequence[Assignment]) -> list[tuple[Assignment, bool]]:
        """Which of our claims hold, by what the others claimed at the same time."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            self.read()
            verdicts = [self._verdict(c) for c in claims]
            if all(v is not None for v in verdicts) or time.monotonic() > end:
                return [(c, bool(v)) for c, v in zip(claims, verdicts, strict=True)]
            time.sleep(0.01)  # another server is about to say whether its claim holds

    def _verdict(self, claim: Assignment) -> bool | None:
        """True where the claim holds, False where it must give way, None while another one's fate decides."""
        if self.work.items[claim.item_id].gold:
            return True
        others = self.work.occupied_places(claim.item_id, claim.annotator, utc_now())
        num = self.work.num_wanted(claim.item_id)
        if len(others) < num:
            return True
        before = [o for o in others if o.state != "claimed" or o.assignment_id < claim.assignment_id]
        return None if len(before) < num else False

    def renew(self, assignments: Iterable[Assignment]) -> None:
        """Restart leases that are more than half over."""
        now = utc_now()
        lease = timedelta(seconds=self.queue.lease_s)
        short = [a for a in assignments if now < a.expires_at < now + lease / 2]
        if short:
            self.keep([self.whole(a).touched(expires_at=now + lease) for a in short])

    def contents(self, item_ids: Sequence[str]) -> dict[str, list[Call]]:
        """Item id -> its answers' calls in the item's own order, of the items whose answers are all there."""
        project = self.project.project
        items = [self.work.items[i] for i in item_ids if i in self.work.items]
        result = {i.item_id: calls for i in items if (calls := self.cache.get((project, i.item_id)))}
        missing = [i for i in items if i.item_id not in result]
        if missing:
            wanted = [w for i in missing for w in zip(i.targets, i.call_times, strict=True)]
            calls = calls_at(self.project, wanted)
            for item in missing:
                if all(t in calls for t in item.targets):
                    result[item.item_id] = [calls[t] for t in item.targets]
                    self.cache.put((project, item.item_id), result[item.item_id])
        return result

    def as_shown(self, a: Assignment) -> dict[str, Any]:
        """A judgement's answers in the order shown, as a draft to go on from."""
        return to_shown(self.queue.questions, dict(a.answers or {}), a.shown_order)
