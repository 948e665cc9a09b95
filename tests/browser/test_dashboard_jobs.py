"""The page Jobs: empty at first, then what runs with its bar and a button that cancels it, and what is over."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest
from dashboard_browser import DESK, settled, signed_in_page
from dashboard_world import wait_until
from playwright.sync_api import Browser, expect

from heedloop.client import Client
from heedloop.schema import Author, Call, Feedback, Message, Target, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NUM_CALLS = 45


def _call() -> Call:
    """A call whose export fills the buffers of a connection that nobody reads from."""
    return Call(
        trace_id=secrets.token_hex(16),
        span_id=secrets.token_hex(8),
        start_time=utc_now(),
        input_messages=(Message("user", "Where is it?"),),
        output_messages=(Message("assistant", secrets.token_hex(500_000)),),
    )


def test_what_runs_is_shown_and_cancelled(
    browser: Browser, dashboard: str, server: tuple[str, str], api: Client
) -> None:
    key = api.create_project("jobs-page").key
    shop = Client(server[0], key)
    with signed_in_page(browser, dashboard, key, viewport=DESK) as page:
        page.goto(f"{dashboard}/jobs")
        settled(page)
        expect(page.get_by_text("No jobs yet.")).to_be_visible()
        calls = [_call() for _ in range(NUM_CALLS)]
        shop.send_calls(calls)
        shop.send_feedback(
            [
                Feedback(
                    kind="rating",
                    value=1,
                    target=Target(c.trace_id, c.span_id),
                    author=Author("end_user", "u"),
                )
                for c in calls
            ]
        )
        snapshot = shop.create_snapshot("first")
        host, port = server[0].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as reader:
            head = f"GET /v1/calls/export HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n"
            reader.sendall(head.encode())
            _read_until_listed(reader, shop)
            page.goto(f"{dashboard}/jobs")
            settled(page)
            running = page.locator(".st-key-panel_running")
            expect(running).to_contain_text("Export by")
            if folder := os.environ.get("HEEDLOOP_SCREENSHOTS"):
                page.screenshot(path=Path(folder, "jobs-light.png"))
            running.get_by_role("button", name="Cancel").click()
            expect(running.get_by_role("button", name="Cancel")).to_have_count(0)
            while reader.recv(1 << 20):
                pass  # until the server breaks it off
        rows = page.locator(".st-key-panel_jobs tbody tr")

        def is_cancelled() -> bool:
            page.reload()
            settled(page)
            return "cancelled" in rows.first.inner_text()

        wait_until(is_cancelled, "the page to show that it was cancelled")
        expect(rows.last).to_contain_text("done")
        rows.last.get_by_role("link").click()
        page.wait_for_url(f"**/datasets?snapshot_id={snapshot.id}")


def _read_until_listed(reader: socket.socket, shop: Client) -> None:
    """Read slowly, until the export has taken so long that it is a job."""
    while not any(j.kind == "export" for j in shop.jobs()):
        assert reader.recv(1 << 16)
