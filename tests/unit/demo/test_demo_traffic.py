"""The support app and its visitors, recorded through the real SDK."""

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch

from heedloop import testing
from heedloop.schema import answer_hash
from heedloop_trainer.demo.app import SimulatedTime, SupportApp
from heedloop_trainer.demo.pretrain import FAST, pretrain
from heedloop_trainer.demo.serving import ServedModel
from heedloop_trainer.demo.visits import Traffic
from heedloop_trainer.demo.world import PROMPTS, questions

UNTIL = datetime.now(timezone.utc) - timedelta(days=3)
PERIOD = (UNTIL - timedelta(days=4), UNTIL)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return pretrain(tmp_path_factory.mktemp("base"), FAST, seed=2, quiet=True).path


def traffic(checkpoint: Path, *, seed: int = 1) -> tuple[testing.Recorded, Traffic, list[str]]:
    """60 visits and 20 comparisons of one model, recorded; the answers in order."""
    clock = SimulatedTime()
    with testing.recording() as recorded:
        testing.use_clock(clock)
        visitors = Traffic(random.Random(seed), clock)
        app = SupportApp([ServedModel("small", checkpoint, seed=seed)], "v2")
        asked = questions(random.Random(seed), fresh=False)
        progress: list[int] = []
        shown = visitors.visits(app, asked, 60, users="early", period=PERIOD, on_progress=progress.append)
        visitors.comparisons(app, asked, 20, period=PERIOD, on_progress=progress.append)
        assert sum(progress) == 100
        recorded.feedback  # noqa: B018  waits until everything has arrived
    return recorded, visitors, [one.text for one in shown]


@pytest.fixture(scope="module")
def seen(checkpoint: Path) -> tuple[testing.Recorded, Traffic, list[str]]:
    return traffic(checkpoint)


def test_every_answer_is_a_span_with_model_prompt_and_topic(seen) -> None:
    recorded, _, texts = seen
    answers = recorded.answers
    assert len(answers) == 60 + 2 * 20
    assert set(texts) <= {a.output_text for a in answers}
    for a in answers:
        assert a.attributes["gen_ai.request.model"] == "small"
        assert a.attributes["gen_ai.prompt.name"] == "support"
        assert a.attributes["gen_ai.prompt.version"] == "v2"
        assert a.input_text.startswith(PROMPTS["v2"])
        assert a.attributes["user.id"].startswith("sim-early-")
        assert "users:early" in a.attributes["heedloop.tags"]
        assert f"topic:{a.attributes['heedloop.metadata.topic']}" in a.attributes["heedloop.tags"]
        assert a.attributes["gen_ai.usage.output_tokens"] > 0


def test_spans_lie_in_the_simulated_days_and_last_as_long_as_they_really_did(seen) -> None:
    recorded, _, _ = seen
    for a in recorded.answers:
        start = datetime.fromtimestamp(a.start_ns / 1e9, timezone.utc)
        assert PERIOD[0] - timedelta(seconds=1) <= start <= PERIOD[1] + timedelta(seconds=1)
        assert 0 < a.end_ns - a.start_ns < 60e9


def test_feedback_follows_its_answer_and_is_counted(seen) -> None:
    recorded, visitors, _ = seen
    started = {a.trace_id: datetime.fromtimestamp(a.start_ns / 1e9, timezone.utc) for a in recorded.answers}
    kinds = [f.kind for f in recorded.feedback]
    assert (
        kinds.count("rating")
        == visitors.num_feedback["thumbs up"] + visitors.num_feedback["thumbs down"]
        > 10
    )
    assert kinds.count("correction") == visitors.num_feedback["corrections"]
    assert kinds.count("flag") == visitors.num_feedback["flags"]
    assert kinds.count("comparison") == visitors.num_feedback["comparisons"] == 20
    for f in recorded.feedback:
        assert f.author.id is not None and f.author.id.startswith("sim-")
        delay = f.created_at - started[f.target.trace_id or ""]
        assert timedelta(0) < delay < timedelta(minutes=3)


def test_a_comparison_is_between_two_answers_to_one_question(seen) -> None:
    recorded, _, _ = seen
    by_trace = {a.trace_id: a for a in recorded.answers}
    for f in recorded.feedback:
        if f.ranking is not None:
            first, second = (by_trace[t.trace_id or ""] for t in f.ranking.answers)
            assert first.input_text == second.input_text
            assert first.attributes["user.id"] == second.attributes["user.id"] == f.author.id


def test_a_flagged_range_is_in_its_own_answer(seen) -> None:
    recorded, _, _ = seen
    by_trace = {a.trace_id: a for a in recorded.answers}
    for f in recorded.feedback:
        if f.target.range is not None:
            text = by_trace[f.target.trace_id or ""].output_text
            assert f.target.range.answer_hash == answer_hash(text)
            assert f.target.range.end <= len(text)


def test_the_same_seed_gives_the_same_answers_and_reactions(checkpoint: Path, seen) -> None:
    _, visitors, texts = seen
    _, again, same = traffic(checkpoint)
    assert same == texts
    assert again.num_feedback == visitors.num_feedback
