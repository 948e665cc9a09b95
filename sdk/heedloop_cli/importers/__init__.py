"""Readers of human judgement files: preference pairs, ratings, ranked answers, as calls and `Feedback`.

    for line in read("pairs.jsonl.gz"):
        match line:
            case Line(): ...      # its calls and its feedback
            case BadLine(): ...   # its number, and what is wrong with it

Formats (docs/datasets.md has each one's fields): `jsonl` (ours, and the common pair and rating forms), `hh` (dialogues with
chosen and rejected), `tulu` (two answers with thumbs and a preference), `oasst` (conversation trees), `ukp` (arguments and pairs
of them). Ids are made from the contents, so that reading a file twice gives the same calls and the same feedback.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from heedloop.schema import SchemaError
from heedloop_cli.importers import hh, jsonl, oasst, tulu, ukp
from heedloop_cli.importers.record import BadLine, Line, Reader, Source, Wrong

__all__ = ["FORMATS", "BadLine", "Format", "Line", "detect", "num_rows", "read"]

Format = Literal["auto", "ukp", "tulu", "hh", "oasst", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)

_READERS: dict[str, Callable[[Source], Reader]] = {
    "ukp": ukp.reader,
    "tulu": tulu.reader,
    "hh": hh.reader,
    "oasst": oasst.reader,
    "jsonl": jsonl.reader,
}
MAX_LINE_BYTES = 64 << 20


def read(
    path: str | Path,
    *,
    format: Format = "auto",
    limit: int | None = None,
    answers: str | Path | None = None,
    default_time: datetime | None = None,
) -> Iterator[Line | BadLine]:
    """Every line of the file as its calls and feedback, or as what is wrong with it. Blank lines are passed over.

    Args:
        path: JSON Lines, gzipped where the name ends with .gz; UTF-8.
        format: `auto` finds it out from the first readable line.
        limit: read this many lines only.
        answers: for `ukp` pairs, the file with the arguments' texts; found beside the pairs where not given.
        default_time: time of what carries none; each format has its own default, the same on every reading.

    Raises:
        OSError: the file, or the file of its answers, cannot be opened.
        ValueError: no line shows which format it is.
    """
    where = Path(path)
    chosen = detect(where) if format == "auto" else format
    source = Source(where, default_time, None if answers is None else Path(answers))
    reader = _READERS[chosen](source)
    for number, row in _rows(where, limit):
        if isinstance(row, BadLine):
            yield row
        else:
            yield from _guarded(number, lambda n=number, r=row: reader.take(n, r))
    yield from reader.finish()


def _guarded(number: int, take: Callable[[], Iterator[Line | BadLine]]) -> Iterator[Line | BadLine]:
    try:
        yield from list(take())
    except (SchemaError, Wrong) as err:
        yield BadLine(number, err.field, err.reason)


def detect(path: str | Path) -> Format:
    """The format of a file by its first line that is a JSON object; raises `ValueError` where none is known."""
    for _, row in _rows(Path(path), 100):
        if isinstance(row, BadLine):
            continue
        formats = _format_of(row)
        if formats is not None:
            return formats
        raise ValueError(
            f"{path}: no known format has the fields {', '.join(sorted(row))}; name one with --format "
            f"({', '.join(FORMATS[1:])}), or write the file as docs/datasets.md shows"
        )
    raise ValueError(
        f"{path}: the first 100 lines hold no JSON object; expected JSON Lines, one object a line"
    )


def num_rows(path: str | Path, limit: int | None = None) -> int:
    """How many lines are not blank (up to `limit`), read without looking into them; 0 where the file is damaged."""
    count = 0
    try:
        with _open(Path(path)) as lines:
            for line in lines:
                count += bool(line.strip())
                if count == limit:
                    break
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return 0
    return count


def _format_of(row: Mapping[str, Any]) -> Format | None:
    names = set(row)
    if {"topic", "a1", "a2", "judgments"} <= names or {"topic", "arg", "text"} <= names:
        return "ukp"
    if {"completion_a", "completion_b", "preference"} <= names:
        return "tulu"
    if {"parent", "role", "text"} <= names or {"parent_id", "role", "text"} <= names or "replies" in names:
        return "oasst"
    if {"message_tree_id", "prompt"} <= names:
        return "oasst"
    if {"chosen", "rejected"} <= names:
        return "hh"
    return "jsonl" if jsonl.knows(names) else None


def _rows(path: Path, limit: int | None) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    number, num_rows = 0, 0
    with _open(path) as lines:
        while limit is None or num_rows < limit:
            number += 1
            try:
                text = lines.readline(MAX_LINE_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as err:
                yield number, BadLine(number, "", f"the compressed file is cut off or damaged here: {err}")
                return
            if not text:
                return
            if not text.strip():
                continue
            num_rows += 1
            yield number, _parsed(number, text)


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _parsed(number: int, text: bytes) -> dict[str, Any] | BadLine:
    if len(text) >= MAX_LINE_BYTES:
        return BadLine(number, "", f"is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        row = json.loads(text.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as err:
        return BadLine(number, "", f"is no UTF-8: byte {err.start + 1} is 0x{text[err.start]:02x}")
    except (ValueError, RecursionError) as err:
        return BadLine(number, "", f"is no JSON: {err}")
    if not isinstance(row, dict):
        return BadLine(number, "", f"is no JSON object but {type(row).__name__}")
    return cast(dict[str, Any], row)
