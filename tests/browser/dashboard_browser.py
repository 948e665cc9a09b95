"""What browser tests do again and again: run a command, sign in, wait until a page is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import requests
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

START_S = 240
DESK = {"width": 1440, "height": 1100}
expect.set_options(timeout=20_000)


@contextmanager
def process(*args: str, says: str, **environment: str) -> Iterator[str]:
    """Run a `heedloop` command until the end of the block; yields the address that it prints after `says`."""
    env = (
        {k: v for k, v in os.environ.items() if not k.startswith("HEEDLOOP_")}
        | {"OMP_NUM_THREADS": "1"}
        | environment
    )
    command = [sys.executable, "-m", "heedloop_cli.main", *args]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: Queue[str] = Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in child.stdout], daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        url = _address(child, lines, says)
        _reachable(url)
        yield url
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _address(child: subprocess.Popen[str], lines: Queue[str], says: str) -> str:
    seen = ""
    while True:
        try:
            seen += lines.get(timeout=START_S)
        except Empty:
            raise AssertionError(
                f"the command did not say {says!r} in {START_S} s; it said:\n{seen}"
            ) from None
        found = re.search(says + r"(http://\S+)", seen)
        if found:
            return found[1]
        assert child.poll() is None or not lines.empty(), (
            f"the command ended with {child.returncode}:\n{seen}"
        )


def _reachable(url: str) -> None:
    """Wait until something answers there."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            requests.get(url, timeout=30, allow_redirects=False)
            return
        except (requests.ConnectionError, requests.Timeout):
            assert time.monotonic() < deadline, f"nothing answers at {url}"
            time.sleep(0.05)


def sign_in(page: Page, dashboard: str, key: str) -> None:
    """Enter a key as a person does."""
    page.goto(f"{dashboard}/sign-in")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    settled(page)


_IDLE: dict[tuple[Browser, str, str], list[Page]] = {}


@contextmanager
def signed_in_page(browser: Browser, dashboard: str, key: str, **options: Any) -> Iterator[Page]:
    """A page of a browser context of its own, of somebody who has entered this key; what listens to it stays.

    One that a test has left is used again, without its cookies and storage: a new one has to load and compile
    all of Streamlit's script, which takes longer than most tests.
    """
    idle = _IDLE.setdefault((browser, dashboard, repr(sorted(options.items()))), [])
    page = idle.pop() if idle else browser.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    enter(page.context, dashboard, key)
    yield page
    if page.is_closed():
        page.context.close()
        return
    for other in page.context.pages:
        if other != page:
            other.close()
    page.goto(f"{dashboard}/sign-in")  # of the same origin, so that the script stays compiled
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.context.clear_cookies()
    idle.append(page)


@contextmanager
def signed_in_context(browser: Browser, dashboard: str, key: str, **options: Any) -> Iterator[BrowserContext]:
    """A new browser context of somebody who has entered this key."""
    context = browser.new_context(**options)
    context.set_default_timeout(60_000)
    enter(context, dashboard, key)
    yield context
    context.close()


def enter(context: BrowserContext, dashboard: str, key: str) -> None:
    """Send the form of the sign-in page."""
    answer = context.request.post(f"{dashboard}/sign-in", form={"key": key}, max_redirects=0, max_retries=3)
    assert answer.status == 303, answer.text()


def settled(page: Page) -> None:
    """Wait until the page's script has ended and everything it drew is there."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=240_000)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=240_000)


def choose_option(page: Page, box: Locator, name: str | re.Pattern[str]) -> None:
    """Choose an entry of a drop-down list. A list that was opened closes when the page scrolls or draws itself again: it is opened again."""
    box.scroll_into_view_if_needed()
    option = page.get_by_role("option", name=name)
    for _ in range(10):
        box.click()
        try:
            option.click(timeout=5_000)
        except PlaywrightTimeout:
            page.keyboard.press("Escape")
        else:
            return
    option.click()


def fill_demo(url: str, key: str) -> None:
    """The demo's conversation into a store, as a process of its own: the SDK is configured once a process."""
    command = [sys.executable, str(Path(__file__).with_name("dashboard_demo.py")), url, key]
    env = {
        k: v for k, v in os.environ.items() if not k.startswith("HEEDLOOP_") or k == "HEEDLOOP_TEST_HOUR"
    } | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * START_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _list_title(page: Page) -> Locator:
    return page.locator(".st-key-panel_calls h2, .st-key-panel_calls .hl-title").first


def expect_count(page: Page, number: int) -> None:
    """Wait until the list of a page says that it has so many answers, in all."""
    said = "One" if number == 1 else f"{number:,}"
    expect(_list_title(page)).to_have_text(re.compile(rf"^\s*{said} (answer|call)"))


def exact_count(page: Page) -> int:
    """How many answers the list of a page that was just opened says it has, in all."""
    title = _list_title(page)
    expect(title).to_be_visible()
    text = title.inner_text()
    found = re.match(r"([\d,]+|One) (answer|call)", text)
    assert found, f"the list's heading says no number: {text!r}"
    return 1 if found[1] == "One" else int(found[1].replace(",", ""))
