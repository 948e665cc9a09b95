"""Every page in light, in dark and at phone width: whole, reachable by keyboard, named for those who do not see it.

With HEEDLOOP_SCREENSHOTS=<folder> the pages are also saved there, to be looked at.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dashboard_browser import process, settled
from dashboard_world import wait_until
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from heedloop.client import Client
from heedloop_dashboard import pages

try:  # axe-core, a test peer; without it the checks of our own remain
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGES = {
    "quality": "/?period=14+d",
    "trust": "/?period=14+d&trust=1",
    "review": "/review",
    "review_queues": "/review-queues",
    "traces": "/traces?rating=down&tag=topic%3Arefunds",
    "trace": "/trace?trace_id={trace_id}",
    "feedback": "/feedback?feedback_id={thumb_id}",
    "feedback_list": "/feedback",
    "failures": "/failures",
    "comments": "/failures?of=comments",
    "compare": "/compare?a=v1&b=v2&within=tag",
    "league": "/compare?field=model",
    "alerts": "/alerts",
    "alert": "/alerts?alert_id={alert_id}",
    "new_alert": "/alerts?new=1&model=fernleaf-ppo&metric=coverage",
    "datasets": "/datasets",
    "dataset": "/datasets?snapshot_id={snapshot_id}",
    "new_dataset": "/datasets?new=1&rating=down",
    "runs": "/runs",
    "run": "/runs?run_id={run_id}",
    "delivery": "/delivery",
}
LOOKS = {"light": (1440, 1100), "dark": (1440, 1100), "phone": (390, 844)}

# every control and picture needs a name; a component's shadow tree is looked through too
NAMELESS = """() => {
  const found = [];
  const walk = (root) => {
    for (const node of root.querySelectorAll('*')) {
      if (node.shadowRoot) walk(node.shadowRoot);
      if (!node.matches('button, a[href], input, [role=button], [role=img], canvas')) continue;
      if (node.closest('[aria-hidden=true]') || node.type === 'hidden' || !node.getClientRects().length) continue;
      const labelled = (node.getAttribute('aria-labelledby') || '').split(' ').map((id) => document.getElementById(id)?.textContent || '').join('');
      const name = node.getAttribute('aria-label') || labelled || node.textContent.trim() || node.title || node.alt || node.placeholder || node.labels?.[0]?.textContent;
      if (!name) found.push(node.outerHTML.slice(0, 160));
    }
  };
  walk(document.querySelector('[data-testid=stMain]'));
  return found;
}"""


def test_no_page_is_left_out() -> None:
    """A page that is added to the dashboard is added here."""
    walked = {urlsplit(path).path.strip("/") for path in PAGES.values()}
    assert {entry.path for entry in pages.PAGES} <= walked


@pytest.fixture(scope="module")
def ids(demo_api: Client) -> dict[str, str]:
    """One of everything that the demo's conversation holds."""
    trace = demo_api.calls(has="correction", limit=1).calls[0].trace_id
    thumb = next(f for f in demo_api.trace(trace).feedback if f.kind == "rating")
    alerts = demo_api.alerts()
    wait_until(lambda: all(a.evaluated_at for a in demo_api.alerts()), "every alert is evaluated")
    return {
        "trace_id": trace,
        "thumb_id": thumb.feedback_id,
        "snapshot_id": demo_api.snapshots()[0].id,
        "run_id": demo_api.runs()[0].id,
        "alert_id": alerts[0].id,
    }


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_whole(
    browser: Browser, demo_signed_in: dict, demo_dashboard: str, ids: dict[str, str], look: str
) -> None:
    width, height = LOOKS[look]
    context = browser.new_context(
        storage_state=demo_signed_in,
        viewport={"width": width, "height": height},
        color_scheme="dark" if look == "dark" else "light",
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(f"{m.text} {m.location}") if _is_error(m) else None)
    for name, path in PAGES.items():
        page.goto(demo_dashboard + path.format(**ids))
        settled(page)
        _is_whole(page, f"{name} in {look}")
        _save(page, f"{name}_{look}", width)
        assert errors == [], f"{name} in {look}"
    context.close()


def _is_error(message: ConsoleMessage) -> bool:
    """Streamlit itself looks under /<page>/_stcore first for where it is mounted; the browser notes these two 404s."""
    return message.type == "error" and "/_stcore/" not in str(message.location.get("url"))


def _is_whole(page: Page, what: str) -> None:
    expect(page.get_by_role("heading").first).to_be_visible()
    assert page.get_by_test_id("stException").count() == 0, what
    assert page.locator(".st-key-page_failed").count() == 0, what
    for words in ("The server refused this question", "Not found", "The server does not answer"):
        assert page.get_by_text(words).count() == 0, f"{what}: {words}"
    wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    assert wide <= 0, f"{what} is {wide} pixels too wide"
    for chart in page.get_by_test_id("stVegaLiteChart").all():
        expect(chart.locator("[aria-label]").first).to_be_attached()
    assert page.evaluate(NAMELESS) == [], what
    if Axe is not None:
        found = Axe().run(page).response["violations"]
        assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found] == [], what


def _save(page: Page, name: str, width: int) -> None:
    folder = os.environ.get("HEEDLOOP_SCREENSHOTS")
    if not folder:
        return
    tall = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(tall + 10, 3200)})
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.screenshot(path=Path(folder, f"{name}.png"))
    page.set_viewport_size({"width": width, "height": LOOKS["phone" if width < 500 else "light"][1]})


def test_the_keyboard_reaches_an_answer(page: Page, dashboard: str, world) -> None:
    page.goto(f"{dashboard}/traces?rating=down")
    settled(page)
    page.locator(f'tr[data-key="{world.trace_id}"] a').focus()
    page.keyboard.press("Enter")
    expect(page.locator(".st-key-panel_conversation")).to_contain_text("88213")
    page.get_by_role("link", name="All answers").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Traces")).to_be_visible()
    assert "rating=down" in page.url


def test_an_empty_period_says_so_and_shows_no_zero_rate(page: Page, dashboard: str) -> None:
    page.goto(f"{dashboard}/?model=no-such-model")
    settled(page)
    expect(page.locator('[data-card="rate"] .value')).to_have_text("–")
    expect(page.get_by_text("No ratings in this period.").first).to_be_visible()
    expect(page.get_by_text("None in this period.")).to_be_visible()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/trace?trace_id=" + "ab" * 16, "Not found"),
        ("/trace?trace_id=nonsense", "Trace id"),
        ("/feedback?feedback_id=nonsense", "Feedback"),
        ("/runs?run_id=nonsense", "Not found"),
        ("/datasets?snapshot_id=nonsense", "Not found"),
        ("/?since=yesterday", "RFC 3339"),
        ("/?period=900+years&segment=nonsense", "Quality overview"),
        ("/traces?cursor=nonsense", "Traces"),
        ("/compare?a=zzz&b=yyy&field=zzz", "Compare"),
    ],
)
def test_a_broken_link_is_answered_in_words(page: Page, dashboard: str, path: str, said: str) -> None:
    page.goto(dashboard + path)
    settled(page)
    expect(page.get_by_text(said).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text("Oh no")).to_have_count(0)


def test_a_server_that_is_away_is_said_in_words(browser: Browser) -> None:
    with process(
        "dashboard",
        "--url",
        "http://127.0.0.1:9",
        "--port",
        "0",
        says="dashboard: ",
        HEEDLOOP_API_KEY="hl_000000000000_x",
    ) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.get_by_text("no answer from http://127.0.0.1:9")).to_be_visible(timeout=60_000)
        page.close()
