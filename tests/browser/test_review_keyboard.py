"""The annotator's page by keyboard alone: every kind of question, saving, skipping, undoing, looking back."""

from __future__ import annotations

import pytest
import review_world as worlds
from dashboard_world import wait_until
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(server: tuple[str, str]) -> worlds.Project:
    return worlds.project(server, "review-keyboard")


@pytest.fixture
def ana(browser: Browser, dashboard: str, project: worlds.Project):
    """Ana at her page, signed in."""
    with worlds.signed_in_as(browser, dashboard, project.annotator("ana")) as page:
        yield page


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_a_whole_queue_by_keyboard(ana: Page, dashboard: str, project: worlds.Project) -> None:
    targets = project.answers(3, prefix="whole")
    queue = project.queue("whole", worlds.ALL, [[t] for t in targets], guideline=worlds.GUIDELINE)
    worlds.open_queue(ana, dashboard, queue)
    for i in range(3):
        expect(ana.locator(".rv-message.user")).to_contain_text(f"Case whole{i}:")
        press(ana, "2", "1", "ArrowDown", "4")  # bad, wrong fact, accuracy 4
        press(ana, "m", "ArrowRight", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "1", "Escape")
        press(ana, "e", "Control+End")
        ana.keyboard.type(f" Sorry {i}.")
        press(ana, "Escape", "ArrowDown")
        ana.keyboard.type("s u b 1 ?")  # in a field these are words
        worlds.save(ana)
    expect(ana.get_by_role("heading", name="Nothing is left for you here.")).to_be_visible()
    worlds.all_saved(ana)
    for i, target in enumerate(targets):
        said = project.said(trace_id=target["trace_id"])
        by_kind = {(f["kind"], f["name"]): f for f in said}
        assert len(said) == 6, [(f["kind"], f["name"], f.get("category")) for f in said]
        assert {f["author"]["id"] for f in said} == {"ana"}
        assert {f["guideline"] for f in said} <= {1, "1"}
        assert by_kind["rating", "thumb"]["value"] == 0
        assert by_kind["rating", "accuracy"]["value"] == 4
        assert by_kind["correction", "better"]["correction"] == worlds.ANSWER + f" Sorry {i}."
        assert by_kind["comment", "note"]["comment"] == "s u b 1 ?"
        flag, mark = by_kind["flag", "wrong"], by_kind["flag", "places"]
        assert flag["category"] == "Wrong fact"
        marked = mark["target"]["range"]
        assert worlds.ANSWER[marked["start"] : marked["end"]] == "out 👩‍👩‍👧. Refunds"
        assert mark["category"] == "Inaccurate"


def test_required_questions_are_asked_for(ana: Page, dashboard: str, project: worlds.Project) -> None:
    [target] = project.answers(1, prefix="required")
    queue = project.queue("required", worlds.ALL, [[target]])
    worlds.open_queue(ana, dashboard, queue)
    press(ana, "Control+Enter")
    expect(ana.locator(".rv-notice")).to_contain_text("Your rating")
    press(ana, "1", "Control+Enter")
    expect(ana.locator(".rv-notice")).to_contain_text("Accuracy")
    assert project.said(trace_id=target["trace_id"]) == []
    press(ana, "5")
    worlds.save(ana)
    worlds.all_saved(ana)
    assert len(project.said(trace_id=target["trace_id"])) == 2


def test_skip_undo_and_looking_back(ana: Page, dashboard: str, project: worlds.Project) -> None:
    targets = project.answers(4, prefix="undo")
    queue = project.queue("undo", [worlds.THUMB], [[t] for t in targets])
    worlds.open_queue(ana, dashboard, queue)
    question = ana.locator(".rv-message.user")
    press(ana, "1")
    worlds.save(ana)
    expect(question).to_contain_text("Case undo1:")
    worlds.all_saved(ana)
    press(ana, "u")
    expect(question).to_contain_text("Case undo0:")
    expect(ana.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
    assert project.said(trace_id=targets[0]["trace_id"]) == [], "undo takes the judgement back at once"
    press(ana, "2")
    worlds.save(ana)
    press(ana, "s")
    expect(ana.get_by_role("dialog")).to_contain_text("Why skip")
    ana.keyboard.type("Spam 2")  # letters go into the reason in own words, without a Tab to it
    press(ana, "Enter")
    expect(question).to_contain_text("Case undo2:")
    worlds.all_saved(ana)
    found = Client(project.url, project.annotator("ana")).my_assignments(queue).assignments
    assert [a.reason for a in found if a.state == "skipped"] == ["Spam 2"]
    press(ana, "u")
    expect(question).to_contain_text("Case undo1:")
    expect(ana.locator(".rv-count")).to_contain_text(
        "1 of 4"
    )  # a skip that is taken back is no judgement less
    press(ana, "1")
    worlds.save(ana)
    worlds.all_saved(ana)
    press(ana, "b")
    expect(question).to_contain_text("Case undo1:")
    press(ana, "b")
    expect(question).to_contain_text("Case undo0:")
    press(ana, "1", "Control+Enter")
    expect(question).to_contain_text("Case undo2:")
    assert [f["value"] for f in project.said(trace_id=targets[0]["trace_id"])] == [1]
    assert [f["value"] for f in project.said(trace_id=targets[1]["trace_id"])] == [1]


def test_a_guideline_that_is_sent_back_is_told_and_the_answers_stay(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    targets = project.answers(2, prefix="guided")
    queue = project.queue("guided", [worlds.THUMB], [[t] for t in targets], guideline=worlds.GUIDELINE)
    worlds.open_queue(ana, dashboard, queue)
    project.api.set_guideline(queue, "# Judge anew\n- Dates first.", send_back=True)
    press(ana, "1", "Control+Enter")
    expect(ana.locator(".rv-notice")).to_contain_text("version 2")
    expect(ana.locator(".rv-guideline")).to_contain_text("Dates first.")
    expect(ana.locator(".rv-message.user")).to_contain_text("Case guided0:")
    expect(ana.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
    worlds.save(ana)
    worlds.all_saved(ana)
    [said] = project.said(trace_id=targets[0]["trace_id"])
    assert str(said["guideline"]) == "2"


def test_two_answers_compared_and_four_ranked(ana: Page, dashboard: str, project: worlds.Project) -> None:
    targets = project.answers(6, prefix="several")
    compare = {"name": "preference", "kind": "comparison", "title": "Which is better", "strength": True}
    queue = project.queue("compared", [compare, worlds.ACCURACY], [targets[:2]])
    worlds.open_queue(ana, dashboard, queue)
    assert ana.locator(".rv-answer").count() == 2
    press(ana, "4", "2", "5")  # B a little better; accuracy of A, of B
    worlds.save(ana)
    worlds.all_saved(ana)
    [comparison] = [f for f in project.said(kind="comparison") if f["name"] == "preference"]
    shown = [comparison["ranking"]["answers"][i] for i in comparison["ranking"]["shown_order"]]
    ranks = dict(
        zip(
            [a["span_id"] for a in comparison["ranking"]["answers"]],
            comparison["ranking"]["ranks"],
            strict=True,
        )
    )
    assert ranks[shown[1]["span_id"]] < ranks[shown[0]["span_id"]]
    rated = {f["target"]["span_id"]: f["value"] for f in project.said(name="accuracy", kind="rating")}
    assert (rated[shown[0]["span_id"]], rated[shown[1]["span_id"]]) == (2, 5)

    queue = project.queue(
        "ranked", [{"name": "order", "kind": "ranking", "title": "Order them"}], [targets[2:]]
    )
    worlds.open_queue(ana, dashboard, queue)
    press(ana, "+", "2", "-", "2")  # A best, C worst, the others tie between
    worlds.save(ana)
    worlds.all_saved(ana)
    [ranking] = [f["ranking"] for f in project.said(kind="comparison") if f["name"] == "order"]
    by_place = [ranking["ranks"][i] for i in ranking["shown_order"]]
    assert by_place == [1, 2, 3, 2]


def test_a_judgement_that_is_not_wanted_any_more_is_said(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    [target] = project.answers(1, prefix="late")
    queue = project.queue("late", [worlds.THUMB], [[target]], lease_s=1)
    worlds.open_queue(ana, dashboard, queue)
    quick = project.annotator("quick")  # the lease ends, and somebody else finishes the answer
    wait_until(
        lambda: worlds.judge_all(project.url, quick, queue, lambda _: {"thumb": 1}) == 1, "it was judged"
    )
    press(ana, "2", "Control+Enter")
    expect(ana.locator(".rv-notice")).to_contain_text("A judgement was not taken")
    expect(ana.get_by_role("heading", name="Nothing is left for you here.")).to_be_visible()
    assert [(f["author"]["id"], f["value"]) for f in project.said(trace_id=target["trace_id"])] == [
        ("quick", 1)
    ]


def test_the_help_names_every_key_and_nothing_fires_under_it(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    [target] = project.answers(1, prefix="help")
    queue = project.queue("help", [worlds.THUMB], [[target]])
    worlds.open_queue(ana, dashboard, queue)
    before = worlds.current(ana)
    press(ana, "?")
    expect(ana.get_by_role("dialog")).to_contain_text("Ctrl + Enter")
    press(ana, "1", "s", "u")
    press(ana, "Escape")
    expect(ana.get_by_role("dialog")).to_have_count(0)
    assert worlds.current(ana) == before
    expect(ana.locator('.rv-option[aria-pressed="true"]')).to_have_count(0)


def test_an_annotator_is_shown_review_and_nothing_else(
    ana: Page, dashboard: str, project: worlds.Project
) -> None:
    ana.goto(f"{dashboard}/")
    expect(ana.get_by_role("heading", name="Review")).to_be_visible()
    for page in ("Quality", "Traces", "Datasets", "Review queues"):
        expect(ana.get_by_role("link", name=page, exact=True)).to_have_count(0)
    ana.goto(f"{dashboard}/traces")
    expect(ana.get_by_role("heading", name="Review")).to_be_visible()
    answer = ana.request.get(f"{dashboard}/review-api/queues/x/items", headers={"x-heedloop-review": "1"})
    assert answer.status == 403
