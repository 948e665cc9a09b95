"""What the request log keeps aside for a person to look at: damaged ends, and requests that nobody could normalise.

It is the one place outside the store where words stay, so that an erasure goes through it too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

__all__ = ["purge_aside"]

log = logging.getLogger("heedloop.intake")

FOLDERS = ("refused", "damaged", "feedback/refused", "feedback/damaged")


def purge_aside(log_folder: Path, words: Iterable[str | bytes]) -> int:
    """Delete every file that holds one of the words (a user's id, a trace id's bytes); returns how many went."""
    needles = {n for w in words for n in _forms(w)}
    num = 0
    for folder in FOLDERS:
        for path in sorted((log_folder / folder).glob("*")):
            kept = path.read_bytes()
            if any(n in kept for n in needles):
                path.unlink()
                num += 1
    if num:
        log.warning("an erasure deleted %d requests that were kept aside", num)
    return num


def _forms(word: str | bytes) -> set[bytes]:
    """A word as protobuf has it, and as it stands in JSON, which writes quotes and backslashes in another way."""
    if isinstance(word, bytes):
        return {word} - {b""}
    return {w.encode("utf-8", "replace") for w in (word, json.dumps(word, ensure_ascii=False)[1:-1])} - {b""}
