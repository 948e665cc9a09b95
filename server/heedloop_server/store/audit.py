"""The audit log: who changed what, append only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from heedloop.schema import utc_now
from heedloop_server.store.connection import ProjectStore, Row, Store

__all__ = ["read_audit", "write_audit"]


class Actor(Protocol):
    """Who acts: a key of a project."""

    @property
    def project(self) -> str: ...
    @property
    def key_id(self) -> str: ...


def write_audit(store: Store, who: Actor, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Append one line: `action` on `subject`, never with a secret or with content."""
    store.project(who.project).insert(
        "audit",
        [
            {
                "at": utc_now(),
                "key_id": who.key_id,
                "action": action,
                "subject": subject,
                "details": json.dumps(dict(details), ensure_ascii=False),
            }
        ],
    )


def read_audit(project: ProjectStore, *, limit: int) -> list[Row]:
    """The newest lines of the project."""
    return project.rows(
        """
        SELECT
            at,
            key_id,
            action,
            subject,
            details
        FROM audit
        WHERE project_id = {project:String}
        ORDER BY at DESC
        LIMIT {limit:UInt32}
        """,
        {"limit": limit},
    )
