"""`heedloop keys`, `doctor` and `backup` on a real data folder."""

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import ServerProcess, wait_for
from server_requests import span, traces_request

from heedloop_server.commands import serve
from heedloop_server.ingest.segments import new_segment_path

MAIN = "import sys, argparse, importlib; m = importlib.import_module('heedloop_server.commands.' + sys.argv[1]); p = argparse.ArgumentParser(); m.add_arguments(p); sys.exit(m.run(p.parse_args(sys.argv[2:])))"


def command(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because it opens a store."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, name, *map(str, args)], capture_output=True, text=True, timeout=600
    )


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """Runs a command that opens no store, in this process."""

    def run(name: str, *args: object) -> subprocess.CompletedProcess[str]:
        module = importlib.import_module(f"heedloop_server.commands.{name}")
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        given = [str(a) for a in args]
        status = module.run(parser.parse_args(given))
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess([name, *given], status, out, err)

    return run


@pytest.fixture
def server(tmp_path: Path):
    one = ServerProcess(tmp_path).start()
    one.client().send_otlp(traces_request([span(trace_id="ab" * 16)]).SerializeToString())
    wait_for(lambda: one.client().calls().calls, what="the call")
    yield one
    if one.process.poll() is None:
        one.stop()


def test_a_folder_without_a_store_stays_empty(tmp_path: Path, call) -> None:
    for name in (("keys", "list"), ("doctor",)):
        said = call(*name, "--data", tmp_path / "nowhere")
        assert (said.returncode, "there is no heedloop store" in said.stderr) == (1, True), said.stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        (["--port", "99999"], {}, "--port is '99999' and must be less than or equal to 65535"),
        (["--port", "x"], {}, "--port is 'x' and must be a valid integer"),
        ([], {"HEEDLOOP_RETENTION_DAY": "3"}, "did you mean HEEDLOOP_RETENTION_DAYS?"),
        ([], {"HEEDLOOP_SEAL_AFTER_S": "soon"}, "HEEDLOOP_SEAL_AFTER_S is 'soon'"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    environment: dict[str, str],
    expected: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert serve.run(parser.parse_args(["--data", str(tmp_path / "d"), *flags])) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_keys_doctor_and_backup(server: ServerProcess, tmp_path: Path, call) -> None:
    data = tmp_path / "data"
    for busy in (
        call("keys", "list", "--data", data),
        call("doctor", "--data", data),
        call("backup", "create", tmp_path / "b", "--data", data),
    ):
        assert busy.returncode == 1
        assert "stop it first" in busy.stderr
    asking = ("--url", server.url, "--api-key", server.key)
    made = call("keys", "create", *asking, "--role", "viewer", "--name", "by address")
    assert made.returncode == 0 and made.stdout.startswith("hl_"), made.stderr
    assert "by address" in (listed := call("keys", "list", *asking)).stdout, listed.stderr
    link = call("keys", "link", *asking, "--author", "ann@example.com")
    assert link.stdout.startswith("/sign-in/link?token=hl_") and "once" in link.stderr, link.stderr
    asked = call("doctor", *asking)
    assert "spans" in asked.stdout and ("all well" in asked.stdout or "GB are free" in asked.stdout), (
        asked.stderr
    )
    assert "instance" in call("doctor", "--url", server.url, "--api-key", made.stdout.strip()).stderr
    server.stop()
    made = command("keys", "create", "--data", data, "--scopes", "read", "--name", "found again")
    assert made.returncode == 0, made.stderr
    ann = command("keys", "create", "--data", data, "--role", "annotator", "--author", "ann@example.com")
    assert ann.returncode == 0 and ann.stdout.startswith("hl_")
    alone = command("keys", "link", "--data", data, "--author", "ann@example.com")
    assert alone.returncode == 1 and "give --url" in alone.stderr
    both = command("keys", "create", "--data", data, "--role", "viewer", "--scopes", "read")
    assert both.returncode == 1 and "either --role or --scopes" in both.stderr
    listed = command("keys", "list", "--data", data).stdout
    assert "found again" in listed
    assert re.search(r"annotator  .*\(ann@example\.com\)", listed)
    assert "no project" in command("keys", "create", "--data", data, "--project", "nope").stderr

    well = command("doctor", "--data", data)
    assert "spans" in well.stdout
    assert "all well" in well.stdout or "GB are free" in well.stdout
    stuck, _ = new_segment_path(data / "log", 77)
    stuck.write_bytes(b"?" * 50)
    stuck.with_suffix(".error").write_text("the store refuses it")
    ill = command("doctor", "--data", data)
    assert ill.returncode == 1
    assert (
        "segment 77" in ill.stdout and "the store refuses it" in ill.stdout and "--set-aside 77" in ill.stdout
    )
    aside = command("doctor", "--data", data, "--set-aside", 77)
    assert "in quarantine (set_aside)" in aside.stdout and "segment 77 (" in aside.stdout
    assert not stuck.exists()

    copy, back = tmp_path / "copy", tmp_path / "back"
    assert command("backup", "create", copy, "--data", data).returncode == 0
    assert command("backup", "restore", copy, "--data", back).returncode == 0
    assert "not empty" in command("backup", "restore", copy, "--data", data).stderr
    (tmp_path / "second").mkdir()
    restored = ServerProcess(tmp_path / "second", "--data", str(back)).start()
    assert restored.client(made.stdout.strip()).trace("ab" * 16).spans
    restored.stop()
    victim = next(p for p in copy.rglob("*") if p.suffix == ".bin" and p.stat().st_size > 100)
    victim.write_bytes(b"\0" + victim.read_bytes()[1:])
    assert "differs" in command("backup", "verify", copy).stderr


def test_a_running_server_is_backed_up_and_put_back(server: ServerProcess, tmp_path: Path, call) -> None:
    client = server.client()
    client.send_otlp(traces_request([span(trace_id="cd" * 16)]).SerializeToString())
    asking = ("--url", server.url, "--api-key", server.key)
    made = call("backup", "create", "monday", *asking)  # at once: what was acknowledged is in it
    assert made.returncode == 0 and "backup monday" in made.stdout, made.stderr
    client.send_otlp(traces_request([span(trace_id="ef" * 16)]).SerializeToString())
    assert "choose another name" in call("backup", "create", "monday", *asking).stderr
    assert "no name of a backup" in call("backup", "create", "a b", *asking).stderr
    assert [(b.name, b.state) for b in client.backups()] == [("monday", "done")]
    viewer = call("keys", "create", *asking, "--role", "viewer").stdout.strip()
    refused = call("backup", "create", "tuesday", "--url", server.url, "--api-key", viewer)
    assert "instance" in refused.stderr

    copy, back = tmp_path / "data/backups/monday", tmp_path / "back"
    restored = command("backup", "restore", copy, "--data", back)
    assert restored.returncode == 0, restored.stderr
    assert "there already" in command("backup", "restore", copy, "--data", back).stderr
    (tmp_path / "second").mkdir()
    second = ServerProcess(tmp_path / "second", "--data", str(back)).start()
    there = second.client(server.key)
    assert {c.trace_id for c in there.calls().calls} == {"ab" * 16, "cd" * 16}
    assert [(b.name, b.state) for b in there.backups()] == [("monday", "done")]
    second.stop()
