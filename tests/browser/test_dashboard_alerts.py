"""Alerts in a real browser on a real server: made on the page, evaluated by the server, told to a webhook, acknowledged."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urljoin

import pytest
from dashboard_browser import DESK, expect_count, settled, signed_in_page
from dashboard_world import wait_until
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on loopback, and what it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/hook", told
        listening.shutdown()


def visit(page: Page, dashboard: str, path: str) -> None:
    page.goto(dashboard + path)
    settled(page)


def test_an_alert_from_the_form_to_the_webhook_and_back(
    demo_page: Page, demo_dashboard: str, demo_api: Client, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, told = webhook
    visit(demo_page, demo_dashboard, "/alerts?new=1&model=fernleaf-ppo")
    expect(demo_page.get_by_label("Only answers matching", exact=True)).to_have_value("model=fernleaf-ppo")
    demo_page.get_by_role("button", name="Create alert").click()
    expect(demo_page.get_by_text("Give the alert a name.")).to_be_visible()
    demo_page.get_by_label("Name", exact=True).fill("The new model pleases")
    demo_page.get_by_text("It crosses a threshold").click()
    demo_page.get_by_label("Threshold (%)").fill("97")
    demo_page.get_by_label("Window (hours)").fill("168")
    demo_page.get_by_label("Webhook", exact=True).fill(url)
    demo_page.get_by_role("button", name="Create alert").click()
    expect(demo_page.locator(".st-key-panel_secret")).to_contain_text("Shown only once")
    alert = next(a for a in demo_api.alerts() if a.name == "The new model pleases")
    wait_until(lambda: demo_api.alert(alert.id).state == "alarm", "the server sees it")
    wait_until(lambda: any(t["type"] == "alert" for t in told), "the webhook is told")
    demo_page.reload()
    settled(demo_page)
    expect(demo_page.locator(".st-key-panel_secret")).to_have_count(0)
    expect(demo_page.get_by_text("is in alarm")).to_be_visible()
    history = demo_page.locator(".st-key-panel_history")
    expect(history).to_contain_text("Alarm")
    wait_until(
        lambda: demo_api.alert_history(alert.id)[0].delivery.status == "delivered",
        "it says that it was delivered",
    )
    demo_page.get_by_role("button", name="Acknowledge").click()
    expect(demo_page.locator(".st-key-panel_rule")).to_contain_text("Acknowledged")
    assert demo_api.alert(alert.id).acknowledged_by
    demo_page.get_by_role("button", name="Send a test").click()
    expect(demo_page.get_by_text("The webhook accepted it")).to_be_visible()
    assert any(t["type"] == "test" for t in told)
    demo_page.get_by_role("button", name="Mute", exact=False).first.click()
    expect(demo_page.get_by_text("is muted")).to_be_visible()
    assert demo_api.alert(alert.id).enabled is False


def test_a_rule_is_changed_on_its_page(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    alert = next(a for a in demo_api.alerts() if a.name == "Wrong facts")
    visit(demo_page, demo_dashboard, f"/alerts?alert_id={alert.id}")
    demo_page.get_by_text("Change the rule").click()
    settled(demo_page)  # what is drawn again loses what was typed
    threshold = demo_page.get_by_label("Threshold (%)")
    threshold.fill("42")
    threshold.press("Enter")
    settled(demo_page)
    expect(threshold).to_have_value("42")
    demo_page.get_by_role("button", name="Save").click()
    wait_until(lambda: demo_api.alert(alert.id).threshold == pytest.approx(0.42), "the server has it")
    expect(demo_page.locator(".st-key-panel_rule")).to_contain_text("42.0%")


def test_its_number_leads_to_the_answers_behind_it(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    alert = next(a for a in demo_api.alerts() if a.name == "Everybody is happy")
    wait_until(lambda: demo_api.alert(alert.id).state == "alarm", "it is in alarm")
    visit(demo_page, demo_dashboard, f"/alerts?alert_id={alert.id}")
    shown = demo_page.locator('[data-card="num"]')
    number = int(shown.locator(".value").inner_text().replace(",", ""))
    demo_page.goto(urljoin(f"{demo_dashboard}/", shown.get_attribute("href") or ""))
    settled(demo_page)
    expect_count(demo_page, number)


def test_a_private_address_is_refused_in_words(demo_page: Page, demo_dashboard: str) -> None:
    visit(demo_page, demo_dashboard, "/alerts?new=1")
    demo_page.get_by_label("Name", exact=True).fill("To the inside")
    demo_page.get_by_label("Webhook", exact=True).fill("http://10.0.0.1/hook")
    demo_page.get_by_role("button", name="Create alert").click()
    expect(
        demo_page.get_by_text("The server refused this question").or_(demo_page.get_by_text("webhook")).first
    ).to_be_visible()
    expect(demo_page.get_by_role("heading", name="New alert")).to_be_visible()


def test_a_viewer_sees_alerts_and_no_buttons(browser: Browser, demo_dashboard: str, demo_api: Client) -> None:
    key = demo_api.create_key("a viewer", ["read"]).key
    with signed_in_page(browser, demo_dashboard, key, viewport=DESK) as page:
        alert = demo_api.alerts()[0]
        visit(page, demo_dashboard, "/alerts")
        expect(page.locator(".st-key-panel_alerts tbody tr").first).to_be_visible()
        expect(page.get_by_role("link", name="New alert")).to_have_count(0)
        visit(page, demo_dashboard, f"/alerts?alert_id={alert.id}")
        expect(page.locator(".st-key-panel_rule")).to_be_visible()
        for name in ("Acknowledge", "Mute", "Delete", "Save"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
        visit(page, demo_dashboard, "/failures")
        expect(page.get_by_role("link", name="Create dataset from these")).to_have_count(0)
        visit(page, demo_dashboard, "/datasets?new=1")
        expect(page.get_by_text("needs the scope train")).to_be_visible()
