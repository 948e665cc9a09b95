"""Erasing a person's words, with a receipt."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from heedloop.schema import format_time, utc_now
from heedloop_server.answers.projects import ErasureCheck, ErasureReceipt
from heedloop_server.errors import Invalid, NotFound, Unavailable
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import responds
from heedloop_server.ingest.intake import Intake
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.settings import Settings
from heedloop_server.store.admin.audit import erased_at, write_audit
from heedloop_server.store.admin.erasure import erase, old_parts, verify
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.datasets.runs import run_summary, runs_of_snapshots
from heedloop_server.store.datasets.snapshots import SnapshotUse, snapshots_of_feedback, snapshots_of_traces

router = APIRouter()

_DRAIN_S = 30.0

Name = Annotated[str, Field(min_length=1, max_length=1024)]


class Erasure(BaseModel):
    """Whose words to erase: exactly one of the three."""

    model_config = ConfigDict(extra="forbid")

    user_id: Name | None = None
    session_id: Name | None = None
    trace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


@router.post("/v1/erasures")
@responds(ErasureReceipt)
def post_erasure(
    request: Request, who: Annotated[Principal, Depends(require("admin"))], body: Erasure
) -> dict[str, Any]:
    """Erase everything of a user, a session or a trace; the answer says what went, what is left (nothing) and who used it."""
    chosen = [(n, v) for n, v in body.model_dump().items() if v is not None]
    if len(chosen) != 1:
        raise Invalid("give exactly one of user_id, session_id, trace_id", field="user_id")
    by, value = chosen[0]
    intake = cast(Intake, request.app.state.intake)
    if not intake.wait_until_loaded(_DRAIN_S):
        raise Unavailable(
            "what is still in the request log must be stored before it can be erased; send again later"
        )
    store = cast(Store, request.app.state.store)
    project = store.project(who.project)
    erasure_id = secrets.token_hex(8)
    users: dict[str, SnapshotUse] = {}
    settings = cast(Settings, request.app.state.settings)
    erased = erase(project, by, value, erasure_id=erasure_id, old_parts_s=settings.erased_parts_s)
    traces = [bytes.fromhex(t) for t in erased.trace_ids]
    num_files = Quarantine(settings.log_folder).purge([value, *traces, *erased.trace_ids])
    if intake.feedback_log is not None:
        intake.feedback_log.forget(who.project, erased.trace_ids)
    request.app.state.review.forget(who.project)
    users |= {s.id: s for s in _users(project, erased.trace_ids, [str(f) for f in erased.feedback_ids])}
    counts = {
        "traces": len(erased.trace_ids),
        "feedback": len(erased.feedback_ids),
        "rows": dict(erased.rows),
    }
    write_audit(store, who, f"erase_{by}", erasure_id, counts)  # not the id itself: it would stay behind
    return {
        "erasure_id": erasure_id,
        "by": by,
        "at": format_time(utc_now()),
        "num_traces": len(erased.trace_ids),
        "num_feedback": len(erased.feedback_ids),
        "rows": dict(erased.rows),
        "left": dict(erased.left),
        "num_files": num_files,
        "snapshots": [{"id": s.id, "name": s.name} for s in users.values()],
        "runs": [run_summary(r) for r in runs_of_snapshots(project, list(users))],
    }


@router.get("/v1/erasures/{erasure_id}")
@responds(ErasureCheck)
def get_erasure(
    request: Request, who: Annotated[Principal, Depends(require("admin"))], erasure_id: str
) -> dict[str, Any]:
    """What is left of an erasure now, in the tables and on the store's disk."""
    store = cast(Store, request.app.state.store)
    project = store.project(who.project)
    at = erased_at(project, erasure_id)
    if at is None:
        raise NotFound(f"there is no erasure {erasure_id!r:.80} in this project")
    left = verify(project, erasure_id)
    parts = old_parts(store, at)
    return {
        "erasure_id": erasure_id,
        "at": format_time(at),
        "left": left,
        "old_parts": parts,
        "done": not parts and not any(left.values()),
    }


def _users(project: ProjectStore, trace_ids: list[str], feedback_ids: list[str]) -> list[SnapshotUse]:
    found = snapshots_of_traces(project, trace_ids) if trace_ids else []
    for feedback_id in feedback_ids:
        found += snapshots_of_feedback(project, feedback_id)
    return found
