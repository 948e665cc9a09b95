"""Files of the integration suite once more through ClickHouse's HTTP client, on stores behind the shim instead of embedded ones.

`HEEDLOOP_TEST_STORE=clickhouse://user:password@host:8123 pytest tests/integration tests/unit/server` runs all on a real server (docs/server.md).
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
FILES = (
    # Arrow blocks with their deduplication tokens, and content joined with what is stored
    "test_content_joins.py",
    # arrays, nested tuples and long texts of whole snapshots, read back as they were written
    "test_datasets_snapshots.py",
    # every filter's kind of bound parameter, and numbers, times and missing values as the client decodes them
    "test_quality_routes.py",
    # maps and arrays of annotators' responses, conditional inserts
    "test_review_control_routes.py",
    # pages that go on where the last one ended, at the store's precision of times
    "test_server_exports.py",
)
"""What the HTTP client does otherwise than the embedded one: it encodes parameters as a form, and decodes types, Arrow and errors by itself.

The other files send statements of the same kinds; the server's own processes run over HTTP in `test_server_road`, `test_server_kill`,
`test_server_hostile` and `test_review_exact`. None of these files needs shared data.
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory):
    """ClickHouse's HTTP interface over an engine in a process of its own."""
    one = ShimProcess(tmp_path_factory.mktemp("shim") / "clickhouse")
    yield one
    one.stop()


@pytest.mark.slow
@pytest.mark.skipif("HEEDLOOP_TEST_STORE" in os.environ, reason="the suite runs on that store already")
@pytest.mark.parametrize("name", FILES)
def test_the_same_tests_pass_over_http(shim: ShimProcess, name: str) -> None:
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
        str(HERE / name),
    ]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.search(r"\b\d+ passed", done.stdout), done.stdout[-2000:]
