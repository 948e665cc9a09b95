"""A local checkpoint as what `heedloop review generate` asks."""

import json
from pathlib import Path

import pytest

from heedloop.schema import Message
from heedloop_trainer.generation.checkpoint import answerer
from heedloop_trainer.nn.checkpoints import save_model


def test_a_saved_checkpoint_gives_different_answers_within_the_limit(
    policy, tokenizer, tmp_path: Path
) -> None:
    save_model(policy, tokenizer, tmp_path)
    answer = answerer(tmp_path, temperature=1.0, max_tokens=6)
    prompt = [Message("user", "w1 w2 w3")]
    texts = [t for _ in range(3) for t in answer(prompt, 4)]
    assert len(texts) == 12
    assert len(set(texts)) > 3
    assert all(len(t.split()) <= 6 for t in texts)
    greedy = answerer(tmp_path, temperature=0.0, max_tokens=6)
    assert len(set(greedy(prompt, 3))) == 1


@pytest.mark.parametrize("note", ["run.json", "promoted.json"])
def test_a_runs_prompts_are_written_as_in_its_training(policy, tokenizer, tmp_path: Path, note: str) -> None:
    """The variables of the chat template are those of the run, beside its checkpoint or where it was promoted to."""
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if loud %}w7 w8 {% endif %}"
    )
    save_model(policy, tokenizer, tmp_path / "plain")
    trained = tmp_path / "run" / "checkpoint"
    save_model(policy, tokenizer, trained)
    beside = trained.parent if note == "run.json" else trained
    (beside / note).write_text(json.dumps({"config": {"chat_template_kwargs": {"loud": True}}}))
    plain, loud = (answerer(f, temperature=0.0, max_tokens=8) for f in (tmp_path / "plain", trained))
    words = [f"w{i}" for i in range(9)]
    found = [loud([Message("user", w)], 1) for w in words]
    assert found == [plain([Message("user", f"{w} w7 w8")], 1) for w in words]
    assert found != [plain([Message("user", w)], 1) for w in words]
