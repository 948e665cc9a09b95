"""Imports: their balances, and undoing one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Annotated, Any, cast

from fastapi import Body, Response
from pydantic import TypeAdapter, ValidationError

from heedloop.responses.imports import Import, ImportList, UndoneImport
from heedloop.responses.jobs import JobResult
from heedloop.schema import from_json
from heedloop_server.errors import Conflict, Invalid, NotFound, Unavailable
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, AdminProject, FeedbackProject, Jobs, ReadProject
from heedloop_server.http.shared_responses import SharedResponses
from heedloop_server.ingest.intake import Intake
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.review.queue_service import ReviewQueueService
from heedloop_server.settings import Settings
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.imports import find_import, list_imports, save_import, undo_import

router = Router()

_DRAIN_S = 30.0
_ID = re.compile(r"[0-9a-f]{16}")
_TYPES = TypeAdapter(Import)


@router.post("/v1/imports")
@responds(also=[409])
@accepts(Import)
def post_import(project: FeedbackProject, body: Annotated[dict[str, Any], Body()]) -> Import:
    """Store an import, or its newest state; what was undone stays undone."""
    one = from_json(Import, body)
    try:
        _TYPES.validate_json(json.dumps(body), strict=True)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise Invalid(f"{where}: {first['msg']}", field=where) from None
    if not _ID.fullmatch(one.id):
        raise Invalid(f"{one.id!r:.80} is no import's id: 16 hex digits", field="id")
    known = find_import(project, one.id)
    if known is not None and known.status == "undone":
        raise Conflict(f"the import {one.id} was undone; begin a new one", field="id")
    if one.status == "undone":
        raise Invalid("an import is undone with POST /v1/imports/{import_id}/undo", field="status")
    save_import(project, one)
    return one


@router.get("/v1/imports")
def get_imports(project: ReadProject) -> ImportList:
    """All imports with their balances, the newest first."""
    return ImportList(imports=list_imports(project))


@router.post("/v1/imports/{import_id}/undo")
@responds(also=[202])
def post_undo(jobs: Jobs, project: AdminProject, who: AdminKey, import_id: str) -> UndoneImport | Response:
    """Take out the calls and the feedback that an import stored; a judgement that it replaced counts again.

    202 with the job where it takes longer.
    """
    if find_import(project, import_id) is None:
        raise NotFound(f"there is no import {import_id!r:.80} in this project")
    return jobs.outcome(jobs.start("import_undo", who, {"import_id": import_id}))


def _undo(job: JobContext) -> Finished:
    project, who, import_id = job.project, job.who, str(job.request["import_id"])
    one = find_import(project, import_id)
    if one is None:
        raise NotFound(f"there is no import {import_id!r:.80} in this project")
    if not cast(Intake, job.parts.intake).wait_until_loaded(_DRAIN_S):
        raise Unavailable(
            "what is still in the request log must be stored before it can be undone; try again later"
        )
    settings = cast(Settings, job.parts.settings)
    save_import(project, replace(one, status="undone"))
    undone = undo_import(project, import_id, old_parts_s=settings.erased_parts_s)
    cast(SharedResponses, job.parts.shared).forget(who.project)
    cast(ReviewQueueService, job.parts.review).forget(who.project)
    counts = {"calls": undone.num_calls, "feedback": undone.num_feedback}
    write_audit(project.store, who, "undo_import", import_id, counts)
    return Finished(undone, JobResult(undone=undone))


IMPORT_UNDO = Kind("import_undo", "admin", _undo)
