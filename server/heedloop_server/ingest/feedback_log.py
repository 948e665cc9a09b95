"""Feedback's fast path, where the store is this process's own: in the log on disk, answered, and then stored by the writer.

A new feedback needs no look into the store: `Seen` knows every id, every feedback and every erased trace of the store, and what it has
never seen is new. What it may have seen (somebody changes their mind, a resend, an erased trace) takes the writer's own path, after
everything logged before it is stored. So the answer says what it always said, and the writer stays the one place that decides what is
stored: whatever it is given twice, after a crash, it knows.

A store that other servers share has no such log: there the writer's path is the only one, and 200 means "in the store", as everybody
must see it. Readers wait for what was logged before they came (`wait_until_stored`), so that whoever has an answer sees what they said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedloop.schema import Feedback, format_time, from_json, parse_time, utc_now
from heedloop_server.errors import ServerError, Unavailable
from heedloop_server.ingest.bloom_filter import Seen, digest
from heedloop_server.ingest.feedback_writer import FeedbackWriter, Outcome, StoreRefuses, traces_of
from heedloop_server.ingest.log import RequestLog
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.segments import Segment, damage_in, read_segment
from heedloop_server.store.connection import Store
from heedloop_server.store.feedback import StoredFeedback
from heedloop_server.store.known_ids import seen_names

log = logging.getLogger("heedloop.feedback")

_AT_ONCE = 10_000
"""Entries that are given to the writer at once."""
_BACKLOG_BYTES = 16 << 20
"""Bytes waiting for the writer from which posts wait for it too."""
_SETTLE_S = 60.0
"""Seconds that a post waits for the store at most."""
_PROJECT = re.compile(rb'\{"project": "([^"\\]+)"')
_MAX_LATE = 20_000
"""Entries that wait behind the log, above which more are refused."""


@dataclass(frozen=True, slots=True)
class _Post:
    """A record of the log; `is_new` as the writer's `store` has it."""

    project: str
    entries: Sequence[StoredFeedback]
    is_new: bool = False

    @classmethod
    def new(cls, project: str, feedback: Sequence[Feedback], key_id: str) -> _Post:
        now = utc_now()
        return cls(project, [StoredFeedback.of(project, f, now, key_id) for f in feedback], is_new=True)

    def packed(self) -> bytes:
        first = self.entries[0]
        head = {"project": self.project, "key_id": first.key_id, "at": format_time(first.received_at)}
        text = json.dumps(head, ensure_ascii=False).removesuffix("}")
        records = ",".join(e.record for e in self.entries)
        return f'{text}, "feedback": [{records}]}}'.encode("utf-8", "surrogatepass")

    @classmethod
    def of(cls, body: bytes) -> _Post:
        record: dict[str, Any] = json.loads(body.decode("utf-8", "surrogatepass"))
        project, at, key = record["project"], parse_time(record["at"]), record["key_id"]
        feedback = [from_json(Feedback, f) for f in record["feedback"]]
        return cls(project, [StoredFeedback.of(project, f, at, key) for f in feedback])


class FeedbackLog:
    """The log before a writer; `submit` may be called from any thread.

    Args:
        folder: of the log; belongs to this process.
        quarantine: for what was answered and cannot be stored after all; one in `folder` where none is given.
        on_refused: told (project, reason -> count) of what was answered and cannot be stored after all.
    """

    def __init__(
        self,
        writer: FeedbackWriter,
        folder: Path,
        *,
        on_refused: Callable[[str, Counter[str]], None],
        quarantine: Quarantine | None = None,
    ) -> None:
        self._writer = writer
        self._quarantine = quarantine or Quarantine(folder)
        self._folder = folder
        self._on_refused = on_refused
        self._seen = Seen()
        self._lock = threading.Lock()
        self._writing: set[Future[list[Outcome]]] = set()
        self._unread: dict[bytes, _Post] = {}
        """What the loader need not read of the disk again, by its digest there."""
        self._num_late = 0
        self._hands = ThreadPoolExecutor(8, thread_name_prefix="feedback-late")
        self.log = RequestLog(
            folder,
            self._load,
            quarantine=self._quarantine,
            seal_after_s=0.0,
            max_backlog_bytes=_BACKLOG_BYTES,
        )

    def start(self, store: Store) -> None:
        """Learn what the store and the log hold, store what a crash left, and take posts."""
        for names in seen_names(store):
            self._seen.add_all(names)
        for path in sorted(self._folder.glob("*.log")):
            for post in self._read(path, defaultdict(Counter)):
                for name in _names(post):
                    self._seen.add(name)
        self.log.start()

    def stop(self) -> None:
        """Store what waits, as far as the store allows; the rest is stored at the next start."""
        self._hands.shutdown(cancel_futures=True)
        self.log.stop()

    def wait_until_stored(self, timeout_s: float) -> bool:
        """Wait until everything answered before now is stored; False where that takes longer."""
        return self.log.wait_until_loaded(timeout_s)

    def forget(self, project: str, trace_ids: Iterable[str]) -> None:
        """From now on nothing on these traces is new: they were erased."""
        names = b"".join(digest("erased", project, t) for t in trace_ids)
        with self._lock:  # for a moment: posts on the event loop wait for it
            self._seen.add_all(names)

    def submit(self, project: str, entries: Sequence[Feedback], *, key_id: str = "") -> Future[list[Outcome]]:
        """Keep some feedback; the future gives one outcome per entry, in order, once they are on disk.

        It, or this call, raises `Unavailable` where the disk or the store does not take them.
        """
        post = _Post.new(project, entries, key_id)
        names, body = _names(post), post.packed()
        erased = {digest("erased", project, t) for f in entries for t in traces_of(f)}
        outcomes: Future[list[Outcome]] = Future()
        outcomes.set_running_or_notify_cancel()  # whoever waits may go away
        with self._lock:
            is_new = self._are_new(names, erased) and not self.log.is_full
            if is_new:
                self._writing.add(outcomes)
        if not is_new:
            return self._submit_late(post)
        name = _digest(body)
        self._unread[name] = post

        def answer(written: Future[None]) -> None:
            if (err := written.exception()) is not None:
                self._unread.pop(name, None)
                outcomes.set_exception(err)
            else:
                outcomes.set_result([Outcome("stored", e.feedback_id) for e in post.entries])
            with self._lock:
                self._writing.discard(outcomes)

        self.log.submit(body).add_done_callback(answer)
        return outcomes

    def _are_new(self, names: Sequence[bytes], erased: Iterable[bytes]) -> bool:
        """True where nothing of this was ever said; from now on it was."""
        seen = self._seen
        are_new = len(set(names)) == len(names) and not any(n in seen for n in (*names, *erased))
        for name in names:
            seen.add(name)
        return are_new

    def _submit_late(self, post: _Post) -> Future[list[Outcome]]:
        """The writer's own path; raises `Unavailable` where too much waits for it."""
        with self._lock:
            if self._num_late > _MAX_LATE:
                raise Unavailable("too much feedback waits for the store; send again later", retry_after_s=1)
            self._num_late += len(post.entries)

        def leave(_: Future[list[Outcome]]) -> None:
            with self._lock:
                self._num_late -= len(post.entries)

        done = self._hands.submit(self._late, post, time.monotonic() + _SETTLE_S)
        done.add_done_callback(leave)
        return done

    def _late(self, post: _Post, until: float) -> list[Outcome]:
        """Store behind everything that was new before; whoever waited for a hand until the time is over is sent away at once."""
        with self._lock:
            before = list(self._writing)
        left_s = max(0.0, until - time.monotonic())
        if wait(before, left_s).not_done or not self.wait_until_stored(left_s):
            raise Unavailable("feedback waits for the store; send again later")
        return self._writer.store(post.project, post.entries).result()

    # ---------------------------------------------------------------------------------------------- the loader

    def _load(self, segment: Segment) -> None:
        """Store a segment's feedback; again after a crash, when the writer knows what it has already."""
        refused: dict[str, Counter[str]] = defaultdict(Counter)
        for some in _groups(self._read(segment.path, refused)):
            waiting = [self._writer.store(p.project, p.entries, is_new=p.is_new) for p in some]
            for post, done in zip(some, waiting, strict=True):
                try:
                    outcomes = done.result()
                except Exception as err:
                    if not is_lasting(err):
                        raise
                    outcomes = self._one_by_one(post, refused[post.project])
                refused[post.project]["erased"] += sum(o.status == "erased" for o in outcomes)
        refused.pop("", None)
        for project, counts in refused.items():  # at the end: what fails half-way is loaded and counted again
            if counts.total():
                self._on_refused(project, +counts)

    def _read(self, path: Path, refused: dict[str, Counter[str]]) -> Iterator[_Post]:
        """The posts of a segment; one that this version cannot read goes into quarantine and holds nothing up.

        What is read a second time, after a break, is not new any more: some of it may be stored.
        """
        for body in read_segment(path):
            try:
                yield self._unread.pop(_digest(body), None) or _Post.of(body)
            except (ValueError, KeyError, TypeError) as err:
                project = _project_in(body)
                name = _digest(body).hex()[:32]
                self._quarantine.keep(
                    f"{name}.json", body, project=project, reason="unreadable", error=repr(err)
                )
                refused[project]["unreadable"] += 1
        for piece in damage_in(path):
            if piece.state == "damaged" and (project := _project_in(piece.body)):
                refused[project]["damaged"] += 1

    def _one_by_one(self, post: _Post, refused: Counter[str]) -> list[Outcome]:
        """Store what the store takes of a post, and keep the rest aside for a person."""
        outcomes: list[Outcome] = []
        for entry in post.entries:
            try:
                outcomes += self._writer.store(post.project, [entry]).result()
            except Exception as err:
                if not is_lasting(err):
                    raise
                quarantine_feedback(self._quarantine, post.project, entry.feedback, err, key_id=entry.key_id)
                refused["not_stored"] += 1
        return outcomes


def is_lasting(err: Exception) -> bool:
    """True where trying again is of no use: the store refuses it, or our own code fails at it. It must not hold up what comes after."""
    return isinstance(err, StoreRefuses) or not isinstance(err, (ServerError, OSError))


def quarantine_feedback(
    quarantine: Quarantine, project: str, entry: Feedback, err: Exception, *, key_id: str = "otlp"
) -> None:
    """Keep one feedback that cannot be stored."""
    content = _Post.new(project, [entry], key_id).packed()
    name = f"{entry.identity(project)}.json"
    quarantine.keep(name, content, project=project, reason="not_stored", error=repr(err))


def _project_in(body: bytes) -> str:
    """The project of a post that cannot be read; empty where its bytes do not tell."""
    match = _PROJECT.match(body)
    return match[1].decode("utf-8", "replace") if match else ""


def _names(post: _Post) -> list[bytes]:
    """What makes each entry new: its sender's id and its identity."""
    ids = [digest("id", post.project, e.feedback.id) for e in post.entries]
    return ids + [digest("feedback", str(e.feedback_id)) for e in post.entries]


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _groups(posts: Iterable[_Post]) -> Iterator[list[_Post]]:
    some: list[_Post] = []
    size = 0
    for post in posts:
        some.append(post)
        size += len(post.entries)
        if size >= _AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
