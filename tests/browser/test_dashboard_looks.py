"""Every page in light, in dark, 1024 pixels wide and at phone width: whole, reachable by keyboard, named for those who do not see it.

With HEEDLOOP_SCREENSHOTS=<folder> the pages are also saved there, to be looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dashboard_browser import choose_option, process, settled, signed_in_context
from dashboard_world import wait_until
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from heedloop.client import Client
from heedloop.responses import Evaluation, Import
from heedloop.schema import Arm, Case, ExperimentSpec, JudgeSpec, Message, Prompt, utc_now
from heedloop_cli.evaluate.worker import Evaluator, finished
from heedloop_cli.judges.journal import Budget, Journal
from heedloop_cli.judges.paid_calls import PaidCalls
from heedloop_cli.judges.parsers import Reply
from heedloop_dashboard import pages, theme

try:  # axe-core, a test peer; without it the checks of our own remain
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGES = {
    "quality": "/?period=14+d",
    "trust": "/?period=14+d&trust=1",
    "review": "/review",
    "review_queues": "/review-queues",
    "judges": "/judges",
    "judge": "/judges?judge_id={judge_id}",
    "traces": "/traces?rating=down&tag=topic%3Arefunds",
    "trace": "/trace?trace_id={trace_id}",
    "feedback": "/feedback?feedback_id={thumb_id}",
    "feedback_list": "/feedback",
    "failures": "/failures",
    "comments": "/failures?of=comments",
    "compare": "/compare?a=v1&b=v2&within=tag",
    "league": "/compare?field=model",
    "alerts": "/alerts",
    "alert": "/alerts?alert_id={alert_id}",
    "new_alert": "/alerts?new=1&model=fernleaf-ppo&metric=coverage",
    "datasets": "/datasets",
    "dataset": "/datasets?snapshot_id={snapshot_id}",
    "new_dataset": "/datasets?new=1&rating=down",
    "evaluations": "/evaluations",
    "evaluation": "/evaluations?name=candidate-1&metric=token_f1&case={case_id}",
    "prompts": "/prompts",
    "prompt": "/prompts?name=support",
    "experiments": "/experiments",
    "experiment": "/experiments?experiment=prompt",
    "runs": "/runs",
    "run": "/runs?run_id={run_id}",
    "delivery": "/delivery",
    "team": "/team",
    "imports": "/imports",
    "jobs": "/jobs",
    "keys": "/keys",
    "settings": "/settings",
    "session": "/session?session_id={session_id}",
    "user": "/user?user_id={user_id}",
    "search": "/search?q=refund",
    "health": "/?period=14+d&health_by=model",
}
JUDGE = JudgeSpec(
    "helpfulness", "pointwise", "endpoint", "small", prompt="{question}\n{answer}", verdicts={"YES": 1.0, "NO": 0.0}
)  # fmt: skip
IMPORT = Import(
    id="0123456789abcdef", source="langfuse", names=["scores.jsonl"], status="finished",
    started_at=datetime(2026, 3, 1, 12, tzinfo=timezone.utc), num_rows=12, num_read=12, num_stored=9, num_known=1,
    num_calls=4, left_out={"experiment score": 2},
)  # fmt: skip
LOOKS = {"light": (1440, 1100), "narrow": (1024, 900), "phone": (390, 844), "dark": (1440, 1100)}
DARK = "rgb({}, {}, {})".format(*bytes.fromhex(theme.DARK.background.removeprefix("#")))

# every control and picture needs a name; a component's shadow tree is looked through too
NAMELESS = """() => {
  const found = [];
  const walk = (root) => {
    for (const node of root.querySelectorAll('*')) {
      if (node.shadowRoot) walk(node.shadowRoot);
      if (!node.matches('button, a[href], input, [role=button], [role=img], canvas')) continue;
      // Streamlit's editable table draws its head on a second canvas; the first one has the table for those who do not see it
      if (node.matches('[data-testid=stDataFrame] canvas')) continue;
      if (node.closest('[aria-hidden=true]') || node.type === 'hidden' || !node.getClientRects().length) continue;
      const labelled = (node.getAttribute('aria-labelledby') || '').split(' ').map((id) => document.getElementById(id)?.textContent || '').join('');
      const name = node.getAttribute('aria-label') || labelled || node.textContent.trim() || node.title || node.alt || node.placeholder || node.labels?.[0]?.textContent;
      if (!name) found.push(node.outerHTML.slice(0, 160));
    }
  };
  walk(document.querySelector('[data-testid=stMain]'));
  return found;
}"""


def test_no_page_is_left_out() -> None:
    """A page that is added to the dashboard is added here."""
    walked = {urlsplit(path).path.strip("/") for path in PAGES.values()}
    assert {entry.path for entry in pages.PAGES} <= walked


@pytest.fixture(scope="module")
def ids(demo_api: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One of everything that the demo's conversation holds."""
    call = demo_api.calls(has="correction", limit=1).calls[0]
    trace = call.trace_id
    thumb = next(f for f in demo_api.trace(trace).feedback if f.kind == "rating")
    alerts = demo_api.alerts()
    demo_api.save_import(IMPORT)
    for text in ("Answer in a friendly way.", "Answer {{question}} in two sentences, in a friendly way."):
        demo_api.create_prompt(Prompt("support", text), note="names the length")
    demo_api.label_prompt("support", "production", 1)
    demo_api.define_experiment(
        ExperimentSpec("prompt", (Arm("old", {"prompt": "a"}), Arm("new", {"prompt": "b"})))
    )
    demo_api.change_experiment("prompt", "start")
    asked = [{"name": "preference", "kind": "comparison"}]
    queues = [demo_api.create_review_queue(name, asked) for name in ("other pairs", "doubtful pairs")]
    wait_until(lambda: all(a.evaluated_at for a in demo_api.alerts()), "every alert is evaluated")
    return {
        "trace_id": trace,
        "session_id": call.session_id or "",
        "user_id": call.user_id or "",
        "thumb_id": thumb.feedback_id,
        "snapshot_id": demo_api.snapshots()[0].id,
        "run_id": demo_api.runs()[0].id,
        "alert_id": alerts[0].id,
        "queue_id": queues[-1].queue_id,
        "judge_id": demo_api.create_judge(JUDGE).id,
        "case_id": _evaluate(demo_api, tmp_path_factory.mktemp("evaluation")),
    }


class Half:
    """Says what was corrected in every second case, and something else in the others."""

    model = "candidate"

    def ask(self, case: Case, prompt: Sequence[Message]) -> Reply:
        return Reply(
            case.reference if int(case.id, 16) % 2 else f"I do not know. You asked: {prompt[-1].text}"
        )


def _evaluate(client: Client, folder: Path) -> str:
    """An evaluation of a case set of the demo's corrections; one of its cases."""
    client.make_cases("corrected")
    cases = [c for c in client.iter_cases("corrected") if c.reference][:30]
    one = Evaluation(
        name="candidate-1", target="app:answer", source="cases corrected@1", status="running",
        created_at=utc_now(), num_cases=len(cases),
    )  # fmt: skip
    client.save_evaluation(one)
    journal = Journal(folder / "journal.sqlite", "evaluation:candidate-1", Budget())
    rows = Evaluator(client, one, Half(), PaidCalls(journal)).run(cases)
    client.save_evaluation(finished(one, rows, 0.0, utc_now()))
    wait_until(lambda: not client.ledger().pending, "the answers are stored")
    return rows[0].case_id


@pytest.fixture(scope="module")
def looked_at(browser: Browser, dashboard: str, demo_key: str) -> Iterator[tuple[Page, list[str]]]:
    """A browser's tab for all pages, and the errors that its console and scripts reported."""
    with signed_in_context(browser, dashboard, demo_key) as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("console", lambda m: errors.append(f"{m.text} {m.location}") if _is_error(m) else None)
        yield page, errors


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_whole(
    looked_at: tuple[Page, list[str]], demo_dashboard: str, ids: dict[str, str], name: str
) -> None:
    """Loaded once in light; the phone's width is the same page narrower, and the dark one is drawn again."""
    page, errors = looked_at
    _look(page, "light")
    page.goto(demo_dashboard + PAGES[name].format(**ids))
    for look in LOOKS:
        _look(page, look)
        settled(page)
        _is_whole(page, f"{name} in {look}")
        _save(page, f"{name}_{look}", LOOKS[look][0])
        assert errors == [], f"{name} in {look}"


def _look(page: Page, look: str) -> None:
    """Show the page in this width and in light or dark; Streamlit draws charts in another theme when the script runs again."""
    width, height = LOOKS[look]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    if look == "dark":
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", DARK)
        page.keyboard.press("r")


def _is_error(message: ConsoleMessage) -> bool:
    """Streamlit itself looks under /<page>/_stcore first for where it is mounted; the browser notes these two 404s."""
    return message.type == "error" and "/_stcore/" not in str(message.location.get("url"))


def _is_whole(page: Page, what: str) -> None:
    expect(page.get_by_role("heading").first).to_be_visible()
    assert page.get_by_test_id("stException").count() == 0, what
    assert page.locator(".st-key-page_failed").count() == 0, what
    for words in ("The server refused this question", "Not found", "The server does not answer"):
        assert page.get_by_text(words).count() == 0, f"{what}: {words}"
    wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    assert wide <= 0, f"{what} is {wide} pixels too wide"
    for chart in page.get_by_test_id("stVegaLiteChart").all():
        expect(chart.locator("[aria-label]").first).to_be_attached()
    assert page.evaluate(NAMELESS) == [], what
    if Axe is not None:
        found = Axe().run(page).response["violations"]
        assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found] == [], what


def _save(page: Page, name: str, width: int) -> None:
    folder = os.environ.get("HEEDLOOP_SCREENSHOTS")
    if not folder:
        return
    tall = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(tall + 10, 3200)})
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.screenshot(path=Path(folder, f"{name}.png"))
    page.set_viewport_size({"width": width, "height": LOOKS["phone" if width < 500 else "light"][1]})


def test_doubtful_pairs_are_sent_to_review(
    demo_page: Page, demo_dashboard: str, demo_api: Client, ids: dict[str, str]
) -> None:
    """The least decided pairs of different answers are in the queue that was chosen, the evaluation's answer first."""
    demo_page.goto(f"{demo_dashboard}/evaluations?name=candidate-1&metric=token_f1")
    settled(demo_page)
    panel = demo_page.locator(".st-key-panel_evaluation_review")
    choose_option(demo_page, panel.get_by_role("combobox", name=re.compile("Review queue")), "doubtful pairs")
    panel.get_by_label("How many").fill("3")
    panel.get_by_role("button", name="Send doubtful pairs to review").click()
    expect(panel.get_by_text("3 pairs added to doubtful pairs.")).to_be_visible()
    pairs = demo_api.evaluated_pairs("candidate-1", metric="token_f1", order="doubtful", limit=500).pairs
    rows = [p.row for p in pairs if p.answer != p.baseline_answer and p.row.baseline_trace_id][:3]
    sent = demo_api.review_items(ids["queue_id"]).items
    assert {tuple(t.trace_id for t in i.targets) for i in sent} == {
        (r.trace_id, r.baseline_trace_id) for r in rows
    }


def test_an_experiment_of_two_prompts_of_the_registry_is_made_on_the_page(
    demo_page: Page, demo_dashboard: str, demo_api: Client, ids: dict[str, str]
) -> None:
    assert ids
    demo_page.goto(f"{demo_dashboard}/experiments")
    settled(demo_page)
    panel = demo_page.locator(".st-key-panel_new_experiment")
    panel.get_by_label("Name, as the app calls it").fill("words")
    for label, version in (("Prompt that is served now", "support@production"), ("Candidate", "support@2")):
        box = panel.get_by_role("combobox", name=re.compile(f"{label}, of the registry"))
        choose_option(demo_page, box, version)
    panel.get_by_role("button", name="Save the draft").click()
    expect(demo_page.locator(".st-key-panel_experiment_arms")).to_contain_text("The prompt support@2")
    spec = demo_api.experiment_results("words").experiment.spec
    assert [(a.prompt, dict(a.parameters)) for a in spec.arms] == [
        ("support@production", {}),
        ("support@2", {}),
    ]
    demo_page.get_by_role("link", name="The prompt support@2").click()
    expect(demo_page.locator(".st-key-panel_prompt_versions")).to_be_visible()


def test_the_keyboard_reaches_an_answer(page: Page, dashboard: str, world) -> None:
    page.goto(f"{dashboard}/traces?rating=down")
    settled(page)
    page.locator(f'tr[data-key="{world.trace_id}"] a').focus()
    page.keyboard.press("Enter")
    expect(page.locator(".st-key-panel_conversation")).to_contain_text("88213")
    page.get_by_role("link", name="All answers").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Traces")).to_be_visible()
    assert "rating=down" in page.url


def test_an_empty_period_says_so_and_shows_no_zero_rate(page: Page, dashboard: str) -> None:
    page.goto(f"{dashboard}/?model=no-such-model")
    settled(page)
    expect(page.locator('[data-card="rate"] .value')).to_have_text("–")
    expect(page.get_by_text("No ratings in this period.").first).to_be_visible()
    expect(page.get_by_text("None in this period.")).to_be_visible()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/trace?trace_id=" + "ab" * 16, "Not found"),
        ("/trace?trace_id=nonsense", "Trace id"),
        ("/feedback?feedback_id=nonsense", "Feedback"),
        ("/runs?run_id=nonsense", "Not found"),
        ("/datasets?snapshot_id=nonsense", "Not found"),
        ("/?since=yesterday", "RFC 3339"),
        ("/?period=900+years&segment=nonsense", "Quality overview"),
        ("/traces?cursor=nonsense", "Traces"),
        ("/compare?a=zzz&b=yyy&field=zzz", "Compare"),
    ],
)
def test_a_broken_link_is_answered_in_words(page: Page, dashboard: str, path: str, said: str) -> None:
    page.goto(dashboard + path)
    settled(page)
    expect(page.get_by_text(said).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text("Oh no")).to_have_count(0)


def test_a_server_that_is_away_is_said_in_words(browser: Browser) -> None:
    with process(
        "dashboard",
        "--url",
        "http://127.0.0.1:9",
        "--port",
        "0",
        says="dashboard: ",
        HEEDLOOP_API_KEY="hl_000000000000_x",
    ) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.get_by_text("no answer from http://127.0.0.1:9")).to_be_visible(timeout=60_000)
        page.close()
