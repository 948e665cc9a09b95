"""The pages in a real browser on a real server: numbers equal the API's, and every number leads to its answers."""

import re
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet
import pytest
from dashboard_browser import settled, sign_in
from dashboard_world import ANSWER
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client
from heedloop_dashboard import words
from heedloop_dashboard.filters import window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def visit(page: Page, dashboard: str, path: str) -> None:
    page.goto(dashboard + path)
    settled(page)


def card(page: Page, key: str):
    return page.locator(f'[data-card="{key}"] .value')


def test_the_figures_equal_the_api(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/")
    summary = api.quality_summary(**window("30 d", datetime.now(timezone.utc)))
    assert summary.num_rated > 250
    expect(card(page, "rate")).to_have_text(words.percent(summary.rate.estimate))
    expect(card(page, "coverage")).to_have_text(words.percent(summary.coverage.estimate))
    expect(card(page, "answers")).to_have_text(words.count(summary.num_answers))
    expect(card(page, "down")).to_have_text(words.count(summary.num_down))


def test_the_finding_names_the_planted_failure(page: Page, dashboard: str) -> None:
    visit(page, dashboard, "/")
    finding = page.locator(".finding")
    expect(finding).to_contain_text("efunds")
    expect(finding).to_contain_text("v2")
    finding.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Traces")).to_be_visible()
    query = parse_qs(urlsplit(page.url).query)
    assert query["rating"] == ["down"]
    assert query["prompt_version"] == ["v2"]


def test_charts_have_a_text_alternative_and_a_table(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/")
    groups = api.quality_by("prompt_version", **window("30 d", datetime.now(timezone.utc)))
    chart = page.locator('.st-key-panel_by_version [data-testid="stVegaLiteChart"]')
    said = page.locator(".st-key-panel_by_version").get_by_label(
        re.compile("Thumbs-up rate by prompt version")
    )
    expect(said.first).to_be_attached()
    page.get_by_role("button", name="By prompt version: show the numbers as a table").click()
    table = page.locator(".st-key-panel_by_version table")
    for group in groups:
        expect(table).to_contain_text(f"{words.percent(group.rate.estimate)}")
        expect(table).to_contain_text(words.count(group.num_rated))
    expect(chart).to_have_count(0)


def test_a_thumbs_down_opens_its_trace_with_conversation_and_feedback(
    page: Page, dashboard: str, world
) -> None:
    visit(page, dashboard, "/")
    page.locator(f'.st-key-panel_recent tr[data-key="{world.trace_id}"]').click()
    page.wait_for_url(re.compile("/trace\\?"))
    assert parse_qs(urlsplit(page.url).query)["trace_id"] == [world.trace_id]
    conversation = page.locator(".st-key-panel_conversation")
    expect(conversation).to_contain_text("Where is my refund of order 88213?")
    expect(conversation.locator("mark")).to_have_text(ANSWER[:33])
    feedback = page.locator(".st-key-panel_feedback")
    expect(feedback).to_contain_text("Thumbs-down")
    expect(feedback).to_contain_text("It never arrived.")
    expect(feedback).to_contain_text("Flag: inaccurate (high)")
    correction = page.locator(".st-key-panel_corrections")
    expect(correction.locator("del").first).to_contain_text("30")
    expect(correction.locator("ins").first).to_contain_text("14")
    expect(page.locator(".st-key-panel_spans")).to_contain_text("refund_lookup")


def test_one_thumb_can_be_followed_from_the_page_to_the_run_and_back(
    page: Page, dashboard: str, world
) -> None:
    """Feedback id -> call -> snapshot -> run, by ids that stand on the screen, and back again."""
    visit(page, dashboard, f"/trace?trace_id={world.trace_id}")
    page.get_by_role("link", name=world.thumb_id).click()
    chain = page.locator(".st-key-panel_chain")
    for step, shown in (
        ("Feedback", world.thumb_id),
        ("Call", world.trace_id),
        ("Snapshot", world.snapshot_id),
        ("Run", world.run_id),
    ):
        expect(chain.locator(f'[data-step="{step}"]')).to_contain_text(shown)
    history = page.locator(".st-key-panel_history")
    expect(history.locator(".item")).to_have_count(2)
    expect(history.locator(".item").nth(0)).to_contain_text("Thumbs-down")
    expect(history.locator(".item").nth(1)).to_contain_text("Thumbs-up")
    chain.get_by_role("link", name=world.run_id).click()
    expect(page.get_by_role("heading", name="Run", exact=True)).to_be_visible()
    expect(page.locator(".st-key-panel_curves")).to_contain_text("objective/kl")
    page.locator(".st-key-panel_chain").get_by_role("link", name=world.snapshot_id).click()
    expect(page.get_by_role("heading", name="Dataset", exact=True)).to_be_visible()
    expect(page.locator(".st-key-panel_chain")).to_contain_text(world.run_id)


def test_a_dot_leads_to_the_answers_behind_it(page: Page, dashboard: str, world) -> None:
    visit(page, dashboard, "/")
    chart = page.locator('.st-key-panel_by_version [data-testid="stVegaLiteChart"]')
    chart.locator('.mark-symbol path[aria-label*="v2"]').last.click()
    page.wait_for_url(re.compile("/traces\\?"))
    assert parse_qs(urlsplit(page.url).query) == {"prompt_version": ["v2"], "rating": ["any"]}
    page.go_back()
    settled(page)
    expect(page.get_by_role("heading", name="Quality overview")).to_be_visible()
    assert "/traces" not in page.url


def test_a_link_reproduces_the_view(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/?period=7+d&model=small-2")
    summary = api.quality_summary(model="small-2", **window("7 d", datetime.now(timezone.utc)))
    expect(card(page, "answers")).to_have_text(words.count(summary.num_answers))
    page.locator('[data-card="down"]').click()
    page.wait_for_url(re.compile("/traces\\?"))
    query = parse_qs(urlsplit(page.url).query)
    assert query == {"period": ["7 d"], "model": ["small-2"], "rating": ["down"]}
    rows = page.locator(".st-key-panel_calls tbody tr")
    expect(rows).to_have_count(min(50, summary.num_down))
    page.reload()
    settled(page)
    expect(rows).to_have_count(min(50, summary.num_down))


def test_choosing_a_period_changes_the_url_and_the_numbers(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/")
    page.get_by_role("radio", name="7 d").or_(page.get_by_role("button", name="7 d")).first.click()
    page.wait_for_url(re.compile("period=7"))
    summary = api.quality_summary(**window("7 d", datetime.now(timezone.utc)))
    expect(card(page, "answers")).to_have_text(words.count(summary.num_answers))


def test_search_and_next_and_previous_stay_in_the_list(page: Page, dashboard: str, world) -> None:
    visit(page, dashboard, "/traces?tag=refunds&rating=down")
    rows = page.locator(".st-key-panel_calls tbody tr")
    first = rows.nth(0).get_attribute("data-key")
    second = rows.nth(1).get_attribute("data-key")
    assert first == world.trace_id
    rows.nth(0).click()
    page.get_by_role("link", name="Older →", exact=True).click()
    page.wait_for_url(re.compile(second))
    page.get_by_role("link", name="← Newer", exact=True).click()
    page.wait_for_url(re.compile(first))
    expect(page.get_by_text("← Newer", exact=True)).to_have_attribute("aria-disabled", "true")


def test_text_search_finds_words_of_the_question(page: Page, dashboard: str, world) -> None:
    visit(page, dashboard, "/traces")
    page.get_by_label("Search", exact=True).fill("88213")
    page.get_by_label("Search", exact=True).press("Enter")
    page.wait_for_url(re.compile("text=88213"))
    rows = page.locator(".st-key-panel_calls tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_have_attribute("data-key", world.trace_id)


def test_the_comparison_says_what_the_server_says(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/compare?a=v1&b=v2")
    found = api.quality_compare("prompt_version", "v1", "v2", **window("30 d", datetime.now(timezone.utc)))
    expect(page.locator(".finding").first).to_contain_text(found.sentence[-60:])
    expect(page.locator('[data-card="difference"] .value')).to_have_text(
        words.points(found.difference.estimate)
    )


def test_what_annotators_said_is_counted_and_listed(page: Page, dashboard: str, api: Client, world) -> None:
    visit(page, dashboard, "/")
    page.get_by_role("link", name="1 correction", exact=True).click()
    page.wait_for_url(re.compile("kind=correction"))
    rows = page.locator(".st-key-panel_feedback_list tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("annotator ana")
    visit(page, dashboard, "/?author_kind=annotator")
    summary = api.quality_summary(author_kind="annotator", **window("30 d", datetime.now(timezone.utc)))
    assert summary.num_rated == 0
    expect(card(page, "rate")).to_have_text("–")


def test_who_rates_is_asked_only_when_it_is_opened(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/")
    assert page.locator(".st-key-panel_sample").count() == 0
    page.get_by_text("How far can these numbers be trusted?").click()
    found = api.quality_sample(**window("30 d", datetime.now(timezone.utc)))
    sample = page.locator(".st-key-panel_sample")
    expect(sample).to_contain_text(words.interval(found.self_selected))
    expect(sample).to_contain_text(words.percent(found.bounds.low))


def test_the_ledger_balances(page: Page, dashboard: str) -> None:
    visit(page, dashboard, "/delivery")
    expect(page.locator(".finding")).to_contain_text("The ledger balances")


@pytest.mark.parametrize("path", ["/failures", "/feedback", "/datasets", "/runs"])
def test_every_list_page_shows_the_world(page: Page, dashboard: str, path: str) -> None:
    visit(page, dashboard, path)
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_the_export_holds_what_is_shown(page: Page, dashboard: str, api: Client) -> None:
    visit(page, dashboard, "/")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    text = waiting.value.path().read_text(encoding="utf-8-sig")
    groups = api.quality_by("model", **window("30 d", datetime.now(timezone.utc)))
    for group in groups:
        assert f"by model,model,{group.value},{group.num_answers},{group.num_rated},{group.num_up}," in text
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Parquet").click()
    table = pyarrow.parquet.read_table(waiting.value.path()).to_pylist()
    shown = {r["value"]: r for r in table if r["panel"] == "by model"}
    assert {g.value: g.num_up for g in groups} == {v: r["num_up"] for v, r in shown.items()}


def test_a_wrong_key_is_refused_and_a_right_one_leads_on(
    browser: Browser, dashboard: str, server, world
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{dashboard}/traces?rating=down")
    assert page.url.startswith(f"{dashboard}/sign-in?")
    page.get_by_label("API key").fill("hl_000000000000_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("API key").fill(server[1])
    page.get_by_role("button", name="Sign in").click()
    settled(page)
    assert page.url == f"{dashboard}/traces?rating=down"
    cookies = {c["name"]: c for c in context.cookies()}
    assert cookies["heedloop_session"]["httpOnly"]
    assert server[1] not in str(cookies)
    page.goto(f"{dashboard}/sign-out")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{dashboard}/")
    assert page.url.startswith(f"{dashboard}/sign-in?")
    context.close()


def test_a_key_of_another_project_sees_nothing_of_this_one(
    browser: Browser, dashboard: str, api: Client, world
) -> None:
    other = api.create_project("other-team")
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, dashboard, other.key)
    expect(page.get_by_text("Send a first answer")).to_be_visible()
    expect(page.locator("[data-card]")).to_have_count(0)
    visit(page, dashboard, f"/trace?trace_id={world.trace_id}")
    expect(page.get_by_text("Not found")).to_be_visible()
    context.close()
