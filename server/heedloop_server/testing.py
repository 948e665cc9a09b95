"""For tests: a real store and a real server, thrown away afterwards.

chDB opens one folder per process, so that all test stores of one process live in one in-memory engine, each in its own database.
`HEEDLOOP_TEST_STORE` may name a ClickHouse server instead (`clickhouse://user:password@host:8123`), and `HEEDLOOP_TEST_CLUSTER` a cluster
of it, to run the same tests there.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager

from heedloop_server.store.connection import Store
from heedloop_server.store.open import open_store

__all__ = ["temporary_store"]


@contextmanager
def temporary_store() -> Generator[Store]:
    """A migrated, empty store in a database of its own, dropped at the end."""
    database = f"test_{secrets.token_hex(6)}"
    base = os.environ.get("HEEDLOOP_TEST_STORE", "")
    dsn = f"{base.rstrip('/')}/{database}" if base else f"chdb://:memory:?database={database}"
    cluster = os.environ.get("HEEDLOOP_TEST_CLUSTER", "") if base else ""
    store = open_store(dsn, cluster=cluster, num_clients=4, threads=1)
    try:
        yield store
    finally:
        on_cluster = f"ON CLUSTER '{cluster}'" if cluster else ""
        store.command(f"DROP DATABASE IF EXISTS {database} {on_cluster} SYNC")
        store.close()
