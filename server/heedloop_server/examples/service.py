"""Examples of every project: an index each, made at the first request, fresh within a second while it is asked, and dropped later."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from heedloop.schema import AnswerExample, utc_now
from heedloop_server.curate.near_copies import similarity
from heedloop_server.errors import ServerError, Unavailable
from heedloop_server.examples.candidates import Candidate, as_example, cleaned, question_key
from heedloop_server.examples.choosing import choose
from heedloop_server.examples.index import Embed, ExampleIndex, Key, Wanted
from heedloop_server.store import examples as stored
from heedloop_server.store.connection import ProjectStore, Store, StoreError

log = logging.getLogger("heedloop.examples")

REFRESH_S = 1.0
OVERLAP = timedelta(seconds=10)
"""Feedback is stored a moment after the time at which it was received."""
UNUSED_S = 900.0
FIRST_S = 5.0
"""How long a request waits for a project's first index; it is made in the background."""
MOST_SIMILAR = 128
NEAR_COPY = 0.8
"""As of `curate.Rules.near_duplicate`: so alike are prompts that a split keeps together."""


class ExampleService:
    """Finds examples; safe to share between threads.

    Args:
        embed: a model's vectors in place of words.
    """

    def __init__(self, store: Store, embed: Embed | None = None) -> None:
        self._store = store
        self._embed = embed
        self._lock = threading.Lock()
        self._known: dict[str, Future[ProjectExamples]] = {}
        self._builders = ThreadPoolExecutor(1, thread_name_prefix="examples")
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def find(
        self, project: str, wanted: Wanted, k: int, *, authors: Collection[str], min_likes: int
    ) -> tuple[list[AnswerExample], int]:
        """Up to `k` examples, the most alike first, and among how many candidates they were found.

        Raises:
            Unavailable: the project's first index is still being made, or the model does not answer.
        """
        own = self._of(project)
        own.used_at = time.monotonic()
        if own.used_at - own.refreshed_at > 5 * REFRESH_S:  # nobody asked for a while
            own.refresh()
        while True:
            similar = [
                e
                for candidate, score in own.similar(wanted)
                if (e := as_example(candidate, score, authors=authors, min_likes=min_likes))
            ]
            found = choose(similar, k)
            if own.are_current(found):
                return found, own.index.num_candidates

    def close(self) -> None:
        """End the threads."""
        self._closed.set()
        self._builders.shutdown(wait=True, cancel_futures=True)
        if self._thread is not None:
            self._thread.join()

    def _of(self, project: str) -> ProjectExamples:
        with self._lock:
            future = self._known.get(project)
            if future is None or (future.done() and future.exception() is not None):
                make = ProjectExamples.read
                future = self._builders.submit(make, self._store.project(project), self._embed)
                self._known[project] = future
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._refresh_all, name="examples-refresh", daemon=True
                )
                self._thread.start()
        try:
            return future.result(FIRST_S)
        except NotYet:
            raise Unavailable("the project's examples are being read; ask again later") from None

    def _refresh_all(self) -> None:
        while not self._closed.wait(REFRESH_S):
            for name, future in list(self._known.items()):
                if not future.done() or future.exception() is not None:
                    continue
                unused_s = time.monotonic() - future.result().used_at
                if unused_s > UNUSED_S:
                    self._known.pop(name)
                elif unused_s < 10 * REFRESH_S:
                    _guarded(future.result().refresh)


def _guarded(refresh: Callable[[], None]) -> None:
    try:
        refresh()
    except (ServerError, StoreError) as err:
        log.warning("examples were not refreshed: %s", err)


@dataclass
class ProjectExamples:
    """The examples of one project."""

    project: ProjectStore
    index: ExampleIndex
    held_out: dict[Key, str] = field(default_factory=dict[Key, str])
    used_at: float = 0.0
    refreshed_at: float = 0.0
    _num_snapshots: int = -1
    _held_out_questions: set[str] = field(default_factory=set[str])
    _since: datetime = field(default_factory=utc_now)
    _waiting: list[str] = field(default_factory=list[str])
    _seen: dict[str, int] = field(default_factory=dict[str, int])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def read(cls, project: ProjectStore, embed: Embed | None) -> ProjectExamples:
        """The examples that there are now."""
        own = cls(project, ExampleIndex(embed), used_at=time.monotonic())
        own._read_held_out(stored.present(project, (), ()).num_snapshots)
        before = stored.changes(project, own._since - OVERLAP, ())
        own._remember(before, own._take(stored.all_candidates(project), ()))
        own.refreshed_at = time.monotonic()
        return own

    def refresh(self) -> None:
        """Take in what changed since the last time."""
        with self._lock:
            now = utc_now()
            found = stored.changes(self.project, self._since - OVERLAP, self._waiting)
            keys = {key for i, (key, version) in found.judgements.items() if self._seen.get(i) != version}
            self._remember(found, self._take(stored.candidates_of(self.project, keys), keys))
            self._since, self._waiting = now, found.waiting
            self.refreshed_at = time.monotonic()

    def _remember(self, found: stored.Changes, read: Collection[Key]) -> None:
        """What need not be read again within `OVERLAP`: versions of judgements whose calls were read. Of several servers' store
        everything is, since the replica that showed a judgement may not be the one that was read."""
        if self.project.store.is_embedded:
            self._seen = {
                i: version
                for i, (key, version) in found.judgements.items()
                if key in read or self._seen.get(i) == version
            }

    def similar(self, wanted: Wanted) -> list[tuple[Candidate, float]]:
        """The most similar candidates; no near-copies of a question that is held out for evaluations."""
        found = self.index.similar(wanted, limit=MOST_SIMILAR)
        if question_key(wanted.question) not in self._held_out_questions:
            return found
        return [f for f in found if similarity(wanted.question, f[0].question) < NEAR_COPY]

    def are_current(self, found: Collection[AnswerExample]) -> bool:
        """False where some of these were erased since they were read, or another snapshot holds out others: then look again."""
        now = stored.present(
            self.project, [e.trace_id for e in found], [i for e in found for i in e.feedback_ids]
        )
        erased = [
            (e.trace_id, e.span_id)
            for e in found
            if e.trace_id in now.traces or not now.feedback.isdisjoint(e.feedback_ids)
        ]
        if now.num_snapshots == self._num_snapshots and not erased:
            return True
        with self._lock:
            self._read_held_out(now.num_snapshots)
            self._take(stored.candidates_of(self.project, erased), erased)
        return False

    def _read_held_out(self, num: int) -> None:
        if num != self._num_snapshots:
            self.held_out, self._num_snapshots = stored.held_out(self.project), num
            self._held_out_questions = {question_key(q) for q in self.held_out.values()}
            self.index.change({c.key: None for c in self.index.candidates() if not self._is_free(c)})

    def _take(self, candidates: Iterable[Candidate], keys: Collection[Key]) -> set[Key]:
        """Put in what may be an example of the candidates, whose keys it returns; of the keys the others are taken out."""
        changed: dict[Key, Candidate | None] = dict.fromkeys(keys)
        read: set[Key] = set()
        for candidate in candidates:
            read.add(candidate.key)
            if self._is_free(candidate):
                changed[candidate.key] = cleaned(candidate)
        self.index.change(changed)
        return read

    def _is_free(self, candidate: Candidate) -> bool:
        """False for what is held out, or asks what a held-out prompt asks."""
        return (
            candidate.key not in self.held_out
            and question_key(candidate.question) not in self._held_out_questions
        )
