"""The outbox: what must reach the server waits here, on disk, until the server has acknowledged it.

One SQLite file per destination, shared by all processes of a machine. A feedback call returns after its row is
committed and synced. A folder that cannot be written, a full disk or a damaged file never fail the app: rows then wait
in memory, which is said once a minute, and the file is tried again for the next one.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from heedloop._guard import warn
from heedloop._store import Row, Store

__all__ = ["DEFAULT_MAX_BYTES", "Outbox"]

DEFAULT_MAX_BYTES = 128 * 1024 * 1024
_WANTED_AGE_S = 3600.0
_FORK_WAIT_S = 5.0


class Outbox:
    """The waiting room: a file, with memory behind it for what the file does not take.

    After a fork the child calls `reopen_in_child` before anything else: a SQLite connection must not cross a fork.
    """

    def __init__(self, path: Path | None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._left_behind: list[sqlite3.Connection] = []
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

    def settle_feedback(self, accepted: Sequence[Row], refused: Sequence[tuple[Row, str]]) -> None:
        """Forget acknowledged rows and set refused ones aside; all of one store."""
        rows = list(accepted) + [row for row, _why in refused]
        if rows:
            rows[0].store.settle_feedback([r.seq for r in accepted], [(r.seq, why) for r, why in refused])

    def waiting_spans(self) -> Row | None:
        """The oldest waiting batch of spans."""
        for store in self._stores():
            row = store.waiting_spans()
            if row is not None:
                return row
        return None

    def settle_spans(self, row: Row, outcome: str) -> None:
        """Forget a batch; `outcome` is `sent` or `dropped.<why>`."""
        row.store.settle_spans(row.seq, row.num, outcome)

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

    def marker(self) -> list[int]:
        """A place in time: `num_waiting(since=marker)` counts only the feedback kept before it."""
        return [store.newest_feedback() for store in self._stores()]

    def num_waiting(self, *, marker: Sequence[int] | None = None) -> tuple[int, int]:
        """How many (feedback, spans) wait."""
        feedback = spans = 0
        for index, store in enumerate(self._stores()):
            limit = marker[index] if marker is not None and index < len(marker) else None
            num_feedback, num_spans = store.num_waiting(up_to_feedback=limit)
            feedback += num_feedback
            spans += num_spans
        return feedback, spans

    def counts(self) -> dict[str, int]:
        """Everything counted, by name, since the file was made."""
        total: Counter[str] = Counter()
        for store in self._stores():
            total.update(store.counts())
        return dict(total)

    def refused_feedback(self) -> list[tuple[str, str]]:
        """(JSON, reason) of the feedback that the server refused; it stays here to be looked at."""
        return [entry for store in self._stores() for entry in store.refused_feedback()]

    def close(self) -> None:
        """Close the file; what is in it stays."""
        for store in self._stores():
            store.close()

    def hold_for_fork(self) -> None:
        """Wait until no write is going on, and start none until the fork is over.

        SQLite keeps its locks per file and process, in memory that a child inherits: forked in the middle of another
        thread's write, the child would find the file locked for ever, by a connection that nobody will ever finish.
        """
        self._held = [store for store in self._stores() if store.hold(_FORK_WAIT_S)]

    def release_after_fork(self) -> None:
        """In the parent: writes go on."""
        for store in self._held:
            store.release()
        self._held = []

    def reopen_in_child(self) -> None:
        """Open anew after a fork.

        The parent's connections are kept without being used or closed: closing one would break the parent's locks.
        What the parent holds in memory is the parent's to deliver.
        """
        self._left_behind.extend(store.abandon() for store in self._stores())
        self._open()

    def _open(self) -> None:
        self._held: list[Store] = []
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
        return [self._memory] if self._disk is None else [self._disk, self._memory]

    def _say_unusable(self, error: Exception) -> None:
        warn(
            "outbox",
            f"the outbox {self._path} cannot be written ({error}); feedback waits in memory, and is lost if this "
            "process ends before it is delivered",
        )
