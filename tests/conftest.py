"""What a test may need that not every machine has: shared data, a browser, a GPU. Missing ones skip, and say why."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # no test asserts how long something takes
settings.load_profile("no deadline")


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
    reasons: dict[str, str | None] = {}
    for item in items:
        for mark in ("shared", "browser", "gpu"):
            if item.get_closest_marker(mark) is None:
                continue
            if mark not in reasons:
                reasons[mark] = _missing(mark)
            if reasons[mark] is not None:
                item.add_marker(pytest.mark.skip(reason=f"{mark}: {reasons[mark]}"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    # The parallel workers must collect the same names, and bytes may hold the time (gzip's header does).
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real human judgements, captured telemetry and worked examples; use with the `shared` mark."""
    return Path(os.environ["HEEDLOOP_SHARED"])
