"""What the annotator's page shows and how: conversation, source, differences, Markdown, marks, conditions, sessions, notes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import pytest
import review_world as worlds
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MARKDOWN = (
    "# Refund\n\nYour **refund** is *sent*: see [policy](https://evil.example/x) <img src=x onerror=alert(1)>\n\n"
    "- one\n- two\n  - inner\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode **kept**\n```\n> quoted"
)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def project(server: tuple[str, str]) -> worlds.Project:
    return worlds.project(server, "review-views")


@pytest.fixture(scope="module")
def ana(browser: Browser, dashboard: str, project: worlds.Project) -> Iterator[Page]:
    """Ana at her page, signed in; a laptop's screen."""
    with worlds.signed_in_as(browser, dashboard, project.annotator("ana")) as page:
        asked: list[str] = []
        note = lambda r: asked.append(r.url)  # noqa: E731 to be taken off again
        page.on("request", note)
        yield page
        page.remove_listener("request", note)
        assert not [u for u in asked if "evil.example" in u]


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def messages(*turns: tuple[str, str]) -> str:
    return json.dumps([{"role": r, "parts": [{"type": "text", "content": t}]} for r, t in turns])


def test_the_whole_conversation_with_earlier_turns(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    turns = [("system", "Be kind.")] + [(["user", "assistant"][n % 2], f"Turn number {n}.") for n in range(7)]
    image = {
        "role": "user",
        "parts": [
            {"type": "blob", "mime_type": "image/png", "content": PIXEL},
            {"type": "text", "content": "Last."},
        ],
    }
    given = json.dumps([*json.loads(messages(*turns)), image])
    [target] = project.answers(1, prefix="conv", **{"gen_ai.input.messages": given})
    worlds.open_queue(ana, dashboard, project.queue("conversation", [worlds.THUMB], [[target]]))
    source = ana.locator(".rv-source")
    expect(source).to_contain_text("Last.")
    expect(source).to_contain_text("Turn number 6.")
    expect(source).not_to_contain_text("Turn number 1.")
    expect(source).not_to_contain_text("Be kind.")
    assert base64.b64decode(ana.get_by_role("img", name="Image 1").get_attribute("src").partition(",")[2])
    ana.get_by_role("button", name=re.compile("Show . earlier messages")).click()
    expect(source).to_contain_text("Turn number 0.")
    assert source.locator(".rv-message").count() == 8


def test_a_long_source_stands_beside_the_answer_by_itself_and_by_key(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    long = project.answers(1, prefix="source", question="Summarise: " + "The tenant pays rent. " * 120)
    short = project.answers(1, prefix="brief")
    worlds.open_queue(ana, dashboard, project.queue("source", [worlds.THUMB], [[t] for t in (*long, *short)]))
    left = ana.locator(".rv-left")
    expect(left).to_have_class(re.compile("is-beside"))
    boxes = [ana.locator(where).bounding_box() for where in (".rv-source", ".rv-one")]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=20) and boxes[0]["x"] < boxes[1]["x"]
    press(ana, "1")
    worlds.save(ana)
    expect(left).not_to_have_class(re.compile("is-beside"))
    press(ana, "v")
    expect(left).to_have_class(re.compile("is-beside"))
    press(ana, "v")
    ana.evaluate("localStorage.clear()")


def test_what_differs_between_two_answers_is_shown_and_they_scroll_together(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    tail = " The rest is the same in both." * 120
    a = project.answers(1, prefix="da", text="Refund on Friday 👩‍👩‍👧 within 14 days." + tail)
    b = project.answers(1, prefix="db", text="Refund on Monday 👩‍👩‍👧 within 30 days." + tail)
    prefer = {"name": "pref", "kind": "comparison", "title": "Which is better"}
    worlds.open_queue(ana, dashboard, project.queue("differ", [prefer], [[a[0], b[0]]]))
    press(ana, "d")
    shown = {t for t in ana.locator(".rv-differs").all_inner_texts() if t.strip()}
    assert shown == {"Friday", "Monday", "14", "30"}
    ana.evaluate("document.querySelectorAll('.rv-text-wrap')[0].scrollTop = 300")
    ana.wait_for_function("() => document.querySelectorAll('.rv-text-wrap')[1].scrollTop > 200")
    press(ana, "d")
    expect(ana.locator(".rv-differs")).to_have_count(0)


def test_markdown_is_drawn_beside_the_raw_text_and_loads_nothing(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    [target] = project.answers(1, prefix="md", text=MARKDOWN)
    worlds.open_queue(ana, dashboard, project.queue("markdown", [worlds.THUMB], [[target]]))
    press(ana, "r")
    drawn = ana.locator(".rv-rendered")
    expect(drawn.locator("h4")).to_have_text("Refund")
    expect(drawn.locator("b")).to_have_text("refund")
    expect(drawn.locator("em")).to_have_text("sent")
    assert drawn.locator("li").count() == 3 and drawn.locator("li li").inner_text() == "inner"
    assert drawn.locator("td").all_inner_texts() == ["1", "2"]
    assert drawn.locator("pre").inner_text() == "code **kept**"
    expect(drawn.locator("blockquote")).to_have_text("quoted")
    expect(drawn).to_contain_text("<img src=x onerror=alert(1)>")
    assert drawn.locator("a, img, script").count() == 0
    assert ana.locator(".rv-text-wrap .rv-text").inner_text().startswith("# Refund"), "the raw text stays"
    press(ana, "r")
    expect(drawn).to_have_count(0)


def test_a_better_answer_is_written_under_the_answer_with_its_changes(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    [target] = project.answers(1, prefix="wide")
    worlds.open_queue(ana, dashboard, project.queue("wide", [worlds.THUMB, worlds.BETTER], [[target]]))
    editor = ana.locator("textarea.correction")
    assert editor.bounding_box()["width"] > 500
    editor.fill(worlds.ANSWER.replace("30", "14"))
    shown = ana.locator(".rv-diff")
    assert (shown.locator("del").inner_text(), shown.locator("ins").inner_text()) == ("30", "14")


def test_the_newest_mark_is_in_view_and_its_row_leads_to_it(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    text = " ".join(f"word{n}." for n in range(900))
    [target] = project.answers(1, prefix="marks", text=text)
    required = {**worlds.MARKS, "severity_required": True}
    worlds.open_queue(ana, dashboard, project.queue("marks", [worlds.THUMB, required], [[target]]))
    press(ana, "1", "m", "1", "End", "1", "Escape")
    rows = ana.locator(".rv-row")
    expect(rows).to_have_count(2)
    expect(rows.last).to_be_in_viewport()
    press(ana, "Control+Enter")
    expect(ana.locator(".rv-notice")).to_contain_text("Wrong places")
    rows.last.get_by_role("button", name="high").click()
    rows.first.get_by_role("button", name="low").click()
    rows.last.locator(".rv-row-title").click()
    expect(ana.locator(".rv-flash")).to_be_in_viewport()
    expect(ana.locator(".rv-flash")).to_contain_text("word899")
    worlds.save(ana)
    worlds.all_saved(ana)
    assert {f["severity"] for f in project.said(name="places")} == {"low", "high"}


def test_long_answers_of_a_ranking_are_collapsed(ana: Page, dashboard: str, project: worlds.Project) -> None:
    targets = project.answers(3, prefix="rank", text="A long answer. " * 200)
    order = {"name": "order", "kind": "ranking", "title": "Order them"}
    worlds.open_queue(ana, dashboard, project.queue("collapsed", [order], [targets]))
    first = ana.locator(".rv-answer").first
    before = first.bounding_box()["height"]
    assert before < 500
    first.get_by_role("button", name="Show all of Answer A").click()
    assert first.bounding_box()["height"] > 2 * before


def test_conditions_numbers_and_several_choices_by_keyboard(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    [first, second] = project.answers(2, prefix="cond")
    why = {
        "name": "why",
        "kind": "choices",
        "title": "Why",
        "categories": ["Fact", "Tone"],
        "when": {"question": "thumb", "is": [0]},
    }
    minutes = {"name": "minutes", "kind": "number", "title": "Minutes", "min": 0, "max": 60}
    worlds.open_queue(
        ana, dashboard, project.queue("conditions", [worlds.THUMB, why, minutes], [[first], [second]])
    )
    asked = ana.locator('[data-question="why"]')
    expect(asked).to_be_hidden()
    press(ana, "2")
    expect(asked).to_be_visible()
    press(ana, "1", "2", "ArrowDown")
    ana.keyboard.type("2.5")
    worlds.save(ana)
    press(ana, "2", "1")  # bad because of a fact; then good after all: why is not asked any more
    ana.get_by_role("button", name="Good").click()
    expect(asked).to_be_hidden()
    ana.get_by_label("Minutes, 0 to 60").fill("7")
    worlds.save(ana)
    worlds.all_saved(ana)
    found = {}
    for target in (first, second):
        said = project.said(trace_id=target["trace_id"])
        found[target["trace_id"]] = {f["name"]: f["value"] for f in said}
    assert found[first["trace_id"]] == {"thumb": 0, "why: Fact": 1, "why: Tone": 1, "minutes": 2.5}
    assert found[second["trace_id"]] == {"thumb": 1, "minutes": 7}


def test_a_session_is_judged_turn_by_turn_and_as_a_whole(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    project.answers(3, prefix="turns", **{"session.id": "session-1"})
    whole = {"name": "solved", "kind": "scale", "title": "Solved", "min": 1, "max": 5, "per_answer": False}
    body = {"name": "sessions", "questions": [worlds.THUMB, whole]}
    queue = str(project.api.review("POST", "queues", body)["queue_id"])
    project.api.review("POST", f"queues/{queue}/items", {"source": "sessions"})
    worlds.open_queue(ana, dashboard, queue)
    asked = ana.locator(".rv-message.user").all_inner_texts()
    assert [re.search(r"turns\d", a)[0] for a in asked] == ["turns2", "turns1", "turns0"]
    press(ana, "1", "2", "1", "4")
    worlds.save(ana)
    worlds.all_saved(ana)
    said = project.said(name="solved")
    assert [(f["value"], f["target"]["session_id"]) for f in said] == [(4, "session-1")]
    by_turn = [f["value"] for f in project.said(name="thumb") if f["queue_item"] == said[0]["queue_item"]]
    assert sorted(by_turn) == [0, 1, 1]


def test_a_note_to_the_lead_and_the_own_record(
    ana: Page, browser: Browser, dashboard: str, project: worlds.Project
) -> None:
    targets = project.answers(2, prefix="note")
    queue = project.queue("notes", [worlds.THUMB], [[t] for t in targets])
    project.api.review(
        "POST",
        f"queues/{queue}/gold",
        {"items": [{"targets": [targets[0]], "answers": {"thumb": 1}, "training": True}]},
    )
    worlds.open_queue(ana, dashboard, queue)
    press(ana, "l")
    ana.keyboard.type("Which policy holds?")
    ana.get_by_role("button", name="Send").click()
    expect(ana.locator(".rv-notice")).to_contain_text("Sent")
    press(ana, "1")
    worlds.save(ana)
    ana.keyboard.press("Enter")  # the training's dialog
    worlds.all_saved(ana)
    ana.goto(f"{dashboard}/review")
    card = ana.locator(f'[data-queue="{queue}"]')
    card.get_by_text("Your record").click()
    expect(card).to_contain_text("1 of 1 training answers right")
    item = next(i for i in project.api.review_items(queue).items if i.notes)
    with worlds.signed_in_as(browser, dashboard, project.key) as admin:
        admin.goto(f"{dashboard}/review-queues?queue={queue}&item={item.item_id}")
        expect(admin.locator(".rv-note")).to_have_text("ana writes: Which policy holds?")
