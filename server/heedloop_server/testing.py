"""For tests: a real store and a real server, thrown away afterwards.

chDB opens one folder per process, so that all test stores of one process live in one in-memory engine, each in its own database. The
first is migrated; the others get the tables that it ended with, which takes a quarter of the time.
`HEEDLOOP_TEST_STORE` may name a ClickHouse server instead (`clickhouse://user:password@host:8123`), and `HEEDLOOP_TEST_CLUSTER` a cluster
of it, to run the same tests there: each is migrated.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from heedloop_server.store.connection import Store, parse_dsn
from heedloop_server.store.open import open_store

__all__ = ["temporary_store"]

_Tables = tuple[str, list[str], list[dict[str, Any]]]
_migrated: list[_Tables] = []


@contextmanager
def temporary_store() -> Generator[Store]:
    """A migrated, empty store in a database of its own, dropped at the end."""
    database = f"test_{secrets.token_hex(6)}"
    base = os.environ.get("HEEDLOOP_TEST_STORE", "")
    dsn = f"{base.rstrip('/')}/{database}" if base else f"chdb://:memory:?database={database}"
    cluster = os.environ.get("HEEDLOOP_TEST_CLUSTER", "") if base else ""
    if _migrated and not base:
        store = Store(parse_dsn(dsn), num_clients=4, threads=1)
        _create_tables(store, *_migrated[0])
    else:
        store = open_store(dsn, cluster=cluster, num_clients=4, threads=1)
        if not base:
            _migrated.append(_tables(store))
    try:
        yield store
    finally:
        on_cluster = f"ON CLUSTER '{cluster}'" if cluster else ""
        store.command(f"DROP DATABASE IF EXISTS {database} {on_cluster} SYNC")
        store.close()


def _tables(store: Store) -> _Tables:
    """The database's name, the statements that make its tables (views last), and the rows of its migrations."""
    database = store.address.database
    statements = store.rows(
        "SELECT create_table_query FROM system.tables WHERE database = {database:String} ORDER BY engine LIKE '%View', name",
        {"database": database},
    )
    applied = store.rows("SELECT id, name, checksum FROM schema_migrations FINAL")
    return database, [s["create_table_query"] for s in statements], applied


def _create_tables(store: Store, database: str, statements: list[str], applied: list[dict[str, Any]]) -> None:
    store.create_database()
    for statement in statements:
        store.command(statement.replace(database, store.address.database))
    store.insert("schema_migrations", applied)
