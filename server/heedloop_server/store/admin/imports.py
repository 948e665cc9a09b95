"""Imports: their balances, and taking one out again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace

from heedloop.responses.imports import Import, UndoneImport
from heedloop.schema import Feedback, from_json, to_json
from heedloop_server.store.admin.erasure import COUNTED_AGAIN, delete_rows, leave_soon
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.feedback import StoredFeedback, find_calls, insert_feedback, whole

_MARKED = {
    "spans": "attributes['heedloop.metadata.import'] = {import:String}",
    "feedback": "JSONExtractString(record, 'metadata', 'import') = {import:String}",
    "feedback_history": "JSONExtractString(record, 'metadata', 'import') = {import:String}",
}
"""Every table that an import adds to, and which rows are its."""


def save_import(project: ProjectStore, one: Import) -> None:
    """Store an import, or its newest state."""
    row = {
        "import_id": one.id,
        "record": json.dumps(to_json(one), ensure_ascii=False),
        "started_at": one.started_at,
        "version": time.time_ns(),
    }
    project.insert("imports", [row])


def find_import(project: ProjectStore, import_id: str) -> Import | None:
    """The import's newest state."""
    return next((i for i in list_imports(project) if i.id == import_id), None)


def list_imports(project: ProjectStore) -> list[Import]:
    """All imports, the newest first."""
    sql = """
        SELECT record
        FROM imports FINAL
        WHERE project_id = {project:String}
        ORDER BY started_at DESC, import_id
    """
    return [from_json(Import, json.loads(row["record"])) for row in project.rows(sql)]


def undo_import(project: ProjectStore, import_id: str, *, old_parts_s: int = 30) -> UndoneImport:
    """Delete what an import stored; a judgement that it replaced counts again. Doing it again finishes what was broken off."""
    names = {"import": import_id}
    counts = {table: _count(project, table, where, import_id) for table, where in _MARKED.items()}
    replaced = _replaced(project, import_id)
    *first, (history, in_history) = _MARKED.items()
    _delete(project, dict(first), counts, names, old_parts_s)
    for table in COUNTED_AGAIN:
        delete_rows(project, table, "1", names)
    calls = find_calls(project, [e.feedback.target for e in replaced])
    insert_feedback(
        project,
        [replace(e, call=calls.get(whole(e.feedback.target).key)) for e in replaced],
        # the same rows were inserted before, and may be merged away since: they are no repetition
        insert_deduplication_token=f"undo/{import_id}/{time.time_ns()}",
    )
    # the last of all: until here it still says what is to be restored, if this is broken off and done again
    _delete(project, {history: in_history}, counts, names, old_parts_s)
    return UndoneImport(
        id=import_id,
        num_calls=counts["spans"],
        num_feedback=counts["feedback_history"],
        num_restored=len(replaced),
    )


def _delete(
    project: ProjectStore,
    tables: Mapping[str, str],
    counts: Mapping[str, int],
    names: Mapping[str, str],
    old_parts_s: int,
) -> None:
    for table, where in tables.items():
        if counts[table]:
            leave_soon(project.store, table, old_parts_s)
            delete_rows(project, table, where, names)


def _count(project: ProjectStore, table: str, where: str, import_id: str) -> int:
    row = project.row(
        f"SELECT count() AS n FROM {table} WHERE project_id = {{project:String}} AND ({where})",  # noqa: S608
        {"import": import_id},
    )
    return int(row["n"]) if row else 0


def _replaced(project: ProjectStore, import_id: str) -> list[StoredFeedback]:
    """The newest earlier word of every feedback whose newest is the import's."""
    sql = f"""
        SELECT
            argMax(record, version) AS newest,
            max(received_at) AS at,
            any(key_id) AS key
        FROM feedback_history
        WHERE project_id = {{project:String}}
          AND NOT ({_MARKED["feedback_history"]})
          AND feedback_id IN (
              SELECT feedback_id
              FROM feedback_history
              WHERE project_id = {{project:String}}
                AND ({_MARKED["feedback_history"]})
          )
        GROUP BY feedback_id
    """  # noqa: S608
    rows = project.rows(sql, {"import": import_id})
    words = [(from_json(Feedback, json.loads(r["newest"]), strict=False), r["at"], r["key"]) for r in rows]
    return [StoredFeedback.of(project.project, f, at, key) for f, at, key in words if not f.retracted]
