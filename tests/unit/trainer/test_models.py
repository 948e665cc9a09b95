"""The wrappers give what transformers gives, for any padding, and what is saved loads with the same logits."""

import contextlib
import copy
import json

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
)

from heedloop_trainer.nn import models
from heedloop_trainer.nn.checkpoints import load_policy, load_reward_model, load_tokenizer, save_model
from heedloop_trainer.nn.classifiers import sequence_classifier_from, value_model_from
from heedloop_trainer.nn.models import (
    Policy,
    PolicyWithValues,
    RewardModel,
    ValueModel,
    own_pad_token,
    reference_policy,
    stop_ids,
    with_lora,
)
from heedloop_trainer.nn.scratch import SmallShape, small_classifier, small_policy
from heedloop_trainer.nn.sequences import TokenSequence, collate

SEQUENCES = [
    TokenSequence([2, 3, 4], [5, 6, 7, 1]),
    TokenSequence([8], [9, 1]),
    TokenSequence([3, 9, 9, 4, 2, 8], [1]),
]


def whole_model_log_probs(model, sequence, temperature=1.0):
    """Log-probabilities by the plain forward of one unpadded sequence over the whole vocabulary."""
    ids = torch.tensor([sequence.prompt_ids + sequence.response_ids])
    logits = model(ids).logits[0, :-1].float() / temperature
    log_probs = logits.log_softmax(-1)
    start = len(sequence.prompt_ids) - 1
    return log_probs[start:].gather(-1, ids[0, start + 1 :, None])[:, 0]


def gemma():
    config = Gemma2Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, final_logit_softcapping=5.0, sliding_window=4, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return Gemma2ForCausalLM(config)


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=32))


def granite():
    config = GraniteConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=3.0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return GraniteForCausalLM(config)


def cohere():
    config = CohereConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, logit_scale=0.25, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return CohereForCausalLM(config)


FAMILIES = [None, gemma, gpt2, granite, cohere]


@pytest.mark.parametrize("make", FAMILIES, ids=["llama", "gemma2", "gpt2", "granite", "cohere"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_equal_the_plain_forward(make, temperature, policy):
    """Padding, the head on response positions only, soft caps, windows, dropout in training mode: no difference."""
    torch.manual_seed(0)
    model = policy if make is None else make()
    wrapped = Policy(model).train()
    out = wrapped(collate(SEQUENCES), temperature=temperature, with_entropy=True)
    model.eval()
    slow = torch.cat([whole_model_log_probs(model, s, temperature) for s in SEQUENCES])
    assert torch.allclose(out.log_probs, slow, atol=1e-5)
    assert (out.entropy > 0).all()


def test_the_head_in_chunks_gives_the_same_gradient(policy, monkeypatch):
    whole, parts = Policy(policy), Policy(copy.deepcopy(policy))
    whole(collate(SEQUENCES)).log_probs.sum().backward()
    monkeypatch.setattr(models, "HEAD_CHUNK", 2 * 32)
    out = parts(collate(SEQUENCES), with_entropy=True)
    out.log_probs.sum().backward()
    assert torch.allclose(out.log_probs, whole(collate(SEQUENCES)).log_probs, atol=1e-6)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)


def test_padding_changes_nothing(policy, classifier):
    """A sequence alone and beside a much longer one, and whatever fills the padding."""
    long = TokenSequence([2] * 9, [3] * 8)
    score = RewardModel(classifier)
    for sequence in SEQUENCES:
        alone, beside = collate([sequence]), collate([sequence, long])
        a = Policy(policy)(alone).log_probs
        assert torch.allclose(a, Policy(policy)(beside).log_probs[: len(a)], atol=1e-6)
        assert torch.allclose(score(alone), score(beside)[:1], atol=1e-6)
        beside.ids[0, len(sequence) :] = 17
        assert torch.allclose(a, Policy(policy)(beside).log_probs[: len(a)], atol=1e-6)


def test_a_saved_policy_loads_with_the_same_logits(policy, tokenizer, tmp_path):
    save_model(policy, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[2, 3, 4, 5]])
    assert torch.equal(loaded(ids).logits, policy(ids).logits)
    assert torch.equal(load_policy(tmp_path)(ids).logits, policy(ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == tokenizer.eos_token_id
    assert not list(tmp_path.glob("*.bin"))


def test_a_saved_reward_model_loads_with_the_same_logits(classifier, tokenizer, tmp_path):
    """transformers' own pooling on a padded batch reads the very numbers we trained."""
    reward = RewardModel(classifier, tokenizer)
    reward.normalise(gain=2.0, bias=-0.5)
    save_model(classifier, tokenizer, tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    batch = collate(SEQUENCES)
    mask = (torch.arange(batch.ids.shape[1])[None, :] < batch.lengths[:, None]).long()
    assert torch.allclose(loaded(batch.ids, attention_mask=mask).logits, reward(batch), atol=1e-6)
    again = load_reward_model(tmp_path)
    assert (again.gain, again.bias) == (2.0, -0.5)
    expected = reward(batch)[:, 0] * 2.0 - 0.5
    assert torch.allclose(again.score(SEQUENCES), expected, atol=1e-6)
    assert torch.allclose(again.score(SEQUENCES, max_tokens=1), expected, atol=1e-6)


def test_a_fresh_critic_values_everything_at_zero_from_the_rewards_body(classifier):
    critic = ValueModel(value_model_from(classifier))
    values, final = critic(collate(SEQUENCES))
    assert not values.any()
    assert not final.any()
    assert final.shape == (3,)
    assert torch.equal(critic.model.model.embed_tokens.weight, classifier.model.embed_tokens.weight)
    assert classifier.score.weight.any()


def test_values_belong_to_the_state_before_each_token(classifier, policy):
    """The value before token t must not see token t; the one after the last token sees all."""
    critic, shared = ValueModel(classifier), PolicyWithValues(policy)
    nn.init.normal_(shared.value_head.weight)
    batches = [collate([TokenSequence([2, 3], [4, token, 6])]) for token in (5, 7)]
    for first, second in (
        [critic(b) for b in batches],
        [(out.values, out.final_values) for out in map(shared, batches)],
    ):
        assert torch.allclose(first[0][:2], second[0][:2])
        assert not torch.allclose(first[0][2], second[0][2])
        assert not torch.allclose(first[1], second[1])


def test_a_classifier_takes_the_policys_body(policy):
    made = sequence_classifier_from(policy)
    ids = torch.tensor([[2, 3, 4]])
    assert torch.equal(made.model(ids).last_hidden_state, policy.model(ids).last_hidden_state)
    assert made.score.weight.std() > 0


def test_dropout_is_off_even_in_training_mode():
    torch.manual_seed(0)
    model = gpt2().train()
    wrapped = Policy(model).train()
    first, second = (wrapped(collate(SEQUENCES)).log_probs for _ in range(2))
    assert torch.equal(first, second)


def test_stop_ids_are_those_of_the_generation_configuration_too(policy, tokenizer):
    policy.generation_config.eos_token_id = [7, 8]
    assert stop_ids(policy, tokenizer) == {1, 7, 8}


def test_a_pad_token_of_its_own_is_made(word_tokenizer):
    tokenizer = word_tokenizer(pad_is_end=True)
    model = small_policy(tokenizer, SmallShape(16, 1, 2, 32))
    own_pad_token(model, tokenizer)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_the_reference_is_a_copy_that_training_does_not_move(policy):
    anchor = reference_policy(policy)
    before = anchor(collate(SEQUENCES)).log_probs
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.1)
    assert torch.equal(anchor(collate(SEQUENCES)).log_probs, before)
    assert not any(p.requires_grad for p in anchor.parameters())


def test_adapters_off_are_the_reference_and_merge_into_a_plain_checkpoint(policy, tokenizer, tmp_path):
    plain = Policy(copy.deepcopy(policy))(collate(SEQUENCES)).log_probs
    model = with_lora(policy, rank=2)
    anchor = reference_policy(model)
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in trainable) < sum(p.numel() for p in model.parameters()) / 4
    with torch.no_grad():
        for p in trainable:
            p.add_(0.05)
    moved = Policy(model)(collate(SEQUENCES)).log_probs
    assert torch.allclose(anchor(collate(SEQUENCES)).log_probs, plain, atol=1e-6)
    assert not torch.allclose(moved, plain, atol=1e-3)
    save_model(model, tokenizer, tmp_path)
    merged = Policy(load_policy(tmp_path))(collate(SEQUENCES)).log_probs
    assert torch.allclose(merged, moved, atol=1e-5)
    assert torch.allclose(Policy(model)(collate(SEQUENCES)).log_probs, moved), (
        "saving must not merge the trained model"
    )


def test_a_classifier_with_adapters_trains_its_head(tokenizer):
    model = with_lora(small_classifier(tokenizer, SmallShape(16, 1, 2, 32)), rank=2)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert any("score" in n for n in names)
    assert any("lora" in n for n in names)
    assert RewardModel(model)(collate(SEQUENCES)).shape == (3, 1)


@pytest.mark.parametrize("load", [load_policy, load_reward_model, load_tokenizer])
@pytest.mark.parametrize("model_type", ["own", "llama"])
def test_code_in_a_models_folder_is_never_run(load, model_type, policy, classifier, tokenizer, tmp_path):
    """Neither of a family that nobody knows nor of one that brings its own code for a known name."""
    (classifier if load is load_reward_model else policy).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    for file, entry in (
        ("config.json", {"model_type": model_type, "auto_map": dict.fromkeys(names, "own.Own")}),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}},
        ),
    ):
        stored = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps(stored | entry))
    marker = tmp_path / "code_was_run"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Own: ...\n")
    with contextlib.suppress(Exception):
        load(tmp_path)
    assert not marker.exists()


def test_weights_are_read_from_safetensors_only(policy, tokenizer, tmp_path):
    torch.save(policy.state_dict(), tmp_path / "pytorch_model.bin")
    policy.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(OSError, match="safetensors"):
        load_policy(tmp_path)
