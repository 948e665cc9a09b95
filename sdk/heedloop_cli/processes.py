"""A server and a dashboard that a command starts: real `heedloop serve` and `heedloop dashboard` processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0


class Process:
    """A sub-process with its address and log file; stopped at the end of a `with` block."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, port: int, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._log_begins = log.stat().st_size if log.is_file() else 0
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "heedloop_cli.main", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is for us; we stop it in good order
            )

    def wait_until_ready(self, path: str) -> None:
        """Return when the address answers 200.

        Raises:
            RuntimeError: it ended or did not answer in time; the message holds the end of its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"{self.name} ended with status {self._process.returncode}:\n{self._tail()}"
                )
            try:
                if requests.get(self.url + path, timeout=2).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not answer within {START_TIMEOUT_S:g} s:\n{self._tail()}")

    def wait(self) -> int:
        """Return when the process ends; its exit status."""
        return self._process.wait()

    def stop(self) -> None:
        """End it: politely, then at once."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_seconds(self) -> float:
        """Processor time it has used so far; 0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _tail(self) -> str:
        written = self.log.read_bytes()[self._log_begins :]
        return written.decode("utf-8", "replace")[-2000:]


def free_port(preferred: int = 0) -> int:
    """A TCP port of loopback on which nothing listens now: the preferred one where that is free."""
    try:
        with socket.create_server(("127.0.0.1", preferred)) as server:
            return int(server.getsockname()[1])
    except OSError:
        if not preferred:
            raise
        return free_port()


def start_server(folder: Path, key_file: Path, *, port: int = 0, **environment: str) -> Process:
    """`heedloop serve` with its data in `folder`; the key of a new store is written to `key_file`.

    Args:
        environment: its settings, such as `HEEDLOOP_ALERT_EVERY_S="1"`.
    """
    port = port or free_port()
    arguments = ["serve", "--port", str(port), "--data", str(folder), "--key-file", str(key_file)]
    return Process(
        "heedloop serve", arguments, port=port, log=folder.parent / "server.log", environment=environment
    )


def start_dashboard(url: str, api_key: str, *, folder: Path, port: int = 0) -> Process:
    """`heedloop dashboard` reading from `url`, signed in with `api_key`."""
    port = port or free_port()
    arguments = ["dashboard", "--url", url, "--port", str(port)]
    return Process(
        "heedloop dashboard",
        arguments,
        port=port,
        log=folder / "dashboard.log",
        environment={"HEEDLOOP_API_KEY": api_key},
    )
