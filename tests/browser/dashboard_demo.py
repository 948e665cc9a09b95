"""The demo's conversation in a store, without its training: the demo's app, questions, simulated users, prompts and days,
through the real SDK into a real server. Only the three models are stood in for: each writes answers by stated habits, where
the demo's own were trained to them. Run as a program, because the SDK is configured once a process:

    python tests/browser/dashboard_demo.py URL KEY [seed]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from dashboard_world import planting_time

import heedloop
from heedloop import testing
from heedloop.client import Client
from heedloop.schema import Author, Feedback, Message, Run, Target
from heedloop_trainer.demo.app import Shown, SimulatedTime, SupportApp
from heedloop_trainer.demo.plan import MODEL_NAMES, Days
from heedloop_trainer.demo.serving import Completion
from heedloop_trainer.demo.users import SimulatedUser
from heedloop_trainer.demo.visits import Traffic
from heedloop_trainer.demo.world import HABITS, Habits, Question, compose_answer, find_flaws, questions

SKILLS = {
    "sft": Habits(right_fact=0.80, polite=0.75, rude=0.06, ramble=0.12, promise=0.10),
    "ppo": Habits(right_fact=0.93, polite=0.88, rude=0.01, ramble=0.05, promise=0.02),
}
VISITS = {"base": 420, "sft": 420, "ppo": 420}
PAIRS = 130
REVIEWED = 180
ANNOTATORS = ("ana", "ben")


class Writer:
    """Stands where a served model stands: answers by habits instead of weights."""

    max_tokens = 96

    def __init__(self, stage: str, asked: dict[str, Question], seed: int) -> None:
        self.name = MODEL_NAMES[stage]
        self._stage, self._asked, self._rng = stage, asked, random.Random(f"{stage} {seed}")

    async def complete(self, messages: tuple[Message, ...]) -> Completion:
        version = "v2" if "kind" in messages[0].text else "v1"
        text = compose_answer(
            self._asked[messages[1].text].fact, SKILLS.get(self._stage, HABITS[version]), self._rng
        )
        return Completion(text, len(messages[1].text) // 4, len(text) // 4, "stop")


def remembered(stream: Iterator[Question], asked: dict[str, Question]) -> Iterator[Question]:
    """The questions, each noted by its text."""
    for question in stream:
        asked[question.text] = question
        yield question


def fill(url: str, key: str, seed: int = 4) -> None:
    """Post a fortnight of the demo; returns when all of it is stored."""
    client, days = Client(url, key), Days(planting_time())
    clock, rng = SimulatedTime(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="heedloop-demo-") as folder:
        heedloop.configure(
            url,
            key,
            service="fernleaf-support",
            environment="demo",
            options=heedloop.Options(outbox=Path(folder)),
        )
        testing.use_clock(clock)
        try:
            shown = _traffic(days, clock, rng, seed)
            heedloop.flush(60)
        finally:
            heedloop.shutdown()
    client.wait_until_stored()
    client.send_feedback(_reviews(shown, rng))
    _train(client, days)
    _watch(client)


def _traffic(days: Days, clock: SimulatedTime, rng: random.Random, seed: int) -> list[Shown]:
    traffic, shown = Traffic(rng, clock), []
    asked: dict[str, Question] = {}
    stream = remembered(questions(random.Random(seed + 1), fresh=False), asked)
    stages = [
        ("base", "v1", days.base_v1),
        ("base", "v2", days.base_v2),
        ("sft", "v2", days.sft),
        ("ppo", "v2", days.ppo),
    ]
    for stage, version, period in stages:
        app = SupportApp([Writer(stage, asked, seed)], version)  # type: ignore[arg-type]
        count = VISITS[stage] // (2 if stage == "base" else 1)
        shown += traffic.visits(app, stream, count, users="early", period=period, on_progress=lambda _: None)
        # the two sides of a comparison come from two models, as in a side-by-side test before a release
        both = SupportApp([_Either(stage, asked, seed)], version)  # type: ignore[arg-type]
        traffic.comparisons(both, stream, PAIRS, period=period, on_progress=lambda _: None)
    return shown


class _Either(Writer):
    """Two models behind one app, drawn anew for each answer."""

    def __init__(self, stage: str, asked: dict[str, Question], seed: int) -> None:
        super().__init__(stage, asked, seed)
        self._stages = {"base": ("base",), "sft": ("base", "sft"), "ppo": ("base", "sft", "ppo")}[stage]

    async def complete(self, messages: tuple[Message, ...]) -> Completion:
        self._stage = self._rng.choice(self._stages)
        self.name = MODEL_NAMES[self._stage]
        return await super().complete(messages)


def _reviews(shown: list[Shown], rng: random.Random) -> list[Feedback]:
    """Two annotators look at a random sample: what they say does not depend on who chose to rate."""
    given = []
    for one in rng.sample(shown, REVIEWED):
        user = SimulatedUser("annotator", 0.0)
        good = user.taste.pleasure(find_flaws(one.text, one.visit.question.fact)) > 0
        given.append(
            Feedback(
                kind="rating", target=Target.from_handle(one.handle), value=int(good), solicited=True,
                author=Author("annotator", rng.choice(ANNOTATORS)), sampling_probability=REVIEWED / len(shown),
                created_at=one.later(3600),
            )
        )  # fmt: skip
    return given


def _train(client: Client, days: Days) -> None:
    """A snapshot and the two runs whose models serve later; the curves are those that such runs have."""
    snapshot = client.create_snapshot("after the base model", filters={"tag": "users:early"})
    parent: str | None = None
    for method, stage, at in (("sft", "sft", days.sft[0]), ("ppo", "ppo", days.ppo[0])):
        run = Run(
            id=f"{method}-demo", method=method, status="finished", snapshot_id=snapshot.id, parent=parent,
            model_name=MODEL_NAMES[stage], started_at=at - timedelta(hours=2), finished_at=at - timedelta(hours=1),
            config={"epochs": 2, "learning_rate": 2e-4}, evaluation={"win_rate_against_parent": 0.71},
        )  # fmt: skip
        client.create_run(run)
        rows: list[dict[str, Any]] = [
            {
                "step": s,
                "objective/kl": 0.2 * (1 - 0.9**s),
                "objective/scores": 1.6 - 2.2 * 0.88**s,
                "loss": 0.7 + 2 * 0.9**s,
            }
            for s in range(1, 41)
        ]
        client.add_run_history(run.id, rows)
        parent = run.id


def _watch(client: Client) -> None:
    """Three rules: one that must be in alarm on this conversation, one that drifts, one that rests."""
    asks_too_much: dict[str, Any] = {
        "kind": "threshold",
        "threshold": 0.97,
        "window_hours": 168,
        "min_count": 30,
    }
    for rule in (
        {"name": "Everybody is happy", "metric": "rate", **asks_too_much},
        {"name": "Enough people rate", "metric": "coverage", "kind": "drift", "window_hours": 24},
        {
            "name": "Wrong facts",
            "metric": "share",
            "of": {"flag": "inaccurate"},
            "kind": "threshold",
            "bad": "higher",
            "threshold": 0.5,
            "window_hours": 168,
        },
    ):
        client.create_alert(rule)


if __name__ == "__main__":
    fill(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 4)
