"""What people come for, each within three clicks from the quality page: the demo's conversation, and what a test adds to it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from dashboard_browser import DESK, choose_option, expect_count, settled, sign_in, signed_in_page
from dashboard_world import answer_span, hexid, post, span, wait_until
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client
from heedloop.schema import Author, Feedback, Target, format_time
from heedloop_dashboard import ranges, words
from heedloop_dashboard.charts.timelines import compact
from heedloop_dashboard.state import window

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COMPLAINT = "The parcel shop had never heard of my voucher"


def visit(page: Page, dashboard: str, path: str) -> None:
    page.goto(dashboard + path)
    settled(page)


def go_to(page: Page, name: str) -> None:
    """By the navigation."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
    settled(page)


@pytest.fixture(scope="module")
def complaint(server: tuple[str, str], demo_key: str, demo_api: Client) -> str:
    """A conversation of two turns, one with a failed tool call and a comment on it: its session id."""
    now = datetime.now(timezone.utc) - timedelta(hours=1)
    ids = [(hexid(f"task trace {i}", 32), hexid(f"task span {i}", 16)) for i in range(2)]
    spans = [
        answer_span(
            now + timedelta(minutes=i), trace=trace, id=id, question=f"Turn {i}: where can I use my voucher?",
            answer="In every parcel shop.", model="fernleaf-ppo", version="v2", topic="refunds",
            **{"session.id": "talk/1", "user.id": "mo"},
        )
        for i, (trace, id) in enumerate(ids)
    ]  # fmt: skip
    tool = span(
        "voucher_lookup", now + timedelta(minutes=1, milliseconds=10), 20, trace=ids[1][0], id=hexid("task tool", 16), parent=ids[1][1],
        **{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "voucher_lookup",
           "gen_ai.tool.call.arguments": '{"voucher": "V-77"}'},
    )  # fmt: skip
    tool["status"] = {"code": 2, "message": "VoucherServiceTimeout after 5 s"}
    post(server[0], demo_key, [*spans, tool])
    before = demo_api.ledger().feedback.stored
    demo_api.send_feedback(
        [
            Feedback(
                kind="rating", target=Target(trace_id=ids[1][0], span_id=ids[1][1]), value=0, comment=COMPLAINT,
                author=Author("end_user", "mo"), created_at=now + timedelta(minutes=2),
            )
        ]
    )  # fmt: skip
    wait_until(lambda: demo_api.ledger().feedback.stored > before, "the complaint is stored")
    wait_until(lambda: demo_api.calls(session_id="talk/1").calls != [], "the conversation is stored")
    return "talk/1"


def test_did_the_release_hurt_and_whom(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    visit(demo_page, demo_dashboard, "/")
    go_to(demo_page, "Compare")
    released = demo_api.quality_releases(**window("30 d", datetime.now(timezone.utc))).releases
    assert released
    expect(demo_page.get_by_test_id("stMain")).to_contain_text(released[0].value)
    expect(demo_page.get_by_test_id("stMain")).to_contain_text(words.change(released[0].change))


def test_the_worst_topic_is_sent_to_review_as_a_random_sample(demo_page: Page, demo_dashboard: str) -> None:
    visit(demo_page, demo_dashboard, "/")
    go_to(demo_page, "Failures")
    first = demo_page.locator(".cluster").first
    expect(first.locator(".rate")).to_contain_text("times the average")
    expect(first.locator(".question")).not_to_be_empty()
    first.get_by_role("link", name="Send these to review").click()
    demo_page.wait_for_url(re.compile("/review-queues"))
    assert parse_qs(urlsplit(demo_page.url).query)["fill"] == ["sample"]


def test_a_point_of_the_chart_leads_to_its_answers(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    visit(demo_page, demo_dashboard, "/?period=14+d")
    chart = demo_page.get_by_role("slider", name=re.compile("Thumbs-up rate over"))
    chart.focus()
    for _ in range(3):
        demo_page.keyboard.press("ArrowLeft")
    said = chart.get_attribute("aria-valuetext") or ""
    expect(demo_page.locator('[data-plot="rate"] .value')).to_have_text(said)
    demo_page.keyboard.press("Enter")
    demo_page.wait_for_url(re.compile("/traces"))
    settled(demo_page)
    query = {k: v[0] for k, v in parse_qs(urlsplit(demo_page.url).query).items() if k != "period"}
    expect_count(demo_page, demo_api.quality_summary(**query).num_answers)


def test_dragging_over_the_chart_chooses_the_period(demo_page: Page, demo_dashboard: str) -> None:
    visit(demo_page, demo_dashboard, "/?period=14+d")
    box = demo_page.get_by_role("slider", name=re.compile("Thumbs-up rate over")).bounding_box()
    assert box
    demo_page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 80)
    demo_page.mouse.down()
    demo_page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 90, steps=4)
    demo_page.mouse.up()
    demo_page.wait_for_url(re.compile("since="))
    settled(demo_page)
    expect(demo_page.get_by_role("heading", name="Quality overview")).to_be_visible()


def test_a_conversation_is_found_by_the_words_of_the_complaint(
    demo_page: Page, demo_dashboard: str, complaint: str
) -> None:
    visit(demo_page, demo_dashboard, "/")
    demo_page.get_by_label("Search everything").fill("voucher heard")
    demo_page.get_by_label("Search everything").press("Enter")
    hit = demo_page.locator(".hit").first
    expect(hit).to_contain_text("Comment")
    expect(hit.locator("mark").first).to_have_text(re.compile("heard|voucher"))
    hit.click()
    demo_page.locator(".st-key-panel_details").get_by_role("link", name=complaint).click()
    turns = demo_page.locator(".st-key-panel_turns")
    expect(turns.locator(".message.user")).to_have_count(2)
    expect(turns.locator(".message.user").first).to_contain_text("Turn 0")
    expect(turns).to_contain_text(COMPLAINT)
    demo_page.get_by_role("link", name="User mo").click()
    expect(demo_page.locator(".st-key-panel_comments")).to_contain_text(COMPLAINT)
    expect(demo_page.locator('[data-card="answers"] .value')).to_have_text("2")


def test_what_failed_in_a_tool_call(demo_page: Page, demo_dashboard: str, complaint: str) -> None:
    visit(demo_page, demo_dashboard, "/")
    demo_page.get_by_label("Search everything").fill("VoucherServiceTime")
    demo_page.get_by_label("Search everything").press("Enter")
    demo_page.locator(".hit", has_text="Error").first.click()
    shown = demo_page.locator(".st-key-panel_conversation")
    expect(shown.locator(".failed")).to_contain_text("VoucherServiceTimeout after 5 s")
    expect(shown).to_contain_text("V-77")


def test_an_id_opens_at_once(demo_page: Page, demo_dashboard: str, demo_api: Client, complaint: str) -> None:
    call = demo_api.calls(session_id=complaint, limit=1).calls[0]
    visit(demo_page, demo_dashboard, "/feedback")
    demo_page.get_by_label("Search everything").fill(f"00-{call.trace_id}-{call.span_id}-01")
    demo_page.get_by_label("Search everything").press("Enter")
    demo_page.wait_for_url(re.compile(f"trace\\?trace_id={call.trace_id}"))


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on loopback, and what it received."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/hook", received
        listening.shutdown()


def test_an_alert_arrives_as_a_message_for_slack(
    demo_page: Page, demo_dashboard: str, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, received = webhook
    visit(demo_page, demo_dashboard, "/")
    demo_page.locator(".st-key-panel_health").get_by_role("link", name="New alert").click()
    demo_page.get_by_label("Name", exact=True).fill("Slow & <sluggish>")
    choose_option(demo_page, demo_page.get_by_label("Metric", exact=True), "Model calls")
    threshold = demo_page.get_by_label("Threshold (calls)")
    threshold.fill("5")
    threshold.press("Enter")
    demo_page.get_by_label("Window (hours)").fill("168")
    demo_page.get_by_label("Window (hours)").press("Enter")
    settled(demo_page)
    expect(demo_page.get_by_label("Baseline (%)")).to_have_count(0)
    demo_page.get_by_role("button", name="Preview").click()
    expect(demo_page.get_by_text(re.compile("Would have fired (once|twice|\\d+ times)"))).to_be_visible()
    demo_page.get_by_label("Webhook", exact=True).fill(url)
    demo_page.get_by_label("Webhook", exact=True).press("Enter")
    choose_option(demo_page, demo_page.get_by_label("Message for"), "Slack")
    settled(demo_page)
    demo_page.get_by_role("button", name="Create alert").click()
    expect(demo_page.locator(".st-key-panel_secret")).to_be_visible()
    wait_until(lambda: bool(received), "Slack is told")
    assert set(received[0]) == {"text", "blocks"}
    assert "Slow &amp; &lt;sluggish&gt;: the number of provider calls" in received[0]["text"]


def test_tokens_and_cost_of_last_week(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    visit(demo_page, demo_dashboard, "/")
    demo_page.get_by_role("button", name="Range").click()
    demo_page.get_by_role("button", name="Last week", exact=True).click()
    demo_page.wait_for_url(re.compile("since="))
    settled(demo_page)
    since, until = ranges.named_ranges(datetime.now(timezone.utc))["Last week"]
    total = demo_api.quality_health(since=format_time(since), until=format_time(until)).total
    expect(demo_page.locator('[data-plot="tokens"] .value')).to_have_text(
        compact(total.input_tokens + total.output_tokens)
    )
    expect(demo_page.locator('[data-plot="cost"] .value')).to_have_text(words.dollars(total.cost))
    # what is chosen stays chosen on the next page
    go_to(demo_page, "Traces")
    expect(demo_page.get_by_role("button", name="Last week")).to_be_visible()
    expect_count(demo_page, total.num_answers)


def test_which_model_is_live_and_is_it_better(demo_page: Page, demo_dashboard: str, demo_api: Client) -> None:
    visit(demo_page, demo_dashboard, "/")
    go_to(demo_page, "Runs")
    found = next(r for r in demo_api.quality_releases(field="model").releases if r.value == "fernleaf-ppo")
    row = demo_page.locator("tbody tr", has_text="fernleaf-ppo")
    expect(row).to_contain_text(words.clock(found.time))
    expect(row).to_contain_text(words.change(found.change))
    row.get_by_role("link").first.click()
    expect(demo_page.locator(".finding")).to_contain_text(found.sentence[-40:])


def test_two_models_are_compared_honestly_under_a_paradox(
    browser: Browser, demo_dashboard: str, server: tuple[str, str], api: Client
) -> None:
    """b is better in either topic and worse in all, because it is asked the harder questions."""
    made = api.create_project("paradox")
    client, spans, said = Client(server[0], made.key), [], []
    now = datetime.now(timezone.utc) - timedelta(hours=3)
    for model, topic, num, up in (
        ("a", "easy", 180, 0.9),
        ("a", "hard", 40, 0.3),
        ("b", "easy", 40, 0.98),
        ("b", "hard", 180, 0.45),
    ):
        for i in range(num):
            name = f"{model} {topic} {i}"
            trace, id = hexid(f"paradox trace {name}", 32), hexid(f"paradox {name}", 16)
            at = now - timedelta(hours=24 * (i % 4), seconds=i)
            spans.append(
                answer_span(
                    at,
                    trace=trace,
                    id=id,
                    question=name,
                    answer="Yes.",
                    model=model,
                    version="v1",
                    topic=topic,
                )
            )
            said.append(
                Feedback(kind="rating", target=Target(trace_id=trace, span_id=id), value=int(i < up * num),
                         author=Author("end_user", id), created_at=at + timedelta(minutes=1))
            )  # fmt: skip
    post(server[0], made.key, spans)
    client.send_feedback(said)
    wait_until(lambda: client.quality_summary().num_rated == len(said), "the paradox is stored")
    with signed_in_page(browser, demo_dashboard, made.key, viewport=DESK) as page:
        visit(page, demo_dashboard, "/compare?field=model&a=a&b=b")
        expect(page.locator(".finding").first).to_contain_text("tag")
        expect(page.get_by_text("Decided", exact=True)).to_have_count(0)


def test_an_empty_project_leads_to_its_first_answer(
    browser: Browser, demo_dashboard: str, server: tuple[str, str], api: Client
) -> None:
    made = api.create_project("newcomer")
    context = browser.new_context(viewport={"width": 1440, "height": 1100})
    page = context.new_page()
    sign_in(page, demo_dashboard, made.key)
    expect(page.locator(".st-key-panel_lights")).to_contain_text("Waiting")
    page.get_by_role("button", name="Create a key for the app").click()
    page.get_by_role("tab", name="curl").click()
    snippet = page.locator(".st-key-panel_snippets code", has_text="resourceSpans")
    expect(snippet).to_contain_text(server[0])
    expect(snippet).to_contain_text(re.compile(r"hl_[0-9a-f]{12}_"))
    key = re.search(r"hl_[0-9a-f]{12}_[\w-]+", snippet.inner_text())
    assert key and key[0] != made.key
    body = json.loads(
        re.sub(
            r"'\$now'",
            str(int(datetime.now().timestamp())),
            re.search(r"-d '(\{.*?\]\}\]\}\]\})'", snippet.inner_text(), re.S)[1],
        )
    )  # type: ignore[index]
    headers = {"Authorization": f"Bearer {key[0]}"}
    requests.post(f"{server[0]}/v1/traces", json=body, headers=headers, timeout=30).raise_for_status()
    expect(page.locator(".st-key-panel_lights")).to_contain_text("Your first answer has arrived")
    handle = "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"
    thumb = {"kind": "rating", "value": 1, "handle": handle, "author": {"kind": "end_user", "id": "ana"}}
    requests.post(f"{server[0]}/v1/feedback", json=thumb, headers=headers, timeout=30).raise_for_status()
    expect(page.locator('[data-card="rate"] .value')).to_have_text("100.0%")
    context.close()


def test_keys_are_created_and_revoked_on_their_page(
    demo_page: Page, demo_dashboard: str, demo_api: Client
) -> None:
    visit(demo_page, demo_dashboard, "/keys")
    demo_page.get_by_label("Name", exact=True).fill("the till")
    demo_page.get_by_role("button", name="Create key").click()
    text = demo_page.locator(".st-key-panel_created_key code").inner_text()
    made = demo_api.keys()
    key_id = next(k.key_id for k in made if k.name == "the till")
    assert text.startswith(f"hl_{key_id}_")
    demo_page.reload()
    settled(demo_page)
    expect(demo_page.locator(".st-key-panel_created_key")).to_have_count(0)
    choose_option(demo_page, demo_page.get_by_label("Key", exact=True), re.compile(key_id))
    demo_page.get_by_role("button", name="Revoke", exact=True).click()

    def is_revoked() -> bool:
        known = demo_api.keys()
        return next(k for k in known if k.key_id == key_id).revoked_at is not None

    wait_until(is_revoked, "it is revoked")


def test_an_unknown_address_is_a_page_of_our_own(demo_page: Page, demo_dashboard: str) -> None:
    answer = demo_page.goto(f"{demo_dashboard}/no-such-page")
    assert answer is not None and answer.status == 404
    expect(demo_page.get_by_role("heading", name="There is no such page")).to_be_visible()
    demo_page.get_by_role("link", name="Quality overview").click()
    settled(demo_page)
    expect(demo_page.get_by_role("heading", name="Quality overview")).to_be_visible()
