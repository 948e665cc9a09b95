"""One server at a time changes the tables: a lease that is a table, because only making a table is atomic in ClickHouse.

`CREATE TABLE` without `IF NOT EXISTS` succeeds for one of many servers, also `ON CLUSTER` and in a Replicated database, whose queues
of statements have one order. The table's comment says who holds it and until when, by the store's own clock; one that has run out is
taken over. Every statement of a migration is harmless to run twice, so that a holder slower than its lease does no harm.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Generator

from heedloop_server.errors import Unavailable
from heedloop_server.store.connection import Store, StoreError

LEASE_S = 600
"""Seconds that a lease lasts; one migration takes less."""
TABLE = "migration_lease"
_ALREADY_EXISTS = ("error 57:", "error 253:", "error 57 ", "error 253 ")


@contextlib.contextmanager
def migration_lease(store: Store, *, wait_s: float = 900.0, poll_s: float = 1.0) -> Generator[None]:
    """Hold the lease of a store's tables; an embedded store has one process and needs none.

    Raises:
        Unavailable: another server holds it for longer than `wait_s` seconds.
    """
    if store.is_embedded:
        yield
        return
    holder = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
    pause = threading.Event()
    left = wait_s
    while not _acquire(store, holder):
        if left <= 0:
            raise Unavailable(
                f"another server changes the store's tables since {wait_s:.0f} s ({_holder(store)}); start again when it is done"
            )
        pause.wait(poll_s)
        left -= poll_s
    try:
        yield
    finally:
        _drop(store, holder)


def _acquire(store: Store, holder: str) -> bool:
    """Make the table, or take over one whose time has run out."""
    _drop_expired(store)
    until = int(store.rows("SELECT toUnixTimestamp(now()) AS now")[0]["now"]) + LEASE_S
    try:
        store.command(
            f"CREATE TABLE {store.address.database}.{TABLE} {store.topology.on_cluster} (x UInt8) ENGINE = Null COMMENT '{until} {holder}'"
        )
    except StoreError as err:
        if not any(code in str(err) for code in _ALREADY_EXISTS):
            raise
    return _holder(store).endswith(holder)


def _holder(store: Store) -> str:
    """The comment of the lease's table; empty where there is none."""
    rows = store.rows(
        "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": store.address.database, "table": TABLE},
    )
    return str(rows[0]["comment"]) if rows else ""


def _drop_expired(store: Store) -> None:
    held = _holder(store)
    now = int(store.rows("SELECT toUnixTimestamp(now()) AS now")[0]["now"])
    if held and int(held.split()[0]) < now:
        _drop(store, held)


def _drop(store: Store, holder: str) -> None:
    """Drop the table where it is still that holder's."""
    if _holder(store).endswith(holder):
        store.command(
            f"DROP TABLE IF EXISTS {store.address.database}.{TABLE} {store.topology.on_cluster} SYNC"
        )
