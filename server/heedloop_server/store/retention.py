"""Dropping old calls. A call that somebody judged is kept: its feedback would be worth nothing without it."""

from __future__ import annotations

from heedloop_server.store.connection import Store

__all__ = ["drop_old_calls"]

_OLD = """
    start_time < now() - toIntervalDay({days:UInt32})
    AND (project_id, trace_id) NOT IN (SELECT project_id, trace_id FROM feedback)
"""


def drop_old_calls(store: Store, days: int) -> int:
    """Delete the spans that are older than `days` days and in a trace without feedback; returns how many there were."""
    names = {"days": days}
    num = int(store.rows(f"SELECT count() AS n FROM spans WHERE {_OLD}", names)[0]["n"])  # noqa: S608
    if num:
        table = f"spans_local ON CLUSTER '{store.cluster}'" if store.cluster else "spans"
        store.command(
            f"ALTER TABLE {table} DELETE WHERE {_OLD}",
            names,
            mutations_sync=1,
            allow_nondeterministic_mutations=1,
        )
    return num
