"""Jobs as they are stored: one row each, whose newest version counts, and which of them are to end."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from heedloop.responses.jobs import JobState
from heedloop.schema import utc_now
from heedloop_server.store.connection import ProjectStore, Row, Store


@dataclass(slots=True)
class StoredJob:
    """A job's row.

    Attributes:
        request: what is needed to run it again; empty when it is over.
        result: of `heedloop.responses.JobResult`, as JSON.
        attempt: how often it was begun.
        holder: the server that runs it.
    """

    project_id: str
    job_id: str
    kind: str
    key_id: str
    key_name: str
    author_id: str
    created_at: datetime
    request: dict[str, Any]
    state: JobState = "queued"
    done: int = 0
    total: int = 0
    unit: str = ""
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""
    attempt: int = 1
    holder: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    version: int = 0


def save_job(store: Store, job: StoredJob) -> None:
    """Store the newest state of a job."""
    job.version = max(
        job.version + 1, time.time_ns()
    )  # of servers whose clocks differ, too, the later one counts
    row = asdict(job) | {
        "request": "" if job.ended_at else json.dumps(job.request, ensure_ascii=False),
        "result": json.dumps(job.result, ensure_ascii=False) if job.result else "",
        "beat_at": utc_now() if store.is_embedded else store.now(),
    }
    store.insert("jobs", [row], **store.topology.lasting)


_COLUMNS = """
            project_id,
            job_id,
            kind,
            key_id,
            key_name,
            author_id,
            state,
            request,
            done,
            total,
            unit,
            result,
            error,
            attempt,
            holder,
            created_at,
            started_at,
            ended_at,
            version
"""


def _job(row: Row) -> StoredJob:
    parsed: Row = {n: json.loads(row[n]) if row[n] else {} for n in ("request", "result")}
    return StoredJob(**{**row, **parsed})


def list_jobs(project: ProjectStore, kinds: Sequence[str], *, limit: int = 200) -> list[StoredJob]:
    """The newest jobs of some kinds, the newest first."""
    sql = f"""
        SELECT {_COLUMNS}
        FROM jobs FINAL
        WHERE project_id = {{project:String}} AND kind IN {{kinds:Array(String)}}
        ORDER BY created_at DESC, job_id
        LIMIT {{limit:UInt32}}
    """  # noqa: S608
    return [_job(r) for r in project.rows(sql, {"kinds": list(kinds), "limit": limit}, **project.fresh)]


def find_job(project: ProjectStore, job_id: str) -> StoredJob | None:
    """One job, or None."""
    sql = f"""
        SELECT {_COLUMNS}
        FROM jobs FINAL
        WHERE project_id = {{project:String}} AND job_id = {{job_id:String}}
    """  # noqa: S608
    row = project.row(sql, {"job_id": job_id}, **project.fresh)
    return None if row is None else _job(row)


def unfinished_jobs(store: Store, *, silent_s: float) -> list[StoredJob]:
    """Jobs of every project that are not over and of which nobody said for so many seconds that they run."""
    sql = f"""
        SELECT {_COLUMNS}
        FROM jobs FINAL
        WHERE state IN ('queued', 'running')
          AND beat_at <= now64(6, 'UTC') - toIntervalMillisecond({{silent_ms:UInt64}})
        ORDER BY created_at, job_id
    """  # noqa: S608
    return [_job(r) for r in store.rows(sql, {"silent_ms": int(1000 * silent_s)}, **store.topology.fresh)]


def request_cancel(project: ProjectStore, job_id: str) -> None:
    """Note that a job is to end: the server that runs it looks every few seconds."""
    project.insert("job_cancels", [{"job_id": job_id, "at": utc_now()}], **project.lasting)


def holders_and_cancels(store: Store, job_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Job -> which server runs it, and whether it is to end."""
    sql = """
        SELECT
            job_id,
            argMax(holder, version) AS newest_holder,
            job_id IN (SELECT job_id FROM job_cancels WHERE job_id IN {job_ids:Array(String)}) AS is_cancelled
        FROM jobs
        WHERE job_id IN {job_ids:Array(String)}
        GROUP BY job_id
    """
    rows = store.rows(sql, {"job_ids": list(job_ids)}, **store.topology.fresh)
    return {r["job_id"]: (r["newest_holder"], bool(r["is_cancelled"])) for r in rows}


def active_jobs(project: ProjectStore, kind: str) -> int:
    """How many jobs of a kind are not over in the project."""
    row = project.row(
        """
        SELECT count() AS n
        FROM jobs FINAL
        WHERE project_id = {project:String} AND kind = {kind:String} AND state IN ('queued', 'running')
        """,
        {"kind": kind},
        **project.fresh,
    )
    return int(row["n"]) if row else 0
