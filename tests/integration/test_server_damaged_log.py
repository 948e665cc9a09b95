"""A log file that a crash and a disk have damaged: the server starts, what is whole is stored once, the ledger balances.

Every kind of damage is in tests/unit/server/test_segments.py.
"""

import re
import uuid
from pathlib import Path

import requests
from forked_server import ForkedServer
from server_process import wait_for
from server_requests import span, traces_request

NUM = 5


def test_only_the_damaged_records_are_lost_and_counted(tmp_path: Path) -> None:
    server = ForkedServer(tmp_path, env={"HEEDLOOP_SEAL_AFTER_S": "60"}).start()
    traces = [uuid.uuid4().hex for _ in range(NUM)]
    for trace_id in traces:
        body = traces_request([span(trace_id=trace_id)], scope="heedloop").SerializeToString()
        headers = {**server.headers(), "Content-Type": "application/x-protobuf"}
        response = requests.post(server.url + "/v1/traces", data=body, headers=headers, timeout=60)
        assert response.status_code == 200
    server.kill()
    (log,) = (tmp_path / "data" / "log").glob("*.log")
    marker, data = bytes.fromhex(log.stem.partition("-")[2]), bytearray(log.read_bytes())
    starts = [m.start() for m in re.finditer(re.escape(marker), bytes(data))]
    assert len(starts) == NUM
    for record, offset in ((0, 10), (1, 90), (2, 17)):  # a length, a body, the checksum of a head
        data[starts[record] + offset] ^= 0x40
    del data[starts[4] + 40 :]  # as a crash leaves the last record
    log.write_bytes(data)
    server.env["HEEDLOOP_SEAL_AFTER_S"] = "0.05"
    server.start()
    client = server.client()
    ledger = wait_for(
        lambda: (led := client.ledger()) and not led.pending and led,
        what="the log to be empty",
        timeout_s=120,
    )
    assert [c.trace_id for c in client.iter_calls()] == [traces[3]]
    assert (ledger.stored, ledger.received) == (1, 4)
    assert ledger.rejected_reasons == {"damaged": 3}
    assert list((tmp_path / "data/log/quarantine").glob("*.bin"))
    assert server.stop() == 0
