"""A real `heedloop serve` in its own process, for the integration tests: embedded, or over HTTP through the shim."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import requests

from heedloop.client import Client

HERE = Path(__file__).parent


class ServerProcess:
    """Started with `start()`; `key` is the first key of its store."""

    def __init__(self, folder: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.flags = (*flags, *_test_store(flags))
        self.env = {**os.environ, "HEEDLOOP_SEAL_AFTER_S": "0.05", **(env or {})}
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.folder / "key").read_text().strip()

    def client(self, key: str | None = None) -> Client:
        return Client(self.url, key or self.key, timeout_s=30)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def start(self) -> "ServerProcess":
        command = [
            sys.executable,
            "-m",
            "heedloop_cli.main",
            "serve",
            "--data",
            str(self.folder / "data"),
            "--port",
            str(self.port),
        ]
        command += ["--key-file", str(self.folder / "key"), *self.flags]
        self.errors = (self.folder / "stderr").open("a")
        self.process = subprocess.Popen(
            command, env=self.env, text=True, stdout=subprocess.PIPE, stderr=self.errors
        )
        for line in self.process.stdout:
            if match := re.search(r"serves on http://[^:]+:(\d+)", line):
                self.port = int(match[1])
                break
        else:
            raise AssertionError(f"no server: {(self.folder / 'stderr').read_text()}")
        wait_for(self._ready, what="the server to be ready")
        return self

    def _ready(self) -> bool:
        try:
            return requests.get(self.url + "/readyz", timeout=5).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self._close()
        return status

    def _close(self) -> None:
        self.process.stdout.close()
        self.errors.close()


def _test_store(flags: tuple[str, ...]) -> list[str]:
    """Where `HEEDLOOP_TEST_STORE` names a ClickHouse server, a database of its own there; a test's own --store stays."""
    base, cluster = os.environ.get("HEEDLOOP_TEST_STORE", ""), os.environ.get("HEEDLOOP_TEST_CLUSTER", "")
    if not base or "--store" in flags:
        return []
    store = f"{base.rstrip('/')}/process_{secrets.token_hex(6)}"
    return ["--store", store, *(["--cluster", cluster] if cluster else [])]


class ShimProcess:
    """ClickHouse's HTTP interface over chDB, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE / "clickhouse_http.py"), str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.dsn = f"clickhouse://127.0.0.1:{self.port}/heedloop"

    def fail(self, code: int) -> None:
        """Let every query fail with a ClickHouse error code; 0 ends it."""
        requests.post(f"http://127.0.0.1:{self.port}/shim/failing", params={"code": str(code)}, timeout=10)

    def command(self, sql: str) -> None:
        """A statement in the server's database."""
        where = {"database": "heedloop"}
        answer = requests.post(f"http://127.0.0.1:{self.port}/", params=where, data=sql, timeout=30)
        assert answer.status_code == 200, answer.text

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def wait_for(condition: Callable[[], object], *, what: str, timeout_s: float = 300.0):
    """The first true value of `condition`; fails after the timeout."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)
