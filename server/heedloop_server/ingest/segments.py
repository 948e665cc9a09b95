"""A segment of the request log on disk: numbered files of records, of which damage costs only what it hits.

A record is `marker 8 bytes | length u32 | crc32 u32 | crc32 of these 16 bytes u32 | body`, little-endian; the first crc is over the
body. The marker is random, the same for all records of a file, and stands in the file's name: a reader that meets a damaged head goes
on at the next marker, and no client can write one into a body. Files without a marker in their name are of versions before 0.2;
their records are `length u32 | crc32 u32 | body`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SUFFIX = ".log"
_MARKER_BYTES = 8
_FIELDS = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_HEAD_BYTES = _FIELDS.size + _CRC.size
_OLD_HEAD = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a segment.

    Attributes:
        start: its offset in the file.
        content: the body of a whole record, or all bytes of a damaged one.
        state: `torn` is a record that the file ends in: it was never acknowledged.
    """

    start: int
    content: bytes
    state: Literal["whole", "damaged", "torn"]

    @property
    def body(self) -> bytes:
        """The body, as far as it can be told."""
        return self.content if self.state == "whole" else self.content[_HEAD_BYTES:]


@dataclass(slots=True)
class Segment:
    """A sealed file of records; `number` grows with every segment of the folder."""

    path: Path
    number: int
    num_bytes: int
    _pieces: list[Piece] | None = field(default=None, init=False, repr=False, compare=False)

    def bodies(self) -> Iterator[bytes]:
        """The bodies of its whole records. The file is read once, and held until `forget`."""
        return (p.content for p in self._read() if p.state == "whole")

    def damage(self) -> list[Piece]:
        """What of it is no whole record."""
        return [p for p in self._read() if p.state != "whole"]

    def forget(self) -> None:
        """Hold its content no longer."""
        self._pieces = None

    def _read(self) -> list[Piece]:
        if self._pieces is None:
            self._pieces = list(_pieces(self.path))
        return self._pieces


def new_segment_path(folder: Path, number: int) -> tuple[Path, bytes]:
    """The path of a new segment, and the marker of its records."""
    marker = os.urandom(_MARKER_BYTES)
    return folder / f"{number:012d}-{marker.hex()}{SUFFIX}", marker


def number_of(path: Path) -> int:
    """The number in a segment's file name."""
    return int(path.stem.partition("-")[0])


def framed(marker: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A record as it is written: its head and its body."""
    fields = _FIELDS.pack(marker, len(body), zlib.crc32(body))
    return fields + _CRC.pack(zlib.crc32(fields)), body


def read_segment(path: Path) -> Iterator[bytes]:
    """The bodies of a segment's whole records."""
    return (p.content for p in _pieces(path) if p.state == "whole")


def damage_in(path: Path) -> list[Piece]:
    """What of a segment is no whole record."""
    return [p for p in _pieces(path) if p.state != "whole"]


def _pieces(path: Path) -> Iterator[Piece]:
    marker = path.stem.partition("-")[2]
    data = path.read_bytes()
    return _marked(data, bytes.fromhex(marker)) if marker else _unmarked(data)


def _marked(data: bytes, marker: bytes) -> Iterator[Piece]:
    at = 0
    while at < len(data):
        size = _body_size(data, at, marker)
        first, end = at + _HEAD_BYTES, at + _HEAD_BYTES + (size or 0)
        if size is None:
            after = data.find(marker, at + 1)
            end = after if after >= 0 else len(data)
            yield Piece(at, data[at:end], "damaged")
        elif end > len(data):
            yield Piece(at, data[at:], "torn")
        elif zlib.crc32(body := data[first:end]) == _FIELDS.unpack_from(data, at)[2]:
            yield Piece(at, body, "whole")
        else:
            yield Piece(at, data[at:end], "damaged")
        at = end


def _body_size(data: bytes, at: int, marker: bytes) -> int | None:
    """The length that the head at this offset gives; None where there is no undamaged head."""
    end = at + _FIELDS.size
    if end + _CRC.size > len(data) or not data.startswith(marker, at):
        return None
    if zlib.crc32(data[at:end]) != _CRC.unpack_from(data, end)[0]:
        return None
    return _FIELDS.unpack_from(data, at)[1]


def _unmarked(data: bytes) -> Iterator[Piece]:
    """Records of the older form: a damaged one is passed over where a whole one follows it."""
    at = 0
    while at < len(data):
        end = _old_end(data, at)
        whole = end is not None and _is_whole(data, at, end)
        if end is None or not (whole or ((after := _old_end(data, end)) and _is_whole(data, end, after))):
            yield Piece(at, data[at:], "torn")
            return
        yield Piece(
            at, data[at + _OLD_HEAD.size : end] if whole else data[at:end], "whole" if whole else "damaged"
        )
        at = end


def _old_end(data: bytes, at: int) -> int | None:
    """Where the record at this offset ends by its own length; None where no record fits."""
    if at + _OLD_HEAD.size > len(data):
        return None
    length = _OLD_HEAD.unpack_from(data, at)[0]
    end = at + _OLD_HEAD.size + length
    return end if length and end <= len(data) else None


def _is_whole(data: bytes, at: int, end: int) -> bool:
    return zlib.crc32(data[at + _OLD_HEAD.size : end]) == _OLD_HEAD.unpack_from(data, at)[1]
