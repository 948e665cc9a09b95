"""Answers, questions and names that want to be more than text, on the annotator's page and on the reviewer's."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import review_world as worlds
from dashboard_browser import settled, signed_in_context
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOST = "evil.example"
SHORT = f"![m](http://{HOST}/m.png)<img src=http://{HOST}/i.png onerror=window.pwned=1>"
ATTACK = "\n".join(
    (
        f"![x](http://{HOST}/markdown.png) [click](http://{HOST}/link) <http://{HOST}/auto> :material/face:",
        f"<script>window.pwned=1;fetch('http://{HOST}/f')</script><svg onload=window.pwned=1>",
        f"<style>*{{background:url(http://{HOST}/b.png)}}</style><iframe src='http://{HOST}/frame'></iframe>",
        "\u202etxet desrever\u202c bell\x07",
        "W" * 20_000,
    )
)
QUESTIONS = [
    {"name": "thumb", "kind": "thumb", "title": SHORT, "help": ATTACK[:2000]},
    {"name": "verdict", "kind": "category", "title": SHORT, "categories": [SHORT, SHORT + "2"]},
    {"name": "wrong", "kind": "flags", "title": SHORT, "categories": [SHORT], "severity": True},
    {
        "name": "scale", "kind": "scale", "title": SHORT, "min": 1, "max": 3,
        "anchors": [{"value": 1, "label": SHORT, "description": SHORT}],
    },
    {"name": "places", "kind": "ranges", "title": SHORT, "labels": [SHORT]},
    {"name": "better", "kind": "correction", "title": SHORT},
]  # fmt: skip


class Watch:
    """What a page did beyond showing itself."""

    def __init__(self, page: Page, dashboard: str) -> None:
        self.host = urlsplit(dashboard).netloc
        self.foreign: list[str] = []
        self.surprises: list[str] = []
        page.on("request", lambda r: self._note(r.url))
        page.on("dialog", lambda d: (self.surprises.append(d.message), d.dismiss()))
        page.on("popup", lambda p: self.surprises.append(p.url))
        page.on("pageerror", lambda e: self.surprises.append(str(e)))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.host:
            self.foreign.append(url)

    def is_quiet(self, page: Page) -> None:
        assert page.evaluate("window.pwned") is None
        assert self.foreign == []
        assert self.surprises == []
        assert page.locator(f"img[src*='{HOST}'], iframe, object, embed, .rv a[href*='{HOST}']").count() == 0
        wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
        assert wide <= 0, f"{page.url} is {wide} pixels too wide"


@pytest.fixture(scope="module")
def project(server: tuple[str, str]) -> worlds.Project:
    return worlds.project(server, "review-hostile")


@pytest.fixture(scope="module")
def queue(project: worlds.Project) -> str:
    targets = project.answers(3, text=ATTACK, prefix="hostile", question=ATTACK, model=SHORT, version=SHORT)
    guideline = {
        "text": f"# {SHORT}\n- {ATTACK[:1000]}",
        "examples": [dict.fromkeys(("input", "output", "verdict", "why"), SHORT)],
    }
    return project.queue(
        SHORT[:200], QUESTIONS, [[t] for t in targets], description=ATTACK[:1000], guideline=guideline,
        show=["model", "prompt_version"],
    )  # fmt: skip


@pytest.fixture
def admin(browser: Browser, dashboard: str, project: worlds.Project) -> Iterator[tuple[Page, Watch]]:
    with signed_in_context(
        browser, dashboard, project.key, viewport={"width": 1280, "height": 900}
    ) as context:
        page = context.new_page()
        yield page, Watch(page, dashboard)


def test_the_annotators_page_stays_whole(
    admin: tuple[Page, Watch], dashboard: str, project: worlds.Project, queue: str
) -> None:
    page, watch = admin
    page.goto(f"{dashboard}/review")
    expect(page.get_by_role("heading", name=SHORT[:60]).first).to_be_visible()
    worlds.open_queue(page, dashboard, queue)
    answer = page.locator(".rv-left .rv-text[tabindex]")
    expect(answer).to_contain_text("<script>window.pwned=1")
    expect(answer).to_contain_text("⟨U+202E⟩txet desrever⟨U+202C⟩ bell␇")
    page.keyboard.press("w")
    for key in ("2", "1", "1", "1", "ArrowDown", "1"):
        page.keyboard.press(key)
    page.keyboard.press("m")
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.keyboard.press("Control+End")
    page.keyboard.type("<img src=x onerror=window.pwned=1>")
    expect(page.locator(".rv-diff ins")).to_contain_text("onerror")
    page.keyboard.press("Escape")
    watch.is_quiet(page)
    worlds.save(page)
    worlds.all_saved(page)
    page.keyboard.press("b")
    expect(page.locator(".rv-row").first).to_contain_text("![m]")
    watch.is_quiet(page)


def test_the_queue_pages_stay_whole(admin: tuple[Page, Watch], dashboard: str, queue: str) -> None:
    page, watch = admin
    for part in (
        "",
        "&part=agreement",
        "&part=annotators",
        "&fill=filter",
        "&part=guideline",
        "&part=settings",
    ):
        page.goto(f"{dashboard}/review-queues?queue={queue}{part}")
        settled(page)
        expect(page.get_by_role("heading").first).to_be_visible()
        assert page.get_by_test_id("stException").count() == 0, part
        watch.is_quiet(page)
