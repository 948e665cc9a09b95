"""Two annotators at once, with the server and a browser killed (-9) in the middle: every judgement there once, nobody sees another's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest
import review_world as worlds
from dashboard_browser import process, sign_in
from dashboard_world import wait_until
from playwright.sync_api import Browser, BrowserContext, Error, Page, Response, expect

from heedloop.client import Client

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ITEMS = 8
SECRET = "words of {} that nobody else may read"


@pytest.fixture
def server_to_kill(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = worlds.Server(tmp_path, port)
    server.start()
    yield server
    server.kill()


class Overheard:
    """Everything the review routes told one person's browser."""

    def __init__(self, page: Page) -> None:
        self.bodies: list[str] = []
        self._answers: list[Response] = []
        page.on("response", lambda answer: self._answers.append(answer))

    def read(self) -> None:
        """Take the bodies, while their page is still there."""
        for answer in self._answers:
            if "/review-api/" in answer.url and answer.ok:
                try:
                    self.bodies.append(answer.text())
                except Error as err:
                    # the browser keeps no bodies of a page that was left before this one
                    if "navigated away" not in str(err):
                        raise
        self._answers.clear()


class OwnBrowser:
    """A Chromium with a profile on disk, that can be killed as a crash or a power cut would."""

    def __init__(self, browser: Browser, profile: Path, dashboard: str, key: str) -> None:
        self._browser, self._profile, self._dashboard, self._key = browser, profile, dashboard, key
        self.context, self.page = self._start()

    def _start(self) -> tuple[BrowserContext, Page]:
        context = self._browser.browser_type.launch_persistent_context(
            self._profile,
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox"],
            viewport={"width": 1366, "height": 768},
            reduced_motion="reduce",
        )
        context.set_default_timeout(20_000)
        page = context.new_page()
        sign_in(page, self._dashboard, self._key)
        return context, page

    def has_written(self, text: str) -> bool:
        """True once the profile on disk holds the text: Chromium writes a page's storage some seconds behind it."""
        files = (self._profile / "Default" / "Local Storage" / "leveldb").glob("*.log")
        return any(text.encode() in f.read_bytes() for f in files)

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if f"--user-data-dir={self._profile}".encode() in command:
                os.kill(int(folder.name), signal.SIGKILL)

    def start_again(self) -> None:
        """A new Chromium on the same profile."""
        self.context, self.page = self._start()


def judge(page: Page, name: str) -> None:
    """One answer: a thumb and a note, by keyboard."""
    page.keyboard.press("1")
    page.keyboard.press("ArrowDown")
    page.keyboard.type(SECRET.format(name))
    worlds.save(page)


def test_nothing_is_lost_and_nothing_is_double(
    browser: Browser, server_to_kill: worlds.Server, tmp_path: Path
) -> None:
    project = worlds.Project(server_to_kill.url, server_to_kill.key)
    targets = project.answers(ITEMS, prefix="kill")
    queue = project.queue("kills", [worlds.THUMB, worlds.NOTE], [[t] for t in targets], judgements_per_item=2)
    ana_key, ben_key = project.annotator("ana"), project.annotator("ben")
    with process("dashboard", "--url", server_to_kill.url, "--port", "0", says="dashboard: ") as dashboard:
        bens = OwnBrowser(browser, tmp_path / "ben", dashboard, ben_key)
        with worlds.signed_in_as(browser, dashboard, ana_key) as ana:
            overheard = _work(bens, ana, dashboard, queue, server_to_kill)
    _each_judged_twice(project.api, queue, targets)
    for name, other in (("ana", "ben"), ("ben", "ana")):
        assert any(SECRET.format(name) in body for body in overheard[name].bodies), (
            "their own words come back to them"
        )
        assert not any(SECRET.format(other) in body for body in overheard[name].bodies)
        assert not any('"judgements"' in body or f'"{other}"' in body for body in overheard[name].bodies)


def _work(
    bens: OwnBrowser,
    ana: Page,
    dashboard: str,
    queue: str,
    server: worlds.Server,
) -> dict[str, Overheard]:
    heard = {"ana": Overheard(ana), "ben": Overheard(bens.page)}
    for page in (ana, bens.page):
        worlds.open_queue(page, dashboard, queue)
    for _ in range(2):
        judge(ana, "ana")
        judge(bens.page, "ben")
    worlds.all_saved(bens.page)
    heard["ben"].read()
    server.kill()
    judge(bens.page, "ben")  # the next answer is at hand; this one waits in the browser
    expect(bens.page.locator(".rv-state")).to_have_text("Not sent yet")
    expect(bens.page.locator(".rv-notice")).to_contain_text("kept in this browser")
    half = worlds.current(bens.page)
    assert half is not None
    bens.page.keyboard.press("2")
    wait_until(lambda: bens.has_written(half), what="the browser's own storage")
    bens.kill()  # with a judgement and half another one unsent
    server.start()
    bens.start_again()
    heard["ben_again"] = Overheard(bens.page)
    worlds.open_queue(bens.page, dashboard, queue)
    expect(bens.page.locator(".rv-count")).to_contain_text("3 of 8")
    expect(bens.page.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")
    for page, name in ((bens.page, "ben"), (ana, "ana")):
        while worlds.current(page):
            judge(page, name)
        worlds.all_saved(page)
        page.keyboard.press("b")  # they look back at their own, and at nobody else's
        expect(page.locator(".rv-banner")).to_contain_text("You judged this.")
    heard["ana"].read()
    heard["ben_again"].read()
    bens.context.close()
    heard["ben"].bodies += heard["ben_again"].bodies
    return heard


def _each_judged_twice(api: Client, queue: str, targets: list[dict[str, str]]) -> None:
    said = [f for f in api.iter_feedback(author_kind="annotator") if not f.retracted]
    thumbs = Counter((f.target.trace_id, f.author.id) for f in said if f.kind == "rating")
    wanted = {(t["trace_id"], name) for t in targets for name in ("ana", "ben")}
    assert set(thumbs) == wanted
    assert set(thumbs.values()) == {1}
    notes = Counter((f.target.trace_id, f.author.id) for f in said if f.kind == "comment")
    assert set(notes) == wanted and set(notes.values()) == {1}
    counts = api.review("GET", f"queues/{queue}")["counts"]
    assert (counts["items"], counts["done"], counts["judgements"]) == (ITEMS, ITEMS, 2 * ITEMS)
