"""The page Imports: an import by the command, its balance and reasons, and undoing it as one; the webhook of the settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from dashboard_browser import DESK, settled, signed_in_page
from dashboard_world import wait_until
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client
from heedloop_cli.main import main

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def key(api: Client, request: pytest.FixtureRequest) -> str:
    """The key of a project of its own."""
    return api.create_project(request.node.name[5:30].replace("_", "-").strip("-")).key


@pytest.fixture
def shop(server: tuple[str, str], key: str) -> Client:
    """A reader of that project."""
    return Client(server[0], key)


def score(n: int, **changes: object) -> dict[str, object]:
    """A Langfuse score of a user's."""
    row = {
        "id": f"s{n}",
        "projectId": "p",
        "name": "user-feedback",
        "source": "API",
        "dataType": "BOOLEAN",
        "value": 1,
    }
    subject = {"kind": "trace", "id": f"{n:032x}"}
    times = {"timestamp": f"2026-03-0{n}T08:00:00Z", "metadata": {"user_id": f"u{n}"}}
    return row | times | {"subject": subject} | changes


def bring(client: Client, key: str, path: Path, *rows: dict[str, object]) -> None:
    """Import rows as a user does."""
    path.write_text(json.dumps(rows), encoding="utf-8")
    own = ["--url", client.url, "--api-key", key, "--state", str(path.parent / "state")]
    assert main(["import", str(path), *own]) in (0, 1)


def shoot(page: Page, name: str) -> None:
    """The page in light, dark and at phone width, where HEEDLOOP_SCREENSHOTS names a folder."""
    folder = os.environ.get("HEEDLOOP_SCREENSHOTS")
    shots: Sequence[tuple[str, int, Literal["light", "dark"]]]
    shots = (("phone", 390, "light"), ("dark", 1440, "dark"), ("light", 1440, "light"))
    for look, width, scheme in shots:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 1100})
        settled(page)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        if folder:
            page.screenshot(path=Path(folder, f"{name}-{look}.png"))


def cells(page: Page) -> list[list[str]]:
    """The rows of the table, as texts."""
    rows = page.locator(".st-key-panel_imports tbody tr")
    return [
        [re.sub(r"\s+", " ", t).strip() for t in row.locator("td").all_inner_texts()] for row in rows.all()
    ]


def test_the_balance_closes_reasons_are_listed_and_one_import_is_undone(
    browser: Browser, dashboard: str, shop: Client, key: str, tmp_path: Path
) -> None:
    run = score(3, subject={"kind": "experiment", "id": "e1"})
    quality = score(4, name="quality", dataType="NUMERIC", value=7)
    bring(shop, key, tmp_path / "first.json", score(1), score(2), run, quality)
    bring(shop, key, tmp_path / "second.json", score(2), score(5))
    second, first = shop.imports()
    with signed_in_page(browser, dashboard, key, viewport=DESK) as page:
        page.goto(f"{dashboard}/imports")
        settled(page)
        table = {row[4]: row for row in cells(page)}
        assert [table[i.id][2] for i in (second, first)] == ["second.json", "first.json"]
        for one, counts in ((first, (4, 2, 0, 2)), (second, (2, 1, 1, 0))):
            read, stored, known, left_out = map(int, table[one.id][5:9])
            assert (read, stored, known, left_out) == counts
            assert read == stored + known + left_out
        body = page.locator("[data-testid=stMain]")
        expect(body).to_contain_text("1 a score of an experiment")
        expect(body).to_contain_text("1 the scale of 'quality' is not known")
        shoot(page, "imports")
        page.get_by_role("button", name="Undo an import").click()
        page.get_by_label("Import", exact=True).click()
        page.get_by_role("option", name=first.id).click()
        undo = page.get_by_role("button", name="Undo", exact=True)
        expect(undo).to_be_disabled()
        page.get_by_label("Enter the import id to confirm").fill(first.id)
        page.keyboard.press("Enter")
        undo.click()
        expect(page.get_by_text("Removed 0 calls and 2 judgements.")).to_be_visible()
        wait_until(
            lambda: [f.author.id for f in shop.iter_feedback()] == ["u5"], "the first import is gone as one"
        )
        page.reload()
        settled(page)
        assert {row[4]: row[3] for row in cells(page)} == {first.id: "undone", second.id: "finished"}


def test_a_webhook_is_set_on_the_settings_and_its_secret_is_shown_once(
    browser: Browser, dashboard: str, shop: Client, key: str
) -> None:
    with signed_in_page(browser, dashboard, key, viewport=DESK) as page:
        page.goto(f"{dashboard}/settings")
        settled(page)
        panel = page.locator(".st-key-panel_webhook")
        panel.get_by_label("Address (empty: none)").fill("https://example.org/feedback")
        page.keyboard.press("Enter")
        panel.get_by_role("button", name="Save webhook").click()
        expect(panel.locator("code")).to_have_text(re.compile("^hlw_"))
        hook = shop.project().feedback_webhook
        assert hook is not None
        assert (hook.url, hook.imports) == ("https://example.org/feedback", False)
        page.reload()
        settled(page)
        expect(panel).to_contain_text("0 waiting, 0 failed")
        panel.scroll_into_view_if_needed()
        shoot(page, "webhook")
        expect(panel.locator("code")).to_have_count(0)
