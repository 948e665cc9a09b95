"""Jobs: long work behind requests, how far it is, and ending it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from heedloop.responses.jobs import Job, JobList
from heedloop_server.errors import NotFound
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AnyStore, Jobs
from heedloop_server.store.admin.audit import write_audit

router = Router()

JobsKey = Annotated[Principal, Depends(require("read", "train", "admin", "instance"))]
"""Each kind of job is seen by keys with the scope of the route that starts it."""


@router.get("/v1/jobs")
def get_jobs(store: AnyStore, jobs: Jobs, who: JobsKey) -> JobList:
    """The newest jobs of the kinds that this key may start."""
    return JobList(jobs=jobs.list(store.project(who.project), who.scopes))


@router.get("/v1/jobs/{job_id}")
def get_job(store: AnyStore, jobs: Jobs, who: JobsKey, job_id: str) -> Job:
    """One job: how far it is, and what it made."""
    job = jobs.find(store.project(who.project), job_id, who.scopes)
    if job is None:
        raise NotFound(f"there is no job {job_id!r:.80} in this project that this key may see")
    return job


@router.delete("/v1/jobs/{job_id}", status_code=202)
@responds(also=[409])
def delete_job(store: AnyStore, jobs: Jobs, who: JobsKey, job_id: str) -> Job:
    """End a job with nothing made; 409 where it is over or writes already. It ends before its next statement."""
    jobs.cancel(store.project(who.project), get_job(store, jobs, who, job_id))
    write_audit(store, who, "cancel_job", job_id, {})
    return get_job(store, jobs, who, job_id)
