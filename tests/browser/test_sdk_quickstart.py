"""`heedloop quickstart` as a newcomer runs it: the printed address shows the first thumb."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from heedloop_cli.processes import free_port

FOUND = re.compile(r"^first thumb\s+(http://\S+)$", re.M)
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_printed_page_shows_the_first_thumb(browser: Browser, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HEEDLOOP_", "PYTEST"))}
    command = [sys.executable, "-m", "heedloop_cli.main", "quickstart", "--port", str(free_port())]
    command += ["--dashboard-port", str(free_port())]
    quickstart = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address, settings = printed(quickstart)
        assert settings.strip().startswith("export HEEDLOOP_URL=http://127.0.0.1:")
        page = browser.new_page()
        page.goto(address)
        answer = page.get_by_role("article").filter(has_text="You can return it within thirty days.")
        expect(answer).to_be_visible(timeout=60_000)
        expect(page.get_by_text("That was quick.").first).to_be_visible()
        page.close()
    finally:
        quickstart.terminate()  # not Ctrl-C: a test run in the background hands on that it is ignored
        quickstart.wait(60)
    assert (tmp_path / ".heedloop" / "first-key").stat().st_mode & 0o077 == 0


def printed(quickstart: subprocess.Popen[str]) -> tuple[str, str]:
    """The page's address, and what an app is told; the command goes on."""
    lines = []
    for line in quickstart.stdout or ():
        lines.append(line)
        if line.startswith("Ctrl-C"):
            text = "".join(lines)
            return FOUND.findall(text)[0], text.partition("Your own app:")[2]
    raise AssertionError("".join(lines))
