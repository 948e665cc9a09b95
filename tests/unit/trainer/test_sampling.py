"""Generation: the distribution itself, whatever the batch, and log-probabilities that the training forward confirms."""

import pytest
import torch

from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig, choose_tokens, row_uniforms
from heedloop_trainer.nn.models import Policy
from heedloop_trainer.nn.sequences import TokenSequence, collate

PROMPTS = [[2, 3, 4, 5, 6], [7], [8, 9], [2, 2, 2]] * 3


def generate(policy, prompts=PROMPTS, *, stops=frozenset({1}), step=0, **settings):
    return CachedGenerator(policy, stops)(prompts, SamplingConfig(**settings), step=step)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("batch_size", [64, 5])
def test_the_training_forward_confirms_the_sampler(policy, temperature, batch_size):
    """Left padding, the cache, rows leaving the batch: log-probabilities agree within 1e-4 of the plain forward."""
    found = generate(policy, max_new_tokens=24, temperature=temperature, batch_size=batch_size)
    sequences = [TokenSequence(p, g.response_ids, g.ended) for p, g in zip(PROMPTS, found, strict=True)]
    with torch.no_grad():
        trained = Policy(policy)(collate(sequences), temperature=temperature).log_probs
    sampled = torch.tensor([x for g in found for x in g.log_probs])
    assert (trained - sampled).abs().max() < 1e-4
    assert len({len(g.response_ids) for g in found}) > 1, "rows should have ended at different times"


def test_batches_do_not_change_what_is_sampled(policy):
    whole = generate(policy, max_new_tokens=20, batch_size=64)
    parts = generate(policy, max_new_tokens=20, batch_size=2)
    assert [g.response_ids for g in whole] == [g.response_ids for g in parts]


def test_seed_step_and_row_decide_the_numbers(policy):
    first = generate(policy, max_new_tokens=12)
    assert [g.response_ids for g in first] == [g.response_ids for g in generate(policy, max_new_tokens=12)]
    for other in (generate(policy, max_new_tokens=12, seed=1), generate(policy, max_new_tokens=12, step=1)):
        assert [g.response_ids for g in first] != [g.response_ids for g in other]
    assert first[0].response_ids != first[4].response_ids, (
        "equal prompts in different rows get different answers"
    )


def test_a_response_ends_with_its_stop_token_or_is_cut(policy):
    for g in generate(policy, PROMPTS * 4, max_new_tokens=30, stops=frozenset({1, 5})):
        assert g.ended == (g.response_ids[-1] in (1, 5))
        assert not {1, 5} & set(g.response_ids[:-1])
        assert g.ended or len(g.response_ids) == 30


def test_greedy_equals_transformers(policy, tokenizer):
    policy.eval()
    [ours] = generate(policy, [[2, 3, 4]], max_new_tokens=10, temperature=0.0)
    theirs = policy.generate(
        torch.tensor([[2, 3, 4]]), max_new_tokens=10, do_sample=False, eos_token_id=1, pad_token_id=0
    )
    assert ours.response_ids == theirs[0, 3:].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_whole_distribution_is_sampled(temperature):
    """Frequencies over 40,000 draws match softmax(logits / temperature), the tail included."""
    logits = torch.tensor([3.0, 2.0, 0.0, -2.0, -3.0])
    draws = torch.from_numpy(row_uniforms(0, 0, range(400), 100)).float().reshape(-1)
    tokens, log_probs = choose_tokens(logits.expand(len(draws), -1), draws, temperature)
    expected = (logits / temperature).softmax(-1)
    frequency = tokens.bincount(minlength=5) / len(draws)
    assert (frequency - expected).abs().max() < 0.01
    assert torch.allclose(log_probs.exp(), expected[tokens], atol=1e-6)
    if temperature == 1.0:
        assert frequency[4] > 0.0005


def test_a_token_of_probability_zero_is_never_taken():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for u in (0.0, 0.5, 1.0):
        token, log_prob = choose_tokens(logits, torch.tensor([u]), 1.0)
        assert token.item() == 1
        assert log_prob.item() == 0.0


def test_wrong_settings_are_refused():
    for bad in ({"temperature": -1.0}, {"max_new_tokens": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="must be"):
            SamplingConfig(**bad)
