"""The open review queues of one server process, and the feedback of their judgements."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from heedloop.schema import Feedback
from heedloop_server.errors import NotFound, ServerError
from heedloop_server.ingest.feedback_writer import Outcome
from heedloop_server.review.assignments import Work
from heedloop_server.review.contents import Contents
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.store.connection import Store, StoreError
from heedloop_server.store.review.assignments import find_assignment, unrecorded
from heedloop_server.store.review.queues import find_queue, guidelines_of
from heedloop_server.store.review.team import list_members

log = logging.getLogger("heedloop.review")

MAX_OPEN = 128
_FEEDBACK_AT_ONCE = 2_000

Record = Callable[[str, Sequence[Feedback], str], Future[list[Outcome]]]
"""Stores feedback: project, entries, key id."""


class ReviewQueueService:
    """The queues that are open now. Safe to call from any thread.

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
                    opened.read()
                    self._store_missing_feedback(opened)
                    opened.loaded = True
                elif opened.is_shared:
                    opened.look()
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
        opened = OpenQueue(view, Work(queue), guidelines_of(view, queue_id)[0], self._contents, self._shared)
        opened.work.members = list_members(view)
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

    def set_members(self, project: str) -> None:
        """Read the groups and languages of a project's annotators again, because they were changed."""
        with self._lock:
            opened = [o for (of, _), o in self._open.items() if of == project]
        members = list_members(self._store.project(project))
        for one in opened:
            with one.lock:
                one.work.members = members

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
            if feedback := opened.current_feedback(a):
                self.record(opened.project.project, feedback, a.key_id).result()
                num += 1
        if num:
            log.warning(
                "stored the feedback of %d judgements of queue %s that an earlier server left behind",
                num,
                opened.queue.queue_id,
            )

    @contextmanager
    def repairing(self, project: str, queue_id: str) -> Generator[None]:
        """Around recording the feedback of stored judgements: what the store refuses now is stored later from the assignments."""
        try:
            yield
        except (ServerError, StoreError):
            self.repair_later(project, queue_id)
            raise

    def record_all(self, project: str, queue_id: str, feedback: Sequence[Feedback], key_id: str) -> None:
        """Store the feedback of many judgements."""
        with self.repairing(project, queue_id):
            for first in range(0, len(feedback), _FEEDBACK_AT_ONCE):
                self.record(project, feedback[first : first + _FEEDBACK_AT_ONCE], key_id).result()
