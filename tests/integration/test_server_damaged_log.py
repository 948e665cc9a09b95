"""Log files that a crash, a disk or a hand has damaged: the server starts, what is whole is stored once, the ledger balances."""

import re
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


@pytest.mark.parametrize(("damage", "lost", "counted"), CASES)
def test_only_the_damaged_records_are_lost_and_counted(
    tmp_path: Path, damage: Damage, lost: set[int], counted: int
) -> None:
    server = ForkedServer(tmp_path, env={"HEEDLOOP_SEAL_AFTER_S": "60"}).start()
    traces = [uuid.uuid4().hex for _ in range(NUM)]
    for trace_id in traces:
        body = traces_request([span(trace_id=trace_id)], scope="heedloop").SerializeToString()
        headers = {**server.headers(), "Content-Type": "application/x-protobuf"}
        answer = requests.post(server.url + "/v1/traces", data=body, headers=headers, timeout=10)
        assert answer.status_code == 200
    server.kill()
    (log,) = (tmp_path / "data" / "log").glob("*.log")
    marker, data = bytes.fromhex(log.stem.partition("-")[2]), bytearray(log.read_bytes())
    starts = [m.start() for m in re.finditer(re.escape(marker), bytes(data))]
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
    assert stored == sorted(t for i, t in enumerate(traces) if i not in lost)
    assert (ledger["stored"], ledger["received"]) == (len(stored), len(stored) + counted)
    assert ledger["rejected_reasons"].get("damaged", 0) == counted
    assert list((tmp_path / "data/log/quarantine").glob("*.bin"))
    assert server.stop() == 0
