"""What a test may need that not every machine has: shared data, a browser, a GPU. Missing ones skip, and say why."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

settings.register_profile("no deadline", deadline=None)  # no test asserts how long something takes
settings.load_profile("no deadline")
# a busy machine must not turn a response into one of 202; tests of jobs say otherwise
os.environ.setdefault("HEEDLOOP_ANSWER_WITHIN_S", "600")


def pytest_report_header() -> str:
    return f"the worlds of the pages' tests end at {os.environ.get('HEEDLOOP_TEST_HOUR', '12')}:00 UTC (HEEDLOOP_TEST_HOUR)"


def _missing(mark: str) -> str | None:
    """Why tests with this mark cannot run here; None where they can."""
    if mark == "shared":
        folder = os.environ.get("HEEDLOOP_SHARED", "")
        if not folder:
            return "HEEDLOOP_SHARED names no folder with the real judgements and captures"
        return None if Path(folder, "data").is_dir() else f"HEEDLOOP_SHARED={folder} holds no data/"
    if mark == "browser":
        return None if shutil.which("chromium") else "no chromium on the PATH"
    if mark == "gpu":
        import torch

        return None if torch.cuda.is_available() else "torch sees no CUDA device"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright's synchronous interface leaves an event loop running in its thread, where no other test can then
    # start one: the browser tests come last.
    items.sort(key=lambda item: "browser" in item.path.parts)
    for item in items:
        label = getattr(item, "operation_label", None)
        if label and "[" not in item.nodeid:
            # with pytest 9.2 schemathesis gives all operations the id of their test, of which a parallel run keeps one
            item._id = type(item.id).parse(f"{item.nodeid}[{label}]")
    if twice := [n for n, num in Counter(item.nodeid for item in items).items() if num > 1]:
        raise pytest.UsageError(f"of the tests that are called {twice[0]} a parallel run would keep one")
    reasons: dict[str, str | None] = {}
    for item in items:
        for mark in ("shared", "browser", "gpu"):
            if item.get_closest_marker(mark) is None:
                continue
            if mark not in reasons:
                reasons[mark] = _missing(mark)
            if reasons[mark] is not None:
                item.add_marker(pytest.mark.skip(reason=f"{mark}: {reasons[mark]}"))


DEMO_PAGES = ("test_dashboard_alerts.py", "test_dashboard_demo.py", "test_dashboard_looks.py")
"""Files of browser tests that share the demo's conversation, which takes long to store."""


class FilesTogether(LoadFileScheduling):
    """A file's tests go to one worker, and those of the demo's pages all to the same."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "the demo's pages" if file.endswith(DEMO_PAGES) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    return FilesTogether(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    # The parallel workers must collect the same names, and bytes may hold the time (gzip's header does).
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="module", autouse=True)
def _engine() -> Iterator[None]:
    """Stores in memory are kept for the next tests of a file; the next file may open a folder."""
    yield
    if testing := sys.modules.get("temporary_stores"):
        testing.close_engine()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real human judgements, captured telemetry and worked examples; use with the `shared` mark."""
    return Path(os.environ["HEEDLOOP_SHARED"])
