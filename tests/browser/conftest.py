"""A real server, a real dashboard and a real browser for the tests of the pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dashboard_world
import pytest
from dashboard_browser import DESK, fill_demo, process, signed_in_page
from playwright.sync_api import Browser, Page, sync_playwright

from heedloop.client import Client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real server with an embedded store that looks at alerts every four seconds: its address and its first key."""
    folder: Path = tmp_path_factory.mktemp("server")
    key_file = folder / "key"
    serve = ("serve", "--port", "0", "--data", str(folder / "data"), "--key-file", str(key_file))
    often = {"HEEDLOOP_ALERT_EVERY_S": "4", "HEEDLOOP_WEBHOOK_LOOPBACK": "true"}
    with process(*serve, says="serves on ", **often) as url:
        yield url, key_file.read_text(encoding="utf-8").strip()


@pytest.fixture(scope="session")
def api(server: tuple[str, str]) -> Client:
    """A reader with the first key."""
    return Client(*server)


@pytest.fixture(scope="session")
def world(server: tuple[str, str]) -> dashboard_world.World:
    """The planted story, stored."""
    return dashboard_world.build(*server)


@pytest.fixture(scope="session")
def dashboard(server: tuple[str, str]) -> Iterator[str]:
    """A dashboard that asks everyone for their key: its address."""
    with process("dashboard", "--url", server[0], "--port", "0", says="dashboard: ") as url:
        yield url


@pytest.fixture(scope="session")
def demo_key(server: tuple[str, str], api: Client) -> str:
    """The key of a project on the same server that holds the demo's conversation and watches it with three alerts."""
    key = api.create_project("demo").key
    fill_demo(server[0], key)
    return key


@pytest.fixture(scope="session")
def demo_api(server: tuple[str, str], demo_key: str) -> Client:
    """A reader of the demo's project."""
    return Client(server[0], demo_key)


@pytest.fixture(scope="session")
def demo_dashboard(dashboard: str, demo_key: str) -> str:
    """The dashboard, with the demo's conversation stored."""
    return dashboard


@pytest.fixture
def demo_page(browser: Browser, dashboard: str, demo_key: str) -> Iterator[Page]:
    """A signed-in browser page on the demo's conversation."""
    with signed_in_page(browser, dashboard, demo_key, viewport=DESK) as page:
        yield page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(
    browser: Browser, dashboard: str, server: tuple[str, str], world: dashboard_world.World
) -> Iterator[Page]:
    """A signed-in browser page on a server that holds the planted story."""
    with signed_in_page(browser, dashboard, server[1], viewport=DESK) as page:
        yield page
