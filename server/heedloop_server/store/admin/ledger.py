"""The ledger: what came in and what became of it, per project and signal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, cast

from heedloop_server.store.connection import ProjectStore, Row, Store
from heedloop_server.store.feedback import num_history


@dataclass(slots=True)
class Tally:
    """received = stored + rejected + duplicate; `reasons` says why, and sums to rejected."""

    received: int = 0
    stored: int = 0
    rejected: int = 0
    duplicate: int = 0
    reasons: Counter[str] = field(default_factory=lambda: Counter[str]())

    def reject(self, reason: str, count: int = 1) -> None:
        """Count what was received and refused."""
        self.received += count
        self.rejected += count
        self.reasons[reason] += count

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.received += other.received
        self.stored += other.stored
        self.rejected += other.rejected
        self.duplicate += other.duplicate
        self.reasons.update(other.reasons)


def insert_tallies(store: Store, signal: str, source: str, tallies: Iterable[tuple[str, Tally]]) -> None:
    """Write one row per project; the same source again replaces its rows."""
    now = datetime.now(timezone.utc)
    store.insert(
        "ledger",
        [
            {
                "project_id": project,
                "signal": signal,
                "source": source,
                "received": t.received,
                "stored": t.stored,
                "rejected": t.rejected,
                "duplicate": t.duplicate,
                "reasons": dict(t.reasons),
                "at": now,
            }
            for project, t in tallies
        ],
    )


def read_tally(project: ProjectStore, signal: str) -> Tally:
    """The sum over everything written for one signal of the project."""
    row = project.row(
        """
        SELECT
            sum(received) AS received,
            sum(stored) AS stored,
            sum(rejected) AS rejected,
            sum(duplicate) AS duplicate,
            sumMap(reasons) AS reasons
        FROM ledger FINAL
        WHERE project_id = {project:String} AND signal = {signal:String}
        """,
        {"signal": signal},
    )
    if row is None:
        return Tally()
    values: Row = {**row, "reasons": Counter(row["reasons"])}
    return Tally(**values)


def read_feedback_tally(project: ProjectStore) -> Tally:
    """What became of the project's feedback: stored is what is there, and what erasures took; the rest was written down.

    Stored words are counted where they are: a separate count would fall behind whenever a server is killed between the two.
    """
    refused = read_tally(project, "feedback")
    stored = num_history(project) + read_tally(project, "feedback_erased").stored
    return Tally(
        received=stored + refused.rejected + refused.duplicate,
        stored=stored,
        rejected=refused.rejected,
        duplicate=refused.duplicate,
        reasons=refused.reasons,
    )


def note_erased_feedback(project: ProjectStore, erasure_id: str, num_words: int) -> None:
    """Keep in the ledger what was stored once and is erased now."""
    if num_words:
        tally = Tally(received=num_words, stored=num_words)
        insert_tallies(project.store, "feedback_erased", erasure_id, [(project.project, tally)])


def newest_arrival(project: ProjectStore) -> datetime | None:
    """When the last of the project's spans came that are in the store; None where there is none."""
    row = project.row(
        "SELECT count() AS n, max(at) AS newest FROM ledger WHERE project_id = {project:String} AND signal = 'spans'"
    )
    return row["newest"] if row and row["n"] else None


def insert_delivery(project: ProjectStore, sdk_id: str, counts: str, at: datetime) -> None:
    """Keep what one SDK process says of its deliveries (a JSON object)."""
    project.insert("sdk_delivery", [{"sdk_id": sdk_id, "counts": counts, "at": at}])


def read_deliveries(project: ProjectStore) -> dict[str, Any]:
    """The numbers of every SDK process of the last 30 days, summed by name, with how many processes there are."""
    rows = project.rows(
        """
        SELECT counts
        FROM sdk_delivery FINAL
        WHERE project_id = {project:String} AND at >= now() - INTERVAL 30 DAY
        """
    )
    total: dict[str, Any] = {"processes": len(rows)}
    for row in rows:
        _add_counts(total, json.loads(row["counts"]))
    return total


def _add_counts(total: dict[str, Any], counts: dict[str, Any]) -> None:
    for name, value in counts.items():
        if isinstance(value, dict):
            inner = total.setdefault(name, {})
            if isinstance(inner, dict):
                _add_counts(cast(dict[str, Any], inner), cast(dict[str, Any], value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            known = total.get(name, 0)
            if isinstance(known, (int, float)):
                total[name] = known + value
