"""Erasing a person, a session or a trace: from every table that holds words, at once and on disk.

The order is: find the traces and the feedback, write them down (`erased_traces`, `erased_feedback`), delete by those tables.
A crash in between leaves the lists, and running the erasure again goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from heedloop.schema import utc_now
from heedloop_server.store.admin.ledger import note_erased_feedback
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.review.assignments import assignments_of


@dataclass(frozen=True, slots=True)
class Erased:
    """The traces, feedback and rows that an erasure deleted.

    Attributes:
        rows: table -> rows deleted.
        left: table -> rows that still match afterwards; all 0.
    """

    trace_ids: list[str]
    feedback_ids: list[UUID]
    rows: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)


_TRACES_OF = {
    "user_id": "SELECT DISTINCT trace_id FROM spans WHERE project_id = {project:String} AND user_id = {value:String}",
    "session_id": "SELECT DISTINCT trace_id FROM spans WHERE project_id = {project:String} AND session_id = {value:String}",
    # also a trace that is not there (yet): what comes of it later is refused
    "trace_id": "SELECT toFixedString(unhex({value:String}), 16) AS trace_id WHERE {project:String} != ''",
}
_FEEDBACK_OF = {
    "user_id": "author_id = {value:String} OR user_id = {value:String}",
    "session_id": "target_session_id = {value:String} OR session_id = {value:String}",
    "trace_id": "0",
}

_ERASED_TRACES = "(SELECT trace_id FROM erased_traces WHERE project_id = {project:String} AND erasure_id = {erasure:String})"
_ERASED_FEEDBACK = "(SELECT feedback_id FROM erased_feedback WHERE project_id = {project:String} AND erasure_id = {erasure:String})"
_WHERE = {
    "spans": f"trace_id IN {_ERASED_TRACES}",
    "contents": f"trace_id IN {_ERASED_TRACES}",
    "feedback": f"feedback_id IN {_ERASED_FEEDBACK}",
    "feedback_history": f"feedback_id IN {_ERASED_FEEDBACK}",
    "clusterings": f"arrayExists(t -> t IN {_ERASED_TRACES}, trace_ids)",
    "review_items": f"arrayExists(t -> t IN {_ERASED_TRACES}, trace_ids)",
    "review_assignments": f"arrayExists(t -> t IN {_ERASED_TRACES}, trace_ids) OR assignment_id IN {_ERASED_FEEDBACK}",
    "review_adjudications": f"arrayExists(t -> t IN {_ERASED_TRACES}, trace_ids)",
    "snapshot_rows": f"arrayExists(t -> t IN {_ERASED_TRACES}, trace_ids) OR arrayExists(f -> f IN {_ERASED_FEEDBACK}, feedback_ids)",
}
"""Every table that holds a person's words, and which of its rows an erasure means."""
_COUNTED_AGAIN = ("answer_cells",)
"""Tables of counts by hour and metadata, made again from the rows where they are missing: they go whole."""
KEPT = {
    "schema_migrations": "our own",
    "projects": "names of projects",
    "project_settings": "numbers",
    "keys": "hashes, and the ids of people who work here",
    "key_uses": "times",
    "token_uses": "hashes",
    "audit": "who changed what; never content, and an erasure's line names its id alone",
    "ledger": "counts",
    "sdk_delivery": "counts",
    "erased_traces": "trace ids, so that late spans are refused",
    "erased_feedback": "feedback ids",
    "snapshots": "queries and counts",
    "snapshot_sources": "ids",
    "runs": "what the trainer says of itself",
    "run_history": "numbers",
    "review_queues": "what the queue's makers wrote",
    "review_guidelines": "what the queue's makers wrote",
    "alert_rules": "what its makers wrote",
    "alert_states": "states and numbers",
    "alert_history": "states and numbers",
    "duties": "which server does what",
}
"""Tables that an erasure leaves -> what they hold instead of a person's words."""


def erase(project: ProjectStore, by: str, value: str, *, erasure_id: str, old_parts_s: int = 30) -> Erased:
    """Delete everything of a `user_id`, `session_id` or `trace_id`; returns what was found, what went, and what is left (nothing).

    What was rewritten leaves the disk `old_parts_s` seconds later; `old_parts` counts what is still there.
    """
    names = {"value": value, "erasure": erasure_id}
    at = utc_now()
    traces = [r["trace_id"] for r in project.rows(_TRACES_OF[by], names)]
    project.insert("erased_traces", [{"trace_id": t, "erasure_id": erasure_id, "at": at} for t in traces])
    feedback = _feedback(project, by, names)
    _note_feedback(project, feedback, erasure_id, at)
    if by == "user_id":
        _note_feedback(project, assignments_of(project, value), erasure_id, at)
    rows = verify(project, erasure_id)
    _count_in_snapshots(project, names)
    for table, where in _WHERE.items():
        _leave_soon(project.store, table, old_parts_s)
        if rows[table]:
            _delete(project, table, where, names)
    for table in _COUNTED_AGAIN:
        _leave_soon(project.store, table, old_parts_s)
        _delete(project, table, "1", names)
    note_erased_feedback(project, erasure_id, rows["feedback_history"])
    return Erased([t.hex() for t in traces], feedback, rows, verify(project, erasure_id))


def _feedback(project: ProjectStore, by: str, names: Mapping[str, Any]) -> list[UUID]:
    rows = project.rows(
        f"""
        SELECT DISTINCT feedback_id
        FROM feedback
        WHERE project_id = {{project:String}}
          AND ({_FEEDBACK_OF[by]}
               OR trace_id IN {_ERASED_TRACES}
               OR target_trace_id IN {_ERASED_TRACES}
               OR arrayExists(t -> t IN {_ERASED_TRACES}, other_trace_ids))
        """,  # noqa: S608
        names,
    )
    return [r["feedback_id"] for r in rows]


def _note_feedback(project: ProjectStore, feedback: Sequence[UUID], erasure_id: str, at: datetime) -> None:
    project.insert(
        "erased_feedback", [{"feedback_id": f, "erasure_id": erasure_id, "at": at} for f in feedback]
    )


def erased_tables() -> tuple[str, ...]:
    """The tables that an erasure takes rows out of."""
    return (*_WHERE, *_COUNTED_AGAIN)


def verify(project: ProjectStore, erasure_id: str) -> dict[str, int]:
    """Table -> how many rows an erasure's lists still find; all 0 once it is done."""
    result: dict[str, int] = {}
    for table, where in _WHERE.items():
        row = project.row(
            f"SELECT count() AS n FROM {table} WHERE project_id = {{project:String}} AND ({where})",  # noqa: S608
            {"erasure": erasure_id},
        )
        result[table] = int(row["n"]) if row else 0
    return result


def old_parts(store: Store, until: datetime) -> int:
    """How many parts of those tables are still on disk though they were replaced before that moment.

    Nothing of what was erased by then is on disk once there are none.
    """
    tables = [local for table in (*_WHERE, *_COUNTED_AGAIN) for local in (table, f"{table}_local")]
    source = f"clusterAllReplicas('{store.cluster}', system.parts)" if store.cluster else "system.parts"
    result = store.rows(
        f"""
        SELECT count() AS n
        FROM {source}
        WHERE database = {{database:String}}
          AND table IN {{tables:Array(String)}}
          AND NOT active
          AND rows > 0
          AND modification_time <= {{until:DateTime64(6,'UTC')}}
        """,  # noqa: S608
        {"database": store.address.database, "tables": tables, "until": until},
    )
    return int(result[0]["n"])


def _local(store: Store, table: str) -> str:
    return f"{table}_local ON CLUSTER '{store.cluster}'" if store.cluster else table


def _leave_soon(store: Store, table: str, seconds: int) -> None:
    """Let the parts that a deletion or merge replaces leave the disk after so long; the engine's own default is eight minutes."""
    store.command(f"ALTER TABLE {_local(store, table)} MODIFY SETTING old_parts_lifetime = {int(seconds)}")


def _delete(project: ProjectStore, table: str, where: str, names: Mapping[str, Any]) -> None:
    """Rewrite the parts without the rows and wait for it. Never patch-mode deletes: they can block every later mutation (ClickHouse#115570)."""
    store = project.store
    store.command(
        f"ALTER TABLE {_local(store, table)} DELETE WHERE project_id = {{project:String}} AND ({where})",
        {**names, "project": project.project},
        mutations_sync=2,
        allow_nondeterministic_mutations=1,
    )


def _count_in_snapshots(project: ProjectStore, names: Mapping[str, Any]) -> None:
    """Snapshots keep their id and say how many rows were taken out of them since."""
    project.store.command(
        f"""
        INSERT INTO snapshots
        SELECT
            s.project_id,
            s.snapshot_id,
            s.record,
            s.report,
            s.num_erased + gone.n,
            s.created_at,
            s.version + 1,
            s.is_deleted
        FROM snapshots AS s FINAL
        INNER JOIN (
            SELECT
                snapshot_id,
                count() AS n
            FROM snapshot_rows
            WHERE project_id = {{project:String}} AND ({_WHERE["snapshot_rows"]})
            GROUP BY snapshot_id
        ) AS gone ON gone.snapshot_id = s.snapshot_id
        WHERE s.project_id = {{project:String}}
        """,  # noqa: S608
        {**names, "project": project.project},
    )


def erased_among(project: ProjectStore, trace_ids: Sequence[str]) -> set[str]:
    """Which of these traces were erased. Most projects never erase: they are asked nothing about their traces."""
    ever = project.row("SELECT count() AS n FROM erased_traces WHERE project_id = {project:String}")
    result: set[str] = set()
    if ever is None or not ever["n"]:
        return result
    for first in range(0, len(trace_ids), _MAX_IDS):
        rows = project.rows(
            """
            SELECT lower(hex(trace_id)) AS trace
            FROM erased_traces
            WHERE project_id = {project:String}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
            """,
            {"traces": list(trace_ids[first : first + _MAX_IDS])},
        )
        result |= {r["trace"] for r in rows}
    return result


_MAX_IDS = 3_000
"""Ids in one query, below the 128 KiB that ClickHouse's HTTP interface takes as one value."""
