"""The review pages in light, in dark, on a laptop and on a phone: whole, named, readable, without a layout that jumps.

With HEEDLOOP_SCREENSHOTS=<folder> the pages are also saved there, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import review_world as worlds
from dashboard_browser import settled
from playwright.sync_api import Browser, Page, expect

from heedloop.responses import ReviewAssignment

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ANSWER = (
    "Thanks for reaching out. Refunds are issued within 30 days of the return arriving at our warehouse. Your return arrived "
    "on 9 November, so the refund was sent to your card yesterday. If you do not see it in 3 to 5 days, reply here and we "
    "will open a case with the payment team."
)
OTHER = "Your refund is due on Friday: returns are paid out within 14 days, and yours came on 9 November."
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1440, "height": 900}},
    "dark": {"viewport": {"width": 1366, "height": 768}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}

# Every piece of text in the page against what lies behind it, by WCAG's formula; 3:1 for large text.
CONTRAST = """() => {
  const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (c) => { probe.clearRect(0, 0, 1, 1); probe.fillStyle = c; probe.fillRect(0, 0, 1, 1); const d = probe.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = (node) => { const layers = []; for (let n = node; n; n = n.parentElement) { const c = rgba(getComputedStyle(n).backgroundColor); if (c[3]) layers.push(c); if (c[3] === 1) break; } return layers.reverse().reduce((below, c) => over(c, below), [255, 255, 255]); };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector('.rv'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, style = getComputedStyle(node);
    if (!walker.currentNode.data.trim() || !node.getClientRects().length || style.visibility === 'hidden' || node.closest('.sr, .rv-option:disabled')) continue;
    const back = behind(node), front = over(rgba(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < (parseFloat(style.fontSize) >= 18.66 ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${node.className}: ${walker.currentNode.data.slice(0, 30)}`);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll('.rv :is(button, a[href], input, textarea, summary)')].filter((n) => n.getClientRects().length
  && !(n.getAttribute('aria-label') || n.textContent.trim() || n.title)).map((n) => n.outerHTML.slice(0, 160))"""


@pytest.fixture(scope="module")
def project(server: tuple[str, str]) -> worlds.Project:
    return worlds.project(server, "acme-support")


@pytest.fixture(scope="module")
def queues(project: worlds.Project) -> dict[str, str]:
    """Three queues that people have worked in."""
    targets = project.answers(30, text=ANSWER, prefix="look")
    others = project.answers(6, text=OTHER, prefix="better", model="small-2")
    order = {"name": "order", "kind": "ranking", "title": "Order them"}
    prefer = {"name": "preference", "kind": "comparison", "title": "Which is better", "strength": True}
    shown = ["prompt_version", "model", "duration_ms"]
    found = {
        "one": project.queue(
            "refunds, thumbs-down", worlds.ALL, [[t] for t in targets], guideline=worlds.GUIDELINE, judgements_per_item=3,
            show=shown, description="Refund answers that people did not like", due_at="2030-01-01T00:00:00Z",
        ),
        "two": project.queue("which is better", [prefer, worlds.NOTE], [[a, b] for a, b in zip(targets, others, strict=False)], judgements_per_item=9),
        "four": project.queue("rank four", [order, worlds.ACCURACY], [[*targets[i : i + 2], *others[i : i + 2]] for i in range(0, 4, 2)], judgements_per_item=9),
    }  # fmt: skip
    for name, bad in (("ben", 0.3), ("cleo", 0.6), ("dan", 0.9)):
        worlds.judge_all(project.url, project.annotator(name), found["one"], _opinion(bad), num=12)
    return found


def _opinion(bad: float) -> Callable[[ReviewAssignment], dict[str, Any]]:
    """Judgements that differ between people and answers in a fixed way."""

    def answers(assignment: ReviewAssignment) -> dict[str, Any]:
        number = int(assignment.item_id[:4], 16) / 0xFFFF
        down = number < bad
        wrong = [{"category": "Wrong fact", "severity": "high"}] if down else []
        return {"thumb": 0 if down else 1, "accuracy": 2 if down else 4, "wrong": wrong, "places": []}

    return answers


@pytest.mark.parametrize("look", LOOKS)
def test_the_annotators_page(
    browser: Browser, dashboard: str, project: worlds.Project, queues: dict[str, str], look: str
) -> None:
    ana = project.annotator(f"ana-{look}")
    worlds.judge_all(project.url, ana, queues["one"], _opinion(0.5), num=4)
    with worlds.signed_in_as(browser, dashboard, ana, **LOOKS[look]) as page:
        page.goto(f"{dashboard}/review")
        expect(page.locator(".rv-queue")).to_have_count(3)
        _is_whole(page, f"review_list_{look}")
        worlds.open_queue(page, dashboard, queues["one"])
        page.keyboard.press("g")
        for keys in ("2", "1", "2", "ArrowDown", "2", "m"):
            page.keyboard.press(keys)
        _mark(page, 4, 10, "1")
        _mark(page, 15, 6, "2")
        page.keyboard.press("Escape")
        expect(page.locator(".rv-state")).to_have_text("Saved")
        _is_whole(page, f"review_{look}")
        page.keyboard.press("e")
        page.keyboard.press("Control+End")
        page.keyboard.type(" I am sorry for the wait.")
        page.keyboard.press("Escape")
        _is_whole(page, f"review_correction_{look}")
        page.keyboard.press("?")
        _is_whole(page, f"review_help_{look}")
        page.keyboard.press("Escape")
        for name in ("two", "four"):
            worlds.open_queue(page, dashboard, queues[name])
            page.keyboard.press("2")
            _is_whole(page, f"review_{name}_{look}")


def _mark(page: Page, word: int, length: int, label: str) -> None:
    page.keyboard.press("Home")
    for _ in range(word):
        page.keyboard.press("ArrowRight")
    for _ in range(length - 1):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press(label)


def _is_whole(page: Page, name: str) -> None:
    wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    assert wide <= 0, f"{name} is {wide} pixels too wide"
    out = page.evaluate(
        "[...document.querySelectorAll('.rv *')].filter((n) => n.getBoundingClientRect().right > innerWidth + 1).map((n) => n.className)"
    )
    assert out == [], f"{name}: stands out of the page"
    assert page.evaluate(NAMELESS) == [], name
    assert page.evaluate(CONTRAST) == [], name
    folder = os.environ.get("HEEDLOOP_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder, f"{name}.png"))


def test_nothing_jumps_when_the_next_answer_comes(
    browser: Browser, dashboard: str, project: worlds.Project, queues: dict[str, str]
) -> None:
    with worlds.signed_in_as(browser, dashboard, project.annotator("jump")) as page:
        worlds.open_queue(page, dashboard, queues["one"])
        page.keyboard.press("g")
        before = _places(page)
        page.evaluate(
            "window.shift = 0; new PerformanceObserver((l) => l.getEntries().forEach((e) => { if (!e.hadRecentInput) window.shift += e.value; })).observe({type: 'layout-shift'})"
        )
        for _ in range(3):
            page.keyboard.press("1")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("4")
            worlds.save(page)
            assert _places(page) == before
        worlds.all_saved(page)
        assert page.evaluate("window.shift") < 0.01


def _places(page: Page) -> list[list[float]]:
    return page.evaluate(
        "['.rv-title', '.rv-left', '.rv-right', '.rv-questions', '.rv-actions .rv-main'].map((s) => { const b = document.querySelector(s).getBoundingClientRect(); return [b.x, b.y, b.width]; })"
    )


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_reviewers_pages(
    browser: Browser, dashboard: str, project: worlds.Project, queues: dict[str, str], look: str
) -> None:
    with worlds.signed_in_as(browser, dashboard, project.key, **LOOKS[look]) as page:
        one = queues["one"]
        pages = {
            "queues": "", "new": "?new=1&tag=refunds&fill=filter", "items": f"?queue={one}", "agreement": f"?queue={one}&part=agreement",
            "annotators": f"?queue={one}&part=annotators", "exchange": f"?queue={one}&part=exchange", "fill": f"?queue={one}&fill=sample&tag=refunds",
        }  # fmt: skip
        for name, query in pages.items():
            page.goto(f"{dashboard}/review-queues{query}")
            settled(page)
            expect(page.get_by_role("heading").first).to_be_visible()
            assert page.get_by_test_id("stException").count() == 0, name
            for said in ("The server refused this question", "Not found", "This page failed"):
                assert page.get_by_text(said).count() == 0, f"{name}: {said}"
            _save_tall(page, f"review_{name}_{look}")
        [item, *_] = project.api.review("GET", f"queues/{one}/items", state="disagreement")["items"]
        page.goto(f"{dashboard}/review-queues?queue={one}&item={item['item_id']}")
        expect(page.get_by_role("region", name="All annotators' answers")).to_be_visible()
        _is_whole(page, f"review_settle_{look}")


def _save_tall(page: Page, name: str) -> None:
    folder = os.environ.get("HEEDLOOP_SCREENSHOTS")
    if not folder:
        return
    size = page.viewport_size
    assert size is not None
    tall = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(max(tall + 10, size["height"]), 2400)})
    page.screenshot(path=Path(folder, f"{name}.png"))
    page.set_viewport_size(size)
