"""PPO and RLOO, detail by detail: each test fails when its detail is broken (docs/training-methods.md lists them)."""

import copy
import dataclasses

import pytest
import torch

from heedloop.schema import Message, PromptRow
from heedloop_trainer.generation.cached import CachedGenerator, Generation, SamplingConfig
from heedloop_trainer.nn.models import Policy, RewardModel, checkpoint_activations
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_classifier
from heedloop_trainer.nn.sequences import TokenSequence
from heedloop_trainer.ppo.advantages import make_targets
from heedloop_trainer.ppo.losses import length_mask
from heedloop_trainer.ppo.metrics import describe_rollout, distinct_bigrams
from heedloop_trainer.ppo.rollout import Response, Rollout
from heedloop_trainer.ppo.train import PPOConfig, rollout_prompts, train_ppo

PROMPTS = [PromptRow((Message("user", f"w{i} w{i + 1}"),)) for i in range(6)]


def even_share(responses):
    return [sum(i % 2 == 0 for i in r.token_ids) / len(r.token_ids) for r in responses]


def config(**changes) -> PPOConfig:
    base = PPOConfig(
        num_rollouts=2,
        batch_size=12,
        epochs=2,
        minibatches=3,
        kl_stop=None,
        sampling=SamplingConfig(max_new_tokens=8),
        actor=OptimiserConfig(1e-3),
        critic=OptimiserConfig(1e-3),
    )
    return dataclasses.replace(base, **changes)


def train(policy, tokenizer, given=None, **kwargs):
    kwargs.setdefault("reward_function", even_share)
    return train_ppo(given or config(), PROMPTS, policy, tokenizer, **kwargs)


def parameters(model) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def rollout_of(lengths, ended, scores, *, values=None, final=None, kl=0.0) -> Rollout:
    """A rollout with known numbers."""
    width = max(lengths)
    mask = length_mask(torch.tensor(lengths), width)
    zeros = torch.zeros(len(lengths), width)
    return Rollout(
        sequences=[TokenSequence([2], [3] * n, e) for n, e in zip(lengths, ended, strict=True)],
        responses=[Response(PROMPTS[0], "", [3] * n, e) for n, e in zip(lengths, ended, strict=True)],
        lengths=torch.tensor(lengths),
        ended=torch.tensor(ended),
        old_log_probs=mask * kl,
        reference_log_probs=zeros,
        entropy=zeros,
        values=zeros if values is None else values * mask,
        final_values=torch.zeros(len(lengths)) if final is None else torch.tensor(final),
        scores=torch.tensor(scores),
        raw_scores=torch.tensor(scores),
        drift=0.0,
    )


@pytest.mark.parametrize("estimator", ["ppo", "rloo"])
def test_optimiser_steps_are_epochs_times_minibatches(policy, tokenizer, estimator):
    changes = {} if estimator == "ppo" else {"estimator": "rloo", "group_size": 2, "truncation": "score"}
    for epochs, minibatches in ((1, 1), (2, 3), (3, 4)):
        given = config(epochs=epochs, minibatches=minibatches, num_rollouts=2, **changes)
        history = train(copy.deepcopy(policy), tokenizer, given).history
        assert [r["policy/num_updates"] for r in history] == [epochs * minibatches] * 2
        assert history[-1]["policy/num_steps"] == 2 * epochs * minibatches


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_ratio_is_one(policy, tokenizer, temperature):
    """Old log-probabilities come from the training forward at the sampling temperature, so nothing has moved yet."""
    given = config(num_rollouts=3, sampling=SamplingConfig(8, temperature=temperature))
    for row in train(policy, tokenizer, given).history:
        assert row["policy/first_ratio"] == pytest.approx(1.0, abs=1e-5)
        assert row["sampler/drift"] < 1e-4


def test_the_samplers_own_log_probs_are_only_a_drift(policy, tokenizer):
    """A sampler that reports 0.5 nats too little changes nothing but the drift."""

    class Wrong(CachedGenerator):
        def __call__(self, *args, **kwargs):
            return [
                Generation(g.response_ids, [x - 0.5 for x in g.log_probs], g.ended)
                for g in super().__call__(*args, **kwargs)
            ]

    made = []
    for generator in (CachedGenerator, Wrong):
        model = copy.deepcopy(policy)
        writer = generator(model, frozenset({tokenizer.eos_token_id}))
        rows = train(model, tokenizer, generator=writer).history
        made.append((rows, parameters(model)))
    assert torch.equal(made[0][1], made[1][1])
    assert [r["policy/first_ratio"] for r in made[0][0]] == [r["policy/first_ratio"] for r in made[1][0]]
    assert made[1][0][0]["sampler/drift"] == pytest.approx(0.5, abs=1e-4)


def test_the_reference_is_where_the_policy_began_and_reads_by_the_same_forward(policy, tokenizer):
    history = train(policy, tokenizer, config(num_rollouts=3)).history
    assert history[0]["objective/kl"] == 0.0
    assert history[0]["objective/kl_k3_per_token"] == 0.0
    assert history[-1]["objective/kl_k3_per_token"] > 0.0


def test_micro_batches_do_not_change_the_policy(policy, tokenizer):
    """One denominator per minibatch: rows one at a time give the update of all at once."""
    made = []
    for max_tokens in (1, 30, 10_000):
        model = copy.deepcopy(policy)
        given = config(
            num_rollouts=1,
            epochs=1,
            minibatches=1,
            max_tokens=max_tokens,
            actor=OptimiserConfig(1e-3, max_grad_norm=1e9),
        )
        train(model, tokenizer, given)
        made.append(parameters(model))
    assert (made[0] - parameters(policy)).abs().max() > 1e-4
    for other in made[1:]:
        assert (made[0] - other).abs().max() < 2e-6


def test_the_penalty_is_paid_per_token_and_the_score_on_the_end_token():
    rollout = rollout_of([3, 2], [True, True], [2.0, 1.0], kl=0.5)
    targets = make_targets(config(kl_coefficient=0.1), rollout, 0.1)
    expected = torch.tensor([[-0.05, -0.05, 1.95], [-0.05, 0.95, 0.0]])
    assert torch.allclose(targets.rewards, expected)
    assert targets.valid.tolist() == [[True] * 3, [True, True, False]]


def test_a_cut_response_bootstraps_and_pays_the_missing_end():
    """Its score is not known yet: the critic's value stands for it, minus the penalty; an ended one has no bootstrap."""
    rollout = rollout_of([2, 2], [True, False], [2.0, 2.0], final=[5.0, 5.0])
    given = config(trace_decay=1.0, missing_end_penalty=1.0)
    targets = make_targets(given, rollout, 0.0)
    assert targets.returns.tolist() == [[2.0, 2.0], [4.0, 4.0]]


def test_a_cut_response_can_be_left_out_or_scored():
    rollout = rollout_of([2, 2], [True, False], [2.0, 2.0], final=[5.0, 5.0])
    masked = make_targets(config(truncation="mask"), rollout, 0.0)
    assert masked.valid.tolist() == [[True, True], [False, False]]
    assert not masked.advantages[1].any()
    scored = make_targets(config(truncation="score", trace_decay=1.0, missing_end_penalty=1.0), rollout, 0.0)
    assert scored.returns.tolist() == [[2.0, 2.0], [1.0, 1.0]]


def test_advantages_are_whitened_over_the_whole_rollout():
    rollout = rollout_of([1, 1, 1, 3], [True] * 4, [1.0, 2.0, 3.0, 10.0])
    targets = make_targets(config(), rollout, 0.0)
    chosen = targets.advantages[targets.valid]
    assert float(chosen.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(chosen.std(unbiased=False)) == pytest.approx(1.0, abs=1e-5)


def test_equal_rewards_move_nothing(policy, tokenizer):
    """A solved task: every response scores the same, but for rounding. The whitening floor keeps that noise small."""

    def moved(floor):
        model = copy.deepcopy(policy)
        given = config(
            estimator="rloo",
            group_size=2,
            truncation="score",
            missing_end_penalty=0.0,
            kl_coefficient=0.0,
            whiten_floor=floor,
        )
        train(model, tokenizer, given, reward_function=lambda rs: [1.0 + 1e-6 * i for i, _ in enumerate(rs)])
        return float((parameters(model) - parameters(policy)).abs().max())

    assert moved(0.1) < 1e-3
    assert moved(1e-9) > 5e-3


def test_the_kl_stop_ends_the_updates_and_takes_no_step(policy, tokenizer):
    given = config(num_rollouts=1, epochs=4, kl_stop=1e-4, actor=OptimiserConfig(1e-2))
    row = train(policy, tokenizer, given).history[0]
    assert row["policy/stopped_early"] == 1.0
    assert 1 <= row["policy/num_updates"] < 12
    assert row["policy/num_steps"] == row["policy/num_updates"], (
        "the minibatch that went too far is not stepped on"
    )
    assert all(p.grad is None for p in policy.parameters()), "nor added to the next rollout's first one"
    assert row["policy/kl"] > 1e-4


def test_the_kl_budget_ends_the_run_and_says_why(policy, tokenizer):
    result = train(policy, tokenizer, config(num_rollouts=20, kl_budget=0.05, actor=OptimiserConfig(1e-2)))
    assert result.stopped is not None
    assert "budget of 0.05" in result.stopped
    assert len(result.history) < 20


def test_the_kl_target_raises_beta(policy, tokenizer):
    given = config(num_rollouts=6, kl_target=0.01, kl_horizon=50, actor=OptimiserConfig(1e-2))
    coefficients = [r["objective/kl_coefficient"] for r in train(policy, tokenizer, given).history]
    assert coefficients[-1] > coefficients[1]


def test_no_reward_reaches_past_the_end_token(policy, tokenizer, classifier):
    """What the reward model reads ends with the stop token where there is one, and every response is no longer than allowed."""
    seen: list[Response] = []

    def watch(responses):
        seen.extend(responses)
        return even_share(responses)

    train(
        policy,
        tokenizer,
        config(sampling=SamplingConfig(30)),
        reward_function=watch,
        reward_model=RewardModel(classifier, tokenizer),
    )
    assert any(r.ended for r in seen)
    for r in seen:
        assert r.ended == (r.token_ids[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in r.token_ids[:-1]
        assert "<end>" not in r.text


def test_the_missing_end_penalty_follows_the_real_stop_ids(policy, tokenizer):
    """A chat model stops at another token than its tokenizer's end: that token ends a response too."""
    policy.generation_config.eos_token_id = [9]
    seen: list[Response] = []
    train(
        policy,
        tokenizer,
        config(sampling=SamplingConfig(30)),
        reward_function=lambda rs: seen.extend(rs) or even_share(rs),
    )
    assert any(r.ended and r.token_ids[-1] == 9 for r in seen)


def test_rewards_are_normalised_on_the_reference_policys_answers(policy, tokenizer, classifier):
    with torch.no_grad():
        classifier.score.weight.mul_(100)
    history = train(
        policy, tokenizer, reward_function=None, reward_model=RewardModel(classifier, tokenizer)
    ).history
    assert history[0]["objective/score"] == pytest.approx(0.0, abs=1e-5)
    assert history[0]["objective/score_std"] == pytest.approx(1.0, abs=1e-4)
    assert history[0]["objective/raw_score"] != pytest.approx(0.0, abs=1e-3)


def test_a_reward_model_with_another_tokenizer_reads_the_text(policy, tokenizer, word_tokenizer):
    other = word_tokenizer(40)
    reward = RewardModel(small_classifier(other, SmallShape(16, 1, 2, 32)), other)
    result = train(policy, tokenizer, reward_function=None, reward_model=reward)
    assert len(result.history) == 2


def test_the_reward_model_is_not_trained(policy, tokenizer, classifier):
    before = parameters(classifier)
    train(policy, tokenizer, reward_function=None, reward_model=RewardModel(classifier, tokenizer))
    assert torch.equal(parameters(classifier), before)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda rs: [float("nan")] * len(rs), "must be finite"),
        (lambda rs: [1.0], "gave 1 numbers for 12"),
    ],
)
def test_a_broken_reward_function_is_named(policy, tokenizer, function, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(policy, tokenizer, reward_function=function)


def test_no_reward_and_no_prompts_are_refused(policy, tokenizer):
    with pytest.raises(ValueError, match="needs a reward"):
        train(policy, tokenizer, reward_function=None)
    with pytest.raises(ValueError, match="no prompts"):
        train_ppo(config(), [], policy, tokenizer, reward_function=even_share)


@pytest.mark.parametrize(
    "changes",
    [
        {"group_size": 5},
        {"estimator": "rloo", "truncation": "mask"},
        {"estimator": "rloo", "group_size": 4},
        {"minibatches": 13},
        {"sampling": SamplingConfig(temperature=0.0)},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValueError, match=r"group_size|critic|minibatches|temperature"):
        config(**changes)


def test_every_prompt_is_asked_equally_often():
    given = config(batch_size=8, group_size=2)
    asked = [i for step in range(9) for i in rollout_prompts(6, given, step)[::2]]
    assert sorted(asked) == sorted(list(range(6)) * 6)
    assert rollout_prompts(6, given, 3) == rollout_prompts(6, given, 3)
    assert rollout_prompts(6, given, 0)[0] == rollout_prompts(6, given, 0)[1]


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(policy, tokenizer):
    made = []
    for seed in (0, 0, 1):
        model = copy.deepcopy(policy)
        train(model, tokenizer, config(seed=seed, sampling=SamplingConfig(8, seed=seed)))
        made.append(parameters(model))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_diagnostics_leave_the_padding_out(policy, tokenizer):
    """Entropy 2 and KL 0.5 at every real token: that is what is logged, however much padding lies beside them."""
    rollout = rollout_of([4, 1], [True, True], [1.0, 2.0], kl=0.5, values=torch.full((2, 4), 1.0))
    rollout.entropy = 2.0 * rollout.mask
    given = config(whiten_floor=1e-6)
    row = describe_rollout(rollout, make_targets(given, rollout, 0.0), 0.0)
    assert row["policy/entropy"] == 2.0
    assert row["objective/kl_per_token"] == 0.5
    assert row["objective/kl"] == pytest.approx((4 * 0.5 + 0.5) / 2)
    assert row["objective/kl_k3_per_token"] == pytest.approx(float(torch.expm1(torch.tensor(-0.5)) + 0.5))
    assert (row["response/length"], row["response/tokens"]) == (2.5, 5.0)
    trained = train(policy, tokenizer, config(num_rollouts=1)).history[0]
    assert 0 < trained["policy/entropy"] <= float(torch.tensor(32.0).log()) + 1e-6
    for name in ("policy/clip_share", "response/ended_share", "response/distinct_2"):
        assert 0 <= trained[name] <= 1


def test_reference_and_policy_are_read_at_the_same_temperature(policy, tokenizer):
    """Sampled at 0.7, a policy that has not moved is 0 nats from its reference; read at 1 it would not be."""
    given = config(num_rollouts=1, sampling=SamplingConfig(8, temperature=0.7))
    twin = copy.deepcopy(policy)
    row = train(policy, tokenizer, given, reference=twin).history[0]
    assert row["objective/kl_k3_per_token"] < 1e-9


def test_the_defaults_are_the_ones_that_are_known_to_work():
    """TRAINING.md 2.1: gamma 1, lambda 0.95 to 1, eps 1e-5, gradients clipped at 1, value clip, no reward discount."""
    given = PPOConfig()
    assert (given.discount, given.clip_range, given.value_clip) == (1.0, 0.2, 0.2)
    assert 0.95 <= given.trace_decay <= 1.0
    for adam in (given.actor, given.critic):
        assert (adam.eps, adam.max_grad_norm) == (1e-5, 1.0)
    assert given.kl_stop is not None
    assert given.normalise_on_reference


def test_actor_and_critic_can_share_a_body(policy, tokenizer):
    """One model, one optimiser, a value head that starts at zero and learns; the checkpoint is the plain policy."""
    names = set(policy.state_dict())
    given = config(critic_body="shared", num_rollouts=6, critic=OptimiserConfig(1e-2))
    history = train(policy, tokenizer, given).history
    assert set(policy.state_dict()) == names
    assert "value/explained_variance" not in history[0], "the first values are zero"
    assert history[-1]["value/explained_variance"] > history[1]["value/explained_variance"]
    assert history[-1]["policy/num_updates"] == 6
    assert history[0]["policy/first_ratio"] == pytest.approx(1.0, abs=1e-5)


def test_checkpointed_activations_change_nothing(policy, tokenizer):
    made = []
    for save_memory in (False, True):
        model = copy.deepcopy(policy)
        if save_memory:
            checkpoint_activations(model)
        train(model, tokenizer, config(num_rollouts=1))
        made.append(parameters(model))
    assert (made[0] - made[1]).abs().max() < 1e-6


def test_the_policy_comes_out_trained_in_place(policy, tokenizer):
    before = Policy(copy.deepcopy(policy))
    train(policy, tokenizer, config(num_rollouts=3))
    assert not torch.equal(parameters(before.model), parameters(policy))
    assert distinct_bigrams([[1, 2, 3], [1, 2]]) == pytest.approx(2 / 3)
