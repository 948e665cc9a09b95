"""Alarms: reward hacking, and samplers that are not the policy, are noticed and stop the run; honest runs go on."""

import copy
import itertools
from pathlib import Path

import pytest

from heedloop.schema import Message, PromptRow
from heedloop_trainer.evaluation.alarms import AlarmConfig, Watch
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.jobs.job import Job, JobError
from heedloop_trainer.jobs.models import watch_for
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.ppo.train import PPOConfig, train_ppo
from heedloop_trainer.runs.folder import RunFolder

PROMPT = (Message("user", "w1"),)


def hacked(policy, tokenizer, reward, watch, run=None):
    """PPO against `reward` on responses that end when the model says so."""
    given = PPOConfig(
        num_rollouts=40, batch_size=48, epochs=2, minibatches=2, kl_coefficient=0.0, truncation="score", missing_end_penalty=0.0,
        sampling=SamplingConfig(24), actor=OptimiserConfig(3e-3), critic=OptimiserConfig(3e-3),
    )  # fmt: skip
    policy.generation_config.eos_token_id = list(range(1, 8))
    prompts = [PromptRow(PROMPT)]
    return train_ppo(given, prompts, policy, tokenizer, reward_function=reward, watch=watch, run=run)


def test_a_reward_that_is_paid_for_length_is_noticed_and_stopped(policy, tokenizer):
    result = hacked(
        policy, tokenizer, lambda rs: [len(r.token_ids) / 24 for r in rs], Watch(AlarmConfig(window=3))
    )
    assert result.stopped is not None
    assert "length" in result.stopped
    assert len(result.history) < 40


def test_a_reward_that_parts_from_the_held_out_one_is_noticed_and_stopped(policy, tokenizer):
    """The proxy likes token 20, the held-out judge dislikes it."""
    proxy = lambda rs: [float(r.token_ids.count(20)) for r in rs]  # noqa: E731
    held_out = lambda rs: [-float(r.token_ids.count(20)) for r in rs]  # noqa: E731
    config = AlarmConfig(window=3, length_growth=1e9, distinct_share=0.0, correlation=1.1)
    result = hacked(policy, tokenizer, proxy, Watch(config, [held_out]))
    assert result.stopped is not None
    assert "held-out reward fell" in result.stopped


def metrics_at(score=0.0, length=10.0, distinct=0.9, **more):
    base = {"objective/score": score, "response/length": length, "response/distinct_2": distinct}
    return {**base, "response/score_length_correlation": 0.0, **more}


@pytest.mark.parametrize(
    ("late", "sentence"),
    [
        (metrics_at(distinct=0.1), "all alike"),
        (metrics_at(**{"objective/disagreement": 2.0}), "disagreement grew"),
        (metrics_at(length=21.0), "paid for length"),
        (metrics_at(length=16.0, **{"response/score_length_correlation": 0.9}), "paid for length"),
        (metrics_at(length=16.0), None),
        (metrics_at(), None),
    ],
)
def test_answers_all_alike_and_members_that_part_raise_the_alarm(late, sentence):
    watch = Watch(AlarmConfig(window=3))
    early = metrics_at(**{"objective/disagreement": 0.3})
    rows = [dict(early if i < 3 else {**early, **late}) for i in range(6)]
    reasons = [watch(rows[:i], rows[i], []) for i in range(6)]
    assert reasons[:5] == [None] * 5
    assert reasons[5] is None if sentence is None else sentence in reasons[5]


def test_an_honest_run_raises_no_alarm(policy, tokenizer):
    even = lambda rs: [sum(i % 2 == 0 for i in r.token_ids) / len(r.token_ids) for r in rs]  # noqa: E731
    policy.generation_config.eos_token_id = 1
    given = PPOConfig(
        num_rollouts=12, batch_size=24, epochs=1, minibatches=2, sampling=SamplingConfig(8), truncation="score", missing_end_penalty=0.0,
        actor=OptimiserConfig(1e-3), critic=OptimiserConfig(1e-3),
    )  # fmt: skip
    watch = Watch(AlarmConfig(window=3), [even])
    generator = CachedGenerator(policy, frozenset())
    result = train_ppo(
        given, [PromptRow(PROMPT)], policy, tokenizer, reward_function=even, watch=watch, generator=generator
    )
    assert result.stopped is None
    assert all("objective/held_out_score" in row for row in result.history)
    assert len(result.history) == 12


@pytest.mark.parametrize(("rise", "alarmed"), [(0.0, False), (0.1, False), (0.3, False), (2.0, True)])
def test_a_rise_within_the_noise_is_no_rise(rise, alarmed):
    """The proxy's rollouts vary by about half a point; only a rise beyond that speaks of hacking."""
    noise = [0.4, -0.5, 0.3, -0.2, 0.1, -0.3, 0.5, -0.1, 0.2, -0.4]
    rows = [
        metrics_at(
            score=n + rise * (i >= 5),
            **{"objective/held_out_score": -1.0 * (i >= 5), "objective/held_out_std": 1.0},
        )
        for i, n in enumerate(noise)
    ]
    reason = Watch(AlarmConfig())(rows[:-1], rows[-1], [])
    assert (reason is not None and "held-out reward fell" in reason) == alarmed


def test_a_sampler_that_is_not_the_policy_stops_the_run_at_once(policy, tokenizer):
    """Its weights are old: the first rollout after the first update gives it away."""
    stale = CachedGenerator(copy.deepcopy(policy), frozenset({1}))
    given = PPOConfig(num_rollouts=5, batch_size=24, sampling=SamplingConfig(8), actor=OptimiserConfig(1e-2))
    reward = lambda rs: [float(len(set(r.token_ids))) for r in rs]  # noqa: E731
    result = train_ppo(
        given,
        [PromptRow(PROMPT)],
        policy,
        tokenizer,
        reward_function=reward,
        watch=Watch(),
        generator=stale,
    )
    assert result.stopped is not None
    assert "at rollout 1 the sampler's log-probabilities differ" in result.stopped


def test_the_reward_is_no_held_out_judge_of_itself():
    reward = Path("runs/reward/checkpoint")
    job = Job("ppo", Path("runs/ppo"), "", reward_models=[reward], held_out_reward=reward, alarms=True)
    with pytest.raises(JobError, match="must be another model"):
        watch_for(job)


def test_a_run_that_goes_on_after_a_crash_is_held_to_its_first_rollouts(policy, tokenizer, tmp_path):
    """The alarm comes at the very rollout at which the undisturbed run has it: nothing is forgotten with the process."""

    def run(folder, crash_at=None):
        calls = itertools.count()

        def reward(responses):
            if next(calls) == crash_at:
                raise KeyboardInterrupt
            return [len(r.token_ids) / 24 for r in responses]

        folder = RunFolder.create(tmp_path / folder, "ppo", save_every=1)
        return hacked(copy.deepcopy(policy), tokenizer, reward, Watch(AlarmConfig(window=3)), folder)

    whole = run("whole")
    crash_at = len(whole.history) - 2
    assert crash_at > 3, "after the rollouts that the others are compared with"
    with pytest.raises(KeyboardInterrupt):
        run("crashed", crash_at)
    again = run("crashed")
    assert again.stopped == whole.stopped
    assert len(again.history) == len(whole.history)
