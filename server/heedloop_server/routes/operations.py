"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

import logging
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.responses import PlainTextResponse, Response

from heedloop.responses import Condition, Health
from heedloop_server.http.auth import Principal, caller, check_scope, open_route, require
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.ingest.condition import folder_problems
from heedloop_server.ingest.intake import Intake
from heedloop_server.settings import Settings
from heedloop_server.store.admin.health import MANY_PARTS, read_health
from heedloop_server.store.admin.keys import list_projects
from heedloop_server.store.connection import Store

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
def metrics(request: Request) -> PlainTextResponse:
    """Prometheus text: the ledger by project, and this process's log. For an admin key its own project; for a loopback address, where the setting allows it, all."""
    store = cast(Store, request.app.state.store)
    intake = cast(Intake, request.app.state.intake)
    lines = _Exposition()
    for project in _projects(request, store):
        view = store.project(project)
        spans, pending = intake.span_tally(view)
        feedback = intake.feedback_tally(view)
        for signal, tally, waiting in (("spans", spans, pending), ("feedback", feedback, 0)):
            labels = {"project": project, "signal": signal}
            lines.add(
                "heedloop_received_total", "counter", "records that came in", labels, tally.received + waiting
            )
            lines.add("heedloop_stored_total", "counter", "records in the store", labels, tally.stored)
            lines.add(
                "heedloop_duplicate_total",
                "counter",
                "records that were there already",
                labels,
                tally.duplicate,
            )
            lines.add(
                "heedloop_pending", "gauge", "records safe in the log, not in the store yet", labels, waiting
            )
            for reason, count in sorted(tally.reasons.items()):
                lines.add(
                    "heedloop_rejected_total",
                    "counter",
                    "records refused",
                    labels | {"reason": reason},
                    count,
                )
    lines.add(
        "heedloop_log_backlog_bytes",
        "gauge",
        "bytes in the log that wait for the store",
        {},
        intake.backlog_bytes,
    )
    lines.add("heedloop_log_lag_seconds", "gauge", "how long the oldest of them waits", {}, intake.lag_s())
    lines.add("heedloop_log_syncs_total", "counter", "fdatasync calls of the log", {}, intake.log.num_syncs)
    lines.add(
        "heedloop_loader_failing",
        "gauge",
        "1 while the store refuses the log",
        {},
        int(intake.is_failing),
    )
    return PlainTextResponse(lines.text(), media_type="text/plain; version=0.0.4")


metrics.heedloop_checks = "admin"  # type: ignore[attr-defined]


def _projects(request: Request, store: Store) -> list[str]:
    """Whose numbers the caller may see; raises `Unauthorized` or `Forbidden`."""
    settings = cast(Settings, request.app.state.settings)
    local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
    if settings.metrics_open and local and "authorization" not in request.headers:
        return list(list_projects(store))
    who = caller(request)
    check_scope(who, "admin")
    return [who.project]


class _Exposition:
    """Lines of the Prometheus text format, each metric's together under one heading."""

    def __init__(self) -> None:
        self._metrics: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, text: str, labels: dict[str, str], value: float) -> None:
        """One sample."""
        lines = self._metrics.setdefault(name, [f"# HELP {name} {text}", f"# TYPE {name} {kind}"])
        escaped = {
            k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in labels.items()
        }
        inside = ",".join(f'{k}="{v}"' for k, v in escaped.items())
        lines.append(
            f"{name}{{{inside}}} {value:g}" if abs(value) < 1e5 else f"{name}{{{inside}}} {value:.0f}"
        )

    def text(self) -> str:
        """The whole page."""
        return "\n".join(line for lines in self._metrics.values() for line in lines) + "\n"
