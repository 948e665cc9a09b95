"""Reward models of every kind that people have: encoders, families without a classifier, trained ones that go on."""

import copy

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CohereConfig,
    CohereForCausalLM,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from heedloop.schema import Comparison, Message
from heedloop_trainer.methods.reward import RewardConfig, train_reward
from heedloop_trainer.nn.checkpoints import load_reward_model, save_model
from heedloop_trainer.nn.classifiers import sequence_classifier_from
from heedloop_trainer.nn.encoder import same_vocabulary
from heedloop_trainer.nn.models import RewardModel, with_lora
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.sequences import TokenSequence

SIZES = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "cls_token_id": 1,
    "sep_token_id": 1, "num_labels": 1,
}  # fmt: skip
ENCODERS = {
    "bert": (BertConfig, BertForSequenceClassification),
    "roberta": (RobertaConfig, RobertaForSequenceClassification),
    "deberta": (DebertaV2Config, DebertaV2ForSequenceClassification),
    "modernbert": (ModernBertConfig, ModernBertForSequenceClassification),
}
SEQUENCES = [TokenSequence([2, 3, 4], [5, 6, 1]), TokenSequence([8], [9, 1]), TokenSequence([3] * 9, [4] * 8)]
ROWS = [
    Comparison((Message("user", f"w{2 + i % 5}"),), "w10 w11", "w12 w11" if i % 2 else "w12")
    for i in range(16)
]
QUICK = RewardConfig(epochs=12, batch_size=8, optimiser=OptimiserConfig(3e-3))


def encoder(kind):
    torch.manual_seed(0)
    config, cls = ENCODERS[kind]
    return cls(config(**SIZES)).eval()


def no_classifier(kind):
    """A classifier of a family that transformers has none for."""
    torch.manual_seed(0)
    sizes = {k: v for k, v in SIZES.items() if k not in ("num_labels", "cls_token_id", "sep_token_id")}
    if kind == "cohere":
        return sequence_classifier_from(CohereForCausalLM(CohereConfig(**sizes, num_key_value_heads=2)))
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "pad_token_id", "eos_token_id")
    return sequence_classifier_from(
        MambaForCausalLM(MambaConfig(**{n: SIZES[n] for n in names}, state_size=4))
    )


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_reads_each_answer_as_if_it_were_alone(kind):
    """Whatever it is padded with; the numbers are its own classifier's."""
    reward = RewardModel(encoder(kind))
    together = reward.outputs(SEQUENCES)[:, 0]
    for sequence, score in zip(SEQUENCES, together, strict=True):
        ids = torch.tensor([sequence.prompt_ids + sequence.response_ids])
        assert torch.allclose(reward.model(ids).logits[0, 0], score, atol=1e-5)


@pytest.mark.parametrize("make", [*ENCODERS, "cohere", "mamba"])
def test_any_family_learns_what_is_preferred_and_loads_again(make, tokenizer, tmp_path):
    model = encoder(make) if make in ENCODERS else no_classifier(make)
    train_reward(QUICK, ROWS, model, tokenizer)
    reward = RewardModel(model.eval(), tokenizer)
    assert reward.reward_of("w3", "w10 w11") > reward.reward_of("w3", "w12")
    save_model(model, tokenizer, tmp_path)
    again = load_reward_model(tmp_path)
    assert (again.gain, again.bias) == (reward.gain, reward.bias)
    assert torch.allclose(again.score(SEQUENCES), reward.score(SEQUENCES), atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("lora", [False, True])
def test_a_head_learns_at_its_own_rate_and_the_body_at_its(kind, lora, tokenizer):
    moved = {}
    for head_rate in (1.0, 10.0):
        model = with_lora(encoder(kind), rank=2) if lora else encoder(kind)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        config = RewardConfig(max_steps=1, optimiser=OptimiserConfig(1e-4, eps=1e-12), head_rate=head_rate)
        train_reward(config, ROWS, model, tokenizer)
        gaps = {n: float((p - before[n]).abs().max()) for n, p in model.named_parameters() if p.requires_grad}
        heads = {n: gap for n, gap in gaps.items() if {"classifier", "pooler", "head"} & {*n.split(".")}}
        moved[head_rate] = max(heads.values()), max(gap for n, gap in gaps.items() if n not in heads)
    assert moved[10.0][0] == pytest.approx(10 * moved[1.0][0], rel=0.05)
    assert moved[10.0][1] == pytest.approx(moved[1.0][1], rel=0.05)


def test_long_answers_fit_an_encoders_positions(tokenizer):
    long = Comparison((Message("user", "w2 " * 90),), "w10 " * 90, "w12 " * 90)
    result = train_reward(
        RewardConfig(epochs=1, batch_size=2), [*ROWS[:3], long], encoder("roberta"), tokenizer
    )
    assert result.metrics["num_cut"] >= 2


def test_a_trained_reward_model_goes_on_with_its_head_and_scale(classifier, tokenizer):
    train_reward(QUICK, ROWS, classifier, tokenizer)
    first = RewardModel(classifier, tokenizer)
    gain, bias, before = first.gain, first.bias, copy.deepcopy(first.score(SEQUENCES))
    slow = RewardConfig(epochs=1, batch_size=8, optimiser=OptimiserConfig(1e-9))
    train_reward(slow, ROWS[::-1][:5], classifier, tokenizer)
    assert (first.gain, first.bias) == (gain, bias)
    assert torch.allclose(first.score(SEQUENCES), before, atol=1e-4)


def test_adapters_and_an_encoders_head_learn(tokenizer):
    model = with_lora(encoder("bert"), rank=4)
    train_reward(QUICK, ROWS, model, tokenizer)
    reward = RewardModel(model.eval(), tokenizer)
    assert reward.reward_of("w3", "w10 w11") > reward.reward_of("w3", "w12")


def test_a_policy_or_a_classifier_of_several_classes_is_no_reward_model(policy, tokenizer, tmp_path):
    save_model(policy, tokenizer, tmp_path / "policy")
    with pytest.raises(ValueError, match="no reward model"):
        load_reward_model(tmp_path / "policy")
    several = BertForSequenceClassification(BertConfig(**{**SIZES, "num_labels": 3}))
    save_model(several, tokenizer, tmp_path / "several")
    with pytest.raises(ValueError, match="3 outputs"):
        load_reward_model(tmp_path / "several")


def test_vocabularies_are_equal_but_for_an_added_pad(word_tokenizer):
    plain, padded, other = (
        word_tokenizer(pad_is_end=True),
        word_tokenizer(pad_is_end=True),
        word_tokenizer(31),
    )
    padded.add_special_tokens({"pad_token": "<|pad|>"})
    assert same_vocabulary(plain, padded)
    assert same_vocabulary(padded, plain)
    assert not same_vocabulary(plain, other)
