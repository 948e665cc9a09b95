"""Ranges in an answer: by mouse and by keyboard, overlapping, over characters that are more than one unit, and taken away again."""

from __future__ import annotations

import pytest
import review_world as worlds
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEXT = "Dear 👩‍👩‍👧, your cafe\u0301 order \u202eabc\u202c costs 𝟗𝟗 € today.\nIt will be sent tomorrow."


@pytest.fixture(scope="module")
def project(server: tuple[str, str]) -> worlds.Project:
    return worlds.project(server, "review-marks")


@pytest.fixture
def marking(browser: Browser, dashboard: str, project: worlds.Project, request: pytest.FixtureRequest):
    """A page at one answer, and the targets behind it."""
    prefix = request.node.name.replace("_", "")[:40]
    [target] = project.answers(1, text=TEXT, prefix=prefix)
    queue = project.queue(prefix, [worlds.MARKS], [[target]])
    with worlds.signed_in_as(browser, dashboard, project.annotator(f"ana-{prefix}")) as page:
        worlds.open_queue(page, dashboard, queue)
        yield page, target["trace_id"]


def text_box(page: Page):
    return page.locator(".rv-left .rv-text[tabindex]")


def place(page: Page, words: str, *, end: bool) -> dict[str, float]:
    """Where the first or the last character of drawn words stands on the screen."""
    return page.evaluate(
        """([words, end]) => {
      const box = document.querySelector('.rv-left .rv-text[tabindex]');
      const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
      let text = '', nodes = [];
      while (walker.nextNode()) { nodes.push([walker.currentNode, text.length]); text += walker.currentNode.data; }
      const at = text.indexOf(words) + (end ? words.length : 0);
      const [node, start] = nodes.filter(([n, s]) => (end ? s < at : s <= at)).pop();
      const r = document.createRange();
      r.setStart(node, end ? at - start - 1 : at - start); r.setEnd(node, end ? at - start : at - start + 1);
      const b = r.getBoundingClientRect();
      return {x: end ? b.right - 0.5 : b.left + 0.5, y: (b.top + b.bottom) / 2};
    }""",
        [words, end],
    )


def drag(page: Page, first: str, last: str) -> None:
    """Select with the mouse from the beginning of some drawn words to the end of others."""
    start, end = place(page, first, end=False), place(page, last, end=True)
    page.mouse.move(start["x"], start["y"])
    page.mouse.down()
    page.mouse.move((start["x"] + end["x"]) / 2, end["y"])
    page.mouse.move(end["x"], end["y"])
    page.mouse.up()


def marked(project: worlds.Project, trace_id: str) -> list[tuple[str, str]]:
    """Category and words of the stored marks, in reading order."""
    ranges = [(f["target"]["range"], f["category"]) for f in project.said(trace_id=trace_id, kind="flag")]
    return [
        (c, TEXT[r["start"] : r["end"]])
        for r, c in sorted(ranges, key=lambda e: (e[0]["start"], e[0]["end"]))
    ]


def test_with_the_mouse_by_code_points(marking, project: worlds.Project) -> None:
    page, trace_id = marking
    drag(page, "𝟗𝟗", "€")
    page.get_by_role("toolbar", name="Mark as").get_by_role("button", name="Misleading").click()
    expect(page.locator(".rv-row")).to_have_count(1)
    drag(page, "It", "will be")
    expect(page.get_by_role("toolbar", name="Mark as")).to_be_visible()
    page.keyboard.press("1")
    expect(page.locator(".rv-row")).to_have_count(2)
    expect(page.locator(".rv-row").first).to_contain_text("Misleading: “𝟗𝟗 €”")
    page.locator(".rv-row").first.get_by_role("button", name="high").click()
    page.locator(".rv-row").nth(1).get_by_placeholder("Why").fill("no date")
    worlds.save(page)
    worlds.all_saved(page)
    assert marked(project, trace_id) == [("Misleading", "𝟗𝟗 €"), ("Inaccurate", "It will be")]
    by_category = {f["category"]: f for f in project.said(trace_id=trace_id, kind="flag")}
    assert by_category["Misleading"]["severity"] == "high"
    assert by_category["Inaccurate"]["comment"] == "no date"


def test_a_number_pressed_before_the_labels_are_there_marks(marking) -> None:
    """A slow machine handles the key right after the mouse's button; both are sent in one task."""
    page, _ = marking
    text_box(page).evaluate(
        """(box) => {
      box.focus();
      const r = document.createRange();
      r.selectNodeContents(box.lastChild);
      getSelection().removeAllRanges(); getSelection().addRange(r);
      box.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}));
      box.dispatchEvent(new KeyboardEvent('keydown', {key: '2', bubbles: true, cancelable: true}));
    }"""
    )
    expect(page.locator(".rv-row")).to_contain_text("Misleading")
    expect(page.get_by_role("toolbar", name="Mark as")).to_have_count(0)


def test_signs_stand_for_one_character_each(marking, project: worlds.Project) -> None:
    page, trace_id = marking
    expect(text_box(page)).to_contain_text("⟨U+202E⟩abc⟨U+202C⟩")
    drag(page, "abc", "costs")
    page.keyboard.press("1")
    drag(page, "your", "cafe\u0301")
    page.keyboard.press("2")
    worlds.save(page)
    worlds.all_saved(page)
    assert marked(project, trace_id) == [("Misleading", "your cafe\u0301"), ("Inaccurate", "abc\u202c costs")]


def test_by_keyboard_overlapping_and_removed(marking, project: worlds.Project) -> None:
    page, trace_id = marking
    keys = page.keyboard
    keys.press("m")
    keys.press("Home")
    keys.press("Shift+ArrowRight")
    keys.press("1")  # Dear ..., your
    keys.press("ArrowRight")
    keys.press("Shift+ArrowLeft")
    keys.press("2")  # your café, over the end of the first
    expect(page.locator(".rv-text mark.deep")).to_have_count(1)
    keys.press("ArrowDown")
    keys.press("Shift+End")
    keys.press("Alt+ArrowRight")
    keys.press("1")
    expect(page.locator(".rv-row")).to_have_count(3)
    keys.press("Delete")
    expect(page.locator(".rv-row")).to_have_count(2)
    keys.press("Escape")
    expect(page.locator(".rv-q.active")).to_contain_text("Wrong places")
    worlds.save(page)
    worlds.all_saved(page)
    found = marked(project, trace_id)
    assert found[0][0] == "Inaccurate" and found[0][1].startswith("Dear 👩‍👩‍👧")
    assert found[1] == ("Misleading", "your cafe\u0301")
    assert len(found) == 2


def test_a_mark_survives_the_tab_that_made_it(marking, project: worlds.Project) -> None:
    page, _ = marking
    drag(page, "tomorrow", "tomorrow")
    page.keyboard.press("1")
    expect(page.locator(".rv-state")).to_have_text("Saved")
    page.reload()
    expect(page.locator(".rv-text mark")).to_have_text("tomorrow")
    page.locator(".rv-row").get_by_role("button", name="Remove").click()
    expect(page.locator(".rv-text mark")).to_have_count(0)


@pytest.mark.parametrize(
    "text",
    [
        "Dear customer, your cafe\u0301 order costs 99 € today.",
        "It will be sent tomorrow.\nDear 👩‍👩‍👧, it costs 𝟗𝟗 €.",
        "a a a a b a a",
        "x",
        "words " * 3000,
    ],
)
def test_the_difference_leaves_nothing_out(difference: Page, text: str) -> None:
    area = difference.locator("textarea.correction")
    area.fill(text)
    parts = difference.locator(".rv-diff > *").evaluate_all(
        "(nodes) => nodes.map((n) => [n.tagName, n.textContent])"
    )
    before = "".join(t for tag, t in parts if tag != "INS")
    after = "".join(t for tag, t in parts if tag != "DEL")
    assert after == text
    assert before == TEXT.replace("\u202e", "⟨U+202E⟩").replace("\u202c", "⟨U+202C⟩")
    difference.get_by_role("button", name="Back to the answer as it was").click()
    expect(difference.locator(".rv-diff")).to_be_hidden()


@pytest.fixture(scope="module")
def difference(browser: Browser, dashboard: str, project: worlds.Project):
    """A page with an answer to be corrected."""
    [target] = project.answers(1, text=TEXT, prefix="difference")
    queue = project.queue("difference", [worlds.BETTER], [[target]])
    with worlds.signed_in_as(browser, dashboard, project.annotator("corrector")) as page:
        worlds.open_queue(page, dashboard, queue)
        yield page
