"""`heedloop backup`: copy a stopped server's data folder or the store of a running one, check a copy, and put one back."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import threading
from pathlib import Path

from heedloop.client import ApiError
from heedloop_server.commands.store_option import (
    CommandError,
    add_server_arguments,
    add_settings_arguments,
    chosen_settings,
    client_of,
    stopped_server,
)
from heedloop_server.errors import ServerError
from heedloop_server.settings import Settings
from heedloop_server.store.admin.backups import METADATA, restore_backup
from heedloop_server.store.connection import Store, StoreError, parse_dsn

HELP = (
    "copy an embedded store, of a running server or with the log of a stopped one; check a copy, restore one"
)

MANIFEST = "heedloop-backup.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and where."""
    parser.add_argument("action", choices=("create", "verify", "restore"))
    parser.add_argument(
        "copy",
        type=Path,
        help="folder of the copy, new for create; with --url its name in backups/ of the data folder",
    )
    add_settings_arguments(parser, ["data"])
    add_server_arguments(parser, scope="instance")
    parser.set_defaults(store=None)


def run(args: argparse.Namespace) -> int:
    """Do it; every file is read back and compared with the manifest."""
    settings = chosen_settings(args)
    try:
        if args.url:
            return _create_online(args)
        if args.action == "restore" and (args.copy / METADATA).is_file():
            return _restore_online(args.copy, settings)
        if args.action == "create":
            with stopped_server(settings):
                _create(settings.data, args.copy)
        elif args.action == "restore":
            _restore(args.copy, settings.data)
        count = _verify(args.copy if args.action != "restore" else settings.data, args.copy / MANIFEST)
    except (CommandError, ApiError, StoreError, ServerError, OSError) as err:
        print(f"heedloop backup: {err}", file=sys.stderr)
        return 1
    print(f"{args.action}: {count} files are whole")
    return 0


def _create_online(args: argparse.Namespace) -> int:
    """Ask a running server for a backup and wait until the engine has written it."""
    if args.action != "create":
        raise CommandError(f"{args.action} is for a folder on this machine; leave --url out")
    client, pause = client_of(args), threading.Event()
    backup = client.start_backup(args.copy.name)
    while backup.state == "running":
        pause.wait(0.2)
        backup = next(b for b in client.backups() if b.name == backup.name)
    if backup.state == "failed":
        raise CommandError(f"the backup {backup.name} failed: {backup.error}")
    print(
        f"create: backup {backup.name} ({backup.num_files} files, {backup.bytes} bytes) is in backups/ of the data folder"
    )
    return 0


def _restore_online(copy: Path, settings: Settings) -> int:
    """Put a backup of a running server into a new data folder."""
    address = parse_dsn(settings.store_dsn)
    if Path(address.path).exists():
        raise CommandError(f"{address.path} is there already; name a new data folder by --data")
    with stopped_server(settings):
        store = Store(address, num_clients=2)
        restore_backup(store, copy)
        store.close()
    print(f"restore: {copy} is in {settings.data}; start the server on it")
    return 0


def _create(data: Path, copy: Path) -> None:
    if copy.exists() and any(copy.iterdir()):
        raise CommandError(f"{copy} is not empty")
    if not (data / "server-id").exists():
        raise CommandError(f"{data} is no data folder of a server")
    shutil.copytree(
        data,
        copy,
        dirs_exist_ok=True,
        symlinks=True,
        ignore=shutil.ignore_patterns("lock", "status", "backups"),
    )
    sums = {
        str(p.relative_to(copy)): _sum(p)
        for p in sorted(copy.rglob("*"))
        if p.is_file() and not p.is_symlink()
    }
    (copy / MANIFEST).write_text(json.dumps(sums, indent=0))


def _restore(copy: Path, data: Path) -> None:
    if data.exists() and any(data.iterdir()):
        raise CommandError(f"{data} is not empty; move it away first")
    _verify(copy, copy / MANIFEST)
    shutil.copytree(copy, data, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns(MANIFEST))


def _verify(folder: Path, manifest: Path) -> int:
    """How many files were compared; raises `CommandError` at the first that is missing or differs."""
    try:
        sums = json.loads(manifest.read_text())
    except ValueError:
        raise CommandError(f"{manifest} is damaged") from None
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file() or _sum(path) != expected:
            raise CommandError(f"{path} is missing or differs from the manifest")
    return len(sums)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
