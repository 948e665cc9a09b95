"""Opening a store: its address, its database, its tables brought up to date."""

from __future__ import annotations

from pathlib import Path

from heedloop_server.store.connection import PLAIN, Store, parse_dsn
from heedloop_server.store.migrate import migrate
from heedloop_server.store.topology import Topology


def open_store(dsn: str, *, topology: Topology = PLAIN, num_clients: int = 8, threads: int = 2) -> Store:
    """Open the store a DSN names and bring its tables up to date.

    Raises:
        ValueError: the DSN is none.
        StoreBusy: another process has the embedded folder open.
        StoreError: its schema is newer than this program, a migration was edited, or its database cannot replicate.
        Unavailable: it does not answer.
    """
    address = parse_dsn(dsn)
    if address.kind == "chdb" and address.path:
        Path(address.path).mkdir(parents=True, exist_ok=True)
    store = Store(address, topology=topology, num_clients=num_clients, threads=threads)
    store.create_database()
    migrate(store)
    return store
