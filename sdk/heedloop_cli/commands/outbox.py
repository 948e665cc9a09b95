"""`heedloop outbox`: what waits on this machine for a server, by key; deliver it with another key, or drop it."""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from heedloop._delivery import Courier
from heedloop._http import check_key, clean_key, clean_url, key_id
from heedloop._options import older_names, outbox_folder
from heedloop._outbox import Outbox, try_lock
from heedloop._store import Store
from heedloop._transport import HttpTransport

HELP = "what waits on this machine for a server: list it, deliver it with this key, or drop it"
_KEY = re.compile(r"outbox-([0-9a-f]{12})\.sqlite3")
_MAX_BYTES = 2**62


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `deliver` and `drop`."""
    parser.add_argument("action", choices=("list", "deliver", "drop"), help="what to do with the files")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        help="outbox files; all in the folder where none is named (not for drop)",
    )
    parser.add_argument(
        "--folder", help="folder of the outbox; HEEDLOOP_OUTBOX, else the user's state folder"
    )
    parser.add_argument("--url", help="the server's address; HEEDLOOP_URL, else http://127.0.0.1:8321")
    parser.add_argument("--api-key", help="a key of the project; better in HEEDLOOP_API_KEY")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that delivering may take (60)")
    parser.add_argument("--yes", action="store_true", help="drop without asking")


def run(args: argparse.Namespace) -> int:
    """Run the action; 0 where nothing is left to do, 1 where records still wait, 2 for wrong arguments."""
    try:
        files = _files(args)
        if args.action == "list":
            return _list(files)
        return _deliver(args, files) if args.action == "deliver" else _drop(args, files)
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"heedloop outbox: {error}", file=sys.stderr)
        return 2


@dataclass(frozen=True)
class Waiting:
    """What waits in one file; `feedback` and `spans` are numbers of records."""

    path: Path
    feedback: int
    spans: int
    refused: int
    oldest: float | None

    @property
    def num_records(self) -> int:
        """Feedback and spans that wait."""
        return self.feedback + self.spans


def _files(args: argparse.Namespace) -> list[Path]:
    if args.files:
        missing = [p for p in args.files if not p.is_file()]
        if missing:
            raise ValueError(f"{missing[0]} is no file")
        return list(args.files)
    folder = outbox_folder(args.folder)
    if folder is None:
        raise ValueError("HEEDLOOP_OUTBOX is 'memory': nothing waits on disk")
    return sorted(folder.glob("outbox-*.sqlite3"))


def _waiting(path: Path) -> Waiting:
    store = Store(path, max_bytes=_MAX_BYTES)
    try:
        feedback, spans = store.num_waiting()
        return Waiting(path, feedback, spans, len(store.refused_feedback()), store.oldest())
    finally:
        store.close()


def _list(files: Sequence[Path]) -> int:
    if not files:
        print("no outbox files: nothing waits")
    for outbox in map(_waiting, files):
        key = _KEY.fullmatch(outbox.path.name)
        since = ""
        if outbox.oldest is not None:
            since = f", since {datetime.fromtimestamp(outbox.oldest, timezone.utc):%Y-%m-%d %H:%M} UTC"
        refused = f", {outbox.refused} refused by the server" if outbox.refused else ""
        print(
            f"{outbox.path}\n  key {f'hl_{key[1]}_…' if key else 'unknown (made by an earlier version)'}: "
            f"{outbox.feedback} feedback and {outbox.spans} spans wait{refused}{since}"
        )
    return 0


def _deliver(args: argparse.Namespace, files: Sequence[Path]) -> int:
    key = clean_key(args.api_key) or clean_key(os.environ.get("HEEDLOOP_API_KEY"))
    check_key(key)
    url = clean_url(args.url)
    named = {p.resolve() for p in args.files}
    left = 0
    for path in files:
        left += _deliver_one(path, url, key, is_named=path.resolve() in named, timeout_s=args.timeout)
    return 1 if left else 0


def _deliver_one(path: Path, url: str, key: str, *, is_named: bool, timeout_s: float) -> int:
    """Deliver one file; returns the number of records that still wait in it."""
    before = _waiting(path)
    if not before.num_records:
        return 0
    transport = HttpTransport(url, key)
    owner = _KEY.fullmatch(path.name)
    is_own = path.name in older_names(url, key) or (owner is not None and owner[1] == key_id(key))
    if not (is_named or is_own or _is_of_this_project(transport, owner)):
        print(f"{path}: is of another key; name the file to deliver it to this key's project")
        return before.num_records
    courier = _courier(path, transport)
    courier.flush(time.monotonic() + timeout_s, give_up_on_failure=True)
    courier.close(time.monotonic() + 5)
    after = _waiting(path)
    print(f"{path}: {before.num_records - after.num_records} delivered, {after.num_records} still wait")
    if after.num_records and courier.last_error:
        print(f"  {courier.last_error}", file=sys.stderr)
    return after.num_records


def _courier(path: Path, transport: HttpTransport) -> Courier:
    return Courier(
        Outbox(path, max_bytes=_MAX_BYTES, adopts=False),
        transport,
        on_response=lambda: None,
        on_tick=lambda: None,
        report_counts=dict,
    )


def _is_of_this_project(transport: HttpTransport, owner: re.Match[str] | None) -> bool:
    if owner is None:
        return False
    response = transport.get(f"/v1/me?of_key={owner[1]}")
    return isinstance(response.body, dict) and response.body.get("same_project") is True


def _drop(args: argparse.Namespace, files: Sequence[Path]) -> int:
    if not args.files:
        raise ValueError("drop: name the files, as `heedloop outbox list` shows them")
    for path in files:
        outbox = _waiting(path)
        what = f"{outbox.feedback} feedback and {outbox.spans} spans in {path}"
        if not args.yes and input(f"drop {what}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("kept")
            continue
        lock = try_lock(path.with_name(path.name + ".lock"))
        if lock is None:
            raise ValueError(f"{path} is being delivered by a process that runs; stop it first")
        store = Store(path, max_bytes=_MAX_BYTES)
        store.drop_all()
        store.close()
        print(f"dropped {what}")
    return 0
