"""`heedloop serve`: a server in this process."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from heedloop_server.app import create_app
from heedloop_server.commands.store_option import STORE, add_settings_arguments
from heedloop_server.errors import ServerError
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.http.log_lines import set_up_logging
from heedloop_server.http.own_traces import check_endpoint
from heedloop_server.ingest.log import LogInUse, take_lock
from heedloop_server.routes.otlp_grpc import GrpcMissing, check_grpc
from heedloop_server.settings import read_settings
from heedloop_server.store.admin.keys import insert_project, num_keys
from heedloop_server.store.connection import Store, StoreError
from heedloop_server.store.open import open_store

HELP = "run a server: OTLP and feedback in, the REST API out"


_FLAGS = ("host", "port", "grpc_port", *STORE, "public_url")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per setting that people change; all settings are in docs/server.md and in the environment as HEEDLOOP_<NAME>."""
    parser.add_argument(
        "--settings",
        type=Path,
        help="file of HEEDLOOP_… lines to read instead of .env; the environment and flags win",
    )
    add_settings_arguments(parser, _FLAGS)
    parser.add_argument(
        "--key-file",
        type=Path,
        help="where to write the first key of a new store (mode 0600) instead of printing it",
    )
    parser.add_argument("--project", default="default", help="project of the first key (default)")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))


def run(args: argparse.Namespace) -> int:
    """Open the store, make the first key where there is none, and serve until a signal."""
    if args.settings is not None and not args.settings.is_file():
        return _fail(f"there is no settings file {args.settings}")
    try:
        settings = read_settings({n: getattr(args, n) for n in _FLAGS}, file=args.settings)
    except ValueError as err:
        return _fail(str(err))
    set_up_logging(args.log_level, settings.log_format)
    try:
        if settings.grpc_port is not None:
            check_grpc()
        if settings.otlp_endpoint:
            check_endpoint(settings.otlp_endpoint, host=settings.host, port=settings.port)
        listener = _listen(settings.host, settings.port)
    except (GrpcMissing, ValueError) as err:
        return _fail(str(err))
    except OSError as err:
        return _fail(
            f"cannot listen on {settings.host}:{settings.port}: {err.strerror}. Is another server running? --port takes another one"
        )
    try:
        guard = _guard(settings.log_folder)
        store = open_store(
            settings.store_dsn,
            topology=settings.topology,
            num_clients=settings.store_clients,
            threads=settings.store_threads,
        )
    except LogInUse as err:
        return _fail(
            f"{err}. One folder belongs to one server; for several servers run a ClickHouse server and start each with its own --data and --store clickhouse://user:password@host:8123/heedloop"
        )
    except (StoreError, ServerError, ValueError, OSError) as err:
        return _fail(str(err))
    os.close(guard)
    try:
        _first_key(store, args.project, args.key_file)
        app = create_app(settings, store=store)
        config = uvicorn.Config(
            app,
            log_level=args.log_level,
            log_config=None,
            access_log=False,
            lifespan="on",
            proxy_headers=True,
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_graceful_shutdown=10,
            server_header=False,
        )
        host, port = listener.getsockname()[:2]
        if settings.grpc_port is not None:
            print(f"heedloop takes OTLP/gRPC on {settings.host}:{settings.grpc_port}", flush=True)
        print(f"heedloop serves on http://{host}:{port}", flush=True)
        # the loader's thread computes for long; five milliseconds, the default, is more than an answer may take
        sys.setswitchinterval(0.0005)
        # what is loaded stays: each full collection would walk over it all, 80 ms in which nobody is answered
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000)  # a batch of feedback is a hundred thousand objects, all of which are needed
        # uvicorn stops on these signals and raises them again afterwards; ours then do nothing, so that the store is closed
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        store.close()
    return 0


def _fail(message: str) -> int:
    print(f"heedloop serve: {message}", file=sys.stderr)
    return 1


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


def _guard(folder: Path) -> int:
    """See early whether another server has the folder, before the embedded store is asked, whose own words are opaque."""
    folder.mkdir(parents=True, exist_ok=True)
    return take_lock(folder)


def _first_key(store: Store, project: str, key_file: Path | None) -> None:
    """A new store gets its first key; it is shown once, here, or written to the file."""
    if num_keys(store):
        return
    insert_project(store, project)
    text, _ = make_key(store, project, name="first key", scopes=SCOPES)
    if key_file is None:
        print(
            f"The first key of this store, shown this once (project {project}, every scope):\n\n    {text}\n",
            flush=True,
        )
        return
    key_file.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(key_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as out:
        out.write(text + "\n")
    print(f"The first key of this store is in {key_file}", flush=True)
