"""`heedloop keys`, `doctor` and `backup` on a real data folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import ServerProcess, wait_for
from server_requests import span, traces_request

MAIN = "import sys, argparse, importlib; m = importlib.import_module('heedloop_server.commands.' + sys.argv[1]); p = argparse.ArgumentParser(); m.add_arguments(p); sys.exit(m.run(p.parse_args(sys.argv[2:])))"


def command(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, name, *map(str, args)], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def server(tmp_path: Path):
    one = ServerProcess(tmp_path).start()
    one.client().send_otlp(traces_request([span(trace_id="ab" * 16)]).SerializeToString())
    wait_for(lambda: one.client().calls()["calls"], what="the call")
    yield one
    if one.process.poll() is None:
        one.stop()


def test_keys_doctor_and_backup(server: ServerProcess, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for busy in (
        command("keys", "list", "--data", data),
        command("doctor", "--data", data),
        command("backup", "create", tmp_path / "b", "--data", data),
    ):
        assert busy.returncode == 1
        assert "stop it first" in busy.stderr
    server.stop()
    made = command("keys", "create", "--data", data, "--scopes", "read", "--name", "found again")
    assert made.returncode == 0, made.stderr
    ann = command("keys", "create", "--data", data, "--role", "annotator", "--author", "ann@example.com")
    assert ann.returncode == 0 and ann.stdout.startswith("hl_")
    both = command("keys", "create", "--data", data, "--role", "viewer", "--scopes", "read")
    assert both.returncode == 1 and "either --role or --scopes" in both.stderr
    listed = command("keys", "list", "--data", data).stdout
    assert "found again" in listed
    assert re.search(r"annotator  .*\(ann@example\.com\)", listed)
    assert "no project" in command("keys", "create", "--data", data, "--project", "nope").stderr

    well = command("doctor", "--data", data)
    assert "spans" in well.stdout
    assert "all well" in well.stdout or "GB are free" in well.stdout
    (data / "log" / "damaged").mkdir()
    (data / "log" / "damaged" / "x.tail").write_bytes(b"?")
    ill = command("doctor", "--data", data)
    assert (ill.returncode, "damaged log files" in ill.stdout) == (1, True)

    copy, back = tmp_path / "copy", tmp_path / "back"
    assert command("backup", "create", copy, "--data", data).returncode == 0
    assert command("backup", "restore", copy, "--data", back).returncode == 0
    assert "not empty" in command("backup", "restore", copy, "--data", data).stderr
    (tmp_path / "second").mkdir()
    restored = ServerProcess(tmp_path / "second", "--data", str(back)).start()
    assert restored.client(made.stdout.strip()).trace("ab" * 16)["spans"]
    restored.stop()
    victim = next(p for p in copy.rglob("*") if p.suffix == ".bin" and p.stat().st_size > 100)
    victim.write_bytes(b"\0" + victim.read_bytes()[1:])
    assert "differs" in command("backup", "verify", copy).stderr
