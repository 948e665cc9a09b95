"""The whole road, every part real: decorator → OTLP → store → REST → page → snapshot → SFT → reward model → PPO on two layers.

The model learns nothing worth having in these few steps; that it does learn is the demo's business (docs/demo.md). What is
tested here is that each part hands on to the next, and that one correction can be followed by ids from the page to its runs.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from dashboard_browser import process, settled, sign_in
from playwright.sync_api import expect, sync_playwright
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import heedloop
from heedloop.client import Client
from heedloop_cli.main import main
from heedloop_trainer.nn.checkpoints import load_policy, load_reward_model, save_model
from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer

NUM_QUESTIONS = 30


@dataclass
class Road:
    """What the stations of the road leave behind."""

    folder: Path
    url: str
    key: str
    client: Client
    handles: list[tuple[str, str]] = field(default_factory=list)
    correction_id: str = ""
    snapshot_id: str = ""


@heedloop.trace(prompt_name="support", prompt_version="v1", model="two-layers")
def curt(question: str) -> str:
    return f"No idea about {question.split()[-1]}"


@heedloop.trace(prompt_name="support", prompt_version="v2", model="two-layers")
def polite(question: str) -> str:
    return f"Thank you for asking. Your {question.split()[-1]} arrives within three days."


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    folder = tmp_path_factory.mktemp("road")
    key_file = folder / "key"
    with process(
        "serve", "--port", "0", "--data", str(folder / "data"), "--key-file", str(key_file), says="serves on "
    ) as url:
        key = key_file.read_text().strip()
        road = Road(folder, url, key, Client(url, key))
        _use_the_app(road)
        road.snapshot_id = road.client.create_snapshot("road").id
        yield road


def _use_the_app(road: Road) -> None:
    """An app answers, its users judge; the SDK delivers both."""
    heedloop.configure(
        road.url, road.key, service="road", environment="test",
        options=heedloop.Options(outbox=str(road.folder / "outbox.sqlite3")),
    )  # fmt: skip
    try:
        for i in range(NUM_QUESTIONS):
            question, user = f"Where is my order number {i * 7919} and when comes item-{i}", f"user-{i % 5}"
            bad = curt.with_handle(question).handle
            good = polite.with_handle(question).handle
            road.handles.append((good, bad))
            heedloop.thumbs_down(bad, author=user)
            heedloop.thumbs_up(good, author=user)
            heedloop.compare([good, bad], best=0, author=user)
            if i % 3 == 0:
                road.correction_id = heedloop.correct(bad, f"Sorry! Your item-{i} arrives soon.", author=user)
                heedloop.flag(bad, "tone", author=user)
        delivered = heedloop.flush(30)
        assert delivered.complete, delivered
    finally:
        heedloop.shutdown()


def _base_model(folder: Path) -> Path:
    texts = [t for i in range(40) for t in (curt(f"order item-{i}"), polite(f"order item-{i}"))]
    tokenizer = train_tokenizer(texts, vocab_size=400)
    shape = SmallShape(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=256)
    save_model(small_policy(tokenizer, shape), tokenizer, folder)
    return folder


def _train(road: Road, method: str, *args: str | Path) -> Path:
    out = road.folder / method
    place = ["--url", road.url, "--api-key", road.key, "--snapshot", road.snapshot_id, "--project", "default"]
    assert main(["train", method, *place, "--out", str(out), "--seed", "1", *map(str, args)]) == 0
    return out


@pytest.fixture(scope="module")
def trained(road: Road) -> dict[str, Path]:
    """SFT, then a reward model, then PPO against it, all through the command."""
    base = _base_model(road.folder / "base")
    sft = _train(road, "sft", "--model", base, "--epochs", 1, "--model-name", "two-layers-sft")
    reward = _train(road, "reward", "--model", base, "--epochs", 1)
    ppo = _train(
        road, "ppo", "--model", sft / "checkpoint", "--reward-model", reward / "checkpoint", "--rollouts", 2,
        "--batch-size", 8, "--max-response-tokens", 8, "--model-name", "two-layers-ppo",
    )  # fmt: skip
    return {"sft": sft, "reward": reward, "ppo": ppo}


def test_every_call_and_every_judgement_arrived_once(road: Road) -> None:
    summary = road.client.quality_summary()
    assert summary.num_answers == 2 * NUM_QUESTIONS
    assert summary.num_rated == 2 * NUM_QUESTIONS
    assert summary.num_up == NUM_QUESTIONS
    assert summary.num_comparisons == NUM_QUESTIONS
    rates = {g.value: g.rate.estimate for g in road.client.quality_by("prompt_version")}
    assert rates == {"v1": 0.0, "v2": 1.0}
    ledger = road.client.ledger()
    for side in (ledger, ledger.feedback):
        assert side.received == side.stored + side.rejected + side.duplicate + side.pending


def test_the_snapshot_holds_what_was_said(road: Road) -> None:
    rows = list(road.client.snapshot_rows(road.snapshot_id, "comparisons"))
    assert {r.split for r in rows} >= {"train", "test"}
    ranked = [r for r in rows if r.source == "comparison"]
    assert len(ranked) == NUM_QUESTIONS
    assert all(r.chosen.startswith("Thank you") and r.rejected.startswith("No idea") for r in ranked)
    corrected = [r for r in rows if r.source == "correction"]
    assert len(corrected) == NUM_QUESTIONS // 3
    demonstrations = list(road.client.snapshot_rows(road.snapshot_id, "demonstrations"))
    assert {d.source for d in demonstrations} == {"correction", "liked"}


def test_the_same_query_gives_the_same_snapshot(road: Road) -> None:
    assert road.client.create_snapshot("road").id == road.snapshot_id


def test_a_hugging_face_user_can_load_what_was_written(road: Road, trained: dict[str, Path]) -> None:
    ids = torch.tensor([[1, 40, 41, 42, 43]])
    sft, ppo, reward = (trained[m] / "checkpoint" for m in ("sft", "ppo", "reward"))
    with torch.no_grad():
        logits = {f: AutoModelForCausalLM.from_pretrained(f).eval()(ids).logits for f in (sft, ppo)}
        base = AutoModelForCausalLM.from_pretrained(road.folder / "base").eval()(ids).logits
        judge: Any = AutoModelForSequenceClassification.from_pretrained(reward).eval()
        for folder, found in logits.items():
            assert torch.equal(found, load_policy(folder).eval()(ids).logits)
        assert torch.equal(judge(ids).logits, load_reward_model(reward).model.eval()(ids).logits)
    # each stage really moved the weights it started from
    assert not torch.equal(logits[sft], base)
    assert not torch.equal(logits[ppo], logits[sft])
    for folder in (sft, ppo, reward):
        assert list(folder.glob("*.safetensors")), f"{folder} holds no safetensors"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_runs_are_registered_with_what_they_used(road: Road, trained: dict[str, Path]) -> None:
    runs = {r.method: r for r in road.client.runs()}
    assert set(runs) == {"sft", "reward", "ppo"}
    assert all(r.status == "finished" and r.snapshot_id == road.snapshot_id for r in runs.values())
    assert road.client.run_history(runs["ppo"].id)
    manifest = json.loads((trained["ppo"] / "run.json").read_text())
    assert manifest["id"] == runs["ppo"].id


@pytest.mark.browser
def test_one_correction_can_be_followed_from_the_page_to_its_runs(
    road: Road, trained: dict[str, Path]
) -> None:
    # in a thread of its own: Playwright leaves an event loop running in the thread that starts it
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_follow_the_correction, road).result()


def _follow_the_correction(road: Road) -> None:
    said = next(f for f in road.client.iter_feedback(kind="correction") if f.id == road.correction_id)
    trace_id = said.target.trace_id
    run_ids = [r.id for r in road.client.runs()]
    with (
        process("dashboard", "--url", road.url, "--port", "0", says="dashboard: ") as dashboard,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1100})
        sign_in(page, dashboard, road.key)
        page.goto(dashboard)
        settled(page)
        expect(page.get_by_text("50.0%").first).to_be_visible()
        page.goto(f"{dashboard}/trace?trace_id={trace_id}")
        settled(page)
        expect(page.get_by_text("No idea about").locator("visible=true").first).to_be_visible()
        page.goto(f"{dashboard}/feedback?feedback_id={said.feedback_id}")
        settled(page)
        body = page.locator("body")
        for shown in (said.feedback_id, trace_id, road.snapshot_id, run_ids[0]):
            expect(body).to_contain_text(shown)
        browser.close()
