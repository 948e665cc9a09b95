"""The audit log of the caller's project: who changed what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from heedloop.schema import format_time
from heedloop_server.answers.projects import AuditPage
from heedloop_server.filters import Time
from heedloop_server.http.auth import scoped
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.openapi import responds
from heedloop_server.store.admin.audit import read_audit
from heedloop_server.store.connection import ProjectStore

router = APIRouter()

Admin = Annotated[ProjectStore, Depends(scoped("admin"))]


@router.get("/v1/audit")
@responds(AuditPage)
def get_audit(
    project: Admin,
    action: Annotated[str | None, Query(max_length=64)] = None,
    since: Time | None = None,
    until: Time | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> dict[str, Any]:
    """What was changed, newest first; never with a secret, nor with what people said."""
    after = None
    if cursor is not None:
        at, (seen_action, seen_subject) = read_cursor(cursor, 2)
        after = (at, seen_action, seen_subject)
    lines = read_audit(project, action=action, since=since, until=until, limit=limit, after=after)
    last = lines[-1] if len(lines) == limit else None
    return {
        "entries": [{**line, "at": format_time(line["at"])} for line in lines],
        "next_cursor": write_cursor(last["at"], last["action"], last["subject"]) if last else None,
    }
