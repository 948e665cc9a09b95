"""Episodes of several turns: what an environment wrote carries no loss, and what it pays is learned to the closed form."""

import dataclasses

import pytest
import torch

from heedloop.schema import Message, PromptRow
from heedloop_trainer.generation.cached import Generation, SamplingConfig
from heedloop_trainer.nn.chat import PromptError
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_policy
from heedloop_trainer.nn.sequences import collate
from heedloop_trainer.ppo import episodes
from heedloop_trainer.ppo.config import PPOConfig
from heedloop_trainer.ppo.episodes import Step, play
from heedloop_trainer.ppo.train import train_ppo

TURNS = "{% for m in messages %}{{ m['content'] }} <end> {% endfor %}"
PROMPT = PromptRow((Message("user", "w0"),))
ACTIONS = 3
"""Words w0 … w2 and the end are all that the bandit's policy can say."""
BETA = 0.5
BASE = PPOConfig(
    group_size=1, num_rollouts=40, batch_size=128, epochs=2, minibatches=2, kl_coefficient=BETA, kl_stop=None, max_turns=2,
    truncation="score", missing_end_penalty=0.0, sampling=SamplingConfig(1), actor=OptimiserConfig(1e-2, schedule="linear"),
    critic=OptimiserConfig(1e-2),
)  # fmt: skip


@pytest.fixture
def encoder(tokenizer):
    tokenizer.chat_template = TURNS
    return Encoder(tokenizer)


def played(encoder, environment, *texts, **changes):
    """The one episode of a policy that says these texts."""
    config = dataclasses.replace(BASE, **changes)
    ids = encoder.prompts([PROMPT.prompt])
    [episode] = play(
        config, scripted(*texts), encoder, [PROMPT], ids, step=0, rows=[0], environment=environment
    )
    return episode


def scripted(*texts):
    """A sampler that writes these words and an end, turn after turn, whatever it is asked."""
    turns = iter(texts)

    def sample(prompts, config, *, step=0, rows=None):
        word = next(turns)
        return [Generation([int(word[1:]) + 2, 1], [-1.0, -0.5], True) for _ in prompts]

    return sample


def tool(text: str) -> tuple[Message, ...]:
    return (Message("tool", text),)


def test_what_the_environment_wrote_carries_no_loss(encoder):
    seen = []

    def environment(messages):
        seen.append([m.text for m in messages])
        return Step(tool("w8 w9"), 0.5) if len(messages) == 2 else Step((), 2.0)

    episode = played(encoder, environment, "w5", "w6")
    assert seen == [["w0", "w5"], ["w0", "w5", "w8 w9", "w6"]]
    assert episode.response_ids == [7, 1, 10, 11, 1, 8, 1]
    assert episode.written == [True, True, False, False, False, True, True]
    assert episode.rewards == [0.0, 0.5, 0.0, 2.0]
    batch = collate([episode.sequence])
    assert batch.targets.tolist() == [7, 1, 8, 1]
    assert batch.offsets.tolist() == [0, 1, 2, 3], "values and advantages run over the written tokens alone"
    assert batch.unflatten(torch.tensor([1.0, 2.0, 3.0, 4.0]), 5).tolist() == [[1.0, 2.0, 3.0, 4.0, 0.0]]


@pytest.mark.parametrize("answer", ["w8", [{"role": "tool", "content": "w8"}], ["w8"], Step(("w8",))])
def test_an_environment_that_gives_no_messages_is_told_what_to_give(encoder, answer):
    with pytest.raises(ValueError, match="the environment must give messages"):
        played(encoder, lambda messages: answer, "w5", "w6")


@pytest.mark.parametrize("answer", [None, (), Step()])
def test_an_episode_ends_where_the_environment_says_nothing(encoder, answer):
    episode = played(encoder, lambda messages: answer, "w5", "w6")
    assert [m.text for m in episode.turns] == ["w5"]
    assert episode.ended


def test_the_last_turn_is_paid_for_and_followed_by_nothing(encoder):
    episode = played(encoder, lambda messages: Step(tool("w8"), 1.0), "w5", max_turns=1)
    assert episode.rewards == [0.0, 1.0]
    assert episode.response_ids == [7, 1]


def test_without_an_environment_an_episode_is_one_answer(encoder):
    episode = played(encoder, None, "w5", "w6")
    assert episode.response_ids == [7, 1]
    assert episode.sequence.written is None


def test_a_template_that_rewrites_turns_is_refused(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{% if loop.last or m['role'] != 'assistant' %}{{ m['content'] }} <end> {% endif %}{% endfor %}"
    with pytest.raises(PromptError, match="several turns"):
        Encoder(tokenizer).ids_between(PROMPT.prompt, (Message("assistant", "w5"),), tool("w8"))


# ------------------------------------------------------------------------------------------ the two-step tool bandit


PAYS = torch.tensor([[0.0, 0.2, 0.4], [1.0, 0.1, 0.3], [0.2, 0.9, 0.0]])
"""Reward of the second action after the first one."""


def bandit_tool(messages):
    """The first action calls a tool, whose result names it; the second one is the answer, which is paid for."""
    actions = [int(m.text[1:]) for m in messages if m.role == "assistant"]
    if len(actions) == 1:
        return tool(f"w{actions[0]}")
    return Step(reward=float(PAYS[actions[0], actions[1]]))


@pytest.fixture
def bandit(word_tokenizer):
    """A policy that says one word a turn, and nothing but a word, with its tokenizer."""
    tokenizer = word_tokenizer(ACTIONS)
    tokenizer.chat_template = TURNS
    policy = small_policy(tokenizer, SmallShape(16, 1, 2, 32), seed=3)
    policy.generation_config.eos_token_id = list(range(1, 2 + ACTIONS))
    head = torch.nn.Linear(16, len(tokenizer))
    with torch.no_grad():
        head.weight.copy_(policy.lm_head.weight)
        head.bias.zero_()
        head.bias[:2] = -40.0
    head.bias.requires_grad_(False)
    policy.lm_head = head
    return policy, tokenizer


@torch.no_grad()
def joint(policy, encoder) -> torch.Tensor:
    """Probability of every pair of actions, [first, second]."""
    [start] = encoder.prompts([PROMPT.prompt])
    ids = list(range(2, 2 + ACTIONS))
    first = policy(torch.tensor([start])).logits[0, -1].softmax(-1)
    rows = []
    for i in ids:
        word = f"w{i - 2}"
        between = encoder.ids_between(PROMPT.prompt, (Message("assistant", word),), tool(word))
        second = policy(torch.tensor([[*start, i, *between]])).logits[0, -1].softmax(-1)
        rows.append(first[i] * second[ids])
    return torch.stack(rows)


@pytest.mark.parametrize("estimator", ["ppo", "rloo"])
def test_a_two_step_tool_bandit_reaches_its_closed_form(bandit, estimator):
    """The best policy under the KL penalty says a pair of actions with p_ref exp(r / beta) / Z."""
    policy, tokenizer = bandit
    encoder = Encoder(tokenizer)
    start = joint(policy, encoder)
    assert start.sum() == pytest.approx(1.0, abs=1e-4)
    best = start * (PAYS / BETA).exp()
    best = best / best.sum()
    changes = {"group_size": 128, "num_rollouts": 60} if estimator == "rloo" else {}
    given = dataclasses.replace(BASE, estimator=estimator, **changes)
    history = train_ppo(given, [PROMPT], policy, tokenizer, environment=bandit_tool).history
    distances = [float((p - best).abs().sum() / 2) for p in (start, joint(policy, encoder))]
    assert distances[0] > 0.2
    assert distances[1] < 0.03
    assert history[-1]["objective/environment"] > history[0]["objective/environment"] + 0.15
    assert history[0]["policy/first_ratio"] == pytest.approx(1.0, abs=1e-4)
    assert history[0]["sampler/drift"] < 1e-4


def test_a_mutant_that_learns_from_tool_results_is_noticed(bandit, monkeypatch):
    """Log-probabilities of what the tool wrote are no part of a rollout: with them the first ratio's tokens would be more."""
    policy, tokenizer = bandit
    given = dataclasses.replace(BASE, estimator="rloo", group_size=8, batch_size=8, num_rollouts=1)
    history = train_ppo(given, [PROMPT], policy, tokenizer, environment=bandit_tool).history
    assert history[0]["response/tokens"] == 2 * 8, "two actions an episode, whatever the tool wrote"
    read = episodes.Episode.read

    def all_written(self, messages, ids):
        read(self, messages, ids)
        self.written = [True] * len(self.response_ids)

    monkeypatch.setattr(episodes.Episode, "read", all_written)
    with pytest.raises(ValueError, match="broadcast"):
        train_ppo(given, [PROMPT], policy, tokenizer, environment=bandit_tool)
