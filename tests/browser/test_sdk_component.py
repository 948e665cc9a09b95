"""`<heedloop-feedback>` in a real browser, on a page of another origin, against a real server."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

import heedloop
from heedloop.client import Client
from heedloop.responses import StoredFeedback

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>chat</title>
<script type="module" src="{server}/static/feedback.js"></script>
<p id="answer">Within thirty days.</p><heedloop-feedback token="{token}" {attributes}></heedloop-feedback></html>"""


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.server.page.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if policy := getattr(self.server, "policy", None):
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[http.server.HTTPServer]:
    """The app's own web site, on another origin than heedloop's."""
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    yield pages
    pages.shutdown()
    pages.server_close()


@pytest.fixture
def handle(server: tuple[str, str], tmp_path: Path) -> Iterator[str]:
    """A recorded answer."""
    heedloop.configure(*server, service="browser", options=heedloop.Options(outbox=tmp_path))

    @heedloop.trace
    def answer(question: str) -> str:
        return "Within thirty days."

    yield answer.with_handle("How long?").handle
    heedloop.shutdown()


def show(
    browser: Browser | BrowserContext,
    site: http.server.HTTPServer,
    server: tuple[str, str],
    token: str,
    more: str = "",
) -> Page:
    site.page = PAGE.format(server=server[0], token=token, attributes=more)  # type: ignore[attr-defined]
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{site.server_port}/")
    return page


def said(server: tuple[str, str], handle: str, kind: str, at_least: int = 1) -> list[StoredFeedback]:
    """What the server holds about the answer."""
    deadline = time.monotonic() + 20
    while True:
        found = Client(*server).feedback(trace_id=handle.split("-")[1], kind=kind).feedback
        if len(found) >= at_least:
            return found
        assert time.monotonic() < deadline, f"no {kind} about {handle}"
        time.sleep(0.05)


def test_a_thumb_by_mouse_and_words_by_keyboard(browser, site, server, handle):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"))
    up, down = page.get_by_role("button", name="Good answer"), page.get_by_role("button", name="Bad answer")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    down.focus()
    page.keyboard.press("Enter")
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    thumbs = said(server, handle, "rating")
    assert [(t.value, t.author.id, t.author.kind) for t in thumbs] == [(0, "person", "end_user")]
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.get_by_label("Comment").fill("too long <b>ago</b>")
    page.get_by_label("What should it have said?").fill("14 days.")
    page.get_by_role("button", name="Send").press("Enter")
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    assert said(server, handle, "flag")[0].category == "inaccurate"
    assert said(server, handle, "comment")[0].comment == "too long <b>ago</b>"
    assert said(server, handle, "correction")[0].correction == "14 days."
    page.close()


def test_a_second_press_takes_it_back(browser, site, server, handle):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"))
    up = page.get_by_role("button", name="Good answer")
    up.click()
    said(server, handle, "rating")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_role("status")).to_have_text("Taken back.")
    page.close()


def test_only_what_the_token_allows_is_shown_in_the_words_of_the_page(browser, site, server, handle):
    token = heedloop.feedback_token(handle, subject="person", kinds=["rating"])
    page = show(browser, site, server, token, 'data-down="Schlecht"')
    page.get_by_role("button", name="Schlecht").click()
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    expect(page.get_by_label("Comment")).to_have_count(0)
    page.close()


@pytest.mark.parametrize("token", ["", "nonsense", "hlt1.e30.x"])
def test_a_token_that_is_none_shows_nothing(browser, site, server, handle, token):
    page = show(browser, site, server, token)
    page.wait_for_function("!!customElements.get('heedloop-feedback')")
    expect(page.get_by_role("button")).to_have_count(0)
    page.close()


def test_a_forged_or_expired_token_is_refused_and_the_person_is_told(browser, site, server, handle):
    forged = heedloop.feedback_token(handle, subject="person")[:-5] + "AAAAA"
    expired = heedloop.feedback_token(handle, subject="person", expires_in_s=0.001)
    for token in (forged, expired):
        page = show(browser, site, server, token)
        page.get_by_role("button", name="Good answer").click()
        expect(page.get_by_role("status")).to_have_text("This answer can no longer be rated here.")
        expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "false")
        page.close()
    assert Client(*server).feedback(trace_id=handle.split("-")[1]).feedback == []


def post(server: tuple[str, str], token: str, **feedback: object) -> int:
    """What somebody gets who has the token and no page."""
    headers = {"x-heedloop-token": token}
    return requests.post(server[0] + "/v1/feedback", json=feedback, headers=headers, timeout=10).status_code


def test_a_token_that_a_page_used_is_of_no_use_to_anybody_else(browser, site, server, handle):
    token = heedloop.feedback_token(handle, subject="person")
    page = show(browser, site, server, token)
    recorded = []
    page.on("request", lambda r: recorded.append(r) if r.method == "POST" else None)
    up, down = page.get_by_role("button", name="Good answer"), page.get_by_role("button", name="Bad answer")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "true")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    assert post(server, token, kind="rating", name="thumb", value=1) == 401
    for request in recorded:  # whoever recorded all that the page sent can only say the same again
        again = requests.post(request.url, data=request.post_data, headers=request.headers, timeout=10)
        assert again.status_code == 200 and again.json()["duplicate"] == 1
    assert [t.value for t in said(server, handle, "rating")] == [0]
    page.get_by_label("Comment").fill("too long")
    page.get_by_role("button", name="Send").click()
    assert said(server, handle, "comment")[0].comment == "too long"
    page.close()


def test_a_thief_who_was_first_leaves_the_person_told(browser, site, server, handle):
    token = heedloop.feedback_token(handle, subject="person")
    assert post(server, token, kind="rating", name="thumb", value=0) == 200
    page = show(browser, site, server, token)
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("status")).to_have_text("This answer can no longer be rated here.")
    page.close()


def test_the_page_may_be_loaded_again(browser, site, server, handle):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"))
    page.get_by_role("button", name="Good answer").click()
    said(server, handle, "rating")
    page.reload()
    down = page.get_by_role("button", name="Bad answer")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    assert [t.value for t in said(server, handle, "rating")] == [0]
    page.close()


def test_quick_fingers_and_a_lost_answer(browser, site, server, handle):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"))
    lost = []

    def lose_the_first_answers(route):
        if len(lost) < 3:
            lost.append(route.fetch().status)  # the server took it
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/feedback", lose_the_first_answers)
    page.get_by_role("button", name="Good answer").click()
    page.get_by_role("button", name="Bad answer").click()  # while the first is on its way
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute(
        "aria-pressed", "true", timeout=15_000
    )
    assert lost == [200, 200, 200]
    assert [t.value for t in said(server, handle, "rating")] == [0]
    found = Client(*server).feedback(trace_id=handle.split("-")[1]).feedback
    assert len(Client(*server).feedback_one(found[0].feedback_id).history) == 2
    page.close()


def test_a_get_never_counts(server, handle):
    token = heedloop.feedback_token(handle, subject="person")
    answer = requests.get(
        server[0] + "/v1/feedback", params={"kind": "rating"}, headers={"x-heedloop-token": token}, timeout=10
    )
    assert answer.status_code in (401, 403)
    assert Client(*server).feedback(trace_id=handle.split("-")[1]).feedback == []


def test_the_file_is_small_and_kept(server):
    first = requests.get(server[0] + "/static/feedback.js", timeout=10)
    assert first.headers["Content-Type"].startswith("text/javascript") and len(first.content) < 14_000
    again = requests.get(
        server[0] + "/static/feedback.js", headers={"If-None-Match": first.headers["ETag"]}, timeout=10
    )
    assert again.status_code == 304


STRICT = "default-src 'self'; script-src {url}; connect-src {url}; style-src 'self'"


def test_the_thumbs_look_apart_where_the_page_forbids_inline_styles(browser, site, server, handle):
    token = heedloop.feedback_token(handle, subject="person")
    site.policy = STRICT.format(url=server[0])
    page = show(browser, site, server, token)
    up, down = page.get_by_role("button", name="Good answer"), page.get_by_role("button", name="Bad answer")
    expect(up).to_have_css("min-width", "32px")
    assert down.locator("path").get_attribute("transform") and not up.locator("path").get_attribute(
        "transform"
    )
    page.close()


def test_an_earlier_vote_is_shown_pressed_after_a_reload_with_a_new_token(browser, site, server, handle):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"))
    page.get_by_role("button", name="Bad answer").click()
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    site.page = PAGE.format(
        server=server[0], token=heedloop.feedback_token(handle, subject="person"), attributes=""
    )
    page.reload()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    site.page = PAGE.format(
        server=server[0], token=heedloop.feedback_token(handle, subject="another"), attributes=""
    )
    page.reload()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "false")
    page.close()


def test_clicks_while_the_network_is_away_wait_for_it(browser, site, server, handle):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"))
    up, down = page.get_by_role("button", name="Good answer"), page.get_by_role("button", name="Bad answer")
    page.context.set_offline(True)
    up.click()
    expect(page.get_by_role("status")).to_have_text("You are offline. This is sent when the network is back.")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    page.context.set_offline(False)
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    assert [t.value for t in said(server, handle, "rating")] == [0]
    page.close()


def test_two_tabs_of_one_page_share_its_token(browser, site, server, handle):
    token = heedloop.feedback_token(handle, subject="person")
    context = browser.new_context()
    first = show(context, site, server, token)
    second = context.new_page()
    second.goto(f"http://127.0.0.1:{site.server_port}/")
    first.get_by_role("button", name="Good answer").click()
    expect(first.get_by_role("status")).to_have_text("Thank you.")
    up, down = (second.get_by_role("button", name=n) for n in ("Good answer", "Bad answer"))
    expect(up).to_have_attribute("aria-pressed", "true")
    down.click()
    expect(second.get_by_role("status")).to_have_text("Thank you.")
    expect(first.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    assert [t.value for t in said(server, handle, "rating")] == [0]
    context.close()


def test_an_earlier_vote_that_the_page_knows_is_shown_pressed_on_another_device(
    browser, site, server, handle
):
    page = show(browser, site, server, heedloop.feedback_token(handle, subject="person"), 'value="0"')
    up, down = page.get_by_role("button", name="Good answer"), page.get_by_role("button", name="Bad answer")
    expect(down).to_have_attribute("aria-pressed", "true")
    up.click()
    expect(down).to_have_attribute("aria-pressed", "false")
    expect(up).to_have_attribute("aria-pressed", "true")
    assert [t.value for t in said(server, handle, "rating")] == [1]
    page.close()
