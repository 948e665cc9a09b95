"""Tests of the integration suite once more through ClickHouse's HTTP client, on stores behind the shim instead of embedded ones.

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
TESTS = {
    # Arrow blocks with their deduplication tokens, and content joined with what is stored
    "test_content_joins.py": ("test_content_twice_is_content_once", "test_a_list_shows_the_newest_version_before_any_merge"),
    # arrays, nested tuples and long texts of whole snapshots, read back as they were written
    "test_datasets_snapshots.py": ("test_the_same_query_over_the_same_feedback_is_the_same_snapshot", "test_splits_are_read_one_at_a_time_and_together"),
    # every filter's kind of bound parameter, and numbers, times and missing values as the client decodes them
    "test_quality_routes.py": ("test_filters_are_those_of_calls", "test_summary", "test_hostile_names_are_values_never_sql"),
    # maps and arrays of annotators' responses, conditional inserts
    "test_review_control_routes.py": ("test_agreement_per_question_and_slice", "test_a_reviewer_settles_a_disagreement_and_everything_stays"),
    # blocks of Arrow and of lines, and the mask of an erasure
    "test_export_worlds.py": ("test_an_export_holds_the_records_of_its_filters",),
    # pages that go on where the last one ended, at the store's precision of times
    "test_server_exports.py": ("test_every_call_comes_once_newest_first_and_whole", "test_the_formats_say_the_same"),
}  # fmt: skip
"""What the HTTP client does otherwise than the embedded one: it encodes parameters as a form, and decodes types, Arrow and errors by itself.

A few tests of each kind reach that; the others send statements of the same kinds. The server's own processes run over HTTP in
`test_server_road`, `test_server_kill`, `test_server_hostile` and `test_review_exact`. None of these tests needs shared data.
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory):
    """ClickHouse's HTTP interface over an engine in a process of its own."""
    one = ShimProcess(tmp_path_factory.mktemp("shim") / "clickhouse")
    yield one
    one.stop()


@pytest.mark.skipif("HEEDLOOP_TEST_STORE" in os.environ, reason="the suite runs on that store already")
def test_the_same_tests_pass_over_http(shim: ShimProcess) -> None:
    env = {**os.environ, "HEEDLOOP_TEST_STORE": shim.dsn.rpartition("/")[0]}
    env = {k: v for k, v in env.items() if not k.startswith(("PYTEST_", "COV_"))}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-cov"]
    wanted = [f"{HERE / file}::{test}" for file, tests in TESTS.items() for test in tests]
    command = [sys.executable, "-m", "pytest", *options, *wanted]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"\b(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= len(wanted), done.stdout[-2000:]
