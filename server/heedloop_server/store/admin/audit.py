"""The audit log of all changes, append only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Protocol

from heedloop.responses.projects import AuditEntry
from heedloop.schema import utc_now
from heedloop_server.store.connection import ProjectStore, Store

_FIRST = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST = datetime(2262, 1, 1, tzinfo=timezone.utc)


class Actor(Protocol):
    """The key of a project that acts."""

    @property
    def project(self) -> str: ...
    @property
    def key_id(self) -> str: ...


def write_audit(store: Store, actor: Actor, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Append one line: `action` on `subject`, never with a secret or with content."""
    store.project(actor.project).insert(
        "audit",
        [
            {
                "at": utc_now(),
                "key_id": actor.key_id,
                "action": action,
                "subject": subject,
                "details": json.dumps(dict(details), ensure_ascii=False),
            }
        ],
    )


def read_audit(
    project: ProjectStore,
    *,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    after: tuple[datetime, str, str] | None,
) -> list[AuditEntry]:
    """Lines of the project, newest first, each with the name and the person of the key that did it.

    `after` is the time, action and subject of the last line of the page before.
    """
    at, after_action, after_subject = after or (_LAST, "", "")
    rows = project.rows(
        """
        SELECT
            a.at AS at,
            a.action AS action,
            a.subject AS subject,
            a.details AS details,
            a.key_id AS key_id,
            k.name AS key_name,
            nullIf(k.author_id, '') AS author_id
        FROM (
            SELECT *
            FROM audit
            WHERE project_id = {project:String}
              AND ({action:String} = '' OR action = {action:String})
              AND at >= {since:DateTime64(6,'UTC')}
              AND at < {until:DateTime64(6,'UTC')}
              AND (at, action, subject) < ({at:DateTime64(6,'UTC')}, {after_action:String}, {after_subject:String})
            ORDER BY at DESC, action DESC, subject DESC
            LIMIT {limit:UInt32}
        ) AS a
        LEFT JOIN (SELECT key_id, name, author_id FROM keys FINAL WHERE project_id = {project:String}) AS k ON k.key_id = a.key_id
        ORDER BY at DESC, action DESC, subject DESC
        """,
        {
            "action": action or "",
            "since": since or _FIRST,
            "until": until or _LAST,
            "at": at,
            "after_action": after_action,
            "after_subject": after_subject,
            "limit": limit,
        },
    )
    return [AuditEntry(**{**row, "details": json.loads(row["details"])}) for row in rows]


def erased_at(project: ProjectStore, erasure_id: str) -> datetime | None:
    """When an erasure was done, by its line in the log; None where there was none."""
    row = project.row(
        """
        SELECT max(at) AS at, count() AS n
        FROM audit
        WHERE project_id = {project:String} AND subject = {erasure:String} AND startsWith(action, 'erase_')
        """,
        {"erasure": erasure_id},
    )
    return row["at"] if row and row["n"] else None
