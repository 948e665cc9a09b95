"""The tests have teeth: each known mistake, planted, is caught by the check that guards against it.

Every case runs its check twice: on the code as it is, where it must hold, and on a mutant, where it must fail.
"""

import copy
import dataclasses

import pytest
import torch

from heedloop.schema import Demonstration, Message, PromptRow
from heedloop_trainer.generation import cached as sampling
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.methods import sft, supervised
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn import models, optimiser, sequences
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import Policy
from heedloop_trainer.nn.optimiser import OptimiserConfig, shared_groups
from heedloop_trainer.nn.scratch import SmallShape, small_policy, train_tokenizer
from heedloop_trainer.nn.sequences import Batch, TokenSequence, collate
from heedloop_trainer.ppo import advantages as targets
from heedloop_trainer.ppo import train as ppo
from heedloop_trainer.ppo.advantages import make_targets
from heedloop_trainer.ppo.losses import TokenLogProbs, selective_log_probs, token_rewards
from heedloop_trainer.ppo.rollout import Response, Rollout
from heedloop_trainer.ppo.train import PPOConfig, train_ppo

torch.set_num_threads(1)
WORDS = ["yes", "no", "the cat", "a dog sits", "why not", "thanks"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(WORDS, vocab_size=300)


@pytest.fixture(scope="module")
def policy(tokenizer):
    return small_policy(tokenizer, SmallShape(16, 1, 2, 32), seed=1)


def asked(i: int) -> tuple[Message, ...]:
    return (Message("user", WORDS[i % 6]),)


def ppo_history(policy, tokenizer, **changes):
    given = PPOConfig(
        num_rollouts=1, batch_size=6, epochs=1, minibatches=1, kl_stop=None, sampling=SamplingConfig(6, temperature=0.7),
        actor=OptimiserConfig(1e-3, max_grad_norm=1e9), critic=OptimiserConfig(1e-3),
    )  # fmt: skip
    prompts = [PromptRow(asked(i)) for i in range(6)]
    model = copy.deepcopy(policy)
    model.generation_config.eos_token_id = list(range(2, 80))  # so that responses end at different times
    reward = lambda rs: [float(len(set(r.token_ids))) for r in rs]  # noqa: E731
    history = train_ppo(
        dataclasses.replace(given, **changes), prompts, model, tokenizer, reward_function=reward
    ).history
    return history, torch.cat([p.detach().reshape(-1) for p in model.parameters()])


# ------------------------------------------------------------------------------------------------- the checks


def check_score_on_the_end_token(policy, tokenizer) -> None:
    """The score of a response is paid with its last token, where the return of the earlier ones has it too."""
    zeros = torch.zeros(2, 3)
    rollout = Rollout(
        [TokenSequence([2], [3, 3, 1]), TokenSequence([2], [3, 1])], [Response(PromptRow(asked(0)), "", [], True)] * 2,
        torch.tensor([3, 2]), torch.tensor([True, True]), zeros, zeros, zeros, zeros, torch.zeros(2),
        torch.tensor([2.0, 1.0]), torch.tensor([2.0, 1.0]), 0.0,
    )  # fmt: skip
    found = make_targets(PPOConfig(), rollout, 0.0)
    assert found.rewards.tolist() == [[0.0, 0.0, 2.0], [0.0, 1.0, 0.0]]


def check_the_sampler_is_confirmed(policy, tokenizer) -> None:
    """Rollout and update see the same distribution: ratio one, no drift."""
    history, _ = ppo_history(policy, tokenizer)
    assert history[0]["sampler/drift"] < 1e-4
    assert abs(history[0]["policy/first_ratio"] - 1) < 1e-3


def check_the_end_token_is_trained(policy, tokenizer) -> None:
    """Also where the tokenizer pads with its end token."""
    twin = copy.deepcopy(tokenizer)
    twin.pad_token = twin.eos_token
    model = copy.deepcopy(policy)
    rows = [Demonstration(asked(i), "yes") for i in range(6)]
    train_sft(SFTConfig(epochs=60, batch_size=6, optimiser=OptimiserConfig(1e-2)), rows, model, twin)
    sequence = Encoder(twin).sequences([asked(0)], ["yes"])
    assert Policy(model)(collate(sequence)).log_probs[-1].exp() > 0.8


def check_micro_batches_change_nothing(policy, tokenizer) -> None:
    """Responses of different lengths in micro-batches of one: the update of all at once."""
    runs = [
        ppo_history(policy, tokenizer, max_tokens=n, truncation="score", sampling=SamplingConfig(12))
        for n in (1, 10_000)
    ]
    assert runs[0][0][0]["response/length"] < 12, "the responses should differ in length"
    parts = [run[1] for run in runs]
    assert (parts[0] - parts[1]).abs().max() < 2e-6


def check_padding_changes_nothing(policy, tokenizer) -> None:
    """A prompt decoded beside a longer one says what it says alone."""
    short, long = [5, 6], [7] * 9
    generate = CachedGenerator(policy, frozenset({tokenizer.eos_token_id}))
    alone = generate([short], SamplingConfig(8, temperature=0.7))
    beside = generate([short, long], SamplingConfig(8, temperature=0.7))
    assert alone[0].response_ids == beside[0].response_ids
    sequence = TokenSequence(short, beside[0].response_ids)
    trained = Policy(policy)(collate([sequence]), temperature=0.7).log_probs
    assert (trained - torch.tensor(beside[0].log_probs)).abs().max() < 1e-4


# ------------------------------------------------------------------------------------------------- the mutants


def score_one_token_early(monkeypatch) -> None:
    def shifted(scores, kl, lengths, *, kl_coefficient):
        return token_rewards(scores, kl, (lengths - 1).clamp(min=1), kl_coefficient=kl_coefficient)

    monkeypatch.setattr(targets, "token_rewards", shifted)


def score_on_the_first_pad(monkeypatch) -> None:
    def shifted(scores, kl, lengths, *, kl_coefficient):
        late = (lengths + 1).clamp(max=kl.shape[1])
        return token_rewards(scores, kl, late, kl_coefficient=kl_coefficient)

    monkeypatch.setattr(targets, "token_rewards", shifted)


def no_temperature_in_training(monkeypatch) -> None:
    def forgetful(logits, targets, *, temperature=1.0, with_entropy=False) -> TokenLogProbs:
        return selective_log_probs(logits, targets, with_entropy=with_entropy)

    monkeypatch.setattr(models, "selective_log_probs", forgetful)


def mask_from_pad_ids(monkeypatch) -> None:
    def by_ids(rows, device="cpu") -> Batch:
        batch = collate(rows, device)
        pad = rows[0].response_ids[-1]  # the end token, which this tokenizer also pads with
        kept = batch.targets != pad
        return dataclasses.replace(
            batch, rows=batch.rows[kept], columns=batch.columns[kept], offsets=batch.offsets[kept]
        )

    monkeypatch.setattr(sft, "collate", by_ids)


def mean_per_micro_batch(monkeypatch) -> None:
    def per_part(rows, lengths, loss_sums, *, denominator, max_tokens, world):
        groups = list(shared_groups(rows, lengths, max_tokens=max_tokens, world=world))
        totals = {"loss": 0.0}
        for group, _ in groups:
            loss, sums = loss_sums(group)
            tokens = (
                float(sums["ratio"].detach()) if "ratio" in sums else len(group)
            )  # ratios are 1 before the first step
            (loss / (len(groups) * tokens)).backward()
            for name, value in {"loss": loss, **sums}.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach())
        return totals

    monkeypatch.setattr(ppo, "backward_sums", per_part)
    monkeypatch.setattr(supervised, "backward_sums", per_part)


def top_half_of_the_vocabulary(monkeypatch) -> None:
    whole = sampling.choose_tokens

    def cut(logits, uniforms, temperature):
        floor = logits.median(-1, keepdim=True).values
        return whole(logits.masked_fill(logits < floor, -torch.inf), uniforms, temperature)

    monkeypatch.setattr(sampling, "choose_tokens", cut)


def positions_counted_from_the_padding(monkeypatch) -> None:
    inputs = sampling._Writing.prompt_inputs

    def wrong(self):
        ids, _, mask = inputs(self)
        # Padding shifts every position but keeps relative distances, so the mask goes too: what forgetting it does.
        return ids, None, None if mask is None else torch.ones_like(mask)

    monkeypatch.setattr(sampling._Writing, "prompt_inputs", wrong)


CASES = [
    (check_score_on_the_end_token, score_one_token_early),
    (check_score_on_the_end_token, score_on_the_first_pad),
    (check_the_sampler_is_confirmed, no_temperature_in_training),
    (check_the_sampler_is_confirmed, top_half_of_the_vocabulary),
    (check_the_end_token_is_trained, mask_from_pad_ids),
    (check_micro_batches_change_nothing, mean_per_micro_batch),
    (check_padding_changes_nothing, positions_counted_from_the_padding),
]


@pytest.mark.parametrize(("check", "mutate"), CASES, ids=[m.__name__ for _, m in CASES])
def test_a_planted_mistake_is_caught(check, mutate, policy, tokenizer, monkeypatch):
    check(policy, tokenizer)
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check(policy, tokenizer)


def test_the_mutants_replace_what_is_really_called():
    assert targets.token_rewards is token_rewards
    assert models.selective_log_probs is selective_log_probs
    assert sft.collate is sequences.collate
    assert ppo.backward_sums is optimiser.backward_sums
