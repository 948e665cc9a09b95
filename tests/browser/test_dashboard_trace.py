"""A trace in three parts: what failed in a tool, texts without a blank, long conversations, many spans."""

import json
from datetime import datetime, timedelta, timezone

import dashboard_world as worlds
import pytest
from dashboard_browser import settled
from playwright.sync_api import Page, expect

from heedloop.client import Client, NotFound

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AT = datetime.now(timezone.utc) - timedelta(hours=3)


def _open(page: Page, dashboard: str, trace: str, span: str = "") -> None:
    page.goto(f"{dashboard}/trace?trace_id={trace}" + (f"&span_id={span}" if span else ""))
    settled(page)


def _post(server: tuple[str, str], spans: list[dict]) -> str:
    """Send spans that are no answers, so that the other tests' numbers stay; returns their trace once it is stored."""
    worlds.post(*server, spans)
    trace = spans[0]["traceId"]
    client = Client(*server)
    worlds.wait_until(lambda: len(_spans(client, trace)) == len(spans), "the trace is stored")
    return trace


def _spans(client: Client, trace: str) -> list:
    try:
        return client.trace(trace).spans
    except NotFound:
        return []


def test_a_failed_tool_shows_its_error_its_arguments_and_its_attempts(
    page: Page, dashboard: str, server: tuple[str, str]
) -> None:
    trace, root = worlds.hexid("tool trace", 32), worlds.hexid("tool root", 16)
    spans = [worlds.span("agent", AT, 900, trace=trace, id=root)]
    for i in range(3):
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"order": 7}'}
        spans.append(
            worlds.span("lookup", AT + timedelta(milliseconds=100 * i), 90, trace=trace, id=worlds.hexid(f"try {i}", 16), parent=root, **tool)
        )  # fmt: skip
    for failed in spans[1:3]:
        failed["status"] = {"code": 2, "message": "HTTP 503 from orders"}
    _post(server, spans)
    _open(page, dashboard, trace, worlds.hexid("try 1", 16))
    shown = page.locator(".st-key-panel_conversation")
    expect(shown.locator(".failed")).to_contain_text("HTTP 503 from orders")
    expect(shown).to_contain_text('"order": 7')
    expect(shown).to_contain_text("(empty)")
    tree = page.locator(".st-key-panel_spans")
    expect(tree).to_contain_text("attempt 2")
    expect(tree.locator("li")).to_have_count(4)
    tree.get_by_role("button", name="Errors only (2)").click()
    expect(tree.locator("li")).to_have_count(3)
    tree.get_by_role("button", name="Errors only (2)").click()
    page.keyboard.press("j")
    page.wait_for_url(f"**{worlds.hexid('try 2', 16)}**")


def test_an_endless_word_and_a_conversation_of_500_messages_open_at_once(
    page: Page, dashboard: str, server: tuple[str, str]
) -> None:
    turns = [
        {"role": "user", "parts": [{"type": "text", "content": f"turn {i} of a talk"}]} for i in range(500)
    ]
    content = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps(turns),
        "gen_ai.output.messages": worlds.messages("assistant", "A" * 200_000),
    }
    trace = worlds.hexid("long trace", 32)
    _post(server, [worlds.span("loop", AT, 900, trace=trace, id=worlds.hexid("long", 16), **content)])
    page.set_default_timeout(15_000)
    _open(page, dashboard, trace)
    shown = page.locator(".st-key-panel_conversation")
    expect(shown.locator(".message")).to_have_count(22)
    shown.get_by_role("button", name="Show all 200,000 characters").click()
    expect(shown.locator(".message.assistant wbr")).not_to_have_count(0)
    shown.get_by_role("button", name="messages in between").click()
    expect(shown).to_contain_text("turn 250 of a talk")


def test_three_thousand_spans_are_usable(page: Page, dashboard: str, server: tuple[str, str]) -> None:
    trace = worlds.hexid("many trace", 32)
    ids = [worlds.hexid(f"many {i}", 16) for i in range(3000)]
    spans = [
        worlds.span(f"step {i}", AT + timedelta(milliseconds=i), 5, trace=trace, id=one, parent=ids[(i - 1) // 5] if i else "")
        for i, one in enumerate(ids)
    ]  # fmt: skip
    spans[2000]["status"] = {"code": 2, "message": "out of memory"}
    _post(server, spans)
    _open(page, dashboard, trace)
    tree = page.locator(".st-key-panel_spans")
    expect(tree.locator("li")).to_have_count(3000)
    tree.get_by_role("button", name="Fold all").click()
    expect(tree.locator("li")).to_have_count(6)
    tree.get_by_role("button", name="Errors only (1)").click()
    tree.get_by_role("link", name="step 2000").click()
    expect(page.locator(".st-key-panel_conversation .failed")).to_contain_text("out of memory")
