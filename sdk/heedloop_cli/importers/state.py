"""What an import keeps on this machine: where it is (a cursor per import) and the key of its pseudonyms."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from heedloop.schema import format_time, parse_time, utc_now
from heedloop_cli.importers.sender import Balance

PSEUDONYM_KEY = "HEEDLOOP_PSEUDONYM_KEY"


def default_folder() -> Path:
    """`$XDG_STATE_HOME/heedloop/imports`, else the same under `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "heedloop" / "imports"


def pseudonym_key(folder: Path) -> str:
    """The key of `HEEDLOOP_PSEUDONYM_KEY`, else one that is made once and kept in the folder for its owner alone."""
    stated = os.environ.get(PSEUDONYM_KEY)
    if stated:
        return stated
    path = folder / "pseudonym.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text().strip()


@dataclass(slots=True)
class Cursor:
    """Where an import is; a file that is there only while it is not done.

    Attributes:
        path: its file.
        now: when the import began, which is the time of what has none, also after a break.
        import_id: what the import's records are marked with.
        balance: what is stored and counted so far.
    """

    path: Path
    now: datetime = field(default_factory=utc_now)
    import_id: str = field(default_factory=lambda: secrets.token_hex(8))
    balance: Balance = field(default_factory=Balance)

    @classmethod
    def of(cls, folder: Path, files: Iterable[Path], *parts: object) -> Cursor:
        """The cursor of an import of these files, as they are now, into one project; a new one where none was left."""
        states = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        name = hashlib.sha256(json.dumps([states, [str(p) for p in parts]]).encode()).hexdigest()[:24]
        path = folder / f"{name}.json"
        if not path.exists():
            return cls(path)
        left = json.loads(path.read_text(encoding="utf-8"))
        now = parse_time(left["now"], field="now")
        return cls(path, now, left["import_id"], Balance.from_json(left["balance"]))

    def save(self) -> None:
        """Write it down, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        entry = {
            "now": format_time(self.now),
            "import_id": self.import_id,
            "balance": self.balance.to_json(),
        }
        part.write_text(json.dumps(entry), encoding="utf-8")
        part.replace(self.path)

    def remove(self) -> None:
        """The import is done."""
        self.path.unlink(missing_ok=True)
