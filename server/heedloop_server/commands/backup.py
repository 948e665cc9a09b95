"""`heedloop backup`: copy a stopped server's data folder, check a copy, and put one back."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

from heedloop_server.commands.store_option import CommandError, chosen_settings, stopped_server

HELP = "copy a stopped server's embedded store and log, check a copy, restore one"

MANIFEST = "heedloop-backup.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and where."""
    parser.add_argument("action", choices=("create", "verify", "restore"))
    parser.add_argument("copy", type=Path, help="folder of the copy; new for create")
    parser.add_argument("--data", type=Path, help="the server's data folder (./.heedloop/data)")


def run(args: argparse.Namespace) -> int:
    """Do it; every file is read back and compared with the manifest."""
    settings = chosen_settings(args)
    try:
        if args.action == "create":
            with stopped_server(settings):
                _create(settings.data, args.copy)
        elif args.action == "restore":
            _restore(args.copy, settings.data)
        count = _verify(args.copy if args.action != "restore" else settings.data, args.copy / MANIFEST)
    except (CommandError, OSError) as err:
        print(f"heedloop backup: {err}", file=sys.stderr)
        return 1
    print(f"{args.action}: {count} files are whole")
    return 0


def _create(data: Path, copy: Path) -> None:
    if copy.exists() and any(copy.iterdir()):
        raise CommandError(f"{copy} is not empty")
    if not (data / "server-id").exists():
        raise CommandError(f"{data} is no data folder of a server")
    shutil.copytree(
        data, copy, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("lock", "status")
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
