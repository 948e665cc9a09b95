"""On a CUDA device: the same numbers as on the CPU, bfloat16 within its drift, and PPO that learns there too."""

import copy

import pytest
import torch

from heedloop.schema import Demonstration, Message, PromptRow
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.generation.static import StaticGenerator
from heedloop_trainer.jobs.run_job import is_out_of_memory
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.memory import estimate_memory
from heedloop_trainer.nn.models import Policy, checkpoint_activations
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer
from heedloop_trainer.nn.sequences import TokenSequence, collate
from heedloop_trainer.ppo.train import PPOConfig, train_ppo

pytestmark = pytest.mark.gpu

PROMPT = (Message("user", "hello there"),)
PROMPTS = [[5, 6, 7, 8], [9], [10, 11]] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["hello there", "good morning", "thank you"], vocab_size=300)


@pytest.fixture
def policy(tokenizer):
    return small_policy(tokenizer, SmallShape(64, 2, 4, 128), seed=1)


@pytest.mark.parametrize(("bfloat16", "limit"), [(False, 1e-4), (True, 3e-2)])
def test_the_training_forward_confirms_the_sampler_on_cuda(policy, bfloat16, limit):
    model = policy.cuda()
    found = CachedGenerator(model, frozenset({2}), bfloat16=bfloat16)(PROMPTS, SamplingConfig(32))
    sequences = [TokenSequence(p, g.response_ids, g.ended) for p, g in zip(PROMPTS, found, strict=True)]
    with torch.no_grad():
        trained = Policy(model, bfloat16=bfloat16)(collate(sequences, "cuda")).log_probs.cpu()
    sampled = torch.tensor([x for g in found for x in g.log_probs])
    assert (trained - sampled).abs().mean() < limit


def test_cuda_gives_the_cpus_log_probs(policy):
    sequences = [TokenSequence(p, [12, 13, 2]) for p in PROMPTS]
    here = Policy(copy.deepcopy(policy))(collate(sequences)).log_probs
    there = Policy(policy.cuda())(collate(sequences, "cuda")).log_probs.cpu()
    assert torch.allclose(here, there, atol=1e-3)


def test_sft_learns_on_cuda(policy, tokenizer):
    rows = [Demonstration(PROMPT, "thank you")] * 16
    config = SFTConfig(epochs=20, batch_size=16, optimiser=OptimiserConfig(3e-3), bfloat16=True)
    history = train_sft(config, rows, policy.cuda(), tokenizer).history
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]


def test_ppo_learns_on_cuda(policy, tokenizer):
    model = policy.cuda()
    config = PPOConfig(
        num_rollouts=30, batch_size=64, epochs=2, minibatches=2, kl_coefficient=0.01, truncation="score", missing_end_penalty=0.0,
        sampling=SamplingConfig(16), actor=OptimiserConfig(2e-3), critic=OptimiserConfig(2e-3), bfloat16=True,
    )  # fmt: skip
    even = lambda rs: [sum(i % 2 == 0 for i in r.token_ids) / len(r.token_ids) for r in rs]  # noqa: E731
    generator = CachedGenerator(model, frozenset(), bfloat16=True)
    history = train_ppo(
        config, [PromptRow(PROMPT)], model, tokenizer, reward_function=even, generator=generator
    ).history
    assert history[-1]["objective/score"] > history[0]["objective/score"] + 0.2
    assert history[0]["sampler/drift"] < 3e-2


def test_graphs_write_what_the_cached_decoder_writes(policy):
    model = policy.cuda()
    config = SamplingConfig(40, batch_size=8)
    static = StaticGenerator(model, frozenset({2}))
    for step in (0, 1):  # the second rollout replays the graph of the first
        ours, theirs = (
            static(PROMPTS, config, step=step),
            CachedGenerator(model, frozenset({2}))(PROMPTS, config, step=step),
        )
        same = sum(a.response_ids == b.response_ids for a, b in zip(ours, theirs, strict=True))
        assert same >= len(PROMPTS) - 1, "rounding may turn a token once in a while"
    assert all(d.graph is not None for d in static._decoders.values())


def test_graphs_in_bfloat16_are_confirmed_by_the_training_forward(policy):
    model = policy.cuda()
    found = StaticGenerator(model, frozenset({2}), bfloat16=True)(PROMPTS, SamplingConfig(32, batch_size=16))
    sequences = [TokenSequence(p, g.response_ids, g.ended) for p, g in zip(PROMPTS, found, strict=True)]
    with torch.no_grad():
        trained = Policy(model, bfloat16=True)(collate(sequences, "cuda")).log_probs.cpu()
    assert (trained - torch.tensor([x for g in found for x in g.log_probs])).abs().mean() < 3e-2


def test_checkpointed_activations_take_less_memory_on_cuda(tokenizer):
    rows = [Demonstration(PROMPT, "good morning thank you " * 60)] * 16

    def peak(checkpointed: bool) -> int:
        model = small_policy(tokenizer, SmallShape(256, 8, 4, 768)).cuda()
        torch.cuda.reset_peak_memory_stats()
        train_sft(
            SFTConfig(epochs=1, batch_size=16),
            rows,
            checkpoint_activations(model) if checkpointed else model,
            tokenizer,
        )
        return torch.cuda.max_memory_allocated()

    assert peak(True) < 0.7 * peak(False)


def test_the_memory_estimate_is_near_the_peak_on_cuda(tokenizer):
    model = small_policy(tokenizer, SmallShape(512, 8, 8, 1536))
    rows = [Demonstration(PROMPT, "good morning thank you " * 120)] * 16
    [one] = Encoder(tokenizer).sequences([PROMPT], [rows[0].completion])
    told = estimate_memory(model, max_tokens=16 * len(one)).total
    torch.cuda.reset_peak_memory_stats()
    train_sft(SFTConfig(epochs=1, batch_size=16, max_tokens=16 * len(one)), rows, model.cuda(), tokenizer)
    assert told / 2 < torch.cuda.max_memory_allocated() < told * 2


def test_memory_that_runs_out_is_answered_with_what_to_change(tmp_path):
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(1 << 46, device="cuda")
    assert is_out_of_memory(caught.value)
