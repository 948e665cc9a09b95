"""Keys and projects: append a row, take the newest."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from heedloop.schema import utc_now
from heedloop_server.store.connection import ProjectStore, Row, Store


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is stored: its secret's hash, never the secret. `author_id` is the person it was made for, if any."""

    key_id: str
    project_id: str
    name: str
    scopes: tuple[str, ...]
    secret_hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    author_id: str = ""

    def usable(self, now: datetime) -> bool:
        """True where it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


_COLUMNS = """
    key_id,
    project_id,
    name,
    scopes,
    secret_hash,
    created_at,
    expires_at,
    revoked_at,
    author_id
"""


def _key(row: Row) -> StoredKey:
    values: Row = {**row, "scopes": tuple(row["scopes"])}
    return StoredKey(**values)


def insert_key(store: Store, key: StoredKey) -> None:
    """Store a key, new or changed."""
    row = asdict(key) | {"scopes": list(key.scopes), "version": time.time_ns()}
    store.insert("keys", [row], **store.topology.lasting)


def find_key(store: Store, key_id: str) -> StoredKey | None:
    """The key of this id in whatever project: the one query that must run before the project is known."""
    result = store.rows(
        f"SELECT {_COLUMNS} FROM keys FINAL WHERE key_id = {{key_id:String}}",  # noqa: S608
        {"key_id": key_id},
        **store.topology.fresh,
    )
    return _key(result[0]) if result else None


def num_keys(store: Store) -> int:
    """How many keys there are, revoked ones too: none means that the store is new."""
    return int(store.rows("SELECT count() AS n FROM keys FINAL")[0]["n"])


def list_keys(project: ProjectStore) -> list[Row]:
    """The project's keys, newest first, with their last use and without their hashes."""
    return project.rows(
        """
        SELECT
            k.key_id AS key_id,
            k.name AS name,
            k.scopes AS scopes,
            nullIf(k.author_id, '') AS author_id,
            k.created_at AS created_at,
            k.expires_at AS expires_at,
            k.revoked_at AS revoked_at,
            nullIf(u.used_at, toDateTime64(0, 6, 'UTC')) AS last_used_at
        FROM (SELECT * FROM keys FINAL WHERE project_id = {project:String}) AS k
        LEFT JOIN (SELECT key_id, max(used_at) AS used_at FROM key_uses GROUP BY key_id) AS u ON u.key_id = k.key_id
        ORDER BY created_at DESC, key_id
        """
    )


def revoke_key(store: Store, key: StoredKey) -> None:
    """Revoke a key from now on."""
    insert_key(store, replace(key, revoked_at=utc_now()))


def insert_key_uses(store: Store, uses: dict[str, datetime]) -> None:
    """When each key was last used."""
    store.insert("key_uses", [{"key_id": k, "used_at": at} for k, at in uses.items()])


def insert_project(store: Store, project: str) -> None:
    """Store a project."""
    now = utc_now()
    store.insert("projects", [{"project_id": project, "created_at": now, "version": time.time_ns()}])


def list_projects(store: Store) -> list[str]:
    """The names of all projects, in order."""
    return [r["project_id"] for r in store.rows("SELECT project_id FROM projects FINAL ORDER BY project_id")]
