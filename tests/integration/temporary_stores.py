"""For tests: a real store and a real server, thrown away afterwards.

chDB opens one folder per process, so that all test stores of one process live in one in-memory engine, each in its own database. The
first is migrated; the others get the tables that it ended with, or a database that an earlier one left as it was, emptied.
`HEEDLOOP_TEST_STORE` may name a ClickHouse server instead (`clickhouse://user:password@host:8123`), `HEEDLOOP_TEST_CLUSTER` a cluster
of it, or `HEEDLOOP_TEST_REPLICATED_DATABASE` databases of engine Replicated, to run the same tests there: each is migrated.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from heedloop_server.store.connection import DATABASE, Store, parse_dsn
from heedloop_server.store.migrate import migrate
from heedloop_server.store.open import open_store
from heedloop_server.store.topology import Topology

_Schema = tuple[list[str], list[dict[str, Any]]]
"""The statements that make the tables of the database `DATABASE`, and the rows of their migrations."""
_migrated: list[_Schema] = []
_emptied: list[Store] = []
"""Open, because what is in memory is gone with its last client."""


@contextmanager
def temporary_store() -> Generator[Store]:
    """A migrated, empty store in a database of its own."""
    if base := os.environ.get("HEEDLOOP_TEST_STORE", "").rstrip("/"):
        with _server_store(base) as store:
            yield store
        return
    former = _emptied.pop() if _emptied else None
    database = former.address.database if former else _new_name()
    store = _open(database)
    if former:
        former.close()
    elif _migrated:
        _create_tables(store, *_migrated[0])
    else:
        migrate(store)
        _migrated.append(_schema(store))
    try:
        yield store
    finally:
        if _schema(store) == _migrated[0]:
            _empty(store)
            _emptied.append(_open(database))
        else:
            store.command(f"DROP DATABASE {database} SYNC")
        store.close()


def close_engine() -> None:
    """Let go of the databases kept for the next stores, so that this process may open a folder."""
    while _emptied:
        _emptied.pop().close()


def _open(database: str) -> Store:
    store = Store(parse_dsn(f"chdb://:memory:?database={database}"), num_clients=4, threads=1)
    store.create_database()
    return store


@contextmanager
def _server_store(base: str) -> Generator[Store]:
    database, env = _new_name(), os.environ
    topology = Topology(
        env.get("HEEDLOOP_TEST_CLUSTER", ""), bool(env.get("HEEDLOOP_TEST_REPLICATED_DATABASE"))
    )
    store = open_store(f"{base}/{database}", topology=topology, num_clients=4, threads=1)
    try:
        yield store
    finally:
        store.command(f"DROP DATABASE IF EXISTS {database} {topology.on_cluster} SYNC")
        store.close()


def _new_name() -> str:
    return f"test_{secrets.token_hex(6)}"


def _schema(store: Store) -> _Schema:
    database = store.address.database
    statements = store.rows(
        "SELECT create_table_query FROM system.tables WHERE database = {database:String} ORDER BY name",
        {"database": database},
    )
    applied = store.rows("SELECT id, name, checksum FROM schema_migrations FINAL")
    return [s["create_table_query"].replace(database, DATABASE) for s in statements], applied


def _create_tables(store: Store, statements: list[str], applied: list[dict[str, Any]]) -> None:
    for statement in statements:
        store.command(statement.replace(DATABASE, store.address.database, 1))
    store.insert("schema_migrations", applied)


def _empty(store: Store) -> None:
    database = store.address.database
    tables = store.rows(
        "SELECT name FROM system.tables WHERE database = {database:String}", {"database": database}
    )
    for table in tables:
        if table["name"] != "schema_migrations":
            store.command(f"TRUNCATE TABLE {table['name']}")
