"""What is not finite ends the run with its step and rows; rewards out of the ordinary are clipped or warned about."""

import logging

import pytest
import torch

from heedloop.schema import Comparison, Demonstration, Message, PromptRow, Unpaired
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.preference import DPOConfig, KTOConfig, train_dpo, train_kto
from heedloop_trainer.methods.reward import RewardConfig, train_reward
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.checkpoints import save_model
from heedloop_trainer.nn.optimiser import DivergenceError, OptimiserConfig
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.rollout import Response, Scorer
from heedloop_trainer.ppo.train import train_ppo

PROMPT = (Message("user", "w3"),)
IDS = {"feedback_ids": ("feedback-7",), "trace_ids": ("trace-7",)}
HUGE = OptimiserConfig(1e30, max_grad_norm=1e30)


def sft(model, tokenizer, _classifier):
    train_sft(
        SFTConfig(epochs=9, batch_size=2, optimiser=HUGE),
        [Demonstration(PROMPT, "w4", **IDS)] * 4,
        model,
        tokenizer,
    )


def dpo(model, tokenizer, _classifier):
    rows = [Comparison(PROMPT, "w4", "w5", **IDS)] * 4
    train_dpo(DPOConfig(epochs=9, batch_size=2, optimiser=HUGE), rows, model, tokenizer)


def kto(model, tokenizer, _classifier):
    rows = [Unpaired(PROMPT, w, w == "w4", **IDS) for w in ("w4", "w5")] * 2
    train_kto(KTOConfig(epochs=9, batch_size=2, optimiser=HUGE), rows, model, tokenizer)


def reward(_model, tokenizer, classifier):
    rows = [Comparison(PROMPT, "w4", "w5", **IDS)] * 4
    train_reward(RewardConfig(epochs=9, batch_size=2, optimiser=HUGE), rows, classifier, tokenizer)


@pytest.mark.parametrize("train", [sft, dpo, kto, reward])
def test_the_first_loss_that_is_not_finite_ends_the_run(train, policy, tokenizer, classifier):
    with pytest.raises(DivergenceError, match=r"step \d.*feedback-7"):
        train(policy, tokenizer, classifier)


def test_a_policy_that_diverges_under_its_reward_ends_the_run(policy, tokenizer):
    config = PPOConfig(
        estimator="rloo", truncation="mask", group_size=2, batch_size=4, minibatches=1, num_rollouts=9, epochs=4,
        sampling=SamplingConfig(4), actor=HUGE, kl_stop=None,
    )  # fmt: skip
    with pytest.raises(DivergenceError, match=r"step \d.*trace-7"):
        train_ppo(
            config, [PromptRow(PROMPT, trace_ids=IDS["trace_ids"])], policy, tokenizer,
            reward_function=lambda rs: [float(sum(r.token_ids)) for r in rs],
        )  # fmt: skip


def test_weights_that_are_not_finite_are_not_written(policy, tokenizer, tmp_path):
    with torch.no_grad():
        next(policy.parameters()).view(-1)[3] = float("nan")
    with pytest.raises(DivergenceError):
        save_model(policy, tokenizer, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def responses(count):
    return [Response(PromptRow(PROMPT), "w4", [6, 1], True)] * count


def test_a_reward_models_outliers_are_clipped_and_said(caplog):
    scorer = Scorer(reward_function=lambda rs: [0.0] * len(rs), clip=10.0)
    with caplog.at_level(logging.WARNING):
        assert scorer.normalised(torch.tensor([0.5, -3.0, 1e6, -50.0])).tolist() == [0.5, -3.0, 10.0, -10.0]
    assert "2 rewards beyond 10" in caplog.text


@pytest.mark.parametrize(
    ("values", "warned"),
    [([1.0, 2.0, 0.5, 1e6], True), ([0.0, 0.0, 0.0, 1.0], False), ([10.0, -20.0, 30.0, -40.0], False)],
)
def test_a_functions_outlier_is_warned_about_and_kept(values, warned, caplog):
    scorer = Scorer(reward_function=lambda _: values)
    with caplog.at_level(logging.WARNING):
        assert scorer(responses(4), []).normalised.tolist() == values
    assert ("outweighs" in caplog.text) == warned
