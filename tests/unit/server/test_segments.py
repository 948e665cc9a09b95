"""Segments of the request log with damage of every kind: only the records that it hits are lost, and their spans can be counted."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from heedloop_server.ingest.record import TRACES, LoggedRequest, lost_with, pack, unpack
from heedloop_server.ingest.segments import damage_in, framed, new_segment_path, read_segment

NUM = 5
Damage = Callable[[bytearray, list[int]], None]


def _truncate(data: bytearray, starts: list[int]) -> None:
    del data[starts[-1] + 40 :]


def _zeroes(data: bytearray, starts: list[int]) -> None:
    data += bytes(5_000)


def _flip(*places: tuple[int, int]) -> Damage:
    """Flips a bit of some records: (record, offset in it)."""

    def damage(data: bytearray, starts: list[int]) -> None:
        for record, offset in places:
            data[starts[record] + offset] ^= 0x40

    return damage


MARKER, LENGTH, CRC, HEAD_CRC, BODY = 3, 10, 13, 17, 90
CASES = [
    pytest.param(_truncate, {4}, 0, id="a torn end was never answered"),
    pytest.param(_zeroes, set(), 0, id="zeroes behind"),
    pytest.param(_flip((2, BODY)), {2}, 1, id="a body"),
    pytest.param(_flip((2, LENGTH)), {2}, 1, id="a length"),
    pytest.param(_flip((2, CRC)), {2}, 1, id="a checksum"),
    pytest.param(_flip((0, HEAD_CRC)), {0}, 1, id="the first head's checksum"),
    pytest.param(_flip((4, LENGTH)), {4}, 1, id="the last length"),
    pytest.param(_flip((1, LENGTH), (2, BODY), (3, HEAD_CRC)), {1, 2, 3}, 3, id="three in a row"),
    pytest.param(_flip((0, MARKER), (4, BODY)), {0, 4}, 2, id="a marker and the last body"),
]


@pytest.mark.parametrize(("damage", "lost", "num_counted"), CASES)
def test_only_the_damaged_records_are_lost_and_can_be_counted(
    tmp_path: Path, damage: Damage, lost: set[int], num_counted: int
) -> None:
    path, marker = new_segment_path(tmp_path, 1)
    requests = [LoggedRequest(TRACES, "default", i, 1, bytes([i]) * 300, {}) for i in range(NUM)]
    data = bytearray(b"".join(b for r in requests for b in framed(marker, pack(r))))
    damage(data, [m.start() for m in re.finditer(re.escape(marker), data)])
    path.write_bytes(data)
    assert [unpack(b).received_us for b in read_segment(path)] == [i for i in range(NUM) if i not in lost]
    counted = [lost_with(p.body) for p in damage_in(path) if p.state == "damaged" and any(p.body)]
    assert counted == [("default", 1)] * num_counted
    assert damage_in(path)
