"""Quarantine: what was accepted and cannot be stored, and what of the logs is damaged, kept for a person to look at.

A record is a file of its own bytes (`.pb` OTLP, `.json` feedback, `.bin` unread bytes of a log) and a `.why` file beside it. It is the
one place outside the store where texts stay, so that an erasure goes through it too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("heedloop.intake")

FOLDER = "quarantine"
_FORMER_FOLDERS = ("refused", "damaged", "feedback/refused", "feedback/damaged")
"""Where versions before 0.2 kept such records."""
_NOTE = ".why"
_MAX_ERROR_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record in quarantine.

    Attributes:
        project: empty where its bytes do not tell.
        reason: as the ledger counts it.
        error: what was raised.
    """

    path: Path
    project: str
    reason: str
    error: str


class Quarantine:
    """The quarantine of one request log's folder."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self.folder = log_folder / FOLDER

    def keep(self, name: str, content: bytes, *, project: str, reason: str, error: str) -> Path:
        """Keep a record under its name, which is the same whenever it is tried again; returns its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_bytes(content)
        note = {"project": project, "reason": reason, "error": error[:_MAX_ERROR_CHARS]}
        path.with_suffix(_NOTE).write_text(json.dumps(note))
        log.error("a record of project %r is in quarantine (%s), %s: %s", project, path, reason, error[:300])
        return path

    def __iter__(self) -> Iterator[Quarantined]:
        for path in self._paths():
            note = _note(path)
            yield Quarantined(
                path, note.get("project", ""), note.get("reason", "unknown"), note.get("error", "")
            )

    def __len__(self) -> int:
        return sum(1 for _ in self._paths())

    def purge(self, words: Iterable[str | bytes]) -> int:
        """Delete every record that holds one of the words (a user's id, a trace id's bytes); returns how many went."""
        needles = {n for w in words for n in _forms(w)}
        num = 0
        for path in list(self._paths()):
            note = path.with_suffix(_NOTE)
            content = path.read_bytes() + (note.read_bytes() if note.exists() else b"")
            if any(n in content for n in needles):
                path.unlink()
                note.unlink(missing_ok=True)
                num += 1
        if num:
            log.warning("an erasure deleted %d records in quarantine", num)
        return num

    def _paths(self) -> Iterator[Path]:
        for name in (FOLDER, *_FORMER_FOLDERS):
            for path in sorted((self._log_folder / name).glob("*")):
                if path.suffix != _NOTE:
                    yield path


def _note(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.with_suffix(_NOTE).read_text())
    except (OSError, ValueError):
        return {}


def _forms(word: str | bytes) -> set[bytes]:
    """A word as protobuf has it, and as it stands in JSON, which writes quotes and backslashes in another way."""
    if isinstance(word, bytes):
        return {word} - {b""}
    return {w.encode("utf-8", "replace") for w in (word, json.dumps(word, ensure_ascii=False)[1:-1])} - {b""}
