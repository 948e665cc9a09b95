"""What makes a run comfortable: looks at a validation split, a second dataset, half-size weights, trackers, GRPO and rejection."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from heedloop.schema import Comparison, Demonstration, Message, PromptRow, Unpaired
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.jobs.job import JobError
from heedloop_trainer.jobs.training_rows import mixed
from heedloop_trainer.methods.preference import DPOConfig, KTOConfig, train_dpo, train_kto
from heedloop_trainer.methods.rejection import RejectionConfig, best_demonstrations
from heedloop_trainer.methods.reward import RewardConfig, train_reward
from heedloop_trainer.methods.sft import SFTConfig, demonstration_loss, train_sft
from heedloop_trainer.nn.checkpoints import load_policy, save_model
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.losses import grpo_advantages
from heedloop_trainer.ppo.rollout import Response
from heedloop_trainer.ppo.train import train_ppo
from heedloop_trainer.runs.folder import RunFolder
from heedloop_trainer.runs.trackers import TRACKERS, open_tracker

FAST = OptimiserConfig(2e-2)


def asked(i: int) -> tuple[Message, ...]:
    return (Message("user", f"w{i}"),)


TRAIN = [Demonstration(asked(i), f"w{i + 1}") for i in range(6)]
OTHER = [Demonstration(asked(i), f"w{i + 12}") for i in range(6)]
"""Rows that contradict the training rows: the better those are known, the worse these."""


# --------------------------------------------------------------------------------- the validation split while training


def overfitted(policy, tokenizer, run=None, **changes):
    """Many passes over rows that the validation rows soon contradict."""
    config = SFTConfig(epochs=20, batch_size=6, optimiser=FAST, eval_every=2)
    return train_sft(dataclasses.replace(config, **changes), TRAIN, policy, tokenizer, run, validation=OTHER)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_model_ends_with_the_weights_of_its_lowest_validation_loss(policy, tokenizer, tmp_path, on_disk):
    run = RunFolder.create(tmp_path / "run", "sft") if on_disk else None
    result = overfitted(policy, tokenizer, run)
    looks = [r["validation_loss"] for r in result.history if "validation_loss" in r]
    assert len(looks) == 10
    assert min(looks) < looks[-1] - 0.5, "the last weights should be worse than the best"
    found = demonstration_loss(SFTConfig(), OTHER, policy, tokenizer)
    assert found == pytest.approx(min(looks), abs=1e-5)
    assert result.metrics["validation_loss"] == min(looks)


def test_training_ends_after_as_many_looks_without_a_lower_loss_as_there_is_patience(policy, tokenizer):
    result = overfitted(policy, tokenizer, patience=3)
    looks = [r["validation_loss"] for r in result.history if "validation_loss" in r]
    assert len(looks) < 10
    assert looks.index(min(looks)) == len(looks) - 4


def test_a_run_that_goes_on_after_a_crash_ends_like_one_that_had_none(policy, tokenizer, tmp_path):
    start = {k: v.clone() for k, v in policy.state_dict().items()}
    whole = overfitted(
        policy, tokenizer, RunFolder.create(tmp_path / "whole", "sft", save_every=3), patience=3
    )
    wanted = torch.cat([p.detach().reshape(-1).clone() for p in policy.parameters()])

    class Crash(RuntimeError):
        pass

    class Fragile(RunFolder):
        def log(self, step, **metrics):
            super().log(step, **metrics)
            if step == 7:
                raise Crash

    policy.load_state_dict(start)
    with pytest.raises(Crash):
        overfitted(policy, tokenizer, Fragile.create(tmp_path / "b", "sft", save_every=3), patience=3)
    policy.load_state_dict(start)
    again = overfitted(policy, tokenizer, RunFolder.create(tmp_path / "b", "sft", save_every=3), patience=3)
    assert [r["loss"] for r in again.history] == [r["loss"] for r in whole.history]
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in policy.parameters()]), wanted)


@pytest.mark.parametrize(
    ("train", "config", "rows"),
    [
        (train_dpo, DPOConfig, [Comparison(asked(i), "w20", "w5") for i in range(6)]),
        (train_kto, KTOConfig, [Unpaired(asked(i), "w20", i % 2 == 0) for i in range(6)]),
    ],
)
def test_every_method_looks_at_its_own_loss(policy, tokenizer, train, config, rows):
    given = config(epochs=2, batch_size=3, eval_every=1, optimiser=OptimiserConfig(1e-3))
    history = train(given, rows, policy, tokenizer, validation=rows).history
    losses = [r["validation_loss"] for r in history]
    assert losses[-1] < losses[0]


def test_reward_models_look_at_their_own_loss(classifier, tokenizer):
    rows = [Comparison(asked(i), "w20", "w5") for i in range(6)]
    config = RewardConfig(epochs=3, batch_size=3, eval_every=2, optimiser=OptimiserConfig(1e-3))
    losses = [
        r["validation_loss"]
        for r in train_reward(config, rows, classifier, tokenizer, validation=rows).history
        if "validation_loss" in r
    ]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_looking_at_nothing_is_refused(policy, tokenizer):
    with pytest.raises(ValueError, match="held-out rows"):
        train_sft(SFTConfig(eval_every=1), TRAIN, policy, tokenizer)


# ------------------------------------------------------------------------------------------------------------- mixing


def test_mixed_rows_are_the_wanted_share_of_all(tmp_path):
    file = tmp_path / "general:chat.jsonl"
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    own = {"prompt": [{"role": "user", "text": "c"}], "completion": "d"}
    file.write_text(json.dumps(chat) + "\n\n" + json.dumps(own) + "\n")
    rows = mixed(TRAIN + OTHER, f"{file}:0.25", "demonstrations", seed=1)
    assert rows[:12] == TRAIN + OTHER
    assert sorted(r.completion for r in rows[12:]) == ["b", "b", "d", "d"], "a short file is repeated"
    assert mixed(TRAIN, f"{file}:0.25", "demonstrations", seed=1) == mixed(
        TRAIN, f"{file}:0.25", "demonstrations", seed=1
    )


@pytest.mark.parametrize(
    ("place", "text", "says"),
    [
        ("rows.jsonl", "{}", "FILE:SHARE"),
        ("rows.jsonl:1", "{}", "between 0 and 1"),
        ("absent.jsonl:0.5", "{}", "cannot read"),
        ("rows.jsonl:0.5", "", "holds no rows"),
        ("rows.jsonl:0.5", '{"messages": [{"role": "user", "content": "a"}]}', "line 1"),
        ("rows.jsonl:0.5", '{"prompt": 3}', "line 1"),
    ],
)
def test_what_cannot_be_mixed_in_is_said(tmp_path, place, text, says):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(JobError, match=says):
        mixed(TRAIN, str(tmp_path / place), "demonstrations", seed=0)


# --------------------------------------------------------------------------------------------- what is written where


def test_half_size_weights_are_saved_and_are_those_that_are_judged(policy, tokenizer, tmp_path):
    save_model(policy, tokenizer, tmp_path / "whole")
    save_model(policy, tokenizer, tmp_path / "half", dtype="bfloat16")
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = load_policy(tmp_path / "half")
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(loaded(ids).logits, policy(ids).logits), (
        "the model keeps the weights it was saved with"
    )
    assert next(policy.parameters()).dtype == torch.float32


def test_trackers_get_every_step_and_are_closed(monkeypatch, tmp_path):
    seen = []

    class Recorder:
        def __init__(self, name, folder, config):
            seen.append((name, folder.name, config["epochs"]))

        def log(self, step, metrics):
            seen.append((step, dict(metrics)))

        def close(self):
            seen.append("closed")

    monkeypatch.setitem(TRACKERS, "tensorboard", Recorder)
    run = RunFolder.create(tmp_path / "run", "sft", config=SFTConfig())
    run.trackers = [open_tracker("tensorboard", run.record.name, run.path, run.record.config)]
    run.log(0, loss=2.0)
    run.finish()
    assert seen == [("run", "run", 2), (0, {"loss": 2.0}), "closed"]


def test_a_tracker_that_is_not_there_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="there is no tracker 'x'"):
        open_tracker("x", "a", tmp_path, {})
    for kind in ("wandb", "mlflow", "tensorboard"):
        try:
            __import__("torch.utils.tensorboard" if kind == "tensorboard" else kind)
        except ImportError:
            with pytest.raises(ValueError, match="not installed"):
                open_tracker(kind, "a", tmp_path, {})


# --------------------------------------------------------------------------------------------------- GRPO, rejection


def test_grpo_advantages_are_standardised_within_their_group():
    returns = torch.tensor([1.0, 3.0, 10.0, 10.0, 0.0, 9.0])
    kept = torch.tensor([True, True, True, True, True, False])
    found = grpo_advantages(returns, 2, kept, floor=0.1)
    assert found.tolist() == [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    near = torch.tensor([1.0, 1.0002])
    assert grpo_advantages(near, 2, floor=0.1).abs().max() < 2e-3, "noise is not blown up"


def test_grpo_learns_what_is_rewarded(policy, tokenizer):
    given = PPOConfig(
        estimator="grpo", group_size=4, truncation="score", num_rollouts=30, batch_size=32, kl_coefficient=0.01,
        epochs=1, minibatches=2, kl_stop=None, missing_end_penalty=0.0, sampling=SamplingConfig(max_new_tokens=4),
        actor=OptimiserConfig(3e-3),
    )  # fmt: skip
    even = lambda rs: [sum(i % 2 == 0 for i in r.token_ids) / len(r.token_ids) for r in rs]  # noqa: E731
    prompts = [PromptRow(asked(i)) for i in range(4)]
    history = train_ppo(given, prompts, policy, tokenizer, reward_function=even).history
    scores = [r["objective/score"] for r in history]
    assert np.mean(scores[-5:]) > 0.9 > np.mean(scores[:3])


@pytest.mark.parametrize("changes", [{"group_size": 1}, {"truncation": "bootstrap"}])
def test_grpo_needs_groups_and_has_no_critic(changes):
    with pytest.raises(ValueError, match="GRPO"):
        PPOConfig(**{"estimator": "grpo", "group_size": 2, "truncation": "mask"} | changes)


def test_the_best_answers_that_ended_become_demonstrations():
    prompts = [PromptRow(asked(i), trace_ids=(f"{i}",), group=f"g{i}") for i in range(4)]
    candidates = [
        Response(p, f"{i}{k}", [5], (i, k) not in {(1, 1), (3, 0), (3, 1)})
        for i, p in enumerate(prompts)
        for k in range(2)
    ]
    scores = np.array([[0.0, 1.0], [0.0, 5.0], [2.0, 2.0], [1.0, 2.0]])
    rows = best_demonstrations(candidates, scores)
    assert [(r.completion, r.trace_ids, r.group) for r in rows] == [
        ("01", ("0",), "g0"),
        ("10", ("1",), "g1"),
    ]
    with pytest.raises(ValueError, match="num_candidates"):
        RejectionConfig(num_candidates=1)
