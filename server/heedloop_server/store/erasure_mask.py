"""What an erasure means of each table, and the mask that hides it from every read of its project until it is removed.

The mask is a setting of the query (`additional_table_filters`), which the engine applies to a table wherever the query reads it: no
statement can forget it. It is there from the moment an erasure is noted until its rows are gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

POLL_S = 0.5
"""How often a server looks for erasures that others noted."""

_MATCHES = {
    "spans": "trace_id IN {traces}",
    "contents": "trace_id IN {traces}",
    "added_tags": "trace_id IN {traces}",
    "feedback": "feedback_id IN {feedback}",
    "feedback_history": "feedback_id IN {feedback}",
    "clusterings": "arrayExists(t -> t IN {traces}, trace_ids)",
    "review_items": "arrayExists(t -> t IN {traces}, trace_ids)",
    "review_assignments": "arrayExists(t -> t IN {traces}, trace_ids) OR assignment_id IN {feedback}",
    "review_adjudications": "arrayExists(t -> t IN {traces}, trace_ids)",
    "snapshot_rows": "arrayExists(t -> t IN {traces}, trace_ids) OR arrayExists(f -> f IN {feedback}, feedback_ids)",
}
"""Every table that holds a person's words, and which of its rows an erasure means."""


def matches(listed: str) -> dict[str, str]:
    """Table -> the condition of the rows that are meant; `listed` is one over `erased_traces` and `erased_feedback`."""
    traces = f"(SELECT trace_id FROM erased_traces WHERE {listed})"  # noqa: S608
    feedback = f"(SELECT feedback_id FROM erased_feedback WHERE {listed})"  # noqa: S608
    return {t: sql.replace("{traces}", traces).replace("{feedback}", feedback) for t, sql in _MATCHES.items()}


class ErasureMasks:
    """The erasures of each project whose rows are still in the tables.

    Args:
        rows: reads the store, without a mask.
        is_alone: whether no other server notes erasures in the store, so that it is read once.
    """

    def __init__(self, rows: Callable[[str], list[dict[str, Any]]], *, is_alone: bool) -> None:
        self._rows = rows
        self._is_alone = is_alone
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._settings: Mapping[str, Mapping[str, str]] = {}

    def settings(self, project: str) -> Mapping[str, str]:
        """Settings of a read: those that hide what is being erased, none where nothing is."""
        if self._read_at is None or (not self._is_alone and time.monotonic() - self._read_at > POLL_S):
            self.refresh()
        return self._settings.get(project, {})

    def refresh(self) -> None:
        """Read which erasures there are."""
        with self._lock:
            pending = pending_erasures(self._rows)
            self._settings = {p: {"additional_table_filters": _filters(ids)} for p, ids in pending.items()}
            self._read_at = time.monotonic()


def pending_erasures(rows: Callable[[str], list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Project -> the ids of its erasures whose rows are still to be removed."""
    found = rows(
        """
        SELECT
            project_id,
            groupArray(erasure_id) AS erasure_ids
        FROM erasure_states FINAL
        WHERE NOT is_removed
        GROUP BY project_id
        """
    )
    return {r["project_id"]: list(r["erasure_ids"]) for r in found}


def _filters(erasure_ids: list[str]) -> str:
    """The setting's value: a map as the engine writes one."""
    meant = matches(f"erasure_id IN ({', '.join(_quoted(e) for e in erasure_ids)})")
    return "{" + ", ".join(f"{_quoted(t)}: {_quoted(f'NOT ({sql})')}" for t, sql in meant.items()) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
