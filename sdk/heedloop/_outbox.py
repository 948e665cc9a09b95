"""The outbox: what must reach the server waits here, on disk, until the server has acknowledged it.

One SQLite file per key, shared by all processes of a machine. What waits in the file of an earlier key of the same project is
adopted: delivered from where it is. A feedback call returns after its row is
committed and synced. A folder that cannot be written, a full disk or a damaged file never fail the app: rows then wait
in memory, which is said once a minute, and the file is tried again for the next one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from heedloop._guard import warn
from heedloop._store import Row, Store

DEFAULT_MAX_BYTES = 128 * 1024 * 1024
_WANTED_AGE_S = 3600.0
_FORK_WAIT_S = 5.0


class Outbox:
    """The waiting room: a file, with memory behind it for what the file does not take.

    After a fork the child calls `reopen_in_child` before anything else: a SQLite connection must not cross a fork.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        older_names: frozenset[str] = frozenset(),
        adopts: bool = True,
    ) -> None:
        self._path = path
        self._older_names = older_names
        self._adopts = adopts
        self.left_behind: dict[str, int] = {}
        """Files of other keys with the number of records in them, which this key may not deliver."""
        self._max_bytes = max_bytes
        self._abandoned: list[sqlite3.Connection] = []
        self._own_counts: Counter[str] = Counter()
        self._open()

    @property
    def path(self) -> Path | None:
        """The file that is in use; None where everything waits in memory."""
        return self._disk.path if self._disk is not None else None

    def put_feedback(self, feedback_id: str, body: bytes, *, trace_ids: Sequence[str] = ()) -> bool:
        """Keep one feedback; True when it is as safe as this outbox can make it, False where it is full."""
        if self._disk is not None:
            try:
                return self._disk.put_feedback(feedback_id, body, trace_ids=trace_ids)
            except sqlite3.Error as error:
                self._say_unusable(error)
        return self._memory.put_feedback(feedback_id, body, trace_ids=trace_ids)

    def put_spans(self, body: bytes, num_spans: int) -> bool:
        """Keep one batch of encoded spans whose export failed. False where it cannot fit."""
        if self._disk is not None:
            try:
                return self._disk.put_spans(body, num_spans)
            except sqlite3.Error as error:
                self._say_unusable(error)
        return self._memory.put_spans(body, num_spans)

    def waiting_feedback(self, limit: int, max_bytes: int) -> list[Row]:
        """The oldest waiting feedback of one store, the file first."""
        for store in self._stores():
            rows = store.waiting_feedback(limit, max_bytes)
            if rows:
                return rows
        return []

    def finish_feedback(self, accepted: Sequence[Row], refused: Sequence[tuple[Row, str]]) -> None:
        """Forget acknowledged rows and set refused ones aside; all of one store."""
        rows = list(accepted) + [row for row, _why in refused]
        if rows:
            rows[0].store.finish_feedback([r.seq for r in accepted], [(r.seq, why) for r, why in refused])

    def waiting_spans(self) -> Row | None:
        """The oldest waiting batch of spans."""
        for store in self._stores():
            row = store.waiting_spans()
            if row is not None:
                return row
        return None

    def finish_spans(self, row: Row, outcome: str) -> None:
        """Forget a batch; `outcome` is `sent` or `dropped.<why>`."""
        row.store.finish_spans(row.seq, row.num, outcome)

    def want_trace(self, trace_id: str) -> None:
        """Ask every process that shares this outbox for a trace that head sampling left out."""
        if self._disk is not None:
            self._disk.want_trace(trace_id)

    def wanted_since(self, seq: int) -> list[tuple[int, str]]:
        """Traces that some process asked for after entry `seq`."""
        return self._disk.wanted_since(seq, max_age_s=_WANTED_AGE_S) if self._disk is not None else []

    def forget_wanted(self) -> None:
        """Drop requests for traces that are older than an hour."""
        if self._disk is not None:
            self._disk.forget_wanted(max_age_s=_WANTED_AGE_S)

    def others(self) -> list[Path]:
        """Outbox files of other keys (or of this one, by an earlier version's name) next to this one."""
        if self._path is None or not self._adopts:
            return []
        adopted = {store.path for store, _lock in self._adopted}
        try:
            paths = sorted(self._path.parent.glob("outbox-*.sqlite3"))
        except OSError:
            return []
        return [p for p in paths if p != self._path and p not in adopted]

    def is_same_key(self, path: Path) -> bool:
        """True for a file that an earlier version made for this key."""
        return path.name in self._older_names

    def adopt(self, path: Path) -> bool:
        """Deliver from `path` as well. False where another process does, or it cannot be read."""
        lock = try_lock(path.with_name(path.name + ".lock"))
        if lock is None:
            return False
        try:
            self._adopted.append((Store(path, max_bytes=self._max_bytes), lock))
        except (sqlite3.Error, OSError) as error:
            os.close(lock)
            warn("adopting", f"the outbox {path} cannot be read ({error})")
            return False
        self.left_behind.pop(str(path), None)
        return True

    def let_go(self) -> None:
        """Close the adopted files that are empty, and remove them."""
        for store, lock in list(self._adopted):
            if store.num_waiting() == (0, 0):
                self._adopted.remove((store, lock))
                self._own_counts.update(store.own_counts)
                # Not closed: another thread may be looking into it. It goes with the process.
                self._abandoned.append(store.abandon())
                if store.path is not None and not store.refused_feedback():
                    for end in ("", "-wal", "-shm", ".lock"):
                        with contextlib.suppress(
                            OSError
                        ):  # a system that keeps open files from being removed
                            store.path.with_name(store.path.name + end).unlink(missing_ok=True)
                os.close(lock)

    def own_counts(self) -> dict[str, int]:
        """What this process counted: the counts of several processes that share a file can be added up."""
        total: Counter[str] = Counter(self._own_counts)
        for store in self._stores():
            total.update(store.own_counts)
        return dict(total)

    def marker(self) -> dict[int, int]:
        """A place in time: `num_waiting(marker=…)` counts only the feedback kept before it."""
        return {id(store): store.newest_feedback() for store in self._stores()}

    def num_waiting(self, *, marker: Mapping[int, int] | None = None) -> tuple[int, int]:
        """How many (feedback, spans) wait."""
        feedback = spans = 0
        for store in self._stores():
            limit = marker.get(id(store)) if marker is not None else None
            num_feedback, num_spans = store.num_waiting(up_to_feedback=limit)
            feedback += num_feedback
            spans += num_spans
        return feedback, spans

    def counts(self) -> dict[str, int]:
        """Everything counted, by name, since the file was made."""
        total: Counter[str] = Counter(self._own_counts)
        adopted = [store for store, _lock in self._adopted]
        for store in self._stores():
            total.update(store.own_counts if store in adopted else store.counts())
        return dict(total)

    def refused_feedback(self) -> list[tuple[str, str]]:
        """(JSON, reason) of the feedback that the server refused; it stays here to be looked at."""
        return [entry for store in self._stores() for entry in store.refused_feedback()]

    def close(self) -> None:
        """Close the file; what is in it stays."""
        for store in self._stores():
            store.close()
        for _store, lock in self._adopted:
            os.close(lock)
        self._adopted = []

    def hold_for_fork(self) -> None:
        """Wait until no write is going on, and start none until the fork is over.

        SQLite keeps its locks per file and process, in memory that a child inherits: forked in the middle of another
        thread's write, the child would find the file locked for ever, by a connection that is never finished.
        """
        self._held = [store for store in self._stores() if store.hold(_FORK_WAIT_S)]

    def release_after_fork(self) -> None:
        """In the parent: writes go on."""
        for store in self._held:
            store.release()
        self._held = []

    def reopen_in_child(self) -> None:
        """Open again after a fork.

        The parent's connections are kept without being used or closed: closing one would break the parent's locks.
        What the parent holds in memory is the parent's to deliver.
        """
        self._abandoned.extend(store.abandon() for store in self._stores())
        for _store, lock in self._adopted:
            os.close(lock)  # this process's copy; the parent's lock stays
        self._own_counts.clear()
        self._open()

    def _open(self) -> None:
        self._held: list[Store] = []
        self._adopted: list[tuple[Store, int]] = []
        self._memory = Store(None, max_bytes=self._max_bytes)
        self._disk = self._open_disk()

    def _open_disk(self) -> Store | None:
        if self._path is None:
            return None
        try:
            return Store(self._path, max_bytes=self._max_bytes)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                self._say_unusable(error)
                return None
            return self._start_over(self._path, error)
        except OSError as error:
            self._say_unusable(error)
            return None

    def _start_over(self, path: Path, error: sqlite3.DatabaseError) -> Store | None:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        warn("outbox damaged", f"the outbox {path} is damaged ({error}); it is kept as {aside.name}")
        try:
            path.replace(aside)
            return Store(path, max_bytes=self._max_bytes)
        except (OSError, sqlite3.Error) as again:
            self._say_unusable(again)
            return None

    def _stores(self) -> list[Store]:
        adopted = [store for store, _lock in self._adopted]  # first: what is in them is older
        return [*adopted, self._memory] if self._disk is None else [*adopted, self._disk, self._memory]

    def _say_unusable(self, error: Exception) -> None:
        warn(
            "outbox",
            f"the outbox {self._path} cannot be written ({error}); feedback waits in memory, and is lost if this "
            "process ends before it is delivered",
        )


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
