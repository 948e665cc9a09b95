"""The feedback writer: judgements in, durable and decided before the answer.

One thread takes everything that waits (group commit), asks the store once which of it is known, binds it to its calls and
inserts it. Order among the posts of one group is kept. Nothing is answered before the store has it on disk.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from heedloop.schema import Feedback, utc_now
from heedloop_server.alerts.feedback_webhook import note_feedback
from heedloop_server.errors import ServerError, Unavailable
from heedloop_server.store.admin.erasure import erased_among
from heedloop_server.store.admin.project_settings import feedback_webhook
from heedloop_server.store.connection import ProjectStore, Store, StoreError
from heedloop_server.store.feedback import (
    StoredFeedback,
    feedback_on_traces,
    find_calls,
    insert_feedback,
    insert_history,
    known_client_ids,
    newest_versions,
    projects_with_unbound,
    rebind_feedback,
    unbound_feedback,
    whole,
)

log = logging.getLogger("heedloop.feedback")

_GROUP = 10_000
_MAX_WAITING = 20_000
_MAX_TRACES = 50_000
"""Traces per project with feedback on the whole that are watched for a later answer."""

Status = Literal["stored", "replaced", "duplicate", "erased"]
"""`erased`: it is about a trace that was erased, so that it is not stored."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one feedback."""

    status: Status
    feedback_id: UUID


class StoreRefuses(Unavailable):
    """The store answers, and does not take this feedback."""


@dataclass(slots=True)
class _Post:
    project: str
    entries: Sequence[StoredFeedback]
    is_new: bool
    done: Future[list[Outcome]]


class FeedbackWriter:
    """Stores feedback in groups; `submit` may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.Queue[_Post | None] = queue.Queue()
        self._waiting = 0
        self._thread = threading.Thread(target=self._work_forever, name="feedback-writer", daemon=True)
        self._unbound: dict[str, set[str]] = {}
        self._unbound_lock = threading.Lock()
        self._of_traces: dict[str, dict[str, None]] = {}
        self._num_binds = 0
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="feedback-writer")

    def start(self) -> None:
        """Begin to take posts."""
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, then end."""
        self._queue.put(None)
        self._thread.join()
        self._pool.shutdown()

    def submit(
        self, project: str, feedback: Sequence[Feedback], *, key_id: str = ""
    ) -> Future[list[Outcome]]:
        """Store some feedback that comes now; see `store`."""
        now = utc_now()
        return self.store(project, [StoredFeedback.of(project, f, now, key_id) for f in feedback])

    def store(
        self, project: str, entries: Sequence[StoredFeedback], *, is_new: bool = False
    ) -> Future[list[Outcome]]:
        """Store some feedback; the future gives one outcome per entry, in order.

        Args:
            is_new: nothing of it is in the store, nor anything of the same identity: the store is not asked.

        Raises:
            Unavailable: too much waits already.
        """
        if self._waiting > _MAX_WAITING:
            raise Unavailable("too much feedback waits for the store; send again later", retry_after_s=1)
        post = _Post(project, entries, is_new, Future())
        post.done.set_running_or_notify_cancel()  # whoever waits may go away; what was begun is not cancelled
        self._waiting += len(entries)
        self._queue.put(post)
        return post.done

    # ---------------------------------------------------------------------------------------------- the thread

    def _work_forever(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._next_group()
            by_project: dict[str, list[_Post]] = {}
            for post in group:
                by_project.setdefault(post.project, []).append(post)
            for project, posts in by_project.items():
                self._store_group(project, posts)

    def _next_group(self) -> tuple[list[_Post], bool]:
        entry = self._queue.get()
        group: list[_Post] = []
        size = 0
        try:
            while entry is not None:
                group.append(entry)
                size += len(entry.entries)
                if size >= _GROUP:
                    return group, False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _store_group(self, project: str, posts: list[_Post]) -> None:
        """Store the posts of one project together; where the store refuses that, one by one, as some of it may be stored."""
        try:
            outcomes = self._store_posts(self._store.project(project), posts)
        except StoreError as err:
            if len(posts) > 1:
                self._store_each(project, posts)
                return
            log.exception("feedback of project %s is refused by the store", project)
            self._finish(posts, StoreRefuses(f"the store refuses the feedback: {str(err)[:300]}"))
        except ServerError as err:
            self._finish(posts, err)
        except Exception as err:  # the writer must outlive any error: the post is answered with it
            if len(posts) > 1:
                self._store_each(project, posts)
                return
            log.exception("feedback of project %s failed", project)
            self._finish(posts, err)
        else:
            at = 0
            for post in posts:
                self._waiting -= len(post.entries)
                post.done.set_result(outcomes[at : at + len(post.entries)])
                at += len(post.entries)

    def _store_each(self, project: str, posts: list[_Post]) -> None:
        for post in posts:
            post.is_new = False
            self._store_group(project, [post])

    def _finish(self, posts: list[_Post], err: Exception) -> None:
        for post in posts:
            self._waiting -= len(post.entries)
            post.done.set_exception(err)

    def _store_posts(self, project: ProjectStore, posts: list[_Post]) -> list[Outcome]:
        entries = [e for p in posts for e in p.entries]
        if not entries:
            return []
        num_binds = self._num_binds
        calls = self._pool.submit(find_calls, project, [e.feedback.target for e in entries])
        hook = self._pool.submit(feedback_webhook, project)
        erased = erased_among(project, sorted({t for e in entries for t in traces_of(e.feedback)}))
        outcomes, new = _decide(entries, *self._known(project, posts), erased)
        found = calls.result()
        if new:
            calls_of = [(e, found.get(_target_key(e.feedback))) for e in new]
            bound = [replace(e, call=call) if call else e for e, call in calls_of]
            if (told := hook.result()) is not None:
                note_feedback(project, told, bound)
            self._insert(project, bound)
            self._note(project.project, bound)
            if self._num_binds != num_binds:
                self._look_again(project, bound)
        return outcomes

    def _known(self, project: ProjectStore, posts: list[_Post]) -> tuple[dict[str, UUID], dict[UUID, int]]:
        """(sender's id -> feedback, feedback -> newest version) of what is stored of the posts that may not be new.

        The history alone proves nothing: a crash may have stored its row and not the one that counts.
        """
        entries = [e for p in posts if not p.is_new for e in p.entries]
        if not entries:
            return {}, {}
        identities = {e.feedback_id for e in entries}
        versions = self._pool.submit(newest_versions, project, identities)
        client_ids = known_client_ids(project, {e.feedback.id for e in entries})
        newest = versions.result()
        others = {identity for identity, _ in client_ids.values()} - identities
        counts = newest | newest_versions(project, others) if others else newest
        known = {
            i: identity
            for i, (identity, version) in client_ids.items()
            if counts.get(identity, -1) >= version
        }
        return known, newest

    def _insert(self, project: ProjectStore, entries: list[StoredFeedback]) -> None:
        """Both tables at once: `_known` tells a history row whose feedback a crash lost."""
        history = self._pool.submit(insert_history, project, entries)
        try:
            insert_feedback(project, entries)
        finally:
            history.result()

    def _look_again(self, project: ProjectStore, entries: Sequence[StoredFeedback]) -> None:
        """Bind what the loader stored between our search for the calls and our note of them."""
        missing = [e.feedback.target for e in entries if e.call is None]
        if missing and find_calls(project, missing):
            self.rebind(project.project)
        self._move(project.project, {e.call.trace_id for e in entries if _is_loose(e) and e.call is not None})

    # ----------------------------------------------------------------------------------------------- binding

    def _note(self, project: str, entries: list[StoredFeedback]) -> None:
        targets = [e.feedback.target for e in entries if e.call is None]
        keys = {t.trace_id or t.response_id for t in targets}
        loose = [e.call.trace_id for e in entries if _is_loose(e) and e.call is not None]
        with self._unbound_lock:
            self._unbound.setdefault(project, set()).update(k for k in keys if k)
            of_traces = self._of_traces.setdefault(project, {})
            of_traces.update(dict.fromkeys(loose))
            while len(of_traces) > _MAX_TRACES:
                del of_traces[next(iter(of_traces))]

    def bind(self, project: str, names: Callable[[], set[str]]) -> None:
        """Bind feedback to the spans with these trace and response ids, which are in the store now.

        That is feedback that came before them, and feedback on a trace as a whole whose answer may be among them.
        """
        with self._unbound_lock:
            self._num_binds += 1
            if not self._unbound.get(project) and not self._of_traces.get(project):
                return
        arrived = names()
        with self._unbound_lock:
            waiting = self._unbound.get(project, set())
            hit = waiting & arrived
            waiting -= hit
            grown = arrived.intersection(self._of_traces.get(project, ()))
        if hit:
            self.rebind(project)
        if grown:
            self._move(project, grown)

    def _move(self, project: str, trace_ids: set[str]) -> None:
        """Bind feedback on whole traces to the answers that these have now."""
        if not trace_ids:
            return
        view = self._store.project(project)
        entries = feedback_on_traces(view, trace_ids)
        calls = find_calls(view, [e.feedback.target for e in entries])
        found = [(e, calls.get(_target_key(e.feedback))) for e in entries]
        rebind_feedback(
            view,
            [
                replace(e, call=call)
                for e, call in found
                if call and e.call and call.span_id != e.call.span_id
            ],
        )

    def rebind(self, project: str) -> int:
        """Look for the calls of all feedback without one; returns how many were bound."""
        view = self._store.project(project)
        waiting = unbound_feedback(view)
        if not waiting:
            return 0
        calls = find_calls(view, [e.feedback.target for e in waiting])
        bound = [replace(e, call=calls[k]) for e in waiting if (k := _target_key(e.feedback)) in calls]
        rebind_feedback(view, bound)
        self._note(project, bound + [e for e in waiting if _target_key(e.feedback) not in calls])
        return len(bound)

    def sweep(self) -> int:
        """Bind what came before its call was stored by another server, or before a restart; returns how many were bound."""
        return sum(self.rebind(project) for project in projects_with_unbound(self._store))


def _is_loose(entry: StoredFeedback) -> bool:
    """True for feedback on a whole trace, which may come to mean a later call of it."""
    return entry.call is not None and entry.call.span_id != entry.feedback.target.span_id


def _target_key(feedback: Feedback) -> str:
    return whole(feedback.target).key


def _decide(
    entries: list[StoredFeedback], known: dict[str, UUID], newest: dict[UUID, int], erased: set[str]
) -> tuple[list[Outcome], list[StoredFeedback]]:
    """What becomes of each entry, and which of them are new, in order."""
    outcomes: list[Outcome] = []
    new: list[StoredFeedback] = []
    for entry in entries:
        client_id, identity = entry.feedback.id, entry.feedback_id
        if erased and not erased.isdisjoint(traces_of(entry.feedback)):
            outcomes.append(Outcome("erased", identity))
            continue
        if client_id in known:
            outcomes.append(Outcome("duplicate", known[client_id]))
            continue
        known[client_id] = identity
        replaces = identity in newest and newest[identity] <= entry.version
        newest[identity] = max(newest.get(identity, 0), entry.version)
        outcomes.append(Outcome("replaced" if replaces else "stored", identity))
        new.append(entry)
    return outcomes, new


def traces_of(feedback: Feedback) -> set[str]:
    """The traces it names."""
    ranked = feedback.ranking.answers if feedback.ranking is not None else ()
    return {t.trace_id for t in (feedback.target, *ranked) if t.trace_id is not None}
