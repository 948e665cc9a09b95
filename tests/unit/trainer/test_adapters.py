"""LoRA: in every method with every reward, written as adapters or merged in, gone on with, at a rate that learns."""

import argparse

import pytest
import torch

from heedloop.schema import Comparison, Demonstration, Message, PromptRow
from heedloop_trainer.commands.train import add_arguments
from heedloop_trainer.commands.train_job import config_of
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.preference import DPOConfig, train_dpo
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.checkpoints import load_policy, save_model
from heedloop_trainer.nn.models import Policy, RewardModel, reference_policy, with_lora
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_classifier
from heedloop_trainer.nn.sequences import TokenSequence, collate
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.train import train_ppo

PROMPTS = [PromptRow((Message("user", f"w{i}"),)) for i in range(4)]
BATCH = collate([TokenSequence([2, 3, 4], [5, 6, 1]), TokenSequence([8], [9, 1])])
ROWS = [Demonstration(p.prompt, "w7 w8") for p in PROMPTS]


def frozen(model):
    return {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("critic_body", ["separate", "shared"])
@pytest.mark.parametrize("other_words", [False, True])
def test_ppo_trains_adapters_with_any_reward_model(
    critic_body, other_words, policy, tokenizer, word_tokenizer
):
    own = word_tokenizer(40) if other_words else tokenizer
    reward = RewardModel(small_classifier(own, SmallShape(16, 1, 2, 32)), own)
    model = with_lora(policy, rank=2)
    before, logits = frozen(model), Policy(model)(BATCH).log_probs.detach()
    config = PPOConfig(
        num_rollouts=2, batch_size=8, minibatches=1, critic_body=critic_body, sampling=SamplingConfig(4),
        actor=OptimiserConfig(1e-2), kl_stop=None,
    )  # fmt: skip
    train_ppo(config, PROMPTS, model, tokenizer, reward_model=reward)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)
    assert not torch.allclose(Policy(model)(BATCH).log_probs, logits)


def test_adapters_are_written_alone_and_gone_on_with(policy, tokenizer, tmp_path):
    save_model(policy, tokenizer, tmp_path / "base")
    model = with_lora(load_policy(tmp_path / "base"), rank=2, targets=["q_proj", "v_proj"], alpha=3)
    assert {n.split(".")[-4] for n, p in model.named_parameters() if p.requires_grad} == {"q_proj", "v_proj"}
    train_sft(SFTConfig(optimiser=OptimiserConfig(1e-2)), ROWS, model, tokenizer)
    save_model(model, tokenizer, tmp_path / "adapter", adapters=True, base=tmp_path / "base")
    save_model(model, tokenizer, tmp_path / "merged")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    trained = Policy(model)(BATCH).log_probs
    for folder in ("adapter", "merged"):
        assert torch.allclose(Policy(load_policy(tmp_path / folder))(BATCH).log_probs, trained, atol=1e-5)
    again = load_policy(tmp_path / "adapter", adapters=True)
    anchor = reference_policy(again)
    rows = [Comparison(p.prompt, "w7", "w9") for p in PROMPTS]
    train_dpo(DPOConfig(optimiser=OptimiserConfig(1e-2)), rows, again, tokenizer)
    assert not torch.allclose(Policy(again)(BATCH).log_probs, trained, atol=1e-4)
    assert torch.allclose(anchor(BATCH).log_probs, trained, atol=1e-5)


def rate(method, *options):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([method, "--out", "x", "--model", "y", *options])
    config = config_of(method, args)
    return (config.actor if hasattr(config, "actor") else config.optimiser).learning_rate


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "kto", "ppo", "rloo"])
def test_adapters_learn_at_ten_times_the_rate_unless_one_is_given(method):
    assert rate(method, "--lora", "8") == pytest.approx(10 * rate(method))
    assert rate(method, "--lora", "8", "--learning-rate", "0.003") == 0.003
