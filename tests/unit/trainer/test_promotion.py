"""Promotion: only what was evaluated and came through the gate gets to where production loads from, in one step."""

import json

import pytest

from heedloop_trainer.evaluation.gate import GateConfig
from heedloop_trainer.evaluation.promotion import PromotionError, promote
from heedloop_trainer.runs.folder import file_hashes

GOOD = {
    "win_rate": {"estimate": 0.62, "low": 0.55, "high": 0.69},
    "length_controlled": {"estimate": 0.6, "low": 0.5, "high": 0.7},
    "length_ratio": 1.1,
    "num_prompts": 200,
    "new": {"ended_share": 0.99},
}

CONFIG = {"chat_template_kwargs": {"enable_thinking": False}, "learning_rate": 1e-6}


@pytest.fixture
def evaluated(tmp_path):
    """`evaluated(**changes)`: the folder of an evaluation of a model in runs/ppo/checkpoint."""

    def make(name: str = "evaluation", text: bytes = b"weights", **changes):
        model = tmp_path / "runs" / "ppo" / "checkpoint"
        model.mkdir(parents=True, exist_ok=True)
        (model / "model.safetensors").write_bytes(text)
        (model.parent / "run.json").write_text(json.dumps({"id": f"run-{name}", "config": CONFIG}))
        files = file_hashes(sorted(model.glob("*.safetensors")))
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        found = {"win_rate": {**GOOD, "model": str(model), "model_files": files, **changes}}
        (folder / "evaluation.json").write_text(json.dumps(found))
        return folder

    return make


def test_what_passes_is_there_whole_and_what_was_there_is_kept(evaluated, tmp_path):
    target = tmp_path / "production"
    assert promote(evaluated("first"), target).folder == target
    assert promote(evaluated("second", b"better weights"), target).decision.promote
    assert (target / "model.safetensors").read_bytes() == b"better weights"
    assert (tmp_path / "production.previous" / "model.safetensors").read_bytes() == b"weights"
    note = json.loads((target / "promoted.json").read_text())
    assert (note["run"], note["replaced"]) == ("run-second", "run-first")
    assert note["config"] == {"chat_template_kwargs": {"enable_thinking": False}}
    assert not (tmp_path / "production.new").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"win_rate": {"estimate": 0.53, "low": 0.47, "high": 0.6}}, "no significant gain"),
        ({"length_controlled": {"estimate": 0.45, "low": 0.4, "high": 0.5}}, "one of length"),
        ({"slices": {"tag=refunds": {"estimate": 0.35, "low": 0.2, "high": 0.55}}}, "regression"),
    ],
)
def test_the_gate_keeps_the_rest_out(evaluated, tmp_path, changes, sentence):
    done = promote(evaluated(**changes), tmp_path / "production")
    assert done.folder is None
    assert sentence in " ".join(done.decision.reasons)
    assert not (tmp_path / "production").exists()


def test_a_regression_within_the_limit_passes(evaluated, tmp_path):
    slices = {"tag=refunds": {"estimate": 0.35, "low": 0.2, "high": 0.55}}
    limit = GateConfig(max_regression=0.2)
    assert promote(evaluated(slices=slices), tmp_path / "production", config=limit).decision.promote


def test_other_weights_than_were_evaluated_are_refused(evaluated, tmp_path):
    folder = evaluated()
    (tmp_path / "runs" / "ppo" / "checkpoint" / "model.safetensors").write_bytes(b"trained on")
    with pytest.raises(PromotionError, match="evaluate it again"):
        promote(folder, tmp_path / "production")
    assert not (tmp_path / "production").exists()


def test_no_evaluation_no_promotion(tmp_path):
    with pytest.raises(PromotionError, match="cannot read"):
        promote(tmp_path, tmp_path / "production")
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(PromotionError, match="compared no models"):
        promote(tmp_path, tmp_path / "production")
