"""A full disk: refused with 503, nothing acknowledged is lost, and it goes on when there is room. Needs the right to mount."""

import os
import subprocess
import uuid
from pathlib import Path

import pytest
import requests
from forked_server import ForkedServer
from server_process import wait_for
from server_requests import span, traces_request


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_survived(small_disk: Path) -> None:
    server = ForkedServer(small_disk).start()
    acknowledged: set[str] = set()

    def send() -> int:
        trace_id = uuid.uuid4().hex
        one = span(trace_id=trace_id)
        one.attributes.add(key="app.noise").value.bytes_value = os.urandom(200_000)
        body = traces_request([one]).SerializeToString()
        headers = {**server.headers(), "Content-Type": "application/x-protobuf"}
        answer = requests.post(server.url + "/v1/traces", data=body, headers=headers, timeout=30)
        if answer.status_code == 200:
            acknowledged.add(trace_id)
        return answer.status_code

    assert send() == 200
    room = os.statvfs(small_disk)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        left = room.f_bavail * room.f_frsize - 2_000_000
        file.write(b"\0" * max(0, left))
    answers = set()
    wait_for(lambda: answers.add(send()) or 503 in answers, what="the disk to be full", timeout_s=60)
    assert answers <= {200, 503}
    assert requests.get(server.url + "/healthz", timeout=10).status_code == 200
    ballast.unlink()
    wait_for(lambda: send() == 200, what="room again", timeout_s=60)
    client = server.client()
    ledger = wait_for(
        lambda: (led := client.ledger()) and not led.pending and led,
        what="the log to be empty",
        timeout_s=60,
    )
    assert ledger.stored == len(acknowledged)
    assert {c.trace_id for c in client.iter_calls()} == acknowledged
    assert server.stop() == 0
