"""The demo's conversation on the pages: every count leads to exactly so many answers, and what stands there is the API's."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from dashboard_browser import exact_count, expect_count, settled
from playwright.sync_api import Page, expect

from heedloop.client import Client
from heedloop_dashboard import words
from heedloop_dashboard.state import window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def visit(page: Page, dashboard: str, path: str) -> None:
    page.goto(dashboard + path)
    settled(page)


def now_30_days() -> dict[str, str]:
    return window("30 d", datetime.now(timezone.utc))


@pytest.mark.parametrize(
    "path", ["/", "/?prompt_version=v2", "/failures", "/failures?of=questions&tag=users%3Aearly"]
)
def test_every_show_n_answers_leads_to_exactly_n(demo_page: Page, demo_dashboard: str, path: str) -> None:
    visit(demo_page, demo_dashboard, path)
    links = demo_page.get_by_role("link", name=re.compile(r"Show ([\d,]+) answers?"))
    expect(links.first).to_be_visible()
    said = [(link.inner_text(), link.get_attribute("href") or "") for link in links.all()]
    for text, href in said:
        number = re.search(r"Show ([\d,]+) answers?", text)
        assert number
        demo_page.goto(urljoin(f"{demo_dashboard}/", href))
        settled(demo_page)
        expect_count(demo_page, int(number[1].replace(",", "")))


def test_the_cards_lead_to_as_many_answers_as_they_say(demo_page: Page, demo_dashboard: str) -> None:
    for card in ("answers", "down"):
        visit(demo_page, demo_dashboard, "/?tag=topic%3Arefunds")
        value = demo_page.locator(f'[data-card="{card}"] .value').inner_text()
        demo_page.locator(f'[data-card="{card}"]').click()
        demo_page.wait_for_url(re.compile("/traces"))
        settled(demo_page)
        expect_count(demo_page, int(value.replace(",", "")))


def test_several_tags_and_metadata_narrow_the_list_and_chips_take_them_away(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    tags = ["topic:refunds", "users:early"]
    path = "/traces?tag=topic%3Arefunds&tag=users%3Aearly&metadata.topic=refunds&prompt_version=v2"
    visit(demo_page, demo_dashboard, path)
    both = demo_api.quality_summary(
        tag=tags, prompt_version="v2", **{"metadata.topic": "refunds"}, **now_30_days()
    )
    assert both.num_answers > 20
    expect_count(demo_page, both.num_answers)
    demo_page.get_by_role("link", name=re.compile("version v2")).click()
    demo_page.wait_for_url(lambda url: "prompt_version" not in url)
    settled(demo_page)
    query = parse_qs(urlsplit(demo_page.url).query)
    assert query == {"tag": tags, "metadata.topic": ["refunds"]}
    more = demo_api.quality_summary(tag=tags, **{"metadata.topic": "refunds"}, **now_30_days())
    assert more.num_answers > both.num_answers
    expect_count(demo_page, more.num_answers)


def test_all_time_begins_with_the_first_call(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    visit(demo_page, demo_dashboard, "/?period=All")
    everything = demo_api.quality_summary(since="1990-01-01T00:00:00Z")
    answers = demo_page.locator('[data-card="answers"] .value')
    expect(answers).to_have_text(words.count(everything.num_answers))
    visit(demo_page, demo_dashboard, "/traces?period=All")
    expect_count(demo_page, everything.num_answers)


def test_a_cluster_has_words_examples_and_a_dataset_of_its_answers(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    visit(demo_page, demo_dashboard, "/failures?groups=all")
    found = demo_api.quality_clusters(**now_30_days()).clusters
    cards = demo_page.locator(".cluster")
    expect(cards).to_have_count(len(found))
    first = demo_page.locator(f'[data-cluster="{found[0].id}"]')
    expect(first.locator(".name")).to_have_text(found[0].name)
    expect(first.locator("li")).to_have_count(len(found[0].examples))
    review = first.get_by_role("link", name="Send these to review").get_attribute("href") or ""
    assert parse_qs(urlsplit(review).query)["fill"] == ["sample"]
    assert parse_qs(urlsplit(review).query)["cluster"] == [found[0].id]
    first.get_by_role("link", name="Create dataset from these").click()
    expect(demo_page.get_by_role("heading", name="New dataset", exact=True)).to_be_visible()
    settled(demo_page)
    expect(demo_page.locator(".st-key-panel_view")).to_contain_text(f"{found[0].num_answers} answers")
    demo_page.get_by_label("Name", exact=True).fill("promises")
    demo_page.get_by_role("button", name="Create dataset").click()
    expect(demo_page.get_by_role("heading", name="Dataset", exact=True)).to_be_visible()
    made = demo_api.snapshots()[0]
    assert made.name == "promises"
    assert made.query["filters"]["cluster"] == found[0].id


def test_an_example_opens_its_trace_with_liked_answers_beside_it(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    visit(demo_page, demo_dashboard, "/failures")
    demo_page.locator(".cluster li a").first.click()
    demo_page.wait_for_url(re.compile("/trace\\?"))
    settled(demo_page)
    query = parse_qs(urlsplit(demo_page.url).query)
    alike = demo_api.quality_similar(query["trace_id"][0], query["span_id"][0])
    panel = demo_page.locator(".st-key-panel_similar")
    panel.get_by_text("Liked answers to similar questions").click()
    expect(panel.locator(".item")).to_have_count(len(alike))
    if alike:
        expect(panel).to_contain_text(alike[0].answer[:60])


def test_the_league_says_what_the_api_says(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    visit(demo_page, demo_dashboard, "/compare?field=model")
    found = demo_api.quality_league("model", **now_30_days())
    best = found.standings[0]
    assert best.value == "fernleaf-ppo"
    row = demo_page.locator(".st-key-panel_standings tbody tr").first
    expect(row).to_contain_text("fernleaf-ppo")
    expect(row).to_contain_text(f"{best.num_wins:,}, {best.num_ties:,}, {best.num_losses:,}")
    longer = demo_page.locator('[data-card="longer"] .value')
    expect(longer).to_have_text(words.percent(found.longer_wins.estimate))
    said = demo_page.locator(".st-key-panel_league").get_by_label(re.compile("Won by model"))
    expect(said.first).to_be_attached()


def test_each_release_has_its_before_and_after(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    visit(demo_page, demo_dashboard, "/compare")
    found = demo_api.quality_releases(**now_30_days()).releases
    rows = demo_page.locator(".st-key-panel_releases tbody tr")
    expect(rows).to_have_count(len(found))
    ppo = rows.filter(has_text="fernleaf-ppo")
    expect(ppo).to_contain_text("Better")
    ppo.get_by_role("link", name="ppo-demo").click()
    expect(demo_page.get_by_role("heading", name="Run", exact=True)).to_be_visible()


def test_a_random_sample_stands_beside_those_who_rated(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    visit(demo_page, demo_dashboard, "/?trust=1")
    found = demo_api.quality_sample(**now_30_days())
    sample = demo_page.locator(".st-key-panel_sample")
    expect(sample).to_contain_text(words.interval(found.random_sample))
    expect(sample).to_contain_text(words.change(found.difference))
    raters = demo_page.locator(".st-key-panel_raters")
    expect(raters.get_by_label(re.compile("new users")).first).to_be_attached()
    expect(demo_page.locator(".st-key-panel_drift tbody tr")).to_have_count(3)
    demo_page.reload()
    settled(demo_page)
    expect(sample).to_contain_text(words.change(found.difference))


def test_the_export_of_a_list_holds_all_of_it(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    visit(demo_page, demo_dashboard, "/traces?rating=down")
    number = exact_count(demo_page)
    assert number > 50, "more than one page of the list"
    demo_page.get_by_role("button", name="Export").click()
    with demo_page.expect_download() as waiting:
        demo_page.get_by_role("button", name="CSV").click()
    text = waiting.value.path().read_text(encoding="utf-8-sig")
    assert len(re.findall(r"^[0-9a-f]{32},", text, re.M)) == number
