"""Those who run review: a queue made on the page and filled from a link, a disagreement settled, training that answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import review_world as worlds
from dashboard_browser import settled
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(server: tuple[str, str]) -> worlds.Project:
    return worlds.project(server, "review-queues")


@pytest.fixture
def admin(browser: Browser, dashboard: str, project: worlds.Project):
    with worlds.signed_in_as(browser, dashboard, project.key) as page:
        yield page


def test_a_queue_made_on_the_page_is_filled_from_a_link(
    admin: Page, dashboard: str, project: worlds.Project
) -> None:
    project.answers(4, prefix="made", topic="shipping")
    admin.goto(f"{dashboard}/review-queues?fill=filter&tag=shipping")
    settled(admin)
    admin.get_by_role("link", name="New queue").click()
    admin.get_by_role("button", name="Create queue").wait_for()
    admin.get_by_label("Name", exact=True).fill("shipping answers")
    admin.get_by_label("Name", exact=True).press("Tab")
    settled(admin)
    admin.get_by_role("button", name="Create queue").click()
    expect(admin.get_by_role("textbox", name="Only answers matching")).to_have_value("tag=shipping")
    admin.get_by_role("button", name="Add to queue").click()
    expect(admin.locator(".finding").filter(has_text="4 answers added")).to_be_visible()
    [made] = [q for q in project.api.review("GET", "queues")["queues"] if q["name"] == "shipping answers"]
    assert made["counts"]["items"] == 4
    assert [q["kind"] for q in made["questions"]][:2] == ["thumb", "flags"]
    assert made["guideline"]["version"] == 1
    assert made["judgements_per_item"] == 2
    settled(admin)
    admin.get_by_role("button", name="Add to queue").click()
    expect(admin.locator(".finding").filter(has_text="4 already there")).to_be_visible()


def test_answers_are_added_by_their_trace(admin: Page, dashboard: str, project: worlds.Project) -> None:
    first, second = project.answers(2, prefix="bytrace")
    queue = project.queue("by trace", [worlds.THUMB], [[first]])
    admin.goto(f"{dashboard}/review-queues?queue={queue}&fill=targets")
    field = admin.get_by_role("textbox", name="Trace ids")
    field.fill("ab" * 16)
    admin.get_by_role("button", name="Add to queue").click()
    expect(admin.get_by_text("There is no answer in the trace")).to_be_visible()
    field.fill(f"{first['trace_id']}\n{second['trace_id']}")
    admin.get_by_role("button", name="Add to queue").click()
    expect(admin.locator(".finding").filter(has_text="1 answer added; 1 already there")).to_be_visible()


def test_a_disagreement_is_settled_with_a_reason(
    admin: Page, dashboard: str, project: worlds.Project
) -> None:
    [target] = project.answers(1, prefix="settle")
    queue = project.queue(
        "settled", [worlds.THUMB, worlds.ACCURACY, worlds.MARKS], [[target]], judgements_per_item=2
    )
    for name, thumb in (("ben", 1), ("cleo", 0)):
        said = {"thumb": thumb, "accuracy": 1 + 3 * thumb, "places": []}
        worlds.judge_all(project.url, project.annotator(name), queue, lambda _, said=said: said)
    admin.goto(f"{dashboard}/review-queues?queue={queue}&state=disagreement")
    admin.locator(".st-key-panel_items tbody tr").click()
    judgements = admin.get_by_role("region", name="All annotators' answers")
    expect(judgements).to_contain_text("ben")
    expect(judgements.locator("tr.differs").first).to_contain_text("GoodBad")
    admin.keyboard.press("2")
    admin.keyboard.press("2")
    admin.keyboard.press("Control+Enter")
    expect(admin.locator(".rv-notice")).to_contain_text("Say why.")
    admin.get_by_label("Reason", exact=True).fill("The policy says 14 days.")
    admin.keyboard.press("Control+Enter")
    expect(admin.locator(".rv-notice")).to_contain_text("your word stands over the others")
    expect(admin.get_by_role("link", name="No disagreement is left")).to_be_visible()
    [item] = project.api.review("GET", f"queues/{queue}/items")["items"]
    assert item["state"] == "adjudicated"
    assert item["adjudicated"]["answers"]["thumb"] == 0
    assert item["adjudicated"]["reason"] == "The policy says 14 days."
    assert len(item["judgements"]) == 2, "what annotators said stays"
    admin.get_by_role("button", name="Use for training").click()
    expect(admin.locator(".rv-notice")).to_contain_text("comes first")
    [item] = project.api.review("GET", f"queues/{queue}/items")["items"]
    assert item["gold"] == "training"
    assert item["expected"]["thumb"] == 0


def test_training_says_what_was_expected_and_gold_says_nothing(
    browser: Browser, dashboard: str, project: worlds.Project
) -> None:
    training, gold, *others = project.answers(6, prefix="gold")
    queue = project.queue("trained", [worlds.THUMB, worlds.ACCURACY], [[t] for t in others], gold_share=0.5)
    known = [
        {
            "targets": [training],
            "answers": {"thumb": 0, "accuracy": 2},
            "training": True,
            "why": "The date is wrong.",
        },
        {"targets": [gold], "answers": {"thumb": 1, "accuracy": 5}},
    ]
    project.api.review("POST", f"queues/{queue}/gold", {"items": known})
    with worlds.signed_in_as(browser, dashboard, project.annotator("dora")) as page:
        worlds.open_queue(page, dashboard, queue)
        page.keyboard.press("2")
        page.keyboard.press("4")
        page.keyboard.press("Control+Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("✓ Your rating: as expected")
        expect(dialog).to_contain_text("✗ Accuracy: expected 2")
        expect(dialog).to_contain_text("The date is wrong.")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        while worlds.current(page):
            page.keyboard.press("1")
            page.keyboard.press("1")
            worlds.save(page)
            expect(dialog).to_have_count(0)
        worlds.all_saved(page)
    counts = project.api.review("GET", f"queues/{queue}/annotators")["annotators"]
    assert [(a["author_id"], a["gold"]["n"]) for a in counts if a["gold"]] != []


def _exported(page: Page, button: str, file: Path) -> list[dict[str, Any]]:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    download.value.save_as(file)
    return [json.loads(line) for line in file.read_bytes().decode().split("\n") if line]


def test_judgements_go_to_another_tool_and_come_back(
    admin: Page, browser: Browser, dashboard: str, project: worlds.Project, tmp_path: Path
) -> None:
    """Pseudonyms cannot be joined back; a file with names comes back from a vendor with one judgement that is wrong."""
    targets = project.answers(2, prefix="vendor", text="Two lines\u2028and a half.")
    queue = project.queue("vendor", [worlds.THUMB], [[t] for t in targets], judgements_per_item=2)
    worlds.judge_all(project.url, project.annotator("gail"), queue, lambda _: {"thumb": 1})
    admin.goto(f"{dashboard}/review-queues?queue={queue}&part=exchange")
    settled(admin)
    admin.get_by_text("Pseudonyms instead").click()
    hidden = _exported(admin, "Export with pseudonyms", tmp_path / "hidden.jsonl")
    assert len(hidden) == 2
    assert "gail" not in str(hidden)
    admin.get_by_text("Pseudonyms instead").click()
    file = tmp_path / "theirs.jsonl"
    entries = _exported(admin, "Export with names", file)
    assert not {e["item_id"] for e in hidden} & {e["item_id"] for e in entries}, "cannot be joined back"
    for entry in entries:
        entry["judgements"] = [entry["judgements"][0] | {"annotator": "vendor-7", "answers": {"thumb": 0}}]
    entries[1]["judgements"][0]["answers"] = {"thumb": 7}
    file.write_text("\n".join(json.dumps(e, ensure_ascii=False) for e in entries), encoding="utf-8")
    start = admin.get_by_role("button", name="Import")
    expect(start).to_be_disabled()
    admin.locator("input[type=file]").set_input_files(file)
    start.click()  # waits until the server has the file
    said = admin.locator(".finding").filter(has_text="1 judgement stored; 0 already there, 1 refused.")
    expect(said).to_be_visible()
    expect(admin.get_by_role("region", name="Refused judgements")).to_contain_text("[1].answers.thumb")
    settled(admin)  # while the page is drawn again, both its old and its new button are there
    expect(start).to_be_disabled()  # the file is taken in and gone
    assert {f["author"]["id"] for f in project.said(name="thumb")} >= {"gail", "vendor-7"}
    reviewer = project.api.create_key("rhea", role="reviewer").key
    with worlds.signed_in_as(browser, dashboard, reviewer) as page:
        page.goto(f"{dashboard}/review-queues?queue={queue}&part=exchange")
        expect(page.get_by_role("button", name="Export with names")).to_be_visible()
        assert page.get_by_role("button", name="Import").count() == 0
