"""`heedloop doctor`: what a person should know about a server's data: versions, disk, parts, mutations, broken parts, log."""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HELP = "check a stopped server's data folder, or its ClickHouse: versions, disk, parts, damage, log"

LOW_DISK_BYTES = 2 << 30
MANY_PARTS = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    from heedloop_server.commands.store_option import add_store_arguments

    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where something needs a person."""
    from heedloop_server.commands.store_option import CommandError, chosen_settings, opened_store
    from heedloop_server.errors import ServerError
    from heedloop_server.store.admin.health import read_health
    from heedloop_server.store.connection import StoreError

    settings = chosen_settings(args)
    print(_versions())
    try:
        with opened_store(settings) as store:
            health = read_health(store)
    except (CommandError, ServerError, StoreError, ValueError) as err:
        print(f"heedloop doctor: {err}", file=sys.stderr)
        return 1
    print(f"engine {health.version}")
    for t in health.tables:
        print(
            f"  {t['table']:<18} {t['rows']:>12,} rows  {t['bytes'] / 1e6:>10,.1f} MB  {t['parts']:>4} parts"
        )
    wrong = [*health.problems(MANY_PARTS), *_folder_problems(settings.data)]
    for problem in wrong:
        print(f"! {problem}")
    print("all well" if not wrong else f"{len(wrong)} things need a look")
    return 1 if wrong else 0


def _versions() -> str:
    found: list[str] = []
    for name in ("heedloop", "fastapi", "uvicorn", "clickhouse-connect", "chdb", "protobuf"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return ", ".join(found)


def _folder_problems(data: Path) -> list[str]:
    if not data.exists():
        return []
    wrong: list[str] = []
    free = shutil.disk_usage(data).free
    if free < LOW_DISK_BYTES:
        wrong.append(f"only {free / 1e9:.1f} GB are free on the disk of {data}")
    for name, what in (
        ("damaged", "tails cut from damaged log files"),
        ("refused", "records the store refused"),
        ("feedback/damaged", "tails cut from damaged files of the feedback log"),
        ("feedback/refused", "feedbacks the store refused"),
    ):
        kept = list((data / "log" / name).glob("*"))
        if kept:
            wrong.append(f"{len(kept)} {what} are kept in {data / 'log' / name}")
    waiting = sum(p.stat().st_size for p in (data / "log").rglob("*.log"))
    if waiting:
        wrong.append(f"{waiting / 1e6:.1f} MB wait in the log; the next start stores them")
    return wrong
