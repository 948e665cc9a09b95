"""What the request log keeps aside for a person to look at: damaged ends, and requests that nobody could normalise.

It is the one place outside the store where words stay, so that an erasure goes through it too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

__all__ = ["purge_aside"]

log = logging.getLogger("heedloop.intake")

FOLDERS = ("refused", "damaged", "feedback/refused", "feedback/damaged")


def purge_aside(log_folder: Path, words: Iterable[str | bytes]) -> int:
    """Delete every file that holds one of the words (a user's id, a trace id's bytes); returns how many went."""
    needles = [w.encode("utf-8", "replace") if isinstance(w, str) else w for w in words]
    num = 0
    for folder in FOLDERS:
        for path in sorted((log_folder / folder).glob("*")):
            kept = path.read_bytes()
            if any(n in kept for n in needles if n):
                path.unlink()
                num += 1
    if num:
        log.warning("an erasure deleted %d requests that were kept aside", num)
    return num
