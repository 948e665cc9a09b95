"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.responses import PlainTextResponse, Response

from heedloop.responses import Condition, Health
from heedloop_server.errors import Unavailable
from heedloop_server.http.auth import Principal, caller, check_scope, open_route, require
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
from heedloop_server.ingest.condition import folder_problems
from heedloop_server.ingest.intake import Intake
from heedloop_server.settings import Settings
from heedloop_server.store.admin.health import MANY_PARTS, read_health
from heedloop_server.store.admin.keys import list_projects
from heedloop_server.store.connection import Store, StoreError

router = Router()
log = logging.getLogger("heedloop.http")


@router.get("/healthz")
@open_route
async def healthz() -> Health:
    """200 as long as the process answers."""
    return Health(status="ok")


@router.get("/readyz")
@open_route
@responds(also=[503])
def readyz(request: Request) -> Health | Response:
    """200 where records can be taken in and read back; 503 with the reason where not."""
    intake = cast(Intake, request.app.state.intake)
    store = cast(Store, request.app.state.store)
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
def get_health(request: Request, _: Annotated[Principal, Depends(require("instance"))]) -> Condition:
    """What `heedloop doctor` tells of this server: versions, tables, and a sentence for each thing that needs a person."""
    intake = cast(Intake, request.app.state.intake)
    settings = cast(Settings, request.app.state.settings)
    health = read_health(cast(Store, request.app.state.store))
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


@router.get("/metrics", response_class=PlainTextResponse)
@open_route
@responds(media={"text/plain": {"type": "string"}})
def metrics(request: Request) -> Response:
    """Prometheus text. For a key of the scope `instance`, and for a loopback address where the setting allows it: the ledger of every project, this process's log, requests, resources and webhooks, and the store. For an admin key: its own project's ledger, and the log."""
    state = request.app.state
    store, intake, settings = (
        cast(Store, state.store),
        cast(Intake, state.intake),
        cast(Settings, state.settings),
    )
    project = _project_of(request)
    if project is not None:
        return Response(
            exposition([*ledger_metrics(intake, store, [project]), *log_metrics(intake)]),
            media_type=MEDIA_TYPE,
        )
    families = [
        *log_metrics(intake),
        *process_metrics(
            intake,
            state.records,
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


def _project_of(request: Request) -> str | None:
    """The one project that the caller may see, or None for the whole server; raises `Unauthorized` or `Forbidden`."""
    settings = cast(Settings, request.app.state.settings)
    is_local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
    if settings.metrics_open and is_local and "authorization" not in request.headers:
        return None
    who = caller(request)
    check_scope(who, "instance", "admin")
    return None if "instance" in who.scopes else who.project
