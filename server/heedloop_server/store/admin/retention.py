"""Dropping old calls. A judged call is kept: its feedback would be worth nothing without it."""

from __future__ import annotations

from typing import Any

from heedloop_server.store.admin.project_settings import retention_of_projects
from heedloop_server.store.connection import Store

# Whole days, so that the parts of an old month are rewritten once a day and not at every look.
_CUTOFF = """toStartOfDay(now('UTC')) - toIntervalDay(
        transform(toString(project_id), {projects:Array(String)}, {days:Array(UInt32)}, {default:UInt32}))"""
_KEPT_FOR_EVER = (
    "transform(toString(project_id), {projects:Array(String)}, {days:Array(UInt32)}, {default:UInt32}) = 0"
)
_JUDGED = """
    SELECT
        project_id,
        arrayJoin(arrayPushBack(arrayPushBack(other_trace_ids, trace_id), target_trace_id))
    FROM feedback FINAL"""
_TIMES = {"spans": "start_time", "contents": "at", "added_tags": "call_time"}
"""Tables that retention is for -> when a row of it happened."""


def drop_old_calls(store: Store, days: int) -> int:
    """Delete spans, and content that came as logs, that are older than their project keeps them and in a trace without feedback.

    `days` holds for projects that chose nothing themselves; 0 keeps everything. Returns how many rows there were.
    """
    chosen = retention_of_projects(store)
    if not days and not any(chosen.values()):
        return 0
    names = {"projects": list(chosen) or [""], "days": list(chosen.values()) or [days], "default": days}
    return sum(_drop(store, table, names) for table in _TIMES)


def _drop(store: Store, table: str, names: dict[str, Any]) -> int:
    old = f"""
        {_TIMES[table]} < {_CUTOFF}
        AND NOT ({_KEPT_FOR_EVER})
        AND (project_id, trace_id) NOT IN ({_JUDGED})
    """
    num = int(store.rows(f"SELECT count() AS n FROM {table} WHERE {old}", names)[0]["n"])  # noqa: S608
    if num:
        store.command(
            f"ALTER TABLE {store.topology.altered(table)} DELETE WHERE {old}",
            names,
            mutations_sync=1,
            allow_nondeterministic_mutations=1,
        )
    return num
