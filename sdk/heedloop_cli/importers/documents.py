"""Files as rows: JSON Lines, JSON arrays, objects that hold a list, Parquet and CSV; gzipped or not; UTF-8 or UTF-16.

A row is a JSON object. A page of an API (`{"data": [...], "meta": ...}`) is its entries, each with the page's other fields under
`PAGE`. Lines and arrays are read in pieces, so that the size of a file does not matter; other objects are read whole.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import importlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from heedloop_cli.importers.record import BadLine

Row = dict[str, Any]

MAX_LINE_BYTES = 64 << 20
PAGE = "\x00page"
"""Key under which a row has the fields of the page that it was in; no JSON key of a source is like it."""
_LISTS = (
    "data", "records", "runs", "feedbacks", "feedback", "results", "calls", "traces", "annotations", "scores",
    "observations", "items", "events", "rows", "logs", "spans", "messages", "requests", "content",
)  # fmt: skip
"""The fields in which APIs and exports hold their entries."""
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_PIECE = 1 << 20
_SEPARATORS = " \t\r\n,"

csv.field_size_limit(MAX_LINE_BYTES)


Parse = Callable[[int, bytes], "Row | BadLine"]
"""What makes a row of a line and its number."""


def num_rows(path: str | Path, limit: int | None = None) -> int:
    """How many rows there are (up to `limit`); lines are counted as they are."""
    return sum(1 for _ in rows(Path(path), limit, lambda number, _: BadLine(number, "", "")))


def rows(
    path: Path, limit: int | None = None, parse: Parse | None = None
) -> Iterator[tuple[int, Row | BadLine]]:
    """Every row with its number from 1 (of its line, where the file has lines), or what is wrong with it.

    Raises `OSError` where the file cannot be opened, `ValueError` where Parquet is met without pyarrow.
    """
    for count, numbered in enumerate(_rows(path, parse or _parsed)):
        if count == limit:
            return
        yield numbered


def _rows(path: Path, parse: Parse) -> Iterator[tuple[int, Row | BadLine]]:
    number = 1
    try:
        head = _head(path)
        if head.startswith(b"PAR1"):
            yield from enumerate(_parquet(path), 1)
            return
        text = head.decode(_encoding(head), "replace").lstrip()
        if path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
            entries: Iterator[tuple[int, Row | BadLine]] = enumerate(_table(path, head), 1)
        elif text[:1] == "[":
            entries = _stream(path, head, begin="[")
        elif text[:1] == "{" and not _is_line(text):
            entries = _whole(path, head, parse)
        else:
            entries = _lines(path, parse)
        for number, row in entries:  # the number names where it broke off
            yield number, row
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        yield number + 1, BadLine(number + 1, "", f"the compressed file is cut off or damaged here: {err}")
    except UnicodeError as err:
        yield number + 1, BadLine(number + 1, "", f"is no UTF-8 or UTF-16 text: {err}")


def _head(path: Path) -> bytes:
    """The beginning of a file, as far as it can be unpacked."""
    head = b""
    with _open(path) as file, contextlib.suppress(EOFError, zlib.error):
        while len(head) < _PIECE and (piece := cast(Any, file).read1(_PIECE)):
            head += piece
    return head


def _open(path: Path) -> IO[bytes]:
    """The file's own bytes; what begins as gzip is unpacked, whatever its name."""
    file = path.open("rb")
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast(IO[bytes], gzip.open(file, "rb")) if packed else file


def _encoding(head: bytes) -> str:
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    if head[1:2] == b"\0" and head[3:4] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" and head[2:3] == b"\0" else "utf-8"


def _is_line(text: str) -> bool:
    """True where the first line is an object of its own, or one is all there is and holds no list of entries."""
    line, newline, _ = text.partition("\n")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        # a first line that is no JSON, followed by one that is: a damaged line among lines
        return '"' in line and bool(newline) and text[len(line) + 1 :].lstrip(" \t\r\n")[:1] == "{"
    return bool(newline and text[len(line) :].strip()) or not _unpacks(value)


def _unpacks(value: Any) -> bool:
    return isinstance(value, dict) and _entries(cast(Row, value)) is not None


def _lines(path: Path, parse: Parse) -> Iterator[tuple[int, Row | BadLine]]:
    encoding = _encoding(_head(path)[:8])
    with _open(path) as file:
        source = file if encoding.startswith("utf-8") else _recoded(file, encoding)
        number = 0
        while text := source.readline(MAX_LINE_BYTES):
            number += 1
            if text.strip():
                yield number, parse(number, text)


class _recoded:
    """The lines of a UTF-16 file, as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._reader = codecs.getreader(encoding)(file)

    def readline(self, size: int) -> bytes:
        return self._reader.readline(size).encode()


def _parsed(number: int, text: bytes) -> Row | BadLine:
    if len(text) >= MAX_LINE_BYTES:
        return BadLine(number, "", f"is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        row = json.loads(text.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as err:
        return BadLine(number, "", f"is no UTF-8: byte {err.start + 1} is 0x{text[err.start]:02x}")
    except (ValueError, RecursionError) as err:
        return BadLine(number, "", f"is no JSON: {err}")
    return _checked(number, row)


def _checked(number: int, row: Any) -> Row | BadLine:
    if not isinstance(row, dict):
        return BadLine(number, "", f"is no JSON object but {type(row).__name__}")
    return cast(Row, row)


def _stream(path: Path, head: bytes, *, begin: str = "") -> Iterator[tuple[int, Row | BadLine]]:
    """The elements of an array, or objects one behind the other, a piece of the file at a time."""
    decoder = json.JSONDecoder()
    with _open(path) as file, codecs.getreader(_encoding(head))(file) as text:
        piece = text.read(_PIECE).lstrip().removeprefix(begin)
        number = 1
        while True:
            piece = piece.lstrip(_SEPARATORS)
            if piece[:1] == "]":
                return
            try:
                row, end = decoder.raw_decode(piece) if piece else (None, 0)
            except (ValueError, RecursionError) as err:
                row, end, reason = None, 0, str(err)
            else:
                reason = "the array has no end"
            # a number or word at the end of a piece may go on in the next
            if end and end < len(piece):
                yield number, _checked(number, row)
                number, piece = number + 1, piece[end:]
                continue
            more = text.read(max(_PIECE, len(piece)))
            if not (more or begin) and (end or not piece):  # the last object, or behind it
                if end:
                    yield number, _checked(number, row)
                return
            if not more or len(piece) > MAX_LINE_BYTES:
                yield number, BadLine(number, "", f"the file is cut off or damaged here: {reason}")
                return
            piece += more


def _whole(path: Path, head: bytes, parse: Parse) -> Iterator[tuple[int, Row | BadLine]]:
    with _open(path) as file:
        content = file.read()
    try:
        value = json.loads(content.decode(_encoding(head)))
    except (ValueError, RecursionError) as err:
        if isinstance(err, UnicodeError):
            raise
        if str(err).startswith(
            "Extra data"
        ):  # lines, the first longer than the head; or objects as `jq` writes them
            first = _parsed(1, content.partition(b"\n")[0])
            yield from _stream(path, head) if isinstance(first, BadLine) else _lines(path, parse)
        else:
            yield 1, BadLine(1, "", f"is no JSON: {err}")
        return
    entries = _entries(value)
    for number, entry in enumerate([value] if entries is None else entries, 1):
        yield number, _checked(number, entry)


def _entries(value: Row) -> list[Any] | None:
    """The entries of a page, or of an object whose every value is an object of its own; None where it is one row."""
    for name in _LISTS:
        entries: Any = value.get(name)
        if isinstance(entries, list) and _is_page(value, name):
            page = {k: v for k, v in value.items() if k != name}
            rest = {PAGE: page} if page else {}
            return [{**cast(Row, e), **rest} if isinstance(e, dict) else e for e in cast(list[Any], entries)]
    if len(value) > 1 and all(isinstance(v, dict) and len(cast(Row, v)) > 1 for v in value.values()):
        return None if {"info", "data"} <= value.keys() else list(value.values())
    return None


_PAGING = frozenset(
    [
        "meta",
        "object",
        "first_id",
        "last_id",
        "has_more",
        "next_cursor",
        "next",
        "cursor",
        "cursors",
        "error",
        "page",
        "size",
        "total",
        "count",
        "limit",
        "offset",
        "next_page_token",
        "version",
        "project_id",
        "exported_at",
        "schema",
        "_messages",
        "url",
        "metadata",
        "status",
        "success",
    ]
)


def _is_page(value: Row, name: str) -> bool:
    """True where all that is next to the list speaks of the page, not of one record."""
    return all(k == name or k in _PAGING for k in value)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(f"{path}: to read Parquet, install pyarrow: pip install pyarrow") from None
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            yield {k: v for k, v in row.items() if v is not None}


def _table(path: Path, head: bytes) -> Iterator[Row]:
    with _open(path) as file, codecs.getreader(_encoding(head))(file) as text:
        first = head.decode(_encoding(head), "replace").partition("\n")[0]
        delimiter = max("\t;,", key=first.count)
        for row in csv.DictReader(text, delimiter=delimiter):
            yield {k: _cell(v) for k, v in row.items() if k and v not in (None, "")}


def _cell(text: Any) -> Any:
    """What a cell holds: JSON where it is written so, else its text."""
    if not isinstance(text, str) or text[:1] not in "[{":
        return {"true": True, "false": False}.get(text.lower(), text) if isinstance(text, str) else text
    return parsed(text)


def parsed(value: object) -> Any:
    """What a JSON text holds (objects and lists alone); everything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """The object that a value is, also as JSON text; empty where it is none."""
    value = parsed(value)
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}
