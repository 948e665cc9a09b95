"""A list of answers sorted, chosen from and acted on; a page saved as a view; an answer judged on its own page; two projects."""

import json
import re
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import dashboard_world as worlds
import pytest
from dashboard_browser import choose_option, expect_count, settled, sign_in, signed_in_context
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

ANSWER = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "small-2",
    "gen_ai.input.messages": worlds.messages("user", "Where is my parcel?"),
    "gen_ai.output.messages": worlds.messages("assistant", "On its way."),
}


def rows(page: Page) -> list[str]:
    return [r.get_attribute("data-key") or "" for r in page.locator(".st-key-panel_calls tbody tr").all()]


def choose(page: Page, num: int) -> list[str]:
    for number in range(1, num + 1):
        page.get_by_role("checkbox", name=f"Choose row {number}", exact=True).check()
    return rows(page)[:num]


def act(page: Page, action: str) -> None:
    page.get_by_role("group", name="Chosen rows").get_by_role("button", name=action).click()
    settled(page)


def test_a_list_is_sorted_by_a_click_on_its_heading(
    demo_page: Page, dashboard: str, demo_api: Client
) -> None:
    page = demo_page
    page.goto(f"{dashboard}/traces?rating=down")
    settled(page)
    expect(page.get_by_role("columnheader", name="Time")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("columnheader", name="Took").get_by_role("link").click()
    page.wait_for_url(re.compile("order=slowest"))
    expect(page.locator(".st-key-panel_calls")).to_contain_text("slowest first")
    found = demo_api.calls(rating="down", order="slowest", limit=50, period=None).calls
    assert rows(page) == [c.trace_id for c in found]
    assert found[0].duration_ns == max(c.duration_ns for c in found)
    page.get_by_role("link", name="Older answers").or_(page.get_by_role("link", name="Next page")).click()
    page.wait_for_url(re.compile("cursor="))
    assert "order=slowest" in page.url


def test_chosen_answers_are_flagged_tagged_sent_to_a_queue_and_made_a_dataset(
    demo_page: Page, dashboard: str, demo_api: Client
) -> None:
    page = demo_page
    queue = demo_api.create_review_queue("Bulk", [{"name": "thumb", "kind": "thumb"}])
    page.goto(f"{dashboard}/traces?rating=down")
    settled(page)
    chosen = choose(page, 2)
    act(page, "Add to queue")
    page.locator(".st-key-panel_bulk").get_by_role("button", name="Add to queue").click()
    expect(page.get_by_text("2 answers added to Bulk")).to_be_visible()
    items = demo_api.review_items(queue.queue_id).items
    assert {i.targets[0].trace_id for i in items} == set(chosen)
    choose(page, 2)
    act(page, "Flag")
    page.locator(".st-key-panel_bulk").get_by_role("combobox", name="Flag").fill("made up")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Flag them").click()
    expect(page.get_by_text("2 answers flagged")).to_be_visible()
    worlds.wait_until(lambda: len(demo_api.calls(flag="made up").calls) == 2, "the flags are stored")
    choose(page, 2)
    act(page, "Tag")
    tags = page.locator(".st-key-panel_bulk").get_by_role("combobox", name="Add tags")
    tags.fill("to discuss")
    tags.press("Enter")
    tags.press("Escape")  # its list lies over the button
    page.get_by_role("button", name="Save tags").click()
    expect(page.get_by_text("Tags of 2 answers changed")).to_be_visible()
    assert {c.trace_id for c in demo_api.calls(tag="to discuss").calls} == set(chosen)
    choose(page, 2)
    act(page, "Create dataset")
    page.wait_for_url(re.compile(r"/datasets\?"))
    assert set(parse_qs(urlsplit(page.url).query)["trace"]) == set(chosen)
    expect(page.locator(".st-key-panel_view")).to_contain_text("2 answers, 2 of them rated")
    page.get_by_role("link", name="Show them").click()
    expect_count(page, 2)


def test_a_view_is_saved_opened_and_removed(demo_page: Page, dashboard: str, demo_api: Client) -> None:
    page = demo_page
    page.goto(f"{dashboard}/traces?rating=down&period=14+d")
    settled(page)
    page.get_by_role("button", name="Views").click()
    page.get_by_label("Name", exact=True).fill("Bad ones")
    page.get_by_role("button", name="Save this view").click()
    worlds.wait_until(lambda: "Bad ones" in demo_api.project().views, "the view is saved")
    assert demo_api.project().views == {"Bad ones": "traces?rating=down&period=14+d"}
    page.goto(f"{dashboard}/runs")
    settled(page)
    page.get_by_role("button", name="Views").click()
    page.get_by_role("link", name="Bad ones").click()
    page.wait_for_url(re.compile(r"/traces\?rating=down&period=14"))
    expect(page.get_by_role("button", name="Remove")).to_be_hidden()
    page.get_by_role("button", name="Views").click()
    page.get_by_role("button", name="Remove").click()
    worlds.wait_until(lambda: not demo_api.project().views, "the view is removed")


def test_an_answer_is_judged_on_its_page_and_shown_as_markdown_with_its_picture(
    browser: Browser, dashboard: str, server: tuple[str, str], api: Client
) -> None:
    client = Client(server[0], api.create_project("pictures").key)
    page = browser.new_page(viewport={"width": 1440, "height": 1100})
    page.set_default_timeout(60_000)
    sign_in(page, dashboard, client._key)
    at = datetime.now(timezone.utc) - timedelta(hours=3)
    parts = [
        {"type": "text", "content": "What is this?"},
        {"type": "blob", "mime_type": "image/png", "content": PIXEL},
        {"type": "uri", "mime_type": "image/png", "uri": "https://evil.example/x.png"},
    ]
    content = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "small-2",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}]),
        "gen_ai.output.messages": worlds.messages("assistant", "# A dot\n\n[more](https://evil.example/y)"),
    }
    trace, span = worlds.hexid("picture trace", 32), worlds.hexid("picture span", 16)
    worlds.post(client.url, client._key, [worlds.span("look", at, 900, trace=trace, id=span, **content)])
    foreign: list[str] = []
    page.on("request", lambda r: foreign.append(r.url) if "evil.example" in r.url else None)
    worlds.wait_until(lambda: client.search(trace).ids, "the trace is stored")
    page.goto(f"{dashboard}/trace?trace_id={trace}&span_id={span}")
    settled(page)
    shown = page.locator(".st-key-panel_conversation")
    expect(shown.get_by_role("img", name="Image 1")).to_have_attribute(
        "src", re.compile("^data:image/png;base64,")
    )
    expect(shown.get_by_role("img", name="Image 2")).to_have_count(0)
    shown.get_by_role("button", name="Markdown").click()
    expect(shown.get_by_role("heading", name="A dot")).to_be_visible()
    expect(shown.locator("a[href*=evil]")).to_have_count(0)
    assert foreign == []
    page.get_by_text("Judge this answer").click()
    page.get_by_role("radio", name="Bad").or_(page.get_by_role("button", name="Bad")).first.click()
    page.get_by_label("Comment").fill("It is a square.")
    page.get_by_label("Correction").fill("# A square")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved. It is in the list above")).to_be_visible()
    worlds.wait_until(lambda: len(client.trace(trace).feedback) == 3, "the judgements are stored")
    said = {f.kind: f for f in client.trace(trace).feedback}
    assert (said["rating"].value, said["comment"].comment, said["correction"].correction) == (
        0,
        "It is a square.",
        "# A square",
    )
    assert {f.author.kind for f in said.values()} == {"annotator"}
    page.close()


def test_auto_refresh_shows_what_came_since(
    browser: Browser, dashboard: str, server: tuple[str, str], api: Client
) -> None:
    """The switch alone reads the list again; nobody touches the page once it is on."""
    key = api.create_project("refreshed").key
    with signed_in_context(browser, dashboard, key) as context:
        page = context.new_page()
        page.goto(f"{dashboard}/traces")
        settled(page)
        page.get_by_text("Auto-refresh").click()
        expect(page.get_by_role("switch", name="Auto-refresh")).to_be_checked()
        settled(page)
        trace = worlds.hexid("later trace", 32)
        at = datetime.now(timezone.utc) - timedelta(minutes=3)
        worlds.post(
            server[0], key, [worlds.span("late", at, 900, trace=trace, id=worlds.hexid("s", 16), **ANSWER)]
        )
        expect(page.locator(f'tr[data-key="{trace}"]')).to_be_visible(timeout=120_000)


def test_two_projects_in_one_browser(browser: Browser, dashboard: str, api: Client) -> None:
    first, second = (api.create_project(name).key for name in ("first-shop", "second-shop"))
    context = browser.new_context(viewport={"width": 1440, "height": 1100})
    context.set_default_timeout(60_000)
    page = context.new_page()
    sign_in(page, dashboard, first)
    page.get_by_role("link", name="Add a project").click()
    page.get_by_label("API key").fill("hl_000000000000_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("API key").fill(second)
    page.get_by_role("button", name="Sign in").click()
    settled(page)
    chooser = page.get_by_role("combobox", name="Project")
    expect(chooser).to_have_value("second-shop")
    choose_option(page, chooser, "first-shop")
    settled(page)
    expect(chooser).to_have_value("first-shop")
    page.goto(f"{dashboard}/settings")
    settled(page)
    expect(page.get_by_text("first-shop").first).to_be_visible()
    page.goto(f"{dashboard}/sign-out")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{dashboard}/")
    assert page.url.startswith(f"{dashboard}/sign-in?")
    context.close()
