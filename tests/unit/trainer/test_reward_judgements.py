"""Reward models that learn from thumbs alone and from ratings by name; ensembles that know when they do not know."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from heedloop.schema import Comparison, Message, PromptRow, RatedCompletion, Unpaired
from heedloop_trainer.evaluation.judges import load_judge, margins_of, write_ensemble
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.reward import RewardConfig, judged_losses, train_reward
from heedloop_trainer.methods.reward_ensemble import RewardEnsemble
from heedloop_trainer.nn.checkpoints import save_model
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import RewardModel, name_outputs
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_classifier
from heedloop_trainer.ppo.train import PPOConfig, train_ppo

SHAPE = SmallShape(32, 2, 2, 64)
PROMPT = (Message("user", "w29"),)
QUICK = RewardConfig(
    epochs=30, batch_size=60, optimiser=OptimiserConfig(5e-3, schedule="cosine"), centring=1e-5
)


def outputs(model, tokenizer, count):
    sequences = Encoder(tokenizer).sequences([PROMPT] * count, [f"w{i}" for i in range(count)])
    return RewardModel(model).outputs(sequences)


def test_planted_thumbs_are_recovered_with_how_readily_people_put_them_up(classifier, tokenizer):
    """Thumbs drawn from sigmoid(score + 1.5), each answer with both outcomes weighted: order, scale and intercept come back."""
    truth = np.linspace(-2, 2, 10)[np.random.default_rng(1).permutation(10)]
    share = 1 / (1 + np.exp(-(truth + 1.5)))
    rows = [
        Unpaired(PROMPT, f"w{i}", up, weight=float(p if up else 1 - p))
        for i, p in enumerate(share)
        for up in (True, False)
    ]
    result = train_reward(dataclasses.replace(QUICK, epochs=200), rows, classifier, tokenizer)
    found = outputs(classifier, tokenizer, 10)[:, 0].numpy()
    assert spearmanr(truth, found).statistic > 0.99
    assert np.std(found) == pytest.approx(np.std(truth), rel=0.15)
    assert float(np.mean(found)) + result.metrics["thumb_intercept"] == pytest.approx(1.5, abs=0.2)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tie_parameter", [None, torch.tensor([0.3])])
def test_margins_smoothing_and_centring_by_hand(smoothing, tie_parameter):
    """Rewards 1.2 and 0.2, a margin of 0.5 on the scale 2: the decided row's loss, with ties fitted and without."""
    config = RewardConfig(margin_scale=2.0, label_smoothing=smoothing, centring=0.25)
    rows = [Comparison(PROMPT, "a", "b", margin=0.5)]
    found = judged_losses(
        config, rows, torch.tensor([[1.2], [0.2]]), tie_parameter, torch.zeros(1), ("reward",)
    )

    def loss(gap: float) -> float:
        if tie_parameter is None:
            return -math.log(sigmoid(gap))
        nu = math.exp(0.3)
        return math.log(math.exp(gap / 2) + nu + math.exp(-gap / 2)) - gap / 2

    expected = (1 - smoothing) * loss(1.0 - 1.0) + smoothing * loss(-1.0 - 1.0) + 0.25 * (1.2 + 0.2) ** 2
    assert found.losses.item() == pytest.approx(expected, abs=1e-5)
    assert (found.right.item(), found.decided.item()) == (1.0, 1.0)


def test_every_name_has_an_output_of_its_own(tokenizer):
    """Tone falls while accuracy rises with the word; the reward follows the comparisons alone."""
    model = small_classifier(tokenizer, SHAPE, num_labels=3, seed=2)
    name_outputs(model, ("reward", "accuracy", "tone"))
    rated = [
        RatedCompletion(PROMPT, f"w{i}", {"accuracy": i / 9, "tone": 1 - i / 9, "other": 0.5})
        for i in range(10)
    ]
    pairs = [Comparison(PROMPT, "w4", f"w{i}") for i in range(10) if i != 4]
    train_reward(QUICK, [*pairs, *rated], model, tokenizer)
    reward, accuracy, tone = outputs(model, tokenizer, 10).T
    assert spearmanr(range(10), accuracy).statistic > 0.95
    assert spearmanr(range(10), tone).statistic < -0.95
    assert int(reward.argmax()) == 4
    assert torch.sigmoid(accuracy[9]) > 0.8
    assert RewardModel(model).dimensions == ("reward", "accuracy", "tone")


def test_names_and_outputs_must_be_as_many(classifier):
    with pytest.raises(ValueError, match="2 names for 1 outputs"):
        name_outputs(classifier, ("reward", "tone"))


def test_ratings_that_nothing_is_named_after_are_no_rows(classifier, tokenizer):
    with pytest.raises(ValueError, match="no comparisons"):
        train_reward(QUICK, [RatedCompletion(PROMPT, "w1", {"tone": 1.0})], classifier, tokenizer)


@pytest.fixture
def ensemble(tokenizer):
    """Two members, trained on words 0 to 4: they agree there, and nobody told them about the rest."""
    pairs = [Comparison(PROMPT, f"w{i + 1}", f"w{i}") for i in range(4)]
    members = []
    for seed in (0, 1):
        model = small_classifier(tokenizer, SHAPE, seed=seed)
        train_reward(QUICK, pairs, model, tokenizer)
        members.append(RewardModel(model, tokenizer))
    return RewardEnsemble(members)


def test_members_agree_where_there_were_judgements_and_part_where_there_were_none(ensemble, tokenizer):
    sequences = Encoder(tokenizer).sequences([PROMPT] * 25, [f"w{i}" for i in range(25)])
    spread = ensemble.each(sequences).std(0, unbiased=False)
    assert spread[5:].mean() > 3 * spread[:5].mean()
    assert ensemble.score(sequences).tolist() == pytest.approx(ensemble.each(sequences).mean(0).tolist())


def test_an_ensemble_is_saved_and_loaded_whole(ensemble, tokenizer, tmp_path):
    for k, member in enumerate(ensemble.each_member()):
        save_model(member.model, tokenizer, tmp_path / f"m{k}")
    write_ensemble(tmp_path, ["m0", "m1"])
    again = load_judge(tmp_path)
    sequences = Encoder(tokenizer).sequences([PROMPT], ["w3 w9"])
    assert isinstance(again, RewardEnsemble)
    assert float(again.score(sequences)[0]) == pytest.approx(float(ensemble.score(sequences)[0]), abs=1e-5)
    rows = [Comparison(PROMPT, "w3", "w0")]
    singles = [margins_of(m, rows)[0] for m in ensemble.each_member()]
    assert margins_of(again, rows)[0] == pytest.approx(np.mean(singles), abs=1e-4)


def test_ppo_logs_how_far_the_members_part(ensemble, policy, tokenizer):
    config = PPOConfig(num_rollouts=1, batch_size=8, epochs=1, minibatches=1, sampling=SamplingConfig(6))
    result = train_ppo(config, [PromptRow(PROMPT)], copy.deepcopy(policy), tokenizer, reward_model=ensemble)
    assert result.history[0]["objective/disagreement"] > 0


def test_one_member_is_no_ensemble(classifier, tokenizer):
    with pytest.raises(ValueError, match="two reward models or more"):
        RewardEnsemble([RewardModel(classifier, tokenizer)])
