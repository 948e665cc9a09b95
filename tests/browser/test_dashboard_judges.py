"""Three teams start a judge from its page, run the worker as the page says, and send its doubtful cases to their queue."""

import re
import shlex

import dashboard_world as worlds
import pytest
from chat_stub import Stub
from dashboard_browser import DESK, settled, signed_in_page
from playwright.sync_api import Browser, Page, expect
from review_people import call

from heedloop.client import Client
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


def make_judge(page: Page, dashboard: str, name: str, asked: str, words: str) -> list[str]:
    """Fill the form of the page Judges; the command that the judge's own page shows."""
    page.goto(f"{dashboard}/judges")
    settled(page)
    form = page.locator(".st-key-panel_new_judge")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Question that annotators are asked").fill(asked)
    form.get_by_label("Model, as its endpoint knows it").fill("small")
    form.get_by_label("What is a good answer?").fill(words)
    form.get_by_role("button", name="Create judge").click()
    page.wait_for_url(re.compile("judge_id="))
    settled(page)
    expect(page.locator(".st-key-judge_state")).to_contain_text("Unmeasured")
    return shlex.split(page.get_by_text("heedloop judge run").inner_text())


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
