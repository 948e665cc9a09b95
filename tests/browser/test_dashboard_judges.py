"""Judges of every kind are made from the page, the worker runs as the page says, and doubtful cases go to a queue."""

import re
import shlex

import dashboard_world as worlds
import pytest
from chat_stub import Stub
from dashboard_browser import DESK, settled, signed_in_page
from playwright.sync_api import Browser, Locator, Page, expect
from review_people import call

from heedloop.client import Client
from heedloop.schema import Run
from heedloop_cli.main import main

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NUM = 12
TEAMS = {
    "support": ("thumb", {"name": "thumb", "kind": "thumb"}, "Does the answer help the customer?"),
    "moderation": ("allowed", {"name": "allowed", "kind": "thumb"}, "May the text {stay}?"),
    "law": ("complete", {"name": "complete", "kind": "scale", "min": 1, "max": 5}, "Is nothing left out?"),
}


@pytest.fixture
def stub():
    with Stub() as one:
        yield one


def test_each_team_starts_a_judge_and_reviews_what_it_doubts(
    browser: Browser, dashboard: str, server: tuple[str, str], api: Client, stub: Stub, tmp_path, monkeypatch
) -> None:
    key = api.create_project("judges").key
    client = Client(server[0], key)
    client.send_calls([call(f"Question {n}: what now?", f"Answer {n}.", at_s=600 + n) for n in range(NUM)])
    worlds.wait_until(lambda: len(client.calls().calls) == NUM, "the answers are stored")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEEDLOOP_URL", server[0])
    monkeypatch.setenv("HEEDLOOP_API_KEY", key)
    with signed_in_page(browser, dashboard, key, viewport=DESK) as page:
        for team, (asked, question, words) in TEAMS.items():
            queue = client.create_review_queue(f"{team} queue", [question])
            command = make_judge(page, dashboard, team, asked, words)
            judge = command[3]
            command[command.index("--endpoint") + 1] = stub.url
            assert main(command[1:]) == 0
            card = client.judge_card(judge)
            assert (card.num_judged, card.state) == (NUM, "unmeasured")
            send_doubtful(page, judge, f"{team} queue", 5)
            expect(page.get_by_text(f"5 answers added to {team} queue.")).to_be_visible()
            items = client.review_items(queue.queue_id).items
            assert len(items) == 5 and all(i.targets[0].trace_id for i in items)
    asked_for = {w for _, _, w in TEAMS.values()}
    said = [m["messages"][-1]["content"] for m in stub.models]
    assert all(any(w.replace("{", "(").replace("}", ")") in text for w in asked_for) for text in said)
    assert {j.spec.name for j in client.judges()} == set(TEAMS)


def test_pairs_checkpoints_reward_models_and_functions_are_made_too(
    browser: Browser, dashboard: str, server: tuple[str, str], api: Client, stub: Stub, tmp_path, monkeypatch
) -> None:
    key = api.create_project("judge-kinds").key
    client = Client(server[0], key)
    client.send_calls(
        [
            call(f"Question {n % 4}: what now?", f"Answer {n}, at last.", at_s=600 + n, session_id="pairs")
            for n in range(8)
        ]
    )
    worlds.wait_until(lambda: len(client.calls().calls) == 8, "the answers are stored")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEEDLOOP_URL", server[0])
    monkeypatch.setenv("HEEDLOOP_API_KEY", key)
    stub.says = lambda question, body: "VERDICT: A"
    with signed_in_page(browser, dashboard, key, viewport=DESK) as page:
        form = open_form(page, dashboard, "Two answers to one prompt", "A trained reward model")
        expect(form.get_by_text("No reward model has been trained yet")).to_be_visible()
        # of pairs at an endpoint: the place decides, so that all are ties, which go to people
        form = open_form(page, dashboard, "Two answers to one prompt", "A model at an endpoint")
        form.get_by_label("Model, as its endpoint knows it").fill("small")
        expect(form.get_by_label("Which answer is better?")).to_be_visible()
        command = create(page, form)
        command[command.index("--endpoint") + 1] = stub.url
        assert main(command[1:]) == 0
        assert client.judge(command[3]).calls.num_judged == 4
        queue = client.create_review_queue("pairs", [{"name": "preference", "kind": "comparison"}])
        send_doubtful(page, command[3], "pairs", 3)
        expect(page.get_by_text("3 answers added to pairs.")).to_be_visible()
        assert [len(i.targets) for i in client.review_items(queue.queue_id).items] == [2, 2, 2]
        # a function, from the folder of its module
        (tmp_path / "page_judges.py").write_text("def is_last(answer, **_):\n    return 'last' in answer\n")
        form = open_form(page, dashboard, "Single answers", "A Python function")
        form.get_by_label("Function").fill("page_judges.is_last")
        form.get_by_role("button", name="Create judge").click()
        expect(form.get_by_text("must be module:function")).to_be_visible()
        form.get_by_label("Function").fill("page_judges:is_last")
        command = create(page, form)
        assert main(command[1:]) == 0
        assert client.judge_card(command[3]).judge_rate.estimate == 1
        # files of other machines: the command names their folder
        client.create_run(
            Run("r1", "reward", name="support", status="finished", checkpoint="/runs/r 1/checkpoint")
        )
        form = open_form(page, dashboard, "Two answers to one prompt", "A trained reward model")
        expect(form.get_by_role("combobox", name=re.compile("Run$"))).to_be_visible()
        command = create(page, form)
        assert command[command.index("--folder") + 1] == "/runs/r 1/checkpoint"
        form = open_form(page, dashboard, "Single answers", "A local checkpoint")
        form.get_by_label("Folder of the checkpoint").fill("./model")
        command = create(page, form)
        assert command[command.index("--folder") + 1] == "./model"
    made = {(j.spec.form, j.spec.backend, j.spec.model, j.spec.parser) for j in client.judges()}
    assert made == {
        ("pairwise", "endpoint", "small", "verdict"),
        ("pointwise", "function", "page_judges:is_last", "verdict"),
        ("pairwise", "reward", "r1", "verdict"),
        ("pointwise", "checkpoint", "./model", "token_probability"),
    }


def open_form(page: Page, dashboard: str, form: str, backend: str) -> Locator:
    """The form of the page Judges for this kind of judge."""
    page.goto(f"{dashboard}/judges")
    settled(page)
    panel = page.locator(".st-key-panel_new_judge")
    for box, chosen in (("Judges", form), ("Who judges", backend)):
        panel.get_by_role("combobox", name=re.compile(f"^(Selected .*)?{box}")).fill(chosen)
        page.keyboard.press("Enter")
        settled(page)
    return panel


def create(page: Page, form: Locator) -> list[str]:
    """Press the button; the command that the judge's own page shows."""
    form.get_by_role("button", name="Create judge").click()
    page.wait_for_url(re.compile("judge_id="))
    settled(page)
    expect(page.locator(".st-key-judge_state")).to_contain_text("Unmeasured")
    return shlex.split(page.get_by_text("heedloop judge run").inner_text())


def make_judge(page: Page, dashboard: str, name: str, asked: str, words: str) -> list[str]:
    """Fill the form of the page Judges; the command that the judge's own page shows."""
    page.goto(f"{dashboard}/judges")
    settled(page)
    form = page.locator(".st-key-panel_new_judge")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Question that annotators are asked").fill(asked)
    form.get_by_label("Model, as its endpoint knows it").fill("small")
    form.get_by_label("What is a good answer?").fill(words)
    return create(page, form)


def send_doubtful(page: Page, judge: str, queue: str, num: int) -> None:
    """On the judge's page, after it has judged; what was read within three seconds is shown again."""
    work = page.locator(".st-key-panel_judge_work")

    def is_known() -> bool:
        page.reload()
        settled(page)
        return work.get_by_role("button", name="Send to the queue").count() == 1

    worlds.wait_until(is_known, "the page knows that it has judged")
    for box, chosen in (("Review queue", queue), ("Send", "Doubtful cases")):
        work.get_by_role("combobox", name=re.compile(f"^(Selected .*)?{box}")).fill(chosen)
        page.keyboard.press("Enter")
    work.get_by_label("How many").fill(str(num))
    work.get_by_role("button", name="Send to the queue").click()
