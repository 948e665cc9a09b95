"""What a person should know about a server's data folder: free disk, quarantine, what waits in the log and why."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.segments import SUFFIX, number_of

LOW_DISK_BYTES = 2 << 30
ERROR_SUFFIX = ".error"
"""Of a file beside a segment that cannot be loaded: it says why."""


def folder_problems(data: Path, *, is_running: bool) -> list[str]:
    """One sentence for each thing that needs a person; what waits is none as long as a server runs."""
    if not data.exists():
        return []
    wrong: list[str] = []
    free = shutil.disk_usage(data).free
    if free < LOW_DISK_BYTES:
        wrong.append(f"only {free / 1e9:.1f} GB are free on the disk of {data}")
    wrong += _quarantined(data / "log")
    segments = segments_in(data / "log")
    for path in segments:
        error = path.with_suffix(ERROR_SUFFIX)
        if error.exists():
            wrong.append(
                f"segment {number_of(path)} ({path}) cannot be stored: {error.read_text()[:500]}. To set it aside stop the server "
                f"and run: heedloop doctor --data {data} --set-aside {number_of(path)}"
            )
    waiting = sum(p.stat().st_size for p in segments)
    if waiting and not is_running:
        wrong.append(f"{waiting / 1e6:.1f} MB wait in the log; the next start stores them")
    return wrong


def segments_in(log_folder: Path) -> list[Path]:
    """The segments of both logs."""
    return sorted(log_folder.rglob(f"*{SUFFIX}"))


def _quarantined(log_folder: Path) -> list[str]:
    quarantine = Quarantine(log_folder)
    kept = list(quarantine)
    counts = Counter((k.reason, k.project) for k in kept)
    newest = {(k.reason, k.project): k.error for k in kept}
    return [
        f"{num} records{f' of project {project}' if project else ''} are in quarantine ({reason}) in {quarantine.folder}"
        + (f"; the last says: {error[:200]}" if (error := newest[reason, project]) else "")
        for (reason, project), num in sorted(counts.items())
    ]
