"""SFT, reward models, DPO, KTO: they learn, weights count, and no split into micro-batches changes the update."""

import copy
import dataclasses
import itertools
import random

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from heedloop.schema import Comparison, Demonstration, Message, Unpaired
from heedloop_trainer.methods.losses import davidson, rao_kupper
from heedloop_trainer.methods.preference import (
    DPOConfig,
    ImplicitRewards,
    KTOConfig,
    mismatched_prompts,
    train_dpo,
    train_kto,
)
from heedloop_trainer.methods.reward import RewardConfig, train_reward
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import Policy, RewardModel, reference_policy
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.sequences import collate
from heedloop_trainer.runs.folder import RunFolder

FAST = OptimiserConfig(3e-3)
ONE_STEP = OptimiserConfig(1e-3, max_grad_norm=1e9)


def asked(i: int) -> tuple[Message, ...]:
    return (Message("user", f"w{i}"),)


def demonstrations(count: int, seed: int = 0) -> list[Demonstration]:
    """The answer to w<i> is w<i+1>, with some further words of varying number."""
    rng = random.Random(seed)
    return [
        Demonstration(asked(i % 10), " ".join([f"w{i % 10 + 1}"] + ["w20"] * rng.randint(0, 4)))
        for i in range(count)
    ]


def comparisons() -> list[Comparison]:
    return [
        Comparison(
            asked(i),
            f"w{20 + i % 3}",
            "w5 " * (i + 1),
            weight=1.0 + i % 2,
            tie=i == 3,
            margin=0.5 if i % 2 else None,
        )
        for i in range(8)
    ]


def unpaired() -> list[Unpaired]:
    return [Unpaired(asked(i), "w3 " * (i % 4 + 1), bool(i % 3), weight=1.0 + i % 2) for i in range(8)]


def parameters(model) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


METHODS = {
    "sft": (train_sft, SFTConfig, lambda: demonstrations(8)),
    "reward": (train_reward, RewardConfig, comparisons),
    "dpo": (train_dpo, DPOConfig, lambda: [r for r in comparisons() if not r.tie]),
    "kto": (train_kto, KTOConfig, unpaired),
}


def model_for(name, policy, classifier):
    return copy.deepcopy(classifier if name == "reward" else policy)


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_do_not_change_the_update(name, policy, classifier, tokenizer):
    """One row at a time, a few, or all at once: the same parameters after the step, within float32 rounding."""
    train, config, rows = METHODS[name]
    made = []
    for max_tokens in (1, 40, 10_000):
        model = model_for(name, policy, classifier)
        train(
            config(epochs=1, batch_size=8, optimiser=ONE_STEP, max_tokens=max_tokens),
            rows(),
            model,
            tokenizer,
        )
        made.append(parameters(model))
    start = parameters(model_for(name, policy, classifier))
    assert (made[0] - start).abs().max() > 1e-5
    for other in made[1:]:
        assert (made[0] - other).abs().max() < 2e-6


@pytest.mark.parametrize("name", ["sft", "reward", "dpo"])
def test_weight_two_is_the_row_twice(name, policy, classifier, tokenizer):
    train, config, rows = METHODS[name]
    single = [dataclasses.replace(r, weight=1.0) for r in rows()]
    doubled = [dataclasses.replace(single[0], weight=2.0), *single[1:]]
    models = []
    for given in (doubled, [single[0], *single]):
        model = model_for(name, policy, classifier)
        train(config(epochs=1, batch_size=len(given), optimiser=ONE_STEP), given, model, tokenizer)
        models.append(parameters(model))
    assert (models[0] - models[1]).abs().max() < 2e-6
    model = model_for(name, policy, classifier)
    train(config(epochs=1, batch_size=len(single), optimiser=ONE_STEP), single, model, tokenizer)
    assert (models[0] - parameters(model)).abs().max() > 1e-5, "the weight changed nothing"


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_bits(name, policy, classifier, tokenizer):
    train, config, rows = METHODS[name]
    made = []
    for _ in range(2):
        model = model_for(name, policy, classifier)
        train(config(epochs=2, batch_size=4, optimiser=FAST), rows(), model, tokenizer)
        made.append(parameters(model))
    assert torch.equal(*made)


@pytest.mark.parametrize("name", METHODS)
def test_no_rows_are_refused(name, policy, classifier, tokenizer):
    train, config, _ = METHODS[name]
    with pytest.raises(ValueError, match=r"no .*comparisons|no demonstrations|at least two"):
        train(config(), [], model_for(name, policy, classifier), tokenizer)


def test_sft_learns_what_was_demonstrated(policy, tokenizer):
    rows = demonstrations(60)
    before = -Policy(policy)(collate(Encoder(tokenizer).sequences([rows[0].prompt], ["w1"]))).log_probs.mean()
    result = train_sft(SFTConfig(epochs=8, batch_size=10, optimiser=FAST), rows, policy, tokenizer)
    after = -Policy(policy)(collate(Encoder(tokenizer).sequences([rows[0].prompt], ["w1"]))).log_probs.mean()
    assert after < 0.6 * before
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert len(result.history) == 8 * 6


def test_sft_trains_the_end_token_also_where_it_is_the_pad(word_tokenizer, policy):
    """A tokenizer whose pad is its end: masks from ids would never teach the model to stop."""
    tokenizer = word_tokenizer(pad_is_end=True)
    rows = [Demonstration(asked(i), "w5") for i in range(10)]
    train_sft(SFTConfig(epochs=60, batch_size=10, optimiser=FAST), rows, policy, tokenizer)
    [sequence] = Encoder(tokenizer).sequences([asked(0)], ["w5"])
    last = Policy(policy)(collate([sequence])).log_probs[-1]
    assert last.exp() > 0.8, last.exp()


def test_sft_ignores_the_prompts_tokens(policy, tokenizer):
    """Only the completion is learned: a prompt word that never occurs in a completion stays improbable."""
    rows = [Demonstration((Message("user", "w7 w8 w9"),), "w5") for _ in range(10)]
    first = policy(torch.tensor([[9]])).logits.softmax(-1)[0, -1, 10]
    train_sft(SFTConfig(epochs=20, batch_size=10, optimiser=FAST), rows, policy, tokenizer)
    assert policy(torch.tensor([[9]])).logits.softmax(-1)[0, -1, 10] <= first


def planted(num_answers: int, likelihood, parameter: float):
    """Every pair of answers with every outcome, weighted by its probability under known scores; one answer per word."""
    truth = np.linspace(-2, 2, num_answers)[np.random.Generator(np.random.Philox(3)).permutation(num_answers)]
    p = torch.tensor(parameter, dtype=torch.float64)
    rows = []
    for a, b in itertools.permutations(range(num_answers), 2):
        for tie in (False, True):
            gap = torch.tensor([truth[a] - truth[b]])
            probability = float((-likelihood(gap, torch.tensor([tie]), p)).exp())
            weight = probability / 2 if tie else probability  # a tie of (a, b) comes again as (b, a)
            if weight > 1e-9:
                rows.append(Comparison(asked(29), f"w{a}", f"w{b}", tie=tie, weight=weight))
    return truth, rows


def scores_of_words(model, tokenizer, count):
    sequences = Encoder(tokenizer).sequences([asked(29)] * count, [f"w{i}" for i in range(count)])
    return RewardModel(model).outputs(sequences)[:, 0].numpy()


PLANTED = {
    "epochs": 30,
    "batch_size": 60,
    "optimiser": OptimiserConfig(5e-3, schedule="cosine"),
    "centring": 1e-5,
}


def test_planted_scores_are_recovered(classifier, tokenizer):
    """Not only their order: the differences themselves are log-odds."""
    truth, rows = planted(12, davidson, -40.0)
    train_reward(RewardConfig(**PLANTED), rows, classifier, tokenizer)
    found = scores_of_words(classifier, tokenizer, 12)
    assert spearmanr(truth, found).statistic > 0.99
    assert np.polyfit(truth, found, 1)[0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "likelihood", "parameter"), [("davidson", davidson, 0.5), ("rao_kupper", rao_kupper, -0.4)]
)
def test_planted_ties_are_recovered(classifier, tokenizer, name, likelihood, parameter):
    truth, rows = planted(10, likelihood, parameter)
    assert any(r.tie for r in rows)
    result = train_reward(RewardConfig(**PLANTED, ties=name), rows, classifier, tokenizer)
    assert result.metrics["tie_parameter"] == pytest.approx(parameter, abs=0.1)
    assert spearmanr(truth, scores_of_words(classifier, tokenizer, 10)).statistic > 0.99


def test_rewards_are_normalised_and_the_numbers_are_stored(classifier, tokenizer):
    rows = [r for r in comparisons() if not r.tie]
    train_reward(RewardConfig(epochs=3, batch_size=4, optimiser=FAST), rows, classifier, tokenizer)
    texts = [r.chosen for r in rows] + [r.rejected for r in rows]
    scores = RewardModel(classifier).score(Encoder(tokenizer).sequences([r.prompt for r in rows] * 2, texts))
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(scores.std(unbiased=False)) == pytest.approx(1.0, abs=1e-3)
    assert classifier.config.heedloop_reward["gain"] > 0


def test_a_classifier_whose_pad_is_its_end_is_refused(classifier, word_tokenizer):
    tokenizer = word_tokenizer(pad_is_end=True)
    classifier.config.pad_token_id = tokenizer.eos_token_id
    with pytest.raises(ValueError, match="own_pad_token"):
        train_reward(RewardConfig(), comparisons(), classifier, tokenizer)


def test_centring_keeps_rewards_near_zero(classifier, tokenizer):
    def mean_square(centring):
        model = copy.deepcopy(classifier)
        with torch.no_grad():
            model.score.weight.mul_(40)
        rows = [r for r in comparisons() if not r.tie]
        config = RewardConfig(epochs=20, batch_size=7, optimiser=FAST, centring=centring)
        train_reward(config, rows, model, tokenizer)
        sequences = Encoder(tokenizer).sequences(
            [r.prompt for r in rows] * 2, [r.chosen for r in rows] + [r.rejected for r in rows]
        )
        first, second = RewardModel(model).outputs(sequences)[:, 0].split(len(rows))
        return float((first + second).square().mean())

    assert mean_square(1.0) < 0.5 * mean_square(0.0)


def pair_log_odds(policy, tokenizer):
    """Log-odds of w20 against w5 as an answer, in the mean over prompts."""
    prompts = [asked(i) for i in range(10)]
    sums = []
    for text in ("w20", "w5"):
        batch = collate(Encoder(tokenizer).sequences(prompts, [text] * 10))
        sums.append(batch.unflatten(Policy(policy)(batch).log_probs).sum(1))
    return float((sums[0] - sums[1]).mean().detach())


def test_dpo_moves_towards_the_chosen(policy, tokenizer):
    before = pair_log_odds(policy, tokenizer)
    rows = [Comparison(asked(i % 10), "w20", "w5") for i in range(40)]
    config = DPOConfig(epochs=3, batch_size=10, optimiser=OptimiserConfig(1e-3))
    result = train_dpo(config, rows, policy, tokenizer)
    assert pair_log_odds(policy, tokenizer) > before + 3
    assert result.history[0]["loss"] == pytest.approx(np.log(2), abs=1e-5), "policy and reference start equal"
    assert result.metrics["accuracy"] > 0.95


def test_kto_moves_towards_the_liked(policy, tokenizer):
    before = pair_log_odds(policy, tokenizer)
    rows = [Unpaired(asked(i % 10), "w20" if i % 2 else "w5", bool(i % 2)) for i in range(60)]
    config = KTOConfig(epochs=6, batch_size=20, optimiser=OptimiserConfig(1e-3))
    result = train_kto(config, rows, policy, tokenizer)
    assert pair_log_odds(policy, tokenizer) > before + 2
    assert result.history[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    assert result.history[0]["kl"] == 0.0


def test_kto_pairs_completions_with_other_prompts():
    rows = [dataclasses.replace(r, prompt=asked(i % 2)) for i, r in enumerate(unpaired())]
    for row, k in zip(rows, mismatched_prompts(rows, 0), strict=True):
        assert rows[k].prompt != row.prompt


def test_kto_needs_two_rows_that_its_template_can_write(policy, tokenizer):
    tokenizer.chat_template = (
        "{% if 'w3' in messages[0]['content'] %}{{ raise_exception('no w3') }}{% endif %}"
        + str(tokenizer.chat_template)
    )
    rows = [Unpaired(asked(3), "w5", True), Unpaired(asked(4), "w6", False)]
    with pytest.raises(ValueError, match="at least two judged completions; there are 1"):
        train_kto(KTOConfig(batch_size=2), rows, policy, tokenizer)


@pytest.mark.parametrize(("label", "text"), [(True, "are liked"), (False, "are disliked")])
def test_kto_of_one_side_says_so(policy, tokenizer, caplog, label, text):
    rows = [Unpaired(asked(i), "w5", label) for i in range(4)]
    result = train_kto(KTOConfig(batch_size=2), rows, policy, tokenizer)
    assert text in caplog.text
    assert np.isfinite([r["loss"] for r in result.history]).all()


NOTHING = {
    "dpo": (train_dpo, DPOConfig(eval_every=1), Comparison(asked(1), "w5", "w6"), {"weight": 0}),
    "dpo, ties": (train_dpo, DPOConfig(eval_every=1), Comparison(asked(1), "w5", "w6"), {"tie": True}),
    "kto": (train_kto, KTOConfig(eval_every=1), Unpaired(asked(1), "w5", True), {"weight": 0}),
    "sft": (train_sft, SFTConfig(eval_every=1), Demonstration(asked(1), "w5"), {"weight": 0}),
}


@pytest.mark.parametrize("name", NOTHING)
def test_held_out_rows_that_do_not_count_are_none(name, policy, tokenizer):
    train, config, row, changes = NOTHING[name]
    with pytest.raises(ValueError, match="held-out rows, and there are none"):
        train(config, [row, row], policy, tokenizer, validation=[dataclasses.replace(row, **changes)])


@pytest.mark.parametrize("rows", [[], [Comparison(asked(1), "w5", "w5")]])
def test_thumbs_alone_hold_out_no_comparison(rows, policy, tokenizer):
    """What `heedloop train kto` measures before it begins, where the snapshot has no comparison that could be used."""
    anchor = reference_policy(policy)
    assert ImplicitRewards(KTOConfig(), Encoder(tokenizer), anchor, rows, needed=False).rows == []


def test_kto_weighs_a_gain_against_the_kl(policy, tokenizer):
    """At a small beta the loss of liked rows is 1/2 - beta/4 (log-ratio - KL), the KL from completions under other prompts."""
    rows = [Unpaired(asked(i), f"w{20 + i % 2}", True) for i in range(8)]
    config = KTOConfig(epochs=6, batch_size=8, beta=0.01, optimiser=OptimiserConfig(3e-3))
    history = train_kto(config, rows, policy, tokenizer).history
    assert history[-1]["kl"] > 0.5
    for row in history:
        expected = 0.5 - 0.01 / 4 * (row["liked_shift"] - row["kl"])
        assert row["loss"] == pytest.approx(expected, abs=2e-5)


def test_one_metrics_row_per_step_and_minibatch(policy, tokenizer):
    run = RunFolder.in_memory("sft")
    train_sft(SFTConfig(epochs=3, batch_size=5, optimiser=FAST), demonstrations(12), policy, tokenizer, run)
    assert [r["step"] for r in run.history] == list(range(9))
    assert {"loss", "grad_norm", "step_s", "tokens"} <= set(run.history[0])
