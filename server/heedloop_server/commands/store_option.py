"""Opening the store for a command that runs beside no server: the same flags, the same words when it cannot."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from heedloop_server.ingest.log import LogInUse, take_lock
from heedloop_server.settings import Settings
from heedloop_server.store.connection import Store
from heedloop_server.store.open import open_store

__all__ = ["CommandError", "add_store_arguments", "chosen_settings", "opened_store", "stopped_server"]


class CommandError(Exception):
    """What the command prints before it ends with status 1."""


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """--data, --store and --cluster, as `heedloop serve` has them."""
    parser.add_argument("--data", type=Path, help="the server's data folder (./.heedloop/data)")
    parser.add_argument(
        "--store", help="clickhouse://user:password@host:8123/heedloop instead of the embedded store"
    )
    parser.add_argument("--cluster", help="name of the ClickHouse cluster")


def chosen_settings(args: argparse.Namespace) -> Settings:
    """Settings from the flags, the environment and the defaults."""
    given = {n: v for n in ("data", "store", "cluster") if (v := getattr(args, n, None)) is not None}
    return Settings(**given)


@contextmanager
def stopped_server(settings: Settings) -> Generator[None]:
    """Hold the data folder, so that no server starts meanwhile; raises `CommandError` where one runs."""
    settings.log_folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(settings.log_folder)
    except LogInUse as err:
        raise CommandError(f"{err}; stop it first, or use its REST API (docs/api.md)") from None
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def opened_store(settings: Settings) -> Generator[Store]:
    """The store; an embedded one only where no server runs on it."""
    if settings.store and not settings.store.startswith("chdb:"):
        store = open_store(settings.store_dsn, cluster=settings.cluster, num_clients=2)
        try:
            yield store
        finally:
            store.close()
        return
    with stopped_server(settings):
        store = open_store(settings.store_dsn, num_clients=2)
        try:
            yield store
        finally:
            store.close()
