"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

import logging
from contextlib import suppress

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from heedloop.responses import Backup, Backups, Condition, Health
from heedloop.responses.jobs import JobResult
from heedloop_server.errors import Unavailable
from heedloop_server.http.auth import caller, check_scope, open_route
from heedloop_server.http.metrics import (
    MEDIA_TYPE,
    exposition,
    ledger_metrics,
    log_metrics,
    process_metrics,
    store_metrics,
)
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import AnyStore, Configuration, InstanceKey, Intakes, Jobs
from heedloop_server.ingest.condition import folder_problems
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.settings import Settings
from heedloop_server.store.admin.backups import follow_backup, is_backed_up, list_backups, start_backup
from heedloop_server.store.admin.health import MANY_PARTS, read_health
from heedloop_server.store.admin.keys import list_projects
from heedloop_server.store.connection import StoreError

router = Router()
log = logging.getLogger("heedloop.http")
_BACKUP_WAIT_S = 60.0


@router.get("/healthz")
@open_route
async def healthz() -> Health:
    """200 as long as the process answers."""
    return Health(status="ok")


@router.get("/readyz")
@open_route
@responds(also=[503])
def readyz(store: AnyStore, intake: Intakes) -> Health | Response:
    """200 where records can be taken in and read back; 503 with the reason where not."""
    reason = None
    if not store.ping():
        reason = "the store does not answer"
    elif intake.log.is_full:
        reason = "the request log is full"
    elif stuck := intake.stuck():
        # its error may quote what clients sent: it is for the log, not for everyone
        log.error("not ready: %s", stuck)
        reason = "a segment of the log cannot be stored; `heedloop doctor` says which and why"
    if reason is not None:
        return json_response(Health, Health(status="unavailable", reason=reason), 503)
    return Health(status="ok")


@router.get("/v1/health")
def get_health(
    request: Request, store: AnyStore, intake: Intakes, settings: Configuration, _: InstanceKey
) -> Condition:
    """What `heedloop doctor` tells of this server: versions, tables, and a sentence for each thing that needs a person."""
    health = read_health(store)
    stuck = intake.stuck()
    return Condition(
        version=request.app.version,
        engine=health.version,
        tables=health.tables,
        backlog_bytes=intake.backlog_bytes,
        lag_s=intake.lag_s(),
        problems=[
            *health.problems(MANY_PARTS),
            *folder_problems(settings.data, is_running=True),
            *([stuck] if stuck else []),
        ],
    )


class NewBackup(BaseModel):
    """The name of a backup to make."""

    model_config = ConfigDict(extra="forbid")

    name: str


@router.post("/v1/backups", status_code=202)
@responds(also=[409, 422])
def post_backup(body: NewBackup, jobs: Jobs, store: AnyStore, intake: Intakes, who: InstanceKey) -> Backup:
    """Begin a backup of an embedded store while it serves; what was acknowledged before is in it."""
    intake.wait_until_loaded(_BACKUP_WAIT_S)
    begun = start_backup(store, body.name)
    jobs.start("backup", who, {"name": body.name})
    return begun


def _back_up(job: JobContext) -> Finished:
    store, name = job.project.store, str(job.request["name"])
    if job.is_repeated and not is_backed_up(store, name):
        start_backup(store, name, is_repeated=True)
    follow_backup(store, name)
    return Finished(None, JobResult(path="/v1/backups"))


BACKUP = Kind("backup", "instance", _back_up, can_cancel=False)


@router.get("/v1/backups")
@responds(also=[422])
def get_backups(store: AnyStore, _: InstanceKey) -> Backups:
    """The backups of an embedded store, the newest first."""
    return Backups(backups=list_backups(store))


@router.get("/metrics", response_class=PlainTextResponse)
@open_route
@responds(media={"text/plain": {"type": "string"}})
def metrics(request: Request, store: AnyStore, intake: Intakes, settings: Configuration) -> Response:
    """Prometheus text. For a key of the scope `instance`, and for a loopback address where the setting allows it: the ledger of every project, this process's log, requests, resources and webhooks, and the store. For an admin key: its own project's ledger, and the log."""
    project = _project_of(request, settings)
    if project is not None:
        return Response(
            exposition([*ledger_metrics(intake, store, [project]), *log_metrics(intake)]),
            media_type=MEDIA_TYPE,
        )
    families = [
        *log_metrics(intake),
        *process_metrics(
            intake,
            request.app.state.records,
            data=settings.data,
            max_backlog_bytes=settings.max_backlog_bytes,
            version=request.app.version,
        ),
        *store_metrics(store),
    ]
    with suppress(Unavailable, StoreError):  # `heedloop_store_up` says so; the process is told all the same
        families += ledger_metrics(intake, store, list_projects(store))
    return Response(exposition(families), media_type=MEDIA_TYPE)


metrics.heedloop_checks = "instance"  # type: ignore[attr-defined]


def _project_of(request: Request, settings: Settings) -> str | None:
    """The one project that the caller may see, or None for the whole server; raises `Unauthorized` or `Forbidden`."""
    is_local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
    if settings.metrics_open and is_local and "authorization" not in request.headers:
        return None
    who = caller(request)
    check_scope(who, "instance", "admin")
    return None if "instance" in who.scopes else who.project
