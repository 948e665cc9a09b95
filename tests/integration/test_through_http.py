"""The integration suite through ClickHouse's HTTP client: the same test files again, on stores behind the shim instead of embedded ones.

`HEEDLOOP_TEST_STORE=clickhouse://user:password@host:8123 pytest tests/integration tests/unit/server` runs them on a real server (docs/server.md).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import ShimProcess

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ALREADY_THERE = (
    "test_server_road.py",
    "test_server_hostile.py",
    "test_server_kill.py",
    "test_server_schemathesis.py",
    "test_server_erasure.py",
    "test_through_http.py",
)
"""Files that go through the shim by themselves, look for nothing that is in the store, or look into the embedded store's own files."""


def _files() -> list[Path]:
    """Integration tests that ask for a store of this process."""
    found = [
        p
        for p in sorted(HERE.glob("test_*.py"))
        if re.search(r"\b(temporary_store|review_people)\b", p.read_text())
    ]
    return [p for p in found if p.name not in ALREADY_THERE]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory):
    """ClickHouse's HTTP interface over an engine in a process of its own."""
    one = ShimProcess(tmp_path_factory.mktemp("shim") / "clickhouse")
    yield one
    one.stop()


@pytest.mark.slow
@pytest.mark.skipif("HEEDLOOP_TEST_STORE" in os.environ, reason="the suite runs on that store already")
@pytest.mark.parametrize("path", _files(), ids=lambda p: p.name)
def test_the_same_tests_pass_over_http(shim: ShimProcess, path: Path) -> None:
    env = {**os.environ, "HEEDLOOP_TEST_STORE": shim.dsn.rpartition("/")[0]}
    env = {k: v for k, v in env.items() if not k.startswith(("PYTEST_", "COV_"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--no-cov",
        str(path),
    ]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.search(r"\b\d+ passed", done.stdout), done.stdout[-2000:]
