"""Log files that a crash, a disk or a hand has damaged: the server starts, what is whole is stored once, the ledger balances."""

import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from forked_server import ForkedServer
from server_process import wait_for
from server_requests import span, traces_request

NUM = 5
Damage = Callable[[bytearray, list[int]], None]


def _truncate(data: bytearray, starts: list[int]) -> None:
    del data[starts[-1] + 40 :]


def _flip_a_bit(data: bytearray, starts: list[int]) -> None:
    data[starts[2] + 60] ^= 0x10


def _flip_a_length(data: bytearray, starts: list[int]) -> None:
    data[starts[4] + 2] ^= 0x40


def _zeroes(data: bytearray, starts: list[int]) -> None:
    data += bytes(5_000)


def _records(data: bytes) -> list[int]:
    """Where each record starts: length u32, crc32 u32, body."""
    starts, at = [], 0
    while at < len(data):
        starts.append(at)
        at += 8 + struct.unpack_from("<I", data, at)[0]
    return starts


@pytest.mark.parametrize(
    ("damage", "lost"),
    [(_truncate, 4), (_flip_a_bit, 2), (_flip_a_length, 4), (_zeroes, None)],
    ids=lambda d: getattr(d, "__name__", ""),
)
def test_only_the_damaged_record_is_lost(tmp_path: Path, damage: Damage, lost: int | None) -> None:
    server = ForkedServer(tmp_path, env={"HEEDLOOP_SEAL_AFTER_S": "60"}).start()
    traces = [uuid.uuid4().hex for _ in range(NUM)]
    for trace_id in traces:
        body = traces_request([span(trace_id=trace_id)], scope="heedloop").SerializeToString()
        headers = {**server.headers(), "Content-Type": "application/x-protobuf"}
        assert (
            requests.post(server.url + "/v1/traces", data=body, headers=headers, timeout=10).status_code
            == 200
        )
    server.kill()
    (log,) = (tmp_path / "data" / "log").glob("*.log")
    data = bytearray(log.read_bytes())
    starts = _records(data)
    assert len(starts) == NUM
    damage(data, starts)
    log.write_bytes(data)
    server.env["HEEDLOOP_SEAL_AFTER_S"] = "0.05"
    server.start()
    client = server.client()
    ledger = wait_for(
        lambda: (led := client.ledger()) and not led["pending"] and led, what="the log to be empty"
    )
    stored = sorted(c["trace_id"] for c in client.iter_calls())
    assert stored == sorted(t for i, t in enumerate(traces) if i != lost)
    assert ledger["received"] == ledger["stored"] == len(stored)
    if damage is not _flip_a_bit:
        assert list((tmp_path / "data" / "log" / "damaged").iterdir())
    assert server.stop() == 0
