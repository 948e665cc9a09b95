"""`heedloop export calls` and `heedloop export feedback`: everything that a filter takes, in one file."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from heedloop.client import Client
from heedloop_cli.commands.progress import Progress
from heedloop_cli.commands.write_back import line_of, requests_of
from heedloop_cli.importers.network import send

Records = Literal["calls", "feedback"]
FileType = Literal["jsonl", "parquet", "arrow"]
RECORDS: tuple[Records, ...] = ("calls", "feedback")


def export_records(
    client: Client, what: Records, out: Path, file_type: FileType, where: Sequence[str]
) -> int:
    """Write `<what>.<type>` into the folder `out`, or the file that `out` names; it appears when it is whole, never in part.

    Calls as JSON Lines that broke off go on behind the last whole line; other files begin again.

    Raises:
        ValueError: a filter is not written as NAME=VALUE.
    """
    path = out if out.suffix == f".{file_type}" else out / f"{what}.{file_type}"
    path.parent.mkdir(parents=True, exist_ok=True)
    filters, part = _filters(where), part_of(path, where)
    is_resumable = what == "calls" and file_type == "jsonl"
    if is_resumable and part.exists():
        filters |= _last_call(part)
    else:
        part.write_bytes(b"")
    try:
        with part.open("ab") as file, Progress(f"writing {path.name}", 0, "bytes") as progress:
            for piece in client.export(what, fmt=file_type, **filters):
                file.write(piece)
                progress.show(file.tell())
        part.replace(path)
    finally:
        if not is_resumable:
            part.unlink(missing_ok=True)
    print(f"{path.stat().st_size:>13,} bytes  {path}")
    return 0


def part_of(path: Path, where: Sequence[str]) -> Path:
    """The unfinished file of an export with these filters."""
    digest = hashlib.sha256("\n".join(sorted(where)).encode()).hexdigest()[:8]
    return path.with_name(f"{path.name}.{digest}.part")


def _last_call(part: Path) -> dict[str, str]:
    """Where an unfinished file of calls goes on; its last line is cut off where it is not whole."""
    last, end = b"", 0
    with part.open("r+b") as file:
        for line in file:
            if line.endswith(b"\n"):
                last, end = line, end + len(line)
        file.truncate(end)
    if not last:
        return {}
    call = json.loads(last)
    return {"after": f"{call['trace_id']}:{call['span_id']}"}


def export_requests(client: Client, to: str, out: Path, where: Sequence[str], url: str | None) -> int:
    """Write the feedback as another system's requests, one a line, and send them where a URL is given; 1 where one was refused."""
    left_out = Counter[str]()
    made = requests_of(client.iter_feedback(**_filters(where)), to, left_out)
    if url is not None:
        num, refused = send(to, url, made)
        print(f"{num:>9,} requests taken by {url}, {len(refused):,} refused")
        for reason in refused[:20]:
            print(f"heedloop: {reason}", file=sys.stderr)
    else:
        path = out if out.suffix == ".jsonl" else out / f"feedback-{to}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("w", encoding="utf-8") as file:
            num = sum(file.write(line_of(r)) > 0 for r in made)
        part.replace(path)
        refused = []
        print(f"{num:>9,} requests  {path}")
    for reason, count in sorted(left_out.items()):
        print(f"{count:>9,} left out: {to} has no place for {reason}")
    return 1 if refused else 0


def _filters(where: Sequence[str]) -> dict[str, Any]:
    """Filter -> its value, or its values where it is named more than once."""
    filters: dict[str, Any] = {}
    for one in where:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise ValueError(f"--where {one!r} is not written as FILTER=VALUE, such as model=small")
        fields = filters.get(name)
        if fields is None:
            filters[name] = value
        else:
            filters[name] = [*(cast(list[str], fields) if isinstance(fields, list) else [fields]), value]
    return filters
