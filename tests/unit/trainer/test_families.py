"""Every family: the policy is the model's own distribution, training is without noise, rows that end early do no harm."""

import os
import re
from pathlib import Path

import pytest
import torch
from families import AS_PUBLISHED, FAMILIES, tiny_policy
from transformers import BertConfig, BertLMHeadModel

from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.nn.models import Policy, evaluating
from heedloop_trainer.nn.sequences import TokenSequence, collate

PROMPTS = [[(5 * k + i) % 90 + 3 for k in range(n)] for i, n in enumerate((5, 9, 12, 12, 3))]
STOPS = frozenset(range(3, 50))
"""Half of the vocabulary: answers end at every length, and rows leave the batch again and again."""

SINGLE_LENGTH = {"bart", "falcon_mamba", "mamba"}
UNCACHED = {"minimax", "openai-gpt"}
"""Families that are decoded more slowly, in the list of docs/training-methods.md as well."""

ALL = [*FAMILIES, *AS_PUBLISHED]
SAMPLE = ("llama", "gpt2", "gemma4", "falcon_h1", "qwen3_next", "lfm2", "jamba", "mamba", "bart", "minimax")
"""One of each kind of head, cache and mask; all of them with HEEDLOOP_ALL_FAMILIES=1 (a minute and a half)."""


def whole_log_probs(model, sequence):
    ids = torch.tensor([sequence.prompt_ids + sequence.response_ids])
    start = len(sequence.prompt_ids)
    log_probs = model(input_ids=ids).logits[0, start - 1 : -1].float().log_softmax(-1)
    return log_probs.gather(-1, ids[0, start:, None])[:, 0]


@pytest.mark.parametrize("kind", ALL if "HEEDLOOP_ALL_FAMILIES" in os.environ else SAMPLE)
def test_a_family_is_trained_and_sampled_as_itself(kind):
    model = tiny_policy(kind)
    policy, generate = Policy(model), CachedGenerator(model, STOPS)
    done = generate(PROMPTS, SamplingConfig(max_new_tokens=10))
    sequences = [TokenSequence(p, g.response_ids) for p, g in zip(PROMPTS, done, strict=True)]
    batch = collate(sequences)
    policy.train()
    with torch.no_grad():
        first, second = policy(batch).log_probs, policy(batch).log_probs
    with evaluating(model):
        own = torch.cat([whole_log_probs(model, s) for s in sequences])
    assert torch.equal(first, second)
    assert (first - own).abs().max() < 1e-4
    assert (first - torch.tensor([x for g in done for x in g.log_probs])).abs().max() < 1e-3
    assert {len(g.response_ids) for g in done} != {10}
    way = "uncached" if kind in UNCACHED else "even" if kind in SINGLE_LENGTH else "padded"
    assert generate.way == way


def test_a_model_that_looks_ahead_is_no_policy():
    config = BertConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(ValueError, match="both directions"):
        Policy(BertLMHeadModel(config))


def test_the_documentation_lists_the_families():
    docs = Path(__file__).parents[3] / "docs" / "training-methods.md"
    section = docs.read_text(encoding="utf-8").partition("## Model families")[2].partition("\n## ")[0]
    lists = [paragraph for paragraph in section.split("\n\n") if paragraph.startswith("**")]
    assert sorted(re.findall(r"`([^`]+)`", "\n".join(lists))) == sorted(ALL)
