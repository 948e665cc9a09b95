"""A real server, a real dashboard and a real browser for the tests of the pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dashboard_world
import pytest
from dashboard_browser import fill_demo, process, sign_in
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from heedloop.client import Client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real server with an embedded store: its address and its first key."""
    folder: Path = tmp_path_factory.mktemp("server")
    key_file = folder / "key"
    with process(
        "serve", "--port", "0", "--data", str(folder / "data"), "--key-file", str(key_file), says="serves on "
    ) as url:
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
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real server that holds the demo's conversation and watches it with three alerts: its address and its first key."""
    folder: Path = tmp_path_factory.mktemp("demo")
    key_file = folder / "key"
    serve = ("serve", "--port", "0", "--data", str(folder / "data"), "--key-file", str(key_file))
    often = {"HEEDLOOP_ALERT_EVERY_S": "1", "HEEDLOOP_WEBHOOK_LOOPBACK": "true"}
    with process(*serve, says="serves on ", **often) as url:
        key = key_file.read_text(encoding="utf-8").strip()
        fill_demo(url, key)
        yield url, key


@pytest.fixture(scope="session")
def demo_api(demo_server: tuple[str, str]) -> Client:
    """A reader of the demo's store with its first key."""
    return Client(*demo_server)


@pytest.fixture(scope="session")
def demo_dashboard(demo_server: tuple[str, str]) -> Iterator[str]:
    """A dashboard on the demo's store that asks everyone for their key: its address."""
    with process("dashboard", "--url", demo_server[0], "--port", "0", says="dashboard: ") as url:
        yield url


@pytest.fixture(scope="session")
def demo_signed_in(browser: Browser, demo_dashboard: str, demo_server: tuple[str, str]) -> dict:
    """The cookies of someone who entered the first key of the demo's store."""
    context = browser.new_context()
    sign_in(context.new_page(), demo_dashboard, demo_server[1])
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def demo_page(browser: Browser, demo_signed_in: dict) -> Iterator[Page]:
    """A signed-in browser page on the demo's conversation."""
    context = browser.new_context(storage_state=demo_signed_in, viewport={"width": 1440, "height": 1100})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, dashboard: str, server: tuple[str, str]) -> dict:
    """The cookies of someone who entered the first key on the sign-in page."""
    context = browser.new_context()
    sign_in(context.new_page(), dashboard, server[1])
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def context(browser: Browser, signed_in: dict) -> Iterator[BrowserContext]:
    fresh = browser.new_context(storage_state=signed_in, viewport={"width": 1440, "height": 1100})
    fresh.set_default_timeout(60_000)
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext, world: dashboard_world.World) -> Page:
    """A signed-in browser page on a server that holds the planted story."""
    return context.new_page()
