"""Peers of benchmarks/ingest.py, each from an environment of its own: started, loaded, and their stored spans counted in their own files."""

import os
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest_load import Load, Patched, Target, bodies, cpu_s, rss_mb, send


@dataclass
class Peer:
    """How a peer is started and asked.

    Attributes:
        command: from (its environment's bin folder, working folder, port).
        ready: path that answers when it serves.
        count: (database file in the working folder, query that counts its stored spans).
    """

    name: str
    command: Callable[[Path, Path, int], list[str]]
    ready: str
    count: tuple[str, str]
    headers: dict[str, str]
    env: Callable[[Path, int], dict[str, str]]


PEERS = {
    "phoenix": Peer(
        "Phoenix",
        lambda bin, folder, port: [str(bin / "phoenix"), "serve"],
        "/healthz",
        ("phoenix.db", "SELECT count(*) FROM spans"),
        {},
        lambda folder, port: {
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(_free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        },
    ),
    "mlflow": Peer(
        "MLflow",
        lambda bin, folder, port: [
            *(str(bin / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
        ],
        "/health",
        ("mlflow.db", "SELECT count(*) FROM spans"),
        {"x-mlflow-experiment-id": "0"},
        lambda folder, port: {"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
}  # fmt: skip


def run_peer(name: str, environment: Path, *, seconds: float, wait_s: float = 20.0) -> Load:
    """8 exporters with 50 spans a request for `seconds`; what is stored `wait_s` after that counts over the whole time."""
    with serving(name, environment) as (pid, folder, port):
        return _load(PEERS[name], pid, folder, port, seconds, wait_s)


@contextmanager
def serving(name: str, environment: Path) -> Iterator[tuple[int, Path, int]]:
    """The peer's process, its empty working folder and its port, until the block ends."""
    peer, port = PEERS[name], _free_port()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        env = {**os.environ, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}", **peer.env(folder, port)}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                peer.command(environment / "bin", folder, port),
                env=env,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}{peer.ready}", folder / "log")
            yield process.pid, folder, port
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def _load(peer: Peer, pid: int, folder: Path, port: int, seconds: float, wait_s: float) -> Load:
    load = Load(f"{peer.name}: 8 exporters, 50 spans a request")
    cpu, began = cpu_s(pid), time.perf_counter()
    made = [Patched(b) for b in bodies(64, 50)]
    send(Target(port, peer.headers), load, None, made, connections=8, spans=50, seconds=seconds, rate=0)
    load.rss_mb = rss_mb(pid)
    stored = 0
    while time.perf_counter() - began < seconds + wait_s and stored < load.acknowledged:
        time.sleep(0.5)
        stored = stored_spans(folder / peer.count[0], peer.count[1])
    took = time.perf_counter() - began
    load.cpu_s = cpu_s(pid) - cpu
    load.name += f" ({stored:,} of {load.acknowledged:,} stored after {took:.0f} s)"
    load.stored_s = took * load.acknowledged / max(1, stored)
    return load


def stored_spans(database: Path, query: str) -> int:
    """How many spans a peer's own file holds."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=2) as opened:
            return int(opened.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # locked by the peer
        return 0


def _wait_until_ready(url: str, log: Path) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
