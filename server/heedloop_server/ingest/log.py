"""The request log: what was accepted, on disk before anybody is told so, until the store has it.

Records are appended by one thread, which gathers everything that waits, writes it with one `writev` and one `fdatasync` (group
commit) and then answers all of them. A segment is sealed by size or age and handed to the loader, another thread, which
deletes it when it is in the store. After a crash the segments that are left are loaded again; a record torn by the crash was never
acknowledged and is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from heedloop_server.errors import Unavailable
from heedloop_server.ingest.condition import ERROR_SUFFIX
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.segments import (
    SUFFIX,
    Segment,
    framed,
    new_segment_path,
    number_of,
)

log = logging.getLogger("heedloop.log")

_GROUP = 512
_IOV_MAX = 1000


class LogInUse(Exception):
    """Another server process writes to this folder."""


def take_lock(folder: Path) -> int:
    """A file descriptor that holds the folder for this process until it is closed; raises `LogInUse`."""
    fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise LogInUse(f"another server uses {folder}") from None
    return fd


@dataclass(slots=True)
class _Waiting:
    """A record on its way; `loop` is None where a thread waits for it and no event loop."""

    body: bytes
    loop: asyncio.AbstractEventLoop | None
    done: asyncio.Future[None] | Future[None]


class RequestLog:
    """An append-only log over numbered segment files.

    Args:
        folder: belongs to this process; a lock file guards it.
        load: called by the loader thread with each sealed segment; must be harmless to call again after a crash. It raises to be
            called again later.
        quarantine: where what is damaged is kept; one in `folder` where none is given.
        segment_bytes: size at which a segment is sealed.
        seal_after_s: age at which a segment is sealed when the loader is idle.
        max_backlog_bytes: bytes waiting for the store, above which `append` refuses.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Segment], None],
        *,
        quarantine: Quarantine | None = None,
        segment_bytes: int = 32 << 20,
        seal_after_s: float = 0.3,
        max_backlog_bytes: int = 1 << 30,
    ) -> None:
        self._folder = folder
        self._load = load
        self._quarantine = quarantine or Quarantine(folder)
        self._segment_bytes = segment_bytes
        self._seal_after_s = seal_after_s
        self._max_backlog_bytes = max_backlog_bytes
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._sealed: queue.SimpleQueue[Segment | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._backlog_bytes = 0
        self._backlog_lock = threading.Lock()
        self._last_number = 0
        self._filled_number = self._loaded_number = 0
        self._loaded = threading.Condition()
        self._fd = -1
        self._size = 0
        self._opened_at = 0.0
        self._loading_since = self._failing_since = 0.0
        self._failing_number = 0
        self._path = folder
        self._marker = b""
        self._lock_file = -1
        self._threads: list[threading.Thread] = []
        self.num_syncs = 0
        self.failure: str | None = None
        """Why the last segment could not be loaded; None when the loader is well."""

    # ------------------------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Lock the folder, cut torn tails, queue what a crash left, and take records.

        Raises:
            LogInUse: another process has the folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = take_lock(self._folder)
        for segment in self._recover():
            self._filled_number = self._last_number = max(self._last_number, segment.number)
            self._seal(segment)
        self._open_segment()
        for name, work in (("log-writer", self._write_forever), ("log-loader", self._load_forever)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, drain_s: float = 30.0) -> None:
        """Write and seal what waits, give the loader `drain_s` seconds, and let go of the folder. The rest is loaded at the next start."""
        if not self._threads:
            return
        self._queue.put(None)
        self._threads[0].join()
        self._sealed.put(None)
        self._threads[1].join(drain_s)
        self._stopping.set()
        self._threads[1].join()
        self._threads = []
        os.close(self._lock_file)

    @property
    def backlog_bytes(self) -> int:
        """Bytes that are safe on disk and not in the store yet."""
        return self._backlog_bytes

    @property
    def num_segments(self) -> int:
        """Closed segments that are not in the store yet."""
        return self._sealed.qsize() + (not self._idle.is_set())

    def wait_until_loaded(self, timeout_s: float) -> bool:
        """Wait until everything logged before now is in the store; False where that takes longer.

        A store that has refused for that long already is not waited for again: else everybody would wait while it is away.
        """
        number = self._filled_number
        if self.failure is not None:
            timeout_s = min(timeout_s, max(0.0, self._failing_since + timeout_s - time.monotonic()))
        with self._loaded:
            return self._loaded.wait_for(lambda: self._loaded_number >= number, timeout_s)

    @property
    def is_full(self) -> bool:
        """True where more waits for the store than `max_backlog_bytes`."""
        return self._backlog_bytes > self._max_backlog_bytes

    def oldest_age_s(self) -> float:
        """Seconds since the oldest record that is not in the store yet was logged, by its segment; 0 where all are."""
        if not self._backlog_bytes:
            return 0.0
        return time.monotonic() - (self._loading_since or self._opened_at)

    async def append(self, body: bytes) -> None:
        """Return when the record is on disk.

        Raises:
            Unavailable: the log is full, the disk is full, or the server stops.
        """
        if self.is_full:
            raise Unavailable(
                f"{self._backlog_bytes >> 20} MiB wait for the store, more than max_backlog_bytes allows; send again later"
            )
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._queue.put(_Waiting(body, loop, done))
        await done

    def submit(self, body: bytes) -> Future[None]:
        """Like `append` for callers that are threads, full or not: the future is done when the record is on disk."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        self._queue.put(_Waiting(body, None, done))
        return done

    # ---------------------------------------------------------------------------------------------- writing

    def _write_forever(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._next_group()
            if group:
                self._commit(group)
            self._seal_when_due(now=stopping)
        os.close(self._fd)
        if not self._size:
            self._path.unlink(missing_ok=True)

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """Everything that waits, at most `_GROUP`; and whether to stop."""
        group: list[_Waiting] = []
        timeout = 0.02 if self._size else 0.5
        try:
            entry = self._queue.get(timeout=timeout)
            while entry is not None:
                group.append(entry)
                if len(group) >= _GROUP:
                    return group, False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _commit(self, group: list[_Waiting]) -> None:
        buffers: list[bytes] = []
        for w in group:
            buffers += framed(self._marker, w.body)
        try:
            written = _write_all(self._fd, buffers)
            os.fdatasync(self._fd)
        except OSError as err:
            self._undo()
            log.error("the request log cannot be written: %s", err)
            failed = Unavailable(f"the request log cannot be written: {err.strerror}; send again later")
            _answer(group, failed)
            return
        self.num_syncs += 1
        self._size += written
        self._filled_number = self._last_number
        with self._backlog_lock:
            self._backlog_bytes += written
        _answer(group, None)

    def _undo(self) -> None:
        """Cut off what a failed write left, so that nothing unacknowledged stands before later records."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, self._size, os.SEEK_SET)

    def _seal_when_due(self, *, now: bool) -> None:
        if not self._size:
            return
        aged = self._idle.is_set() and time.monotonic() - self._opened_at >= self._seal_after_s
        if not (now or aged or self._size >= self._segment_bytes):
            return
        sealed = Segment(self._path, self._last_number, self._size)
        if now:
            self._sealed.put(sealed)
            return
        old = self._fd
        try:
            self._open_segment()
        except OSError as err:
            log.error("no new log segment: %s", err)  # keep the full one; the next record tries again
            return
        os.close(old)
        self._sealed.put(sealed)

    def _open_segment(self) -> None:
        number = self._last_number + 1
        path, marker = new_segment_path(self._folder, number)
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        _sync_folder(self._folder)
        self._last_number, self._path, self._marker = number, path, marker
        self._size = 0
        self._opened_at = time.monotonic()

    # ---------------------------------------------------------------------------------------------- loading

    def _seal(self, segment: Segment) -> None:
        with self._backlog_lock:
            self._backlog_bytes += segment.num_bytes
        self._sealed.put(segment)

    def _load_forever(self) -> None:
        while True:
            self._idle.set()
            self._loading_since = 0.0
            segment = self._sealed.get()
            self._idle.clear()
            self._loading_since = time.monotonic()
            if segment is None or not self._load_until_done(segment):
                return
            _error_path(segment.path).unlink(missing_ok=True)
            segment.path.unlink(missing_ok=True)
            with self._loaded:
                self._loaded_number = segment.number
                self._loaded.notify_all()
            with self._backlog_lock:
                self._backlog_bytes -= segment.num_bytes

    def _load_until_done(self, segment: Segment) -> bool:
        """False where the server stops first."""
        pause_s = 0.1
        while True:
            try:
                self._load(segment)
                self._keep_damage(segment)
                self.failure = None
                return True
            except Exception as err:  # noqa: BLE001  # the loader must outlive whatever the store does; it says so and tries again
                if self.failure is None:
                    self._failing_since = time.monotonic()
                self._note_failure(segment, f"{type(err).__name__}: {err}")
                log.warning(
                    "segment %d not loaded, again in %.1f s: %s", segment.number, pause_s, self.failure
                )
            segment.forget()
            if self._stopping.wait(pause_s):
                return False
            pause_s = min(10.0, pause_s * 2)

    def _note_failure(self, segment: Segment, failure: str) -> None:
        """Remember why a segment waits; a file beside it says so to `heedloop doctor` when the server is stopped."""
        if failure != self.failure:
            with contextlib.suppress(OSError):
                _error_path(segment.path).write_text(failure)
        self.failure, self._failing_number = failure, segment.number

    def stuck(self) -> tuple[int, str, float] | None:
        """The segment that cannot be loaded, why, and for how many seconds; None while the loader is well."""
        failure = self.failure
        if failure is None:
            return None
        return self._failing_number, failure, time.monotonic() - self._failing_since

    # --------------------------------------------------------------------------------------------- recovery

    def _recover(self) -> Iterator[Segment]:
        """What a crash left, oldest first; empty files go."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if size := path.stat().st_size:
                yield Segment(path, number_of(path), size)
            else:
                self._last_number = max(self._last_number, number_of(path))
                path.unlink()

    def _keep_damage(self, segment: Segment) -> None:
        """Keep what is no whole record for a person to look at: a flipped bit may have damaged an acknowledged one."""
        for piece in segment.damage():
            name = f"{self._folder.name}-{segment.number:012d}-{piece.start}.bin"
            error = f"{len(piece.content)} bytes of {segment.path.name} at {piece.start}"
            self._quarantine.keep(name, piece.content, project="", reason=piece.state, error=error)


def _error_path(segment: Path) -> Path:
    return segment.with_suffix(ERROR_SUFFIX)


def _write_all(fd: int, buffers: list[bytes]) -> int:
    """Write all buffers; a short write goes on where it stopped."""
    total = 0
    for first in range(0, len(buffers), _IOV_MAX):
        part = buffers[first : first + _IOV_MAX]
        expected = sum(map(len, part))
        done = os.writev(fd, part)
        total += expected
        if done < expected:
            rest = memoryview(b"".join(part))[done:]
            while rest:
                rest = rest[os.write(fd, rest) :]
    return total


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _answer(group: list[_Waiting], failed: Exception | None) -> None:
    """Answer all waiting requests, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for w in group:
        if isinstance(w.done, Future):
            _resolve([w.done], failed)
        elif w.loop is not None:
            by_loop.setdefault(w.loop, []).append(w.done)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, futures, failed)


def _resolve(futures: Sequence[asyncio.Future[None] | Future[None]], failed: Exception | None) -> None:
    for future in futures:
        if future.done():  # the client went away
            continue
        if failed is None:
            future.set_result(None)
        else:
            future.set_exception(failed)
