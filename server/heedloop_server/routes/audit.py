"""The audit log of the caller's project: who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from heedloop.responses.projects import AuditPage
from heedloop_server.filters import Time
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminProject
from heedloop_server.store.admin.audit import read_audit

router = Router()


@router.get("/v1/audit")
def get_audit(
    project: AdminProject,
    action: Annotated[str | None, Query(max_length=64)] = None,
    since: Time | None = None,
    until: Time | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> AuditPage:
    """What was changed, newest first; never with a secret, nor with what people said."""
    after = None
    if cursor is not None:
        at, (seen_action, seen_subject) = read_cursor(cursor, 2)
        after = (at, seen_action, seen_subject)
    entries = read_audit(project, action=action, since=since, until=until, limit=limit, after=after)
    last = entries[-1] if len(entries) == limit else None
    return AuditPage(
        entries=entries, next_cursor=write_cursor(last.at, last.action, last.subject) if last else None
    )
