"""Three teams, set up from an empty project by pages alone, worked by two annotators who come by link, and analysed.

Support agents rate helpfulness, accuracy and tone; moderators check a moderation model; attorneys mark summaries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import review_world as worlds
from dashboard_browser import choose_option, settled
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MOST_CLICKS = 10
ANNOTATORS = ("ada@example.org", "bo@example.org")


class Lead:
    """Somebody with an admin's key at a browser, whose clicks are counted."""

    def __init__(self, page: Page, dashboard: str) -> None:
        self.page, self.dashboard, self.clicks = page, dashboard, 0

    def click(self, where: Locator) -> None:
        self.clicks += 1
        where.click()
        settled(self.page)

    def type(self, label: str, text: str) -> None:
        field = self.page.get_by_label(label, exact=True).first
        field.fill(text)
        field.press("Tab")
        settled(self.page)

    def make_queue(self, template: str, name: str) -> None:
        page = self.page
        page.goto(self.dashboard)
        self.click(page.get_by_role("link", name="Review queues"))
        self.click(page.get_by_role("link", name="New queue"))
        if template != "Support quality":  # the first one is chosen already
            self.click(
                page.get_by_role("radio", name=template).or_(page.get_by_role("button", name=template)).first
            )
        self.type("Name", name)
        self.click(page.get_by_role("button", name="Create queue"))
        self.click(page.get_by_role("button", name="Add to queue"))
        expect(page.locator(".finding").filter(has_text="added")).to_be_visible()

    def invite(self) -> list[str]:
        """A sign-in link for each annotator."""
        page, links = self.page, list[str]()
        self.click(page.get_by_role("link", name="People"))
        for who in ANNOTATORS:
            self.type("Who", who)
            self.click(page.get_by_role("button", name="Create sign-in link"))
            shown = page.get_by_text(re.compile(r"/sign-in/link\?token="))
            expect(page.get_by_text(f"{who}, annotator")).to_be_visible()
            links.append(shown.inner_text().strip())
        return links


@contextmanager
def lead(browser: Browser, dashboard: str, project: worlds.Project) -> Iterator[Lead]:
    with worlds.signed_in_as(
        browser, dashboard, project.key, viewport={"width": 1440, "height": 1000}
    ) as page:
        yield Lead(page, dashboard)


def work(browser: Browser, link: str, queue: str, judge: Callable[[Page, str], None]) -> None:
    """Sign in by the link and judge everything by keyboard."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_label("Your key").input_value().startswith("hl_")
    page.get_by_role("link", name="Go on").click()
    page.get_by_role("link", name=f"Start: {queue}").click()
    expect(page.locator(".rv[data-assignment]")).to_be_visible()
    while worlds.current(page):
        judge(page, page.locator(".rv-text").last.inner_text())
        worlds.save(page)
    worlds.all_saved(page)
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This link was used already")).to_be_visible()
    context.close()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def open_part(page: Page, part: str) -> None:
    page.get_by_role("radio", name=part).or_(page.get_by_role("button", name=part, exact=True)).first.click()
    settled(page)


def rows_of(page: Page, panel: str) -> list[list[str]]:
    """The cells of a panel's table."""
    rows = page.locator(f".st-key-panel_{panel} tbody tr")
    expect(rows.first.locator("td, th").nth(1)).to_be_visible()
    # all at once: the table may be drawn again between two looks
    return rows.evaluate_all("rows => rows.map(r => [...r.querySelectorAll('td, th')].map(c => c.innerText))")


def choose(page: Page, now: str, then: str) -> None:
    """Another entry of a chooser."""
    box = (
        page.get_by_role("combobox")
        .filter(has_text=now)
        .or_(page.locator("[data-baseweb=select]").filter(has_text=now))
    )
    choose_option(page, box.first, then)
    settled(page)


def test_support_agents_rate_helpfulness_accuracy_and_tone(
    browser: Browser, dashboard: str, server: tuple[str, str]
) -> None:
    project = worlds.project(server, "team-support")
    for version, quality in (("v12", "good"), ("v13", "vague")):
        for topic in ("refunds", "shipping"):
            project.answers(
                2, prefix=f"{version}{topic}", text=f"A {quality} answer.", version=version, topic=topic
            )
    with lead(browser, dashboard, project) as admin:
        admin.make_queue("Support quality", "support")
        links = admin.invite()
        assert admin.clicks <= MOST_CLICKS, admin.clicks

        def judge(page: Page, text: str) -> None:
            good = "good" in text
            press(page, "1" if good else "2", "ArrowDown")  # the thumb; no flag
            press(page, *("5", "5", "4") if good else ("2", "1", "4"))

        for link in links:
            work(browser, link, "support", judge)
        admin.page.goto(f"{dashboard}/review-queues")
        admin.page.get_by_role("link", name="support").first.click()
        admin.page.wait_for_url(re.compile(r"queue=\w+"))
        settled(admin.page)
        open_part(admin.page, "Results")
        rows = admin.page.locator(".st-key-panel_result_ratings tbody tr")
        expect(rows.filter(has_text="Tone").filter(has_text="v13")).to_be_visible()
        found = {(r[0], r[1]): (r[2], r[3]) for r in rows_of(admin.page, "result_ratings")}
    for name, good, bad in (
        ("Helpfulness", "5.00", "2.00"),
        ("Accuracy", "5.00", "1.00"),
        ("Tone", "4.00", "4.00"),
    ):
        assert found[name, "v12"][0].startswith(good), found
        assert found[name, "v13"][0].startswith(bad), found
        assert found[name, "v13"][1] == "4"


def test_moderators_check_a_model(browser: Browser, dashboard: str, server: tuple[str, str]) -> None:
    project = worlds.project(server, "team-moderation")
    for n, verdict in enumerate(["Violates", "Violates", "Fine", "Fine", "Fine", "Borderline"]):
        text = json.dumps({"verdict": verdict, "score": 0.9})
        project.answers(
            1, prefix=f"m{n}", text=text, question=f"Post {n}: " + ("rude" if n in (0, 2) else "kind")
        )
    with lead(browser, dashboard, project) as admin:
        admin.make_queue("Moderation", "moderation")
        links = admin.invite()
        assert admin.clicks <= MOST_CLICKS, admin.clicks

        def judge(page: Page, _: str) -> None:
            asked = page.locator(".rv-message.user").inner_text()
            press(page, "1" if "rude" in asked else "3")

        for link in links:
            work(browser, link, "moderation", judge)
        admin.page.goto(f"{dashboard}/review-queues")
        admin.page.get_by_role("link", name="moderation").first.click()
        admin.page.wait_for_url(re.compile(r"queue=\w+"))
        queue = re.search(r"queue=(\w+)", admin.page.url)
        assert queue is not None
        admin.page.goto(f"{dashboard}/review-queues?queue={queue[1]}&part=agreement&against=model")
        table = admin.page.locator(".st-key-panel_confusion table").first
        expect(table.locator("tbody tr").first).to_be_visible()
        settled(admin.page)
        cells = [r.locator("td, th").all_inner_texts() for r in table.locator("tbody tr").all()]
        heads = table.locator("thead th").all_inner_texts()
        counts = {(row[0], head): row[i] for row in cells for i, head in enumerate(heads) if i}
        # people say Violates of posts 0 and 2; the model of 0 and 1
        assert counts["Violates", "Violates"] == "1" and counts["Violates", "Fine"] == "1", counts
        assert (
            counts["Fine", "Violates"] == "1"
            and counts["Fine", "Fine"] == "2"
            and counts["Fine", "Borderline"] == "1"
        )
        expect(admin.page.locator(".st-key-panel_confusion")).to_contain_text("same on 50")


def test_attorneys_mark_summaries(browser: Browser, dashboard: str, server: tuple[str, str]) -> None:
    project = worlds.project(server, "team-legal")
    kinds: dict[str, dict[str, Any]] = {
        "lease": {"text": "Rent is due monthly. " * 5}, "contract": {"text": "Wrong law applies. " * 5},
    }  # fmt: skip
    for kind, content in kinds.items():
        more = {"heedloop.metadata.document_type": kind}
        project.answers(3, prefix=kind, question=f"Summarise: {kind} " + "clause " * 300, **content, **more)
    with lead(browser, dashboard, project) as admin:
        admin.make_queue("Legal accuracy", "summaries")
        links = admin.invite()
        assert admin.clicks <= MOST_CLICKS, admin.clicks

        def judge(page: Page, text: str) -> None:
            expect(page.locator(".rv-left")).to_have_class(re.compile("is-beside"))  # the source is long
            wrong = "Wrong" in page.locator(".rv-text-wrap").inner_text()
            press(page, "2" if wrong else "5")
            if wrong:
                press(page, "m", "Shift+ArrowRight", "1", "Escape")
            page.get_by_role("button", name="Information only").click()

        for link in links:
            work(browser, link, "summaries", judge)
        admin.page.goto(f"{dashboard}/review-queues")
        admin.page.get_by_role("link", name="summaries").first.click()
        admin.page.wait_for_url(re.compile(r"queue=\w+"))
        queue = re.search(r"queue=(\w+)", admin.page.url)
        assert queue is not None
        admin.page.goto(
            f"{dashboard}/review-queues?queue={queue[1]}&part=results&field=metadata.document_type"
        )
        settled(admin.page)
        marks = rows_of(admin.page, "result_marks")
        assert [r[:4] for r in marks] == [["Sections that do not hold", "Inaccurate", "contract", "6"]], marks
        assert float(marks[0][5]) == pytest.approx(1000 * 6 / (3 * 95), rel=0.02)
        accuracy = {r[1]: r[2] for r in rows_of(admin.page, "result_ratings") if r[0] == "Accuracy"}
        assert accuracy["contract"].startswith("2.00") and accuracy["lease"].startswith("5.00")
        coverage = {r[0]: r[3] for r in rows_of(admin.page, "result_coverage")}
        assert coverage == {"contract": "3", "lease": "3"}
