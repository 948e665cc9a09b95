"""`heedloop export calls` and `heedloop export feedback`: everything that a filter takes, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from heedloop.client import Client
from heedloop_cli.commands.progress import Progress

__all__ = ["RECORDS", "export_records"]

Records = Literal["calls", "feedback"]
FileType = Literal["jsonl", "parquet", "arrow"]
RECORDS: tuple[Records, ...] = ("calls", "feedback")


def export_records(
    client: Client, what: Records, out: Path, file_type: FileType, where: Sequence[str]
) -> int:
    """Write `<what>.<type>` into the folder `out`, or the file that `out` names; it appears when it is whole, never in part.

    Raises:
        ValueError: a filter is not written as NAME=VALUE.
    """
    path = out if out.suffix == f".{file_type}" else out / f"{what}.{file_type}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    num = 0
    try:
        with part.open("wb") as file, Progress(f"writing {path.name}", 0, "bytes") as progress:
            for piece in client.export(what, fmt=file_type, **_filters(where)):
                file.write(piece)
                num += len(piece)
                progress.show(num)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    print(f"{num:>13,} bytes  {path}")
    return 0


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
