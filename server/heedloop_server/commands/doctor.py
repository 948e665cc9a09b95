"""`heedloop doctor`: what a person should know about a server: versions, disk, parts, mutations, broken parts, log, quarantine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from heedloop.client import ApiError
from heedloop.responses import TableSize
from heedloop_server.commands.store_option import (
    STORE,
    CommandError,
    add_server_arguments,
    add_settings_arguments,
    chosen_settings,
    client_of,
    opened_store,
)
from heedloop_server.errors import ServerError
from heedloop_server.ingest.condition import ERROR_SUFFIX, folder_problems
from heedloop_server.ingest.intake import counts_in, server_id
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.segments import SUFFIX, number_of, read_segment
from heedloop_server.settings import Settings
from heedloop_server.store.admin.health import MANY_PARTS, read_health
from heedloop_server.store.admin.ledger import Tally, insert_tallies
from heedloop_server.store.connection import Store, StoreError

HELP = "check a running server (--url), a stopped one's data folder, or its ClickHouse: versions, disk, parts, damage, log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    add_settings_arguments(parser, STORE)
    add_server_arguments(parser, scope="instance")
    parser.add_argument(
        "--set-aside",
        type=int,
        metavar="SEGMENT",
        help="of a stopped server: put a segment that cannot be stored into quarantine and count it as rejected",
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where something needs a person."""
    print(_versions())
    try:
        wrong = _ask(args) if args.url else _look(args)
    except (ApiError, CommandError, ServerError, StoreError, OSError, ValueError) as err:
        print(f"heedloop doctor: {err}", file=sys.stderr)
        return 1
    for problem in wrong:
        print(f"! {problem}")
    print("all well" if not wrong else f"{len(wrong)} things need a look")
    return 1 if wrong else 0


def _ask(args: argparse.Namespace) -> list[str]:
    """The problems that a running server names."""
    health = client_of(args).health()
    print(f"server {health.version}, engine {health.engine}")
    _print_tables(health.tables)
    print(f"{health.backlog_bytes / 1e6:.1f} MB wait in the log, the oldest for {health.lag_s:.1f} s")
    return health.problems


def _look(args: argparse.Namespace) -> list[str]:
    """The problems of a stopped server's folder, and of its store."""
    settings = chosen_settings(args)
    with opened_store(settings) as store:
        if args.set_aside is not None:
            _quarantine(store, settings, args.set_aside)
        health = read_health(store)
    print(f"engine {health.version}")
    _print_tables(health.tables)
    return [*health.problems(MANY_PARTS), *folder_problems(settings.data, is_running=False)]


def _print_tables(tables: Iterable[TableSize]) -> None:
    for t in tables:
        print(f"  {t.table:<18} {t.rows:>12,} rows  {t.bytes / 1e6:>10,.1f} MB  {t.parts:>4} parts")


def _quarantine(store: Store, settings: Settings, number: int) -> None:
    """Put a segment of spans into quarantine; what it held is counted as rejected."""
    found = [p for p in settings.log_folder.glob(f"*{SUFFIX}") if number_of(p) == number]
    if not found:
        raise CommandError(f"there is no segment {number} in {settings.log_folder}")
    (path,) = found
    counts = counts_in(read_segment(path))
    tallies = {project: Tally() for project in counts}
    for project, tally in tallies.items():
        tally.reject("set_aside", counts[project])
    error = path.with_suffix(ERROR_SUFFIX)
    why = error.read_text() if error.exists() else "set aside by heedloop doctor"
    kept = Quarantine(settings.log_folder).keep(
        f"{path.stem}.bin", path.read_bytes(), project="", reason="set_aside", error=why
    )
    insert_tallies(store, "spans", f"{server_id(settings.data)}/{number}", tallies.items())
    path.unlink()
    error.unlink(missing_ok=True)
    print(f"segment {number} ({counts.total()} records) is in {kept}")


def _versions() -> str:
    found: list[str] = []
    for name in ("heedloop", "fastapi", "uvicorn", "clickhouse-connect", "chdb", "protobuf"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return ", ".join(found)
