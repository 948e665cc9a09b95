"""Reaching a server for a command: a running one by its address, or its store while it is stopped; the same words when it cannot."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedloop.client import Client
from heedloop_server.ingest.log import LogInUse, take_lock
from heedloop_server.settings import Settings, read_settings
from heedloop_server.store.connection import Store, parse_dsn
from heedloop_server.store.open import open_store


class CommandError(Exception):
    """What the command prints before it ends with status 1."""


STORE = ("data", "store", "cluster", "replicated_database")
"""Settings that say where a store is."""


def add_settings_arguments(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """A flag for each of the settings, with its description as help; one that is not given is None."""
    for name in names:
        field = Settings.model_fields[name]
        how: dict[str, Any] = {"action": "store_const", "const": True} if field.annotation is bool else {}
        parser.add_argument(f"--{name.replace('_', '-')}", help=field.description, **how)


def add_server_arguments(parser: argparse.ArgumentParser, *, scope: str) -> None:
    """--url and --api-key, for a server that runs."""
    parser.add_argument(
        "--url", help="address of a running server, such as http://127.0.0.1:8321, to ask instead"
    )
    parser.add_argument(
        "--api-key",
        help=f"for --url: a key with the scope {scope}; better in HEEDLOOP_API_KEY, where no process list shows it",
    )


def client_of(args: argparse.Namespace) -> Client:
    """The client of the server that --url names."""
    if args.data or args.store:
        raise CommandError(
            "give either --url, for a running server, or --data and --store, for a stopped one"
        )
    if not (args.api_key or os.environ.get("HEEDLOOP_API_KEY")):
        raise CommandError("--url needs a key: set HEEDLOOP_API_KEY (`heedloop serve` prints the first one)")
    return Client(args.url, args.api_key, timeout_s=60)


def chosen_settings(args: argparse.Namespace) -> Settings:
    """Settings from the flags, the environment and the defaults; raises `ValueError` with what is wrong."""
    return read_settings({n: getattr(args, n, None) for n in STORE})


@contextmanager
def stopped_server(settings: Settings) -> Generator[None]:
    """Hold the data folder, so that no server starts meanwhile; raises `CommandError` where one runs."""
    settings.log_folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(settings.log_folder)
    except LogInUse as err:
        raise CommandError(
            f"{err}; stop it first, or ask it by its address: --url and a key in HEEDLOOP_API_KEY"
        ) from None
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def opened_store(settings: Settings) -> Generator[Store]:
    """The store; an embedded one only where no server runs on it.

    Raises:
        CommandError: a server runs on it, or there is no store in the folder.
    """
    address = parse_dsn(settings.store_dsn)
    if address.kind != "chdb":
        store = open_store(settings.store_dsn, topology=settings.topology, num_clients=2)
        try:
            yield store
        finally:
            store.close()
        return
    if address.path and not Path(address.path).is_dir():
        raise CommandError(
            f"there is no heedloop store in {settings.data}; --data or HEEDLOOP_DATA names the server's data folder"
        )
    with stopped_server(settings):
        store = open_store(settings.store_dsn, num_clients=2)
        try:
            yield store
        finally:
            store.close()
