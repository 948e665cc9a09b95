"""Backups of an embedded store while it serves: made and put back by the engine itself, in a folder beside the store."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path
from typing import Literal

from heedloop.responses import Backup
from heedloop_server.errors import Conflict, Invalid
from heedloop_server.store.connection import Row, Store, StoreError
from heedloop_server.store.job_statements import report_progress

METADATA = ".backup"
"""The file that the engine writes into a backup when all others are written."""
FOLLOW_S = 0.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_STATES: dict[str, Literal["running", "done"]] = {"CREATING_BACKUP": "running", "BACKUP_CREATED": "done"}


def backups_folder(store: Store) -> Path:
    """Where a store's backups lie; raises `Invalid` for one that is not embedded, or in memory."""
    if not store.is_embedded or not store.address.path:
        raise Invalid(
            "only an embedded store is backed up here; on a ClickHouse server use its own BACKUP DATABASE"
        )
    return store.address.backups


def start_backup(store: Store, name: str, *, is_repeated: bool = False) -> Backup:
    """Begin a backup; `list_backups` tells when it is done. One that `is_repeated` replaces what an ended server left of it.

    Raises:
        Invalid: the name has other characters than letters, digits, `_`, `.` and `-`, or the store is not embedded.
        Conflict: there is one of that name.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name of a backup: letters, digits, _ . and -, at most 64, the first a letter or digit"
        )
    if is_repeated:
        shutil.rmtree(backups_folder(store) / name, ignore_errors=True)
    if (backups_folder(store) / name).exists():
        raise Conflict(f"there is a backup {name!r} already; choose another name, or remove its folder")
    store.command(f"BACKUP DATABASE {store.address.database} TO File('{name}') ASYNC")
    return next(b for b in list_backups(store) if b.name == name)


def is_backed_up(store: Store, name: str) -> bool:
    """Whether there is a whole backup of that name."""
    return (backups_folder(store) / name / METADATA).exists()


def follow_backup(store: Store, name: str) -> None:
    """Wait until a backup that this process began is made, and report how far it is.

    Raises:
        StoreError: it failed.
    """
    pause = threading.Event()
    while (found := next((b for b in list_backups(store) if b.name == name), None)) is not None:
        if found.state == "failed":
            raise StoreError(f"the backup {name!r} failed: {found.error}")
        if found.state == "done":
            return
        report_progress(0, found.bytes or 0, "bytes")
        pause.wait(FOLLOW_S)


def list_backups(store: Store) -> list[Backup]:
    """The backups on disk and those of this process, the newest first."""
    folder = backups_folder(store)
    rows = store.rows(
        "SELECT name, status, error, start_time, num_files, total_size FROM system.backups ORDER BY start_time DESC"
    )
    known = {b.name: b for row in reversed(rows) if (b := _backup(row)) is not None}
    found = [p.parent for p in folder.glob(f"*/{METADATA}") if p.parent.name not in known]
    return [
        *reversed(known.values()),
        *(Backup(name=p.name, state="done") for p in sorted(found, reverse=True)),
    ]


def _backup(row: Row) -> Backup | None:
    match = re.fullmatch(r"File\('([^']+)'\)", row["name"])
    if match is None:
        return None
    return Backup(
        name=match[1],
        state=_STATES.get(row["status"], "failed"),
        started_at=row["start_time"],
        num_files=row["num_files"],
        bytes=row["total_size"],
        error=row["error"].split(", Stack trace")[0] or None,
    )


def restore_backup(store: Store, copy: Path) -> None:
    """Put a backup into a new store, whose database must not be there yet.

    Raises:
        StoreError: it is damaged, or the database is there.
    """
    place = backups_folder(store) / copy.name
    if place.resolve() != copy.resolve():
        shutil.copytree(copy, place)
    store.put_back(copy.name)
