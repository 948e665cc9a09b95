"""Erasing a person, a session or a trace: from every table that holds words, at once for every reader, then on disk.

The order is: find the traces and the feedback, write them down (`erased_traces`, `erased_feedback`), from when on every read hides
them (`store.erasure_mask`), and delete by those tables. A crash in between leaves the lists, and the next server goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from heedloop.schema import utc_now
from heedloop_server.store.admin.ledger import note_erased_feedback
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.erasure_mask import matches, pending_erasures
from heedloop_server.store.job_statements import report_progress
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

_LISTED = "project_id = {project:String} AND erasure_id = {erasure:String}"
_ERASED_TRACES = f"(SELECT trace_id FROM erased_traces WHERE {_LISTED})"  # noqa: S608
_WHERE = matches(_LISTED)
_MAX_IDS = 3_000
"""Ids in one query, below the 128 KiB that ClickHouse's HTTP interface takes as one value."""
COUNTED_AGAIN = ("answer_aggregates",)
"""Tables of counts by time and metadata, made again from the rows where they are missing: whole days of them go."""
KEPT = {
    "schema_migrations": "our own",
    "projects": "names of projects",
    "project_settings": "numbers, and links to views that name nobody",
    "keys": "hashes, and the ids of people who work here",
    "key_uses": "times",
    "token_uses": "hashes",
    "audit": "who changed what; never content, and an erasure's line names its id alone",
    "ledger": "counts",
    "sdk_delivery": "counts",
    "erased_traces": "trace ids, so that late spans are refused",
    "erased_feedback": "feedback ids",
    "erasure_states": "states",
    "snapshots": "queries and counts",
    "snapshot_sources": "ids",
    "runs": "what the trainer says of itself",
    "run_history": "numbers",
    "imports": "names of files and counts",
    "jobs": "who started what; queries while they run, then counts",
    "job_cancels": "ids",
    "review_queues": "what the queue's makers wrote",
    "review_guidelines": "what the queue's makers wrote",
    "review_team": "the groups and languages of people who work here",
    "alert_rules": "what its makers wrote",
    "alert_states": "states and numbers",
    "alert_history": "states and numbers",
    "prompts": "what their makers wrote",
    "prompt_labels": "numbers",
    "experiments": "what their makers wrote, and the secret that draws arms",
    "experiment_looks": "counts and numbers",
    "judges": "what their makers wrote; examples are named by their ids",
    "judge_calls": "hashes, counts and kinds of errors",
    "evaluations": "names and counts",
    "evaluation_rows": "ids, scores and names of slices",
    "case_sets": "queries and counts",
    "duties": "which server does what",
}
"""Tables that an erasure leaves -> what they hold instead of a person's words."""


def erase(project: ProjectStore, by: str, value: str, *, erasure_id: str, old_parts_s: int = 30) -> Erased:
    """Hide everything of a `user_id`, `session_id` or `trace_id`, then delete it; returns what was found, what went, and what is
    left (nothing)."""
    erased = hide(project, by, value, erasure_id=erasure_id)
    remove(project, erasure_id, old_parts_s=old_parts_s)
    return replace(erased, left=verify(project, erasure_id))


def hide(project: ProjectStore, by: str, value: str, *, erasure_id: str) -> Erased:
    """Note what is meant, so that no read of the project sees it any more; `remove` deletes it.

    On a cluster it is seen until then: the mask is of one server's tables.
    """
    names = {"value": value, "erasure": erasure_id}
    at = utc_now()
    traces = [r["trace_id"] for r in project.rows(_TRACES_OF[by], names)]
    traces += [t for t in _generated_for(project, traces) if t not in traces]
    rows = [{"trace_id": t, "erasure_id": erasure_id, "at": at} for t in traces]
    project.insert("erased_traces", rows, **project.lasting)
    feedback = _feedback(project, by, names)
    _note_feedback(project, feedback, erasure_id, at)
    if by == "user_id":
        _note_feedback(project, assignments_of(project, value), erasure_id, at)
    noted_ns = time.time_ns()
    _note_state(project, erasure_id, is_removed=False)
    found = verify(project, erasure_id)
    _count_in_snapshots(project, names, noted_ns)
    note_erased_feedback(project, erasure_id, found["feedback_history"])
    return Erased([t.hex() for t in traces], feedback, found, found)


def remove(
    project: ProjectStore, erasure_id: str, *, old_parts_s: int = 30, is_resumed: bool = False
) -> None:
    """Delete what an erasure noted.

    What was rewritten leaves the disk `old_parts_s` seconds later; `old_parts` counts what is still there.

    Args:
        is_resumed: a removal before ended in between, so that it is not known any more whose counts it meant: all go.
    """
    names: dict[str, Any] = {"erasure": erasure_id}
    with _REMOVING:
        names["days"] = _days(project, names)
        left = verify(project, erasure_id)
        for num, (table, where) in enumerate(_WHERE.items()):
            report_progress(num, len(_WHERE) + len(COUNTED_AGAIN), "tables")
            leave_soon(project.store, table, old_parts_s)
            if left[table]:
                delete_rows(project, table, where, names)
        for table in COUNTED_AGAIN:
            leave_soon(project.store, table, old_parts_s)
            of_days = "toUnixTimestamp(toStartOfDay(start, 'UTC')) IN {days:Array(UInt32)}"
            delete_rows(project, table, "1" if is_resumed else of_days, names)
        _note_state(project, erasure_id, is_removed=True)


def remove_pending(store: Store, *, old_parts_s: int) -> None:
    """Delete what a server that ended had noted, unless this one is deleting just now."""
    if _REMOVING.locked():
        return
    for name, erasure_ids in pending_erasures(store.rows).items():
        for erasure_id in erasure_ids:
            remove(store.project(name), erasure_id, old_parts_s=old_parts_s, is_resumed=True)


class ErasureUpkeep:
    """Repeats erasures over what came late: another server may have read the lists before they held a trace, and stored a span of
    it after the removal."""

    def __init__(self, store: Store, *, old_parts_s: int) -> None:
        self._store = store
        self._old_parts_s = old_parts_s
        self._next: datetime | None = None

    def round(self, now: datetime) -> None:
        """Look once a minute at the erasures of the last ten, and remove again where something is left."""
        if self._next is not None and now < self._next:
            return
        self._next = now + _UPKEEP_EVERY
        recent = self._store.rows(
            """
            SELECT
                project_id,
                groupArray(erasure_id) AS erasure_ids
            FROM erasure_states FINAL
            WHERE is_removed AND at > {since:DateTime64(6,'UTC')}
            GROUP BY project_id
            """,
            {"since": now - _LATE},
        )
        for row in recent:
            project, erasure_ids = self._store.project(row["project_id"]), list(row["erasure_ids"])
            if any(_num_left(project, erasure_ids).values()):
                for erasure_id in erasure_ids:
                    self._repeat(project, erasure_id)

    def _repeat(self, project: ProjectStore, erasure_id: str) -> None:
        if any(verify(project, erasure_id).values()):
            _note_state(project, erasure_id, is_removed=False)
            remove(project, erasure_id, old_parts_s=self._old_parts_s, is_resumed=True)


_UPKEEP_EVERY = timedelta(minutes=1)
_LATE = timedelta(minutes=10)
"""How long after its removal an erasure is repeated; far longer than a block takes from the look at the lists to the store."""
_REMOVING = threading.Lock()
"""Deletions rewrite parts: one at a time leaves the disk to others."""


def _note_state(project: ProjectStore, erasure_id: str, *, is_removed: bool) -> None:
    row = {"erasure_id": erasure_id, "is_removed": is_removed, "at": utc_now()}
    project.insert("erasure_states", [row], **project.lasting)
    project.store.masks.refresh()


def _days(project: ProjectStore, names: Mapping[str, Any]) -> list[int]:
    """The days whose counts hold something of an erasure, as Unix times."""
    rows = project.store.rows(
        f"""
        SELECT DISTINCT toUnixTimestamp(toStartOfDay(at, 'UTC')) AS day
        FROM (
            SELECT start_time AS at FROM spans WHERE project_id = {{project:String}} AND {_WHERE["spans"]}
            UNION ALL
            SELECT call_time FROM feedback WHERE project_id = {{project:String}} AND {_WHERE["feedback"]}
        )
        """,  # noqa: S608
        {**names, "project": project.project},
    )
    return [int(r["day"]) for r in rows]


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


def _generated_for(project: ProjectStore, traces: Sequence[bytes]) -> list[bytes]:
    """The answers that a review or an evaluation had generated to the prompts of some traces: they hold the same words."""
    found: dict[bytes, None] = {}
    for first in range(0, len(traces), _MAX_IDS):
        rows = project.rows(
            """
            SELECT DISTINCT trace_id
            FROM spans
            WHERE project_id = {project:String}
              AND hasAny(extractAll(metadata['generated_for'], '[0-9a-f]{32}'), {traces:Array(String)})
            """,
            {"traces": [t.hex() for t in traces[first : first + _MAX_IDS]]},
        )
        found |= dict.fromkeys(r["trace_id"] for r in rows)
    return list(found)


def _note_feedback(project: ProjectStore, feedback: Sequence[UUID], erasure_id: str, at: datetime) -> None:
    project.insert(
        "erased_feedback",
        [{"feedback_id": f, "erasure_id": erasure_id, "at": at} for f in feedback],
        **project.lasting,
    )


def erased_tables() -> tuple[str, ...]:
    """The tables that an erasure takes rows out of."""
    return (*_WHERE, *COUNTED_AGAIN)


def verify(project: ProjectStore, erasure_id: str) -> dict[str, int]:
    """Table -> how many rows an erasure's lists still find; all 0 once it is done."""
    return _num_left(project, [erasure_id])


def _num_left(project: ProjectStore, erasure_ids: Sequence[str]) -> dict[str, int]:
    """Table -> how many rows the lists of some erasures still find."""
    result: dict[str, int] = {}
    for table, where in matches(
        "project_id = {project:String} AND erasure_id IN {erasures:Array(String)}"
    ).items():
        rows = project.store.rows(
            f"SELECT count() AS n FROM {table} WHERE project_id = {{project:String}} AND ({where})",  # noqa: S608
            {"erasures": list(erasure_ids), "project": project.project},
        )
        result[table] = int(rows[0]["n"])
    return result


def old_parts(store: Store, until: datetime) -> int:
    """How many parts of those tables are still on disk though they were replaced before that moment.

    Nothing of what was erased by then is on disk once there are none.
    """
    tables = [local for table in (*_WHERE, *COUNTED_AGAIN) for local in (table, f"{table}_local")]
    source = store.topology.all_replicas("system.parts", store.address.database)
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


def leave_soon(store: Store, table: str, seconds: int) -> None:
    """Let the parts that a deletion or merge replaces leave the disk after so long; the engine's own default is eight minutes."""
    store.command(
        f"ALTER TABLE {store.topology.altered(table)} MODIFY SETTING old_parts_lifetime = {int(seconds)}"
    )


def delete_rows(project: ProjectStore, table: str, where: str, names: Mapping[str, Any]) -> None:
    """Rewrite the parts without the rows and wait for it. Never patch-mode deletes: they can block every later mutation (ClickHouse#115570)."""
    store = project.store
    store.command(
        f"ALTER TABLE {store.topology.altered(table)} DELETE WHERE project_id = {{project:String}} AND ({where})",
        {**names, "project": project.project},
        mutations_sync=2,
        allow_nondeterministic_mutations=1,
    )


def _count_in_snapshots(project: ProjectStore, names: Mapping[str, Any], noted_ns: int) -> None:
    """Snapshots keep their id and say how many rows were taken out of them since.

    One that was stored after a look at these lists has counted them itself (`store.datasets.snapshots`).
    """
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
                uniqExact(form, position) AS n
            FROM snapshot_rows
            WHERE project_id = {{project:String}} AND ({_WHERE["snapshot_rows"]})
            GROUP BY snapshot_id
        ) AS gone ON gone.snapshot_id = s.snapshot_id
        WHERE s.project_id = {{project:String}} AND s.version < {{noted:UInt64}}
        """,  # noqa: S608
        {**names, "project": project.project, "noted": noted_ns},
    )


def erasing_projects(store: Store) -> set[str]:
    """The projects that ever erased a trace, by one query for all."""
    rows = store.rows("SELECT DISTINCT project_id FROM erased_traces", **store.topology.fresh)
    return {r["project_id"] for r in rows}


def erased_among(project: ProjectStore, trace_ids: Sequence[str]) -> set[str]:
    """Which of these traces were erased. Most projects never erase: they are asked nothing about their traces."""
    ever = project.row(
        "SELECT count() AS n FROM erased_traces WHERE project_id = {project:String}", **project.fresh
    )
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
            **project.fresh,
        )
        result |= {r["trace"] for r in rows}
    return result
