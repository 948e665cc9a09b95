"""What was asked and answered, on disk before it counts: a killed worker pays for nothing twice and loses no reply."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedloop_cli.judges.parsers import Reply

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
  seq INTEGER PRIMARY KEY, judge TEXT, item TEXT, part TEXT, state TEXT, error TEXT DEFAULT '', reply TEXT,
  cost REAL, latency_ms REAL DEFAULT 0);
CREATE INDEX IF NOT EXISTS calls_of ON calls (judge, item);
CREATE TABLE IF NOT EXISTS results (judge TEXT, item TEXT, body TEXT, sent INTEGER DEFAULT 0, PRIMARY KEY (judge, item));
"""


_NONE: Mapping[int, float] = {}


class OverBudget(Exception):
    """The next call could cost more than is left."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most calls (every attempt is one) and money of a judge in one journal; None is no limit."""

    calls: int | None = None
    cost: float | None = None


class Journal:
    """One SQLite file of one worker; safe to share between its threads, and to open again after a kill.

    A call is written down with the most that it can cost before it is made. What was never answered keeps counting, as the
    endpoint may have been paid for it.
    """

    def __init__(self, path: Path, judge: str, budget: Budget) -> None:
        self._judge, self._budget, self._lock = judge, budget, threading.RLock()
        self._ended, self._open = threading.Condition(self._lock), dict[int, float]()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode=WAL")
        # a commit outlives the process, not a power cut: with a sync for each, 3 ms, the journal would be slower than endpoints
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def begin(self, item: str, part: str, most: float) -> int:
        """Write down that a call begins, which costs `most` at most; returns its number.

        Where only the calls that are under way could use the budget up, it waits for what they do cost.

        Raises:
            OverBudget: there is not enough left.
        """
        with self._lock:
            while (why := self._over(most)) and self._open and not self._over(most, besides=self._open):
                self._ended.wait()
            if why:
                raise OverBudget(why)
            sql = "INSERT INTO calls (judge, item, part, state, cost) VALUES (?, ?, ?, 'begun', ?)"
            number = int(self._db.execute(sql, (self._judge, item, part, most)).lastrowid or 0)
            self._open[number] = most
            return number

    def _over(self, most: float, besides: Mapping[int, float] = _NONE) -> str:
        """Why a further call is too much, reckoned without the cost of the calls `besides`; empty where it is not."""
        calls, cost = self._spent()
        cost -= sum(besides.values())
        if self._budget.calls is not None and calls + 1 > self._budget.calls:
            return f"{calls:,} of {self._budget.calls:,} calls are made"
        if self._budget.cost is not None and cost + most > self._budget.cost * (1 + 1e-9):
            return f"{cost:.4g} of {self._budget.cost:g} is spent, and a call may cost {most:.4g}"
        return ""

    def end(self, number: int, reply: Reply | None, cost: float, latency_ms: float, error: str = "") -> None:
        """Write down what a call brought; a failed one costs what it was said to."""
        body = None if reply is None else json.dumps(asdict(reply))
        sql = "UPDATE calls SET state = ?, reply = ?, cost = ?, latency_ms = ?, error = ? WHERE seq = ?"
        with self._lock:
            state = "failed" if reply is None else "answered"
            self._db.execute(sql, (state, body, cost, latency_ms, error, number))
            self._open.pop(number, None)
            self._ended.notify_all()

    def reply(self, item: str, part: str) -> Reply | None:
        """The reply that was paid for already."""
        sql = "SELECT reply FROM calls WHERE judge = ? AND item = ? AND part = ? AND state = 'answered' ORDER BY seq DESC LIMIT 1"
        with self._lock:
            row = self._db.execute(sql, (self._judge, item, part)).fetchone()
        return Reply(**json.loads(row[0])) if row else None

    def answered_ms(self, item: str) -> float:
        """Milliseconds of the newest call that was answered; 0 where none was."""
        sql = "SELECT latency_ms FROM calls WHERE judge = ? AND item = ? AND state = 'answered' ORDER BY seq DESC LIMIT 1"
        with self._lock:
            row = self._db.execute(sql, (self._judge, item)).fetchone()
        return float(row[0]) if row else 0.0

    def results(self) -> dict[str, dict[str, Any]]:
        """All results that were kept, by item."""
        with self._lock:
            sql = "SELECT item, body FROM results WHERE judge = ?"
            return {i: json.loads(b) for i, b in self._db.execute(sql, (self._judge,)).fetchall()}

    def totals(self, item: str) -> tuple[int, float, float]:
        """Calls, cost and milliseconds of all attempts at an item."""
        sql = "SELECT count(*), coalesce(sum(cost), 0), coalesce(sum(latency_ms), 0) FROM calls WHERE judge = ? AND item = ?"
        with self._lock:
            return self._db.execute(sql, (self._judge, item)).fetchone()

    def spent(self) -> tuple[int, float]:
        """Calls made, and what they cost at most."""
        with self._lock:
            return self._spent()

    def _spent(self) -> tuple[int, float]:
        sql = "SELECT count(*), coalesce(sum(cost), 0) FROM calls WHERE judge = ?"
        return self._db.execute(sql, (self._judge,)).fetchone()

    def keep(self, item: str, body: dict[str, Any]) -> None:
        """Keep an item's result until it is sent."""
        with self._lock:
            sql = "INSERT OR REPLACE INTO results (judge, item, body) VALUES (?, ?, ?)"
            self._db.execute(sql, (self._judge, item, json.dumps(body)))

    def unsent(self, limit: int) -> dict[str, dict[str, Any]]:
        """Results that wait to be sent, by item."""
        with self._lock:
            sql = "SELECT item, body FROM results WHERE judge = ? AND NOT sent LIMIT ?"
            return {i: json.loads(b) for i, b in self._db.execute(sql, (self._judge, limit)).fetchall()}

    def mark_sent(self, items: list[str]) -> None:
        """The server has them."""
        with self._lock:
            sql = "UPDATE results SET sent = 1 WHERE judge = ? AND item = ?"
            self._db.executemany(sql, [(self._judge, i) for i in items])
