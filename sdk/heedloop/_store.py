"""One SQLite file (or memory) of waiting feedback and span batches; the SQL of the outbox, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_BUSY_TIMEOUT_S = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  body BLOB NOT NULL,
  created REAL NOT NULL,
  refused TEXT
);
CREATE TABLE IF NOT EXISTS spans (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  body BLOB NOT NULL,
  num_spans INTEGER NOT NULL,
  created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS wanted (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  trace_id TEXT NOT NULL,
  created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS counts (
  name TEXT PRIMARY KEY,
  n INTEGER NOT NULL
);
"""


class Row(NamedTuple):
    """One waiting entry of `store`; `num` is 1 for a feedback, the number of spans for a batch."""

    store: Store
    seq: int
    body: bytes
    num: int = 1


class Store:
    """A SQLite database; `path` None keeps it in memory.

    Safe to use from several threads; a file is safe to share between processes. Every method raises `sqlite3.Error`
    where the database cannot do it (full, locked for too long, damaged).
    """

    def __init__(self, path: Path | None, *, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.own_counts: Counter[str] = Counter()
        """What this process counted; `counts` has what all processes counted, since the file was made."""
        self._lock = threading.Lock()
        self._db = _open(path)

    def close(self) -> None:
        """Close the database; rows in a file stay there."""
        with self._lock:
            self._db.close()

    def put_feedback(self, feedback_id: str, body: bytes, *, trace_ids: Sequence[str]) -> bool:
        """Keep one feedback and ask for its traces. False where the byte budget does not hold it."""

        def write(db: sqlite3.Connection) -> bool:
            if not self._make_room(db, len(body)):
                self._count(db, "feedback.dropped.outbox_full", 1)
                return False
            now = time.time()
            db.execute(
                "INSERT INTO feedback (id, body, created) VALUES (?, ?, ?)",
                (feedback_id, body, now),
            )
            db.executemany(
                "INSERT INTO wanted (trace_id, created) VALUES (?, ?)", [(t, now) for t in trace_ids]
            )
            return True

        return self._write(write)

    def waiting_feedback(self, limit: int, max_bytes: int) -> list[Row]:
        """The oldest waiting feedback, at most `limit` rows and about `max_bytes` bytes."""
        rows = self._read(
            "SELECT seq, body FROM feedback WHERE refused IS NULL ORDER BY seq LIMIT ?", (limit,)
        )
        rows_within: list[Row] = []
        size = 0
        for seq, body in rows:
            size += len(body)
            if rows_within and size > max_bytes:
                break
            rows_within.append(Row(self, seq, body))
        return rows_within

    def finish_feedback(self, accepted: Sequence[int], refused: Sequence[tuple[int, str]]) -> None:
        """Forget acknowledged rows, set refused ones aside with the reason, count both: in one commit."""

        def write(db: sqlite3.Connection) -> None:
            finished = db.executemany("DELETE FROM feedback WHERE seq = ?", [(s,) for s in accepted]).rowcount
            aside = db.executemany(
                "UPDATE feedback SET refused = ? WHERE seq = ? AND refused IS NULL",
                [(why, s) for s, why in refused],
            ).rowcount
            self._count(db, "feedback.sent", max(finished, 0))
            self._count(db, "feedback.dropped.refused", max(aside, 0))

        self._write(write)

    def refused_feedback(self) -> list[tuple[str, str]]:
        """(JSON, reason) of the feedback that the server refused."""
        rows = self._read("SELECT body, refused FROM feedback WHERE refused IS NOT NULL ORDER BY seq")
        return [(body.decode(), why) for body, why in rows]

    def put_spans(self, body: bytes, num_spans: int) -> bool:
        """Keep a batch of encoded spans; the oldest batches give way to it. False where it cannot fit."""

        def write(db: sqlite3.Connection) -> bool:
            if len(body) > self.max_bytes // 2:
                self._count(db, "spans.dropped.outbox_full", num_spans)
                return False
            while _size_of(db, "spans") + len(body) > self.max_bytes // 2:
                self._drop_oldest_spans(db)
            db.execute(
                "INSERT INTO spans (body, num_spans, created) VALUES (?, ?, ?)",
                (body, num_spans, time.time()),
            )
            return True

        return self._write(write)

    def waiting_spans(self) -> Row | None:
        """The oldest waiting batch."""
        rows = self._read("SELECT seq, body, num_spans FROM spans ORDER BY seq LIMIT 1")
        return Row(self, rows[0][0], rows[0][1], rows[0][2]) if rows else None

    def finish_spans(self, seq: int, num_spans: int, outcome: str) -> None:
        """Forget a batch and count it under `spans.<outcome>`."""

        def write(db: sqlite3.Connection) -> None:
            # Two processes may both have sent it; only the one that deletes the row counts it.
            if db.execute("DELETE FROM spans WHERE seq = ?", (seq,)).rowcount:
                self._count(db, f"spans.{outcome}", num_spans)

        self._write(write)

    def want_trace(self, trace_id: str) -> None:
        """Tell every process that this trace is wanted although head sampling left it out."""
        now = time.time()
        self._write(
            lambda db: db.execute("INSERT INTO wanted (trace_id, created) VALUES (?, ?)", (trace_id, now))
        )

    def wanted_since(self, seq: int, *, max_age_s: float) -> list[tuple[int, str]]:
        """Traces asked for after entry `seq`, as (entry, trace id)."""
        return self._read(
            "SELECT seq, trace_id FROM wanted WHERE seq > ? AND created > ? ORDER BY seq",
            (seq, time.time() - max_age_s),
        )

    def forget_wanted(self, *, max_age_s: float) -> None:
        """Drop entries that no tail buffer can still answer."""
        limit = time.time() - max_age_s
        self._write(lambda db: db.execute("DELETE FROM wanted WHERE created < ?", (limit,)))

    def num_waiting(self, *, up_to_feedback: int | None = None) -> tuple[int, int]:
        """How many (feedback, spans) wait; feedback counted up to entry `up_to_feedback`."""
        (row,) = self._read(
            "SELECT (SELECT count(*) FROM feedback WHERE refused IS NULL AND seq <= ?),"
            " (SELECT coalesce(sum(num_spans), 0) FROM spans)",
            (2**62 if up_to_feedback is None else up_to_feedback,),
        )
        return row[0], row[1]

    def newest_feedback(self) -> int:
        """Entry number of the newest feedback ever kept here; 0 where there was none."""
        rows = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'feedback'")
        return rows[0][0] if rows else 0

    def counts(self) -> dict[str, int]:
        """Everything counted since the database was made, by name."""
        return dict(self._read("SELECT name, n FROM counts"))

    def hold(self, timeout_s: float) -> bool:
        """Keep every thread from using the connection; False where one did not let go within `timeout_s`."""
        return self._lock.acquire(timeout=timeout_s)

    def release(self) -> None:
        """End `hold`."""
        self._lock.release()

    def abandon(self) -> sqlite3.Connection:
        """The connection, to be kept but never used or closed: what a forked child does with its parent's."""
        return self._db

    def drop_all(self) -> None:
        """Throw away everything that waits, counted under `dropped.by_hand`."""

        def write(db: sqlite3.Connection) -> None:
            spans = db.execute("SELECT coalesce(sum(num_spans), 0) FROM spans").fetchone()[0]
            feedback = db.execute("DELETE FROM feedback").rowcount
            db.execute("DELETE FROM spans")
            self._count(db, "spans.dropped.by_hand", spans)
            self._count(db, "feedback.dropped.by_hand", feedback)

        self._write(write)

    def oldest(self) -> float | None:
        """When the oldest waiting record was kept, in seconds since 1970; None where nothing waits."""
        (row,) = self._read(
            "SELECT min(created) FROM (SELECT created FROM feedback WHERE refused IS NULL"
            " UNION ALL SELECT created FROM spans)"
        )
        return row[0]

    def _count(self, db: sqlite3.Connection, name: str, n: int) -> None:
        if n:
            db.execute(
                "INSERT INTO counts (name, n) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET n = n + excluded.n",
                (name, n),
            )
            self._counted[name] += n

    def _make_room(self, db: sqlite3.Connection, num_bytes: int) -> bool:
        """Spans give way to feedback, oldest first; feedback never gives way to anything."""
        if num_bytes > self.max_bytes:
            return False
        pages = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
        if pages + num_bytes < self.max_bytes:
            return True
        feedback = _size_of(db, "feedback")
        while feedback + _size_of(db, "spans") + num_bytes > self.max_bytes:
            if not self._drop_oldest_spans(db):
                return False
        return True

    def _drop_oldest_spans(self, db: sqlite3.Connection) -> bool:
        row = db.execute("SELECT seq, num_spans FROM spans ORDER BY seq LIMIT 1").fetchone()
        if row is None:
            return False
        db.execute("DELETE FROM spans WHERE seq = ?", (row[0],))
        self._count(db, "spans.dropped.outbox_full", row[1])
        return True

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._counted: Counter[str] = Counter()
            try:
                result = work(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self.own_counts.update(self._counted)
            return result

    def _read(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What people said is in here: nobody else on the machine may read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _size_of(db: sqlite3.Connection, table: str) -> int:
    sql = {
        "spans": "SELECT coalesce(sum(length(body)), 0) FROM spans",
        "feedback": "SELECT coalesce(sum(length(body)), 0) FROM feedback",
    }[table]
    return db.execute(sql).fetchone()[0]
