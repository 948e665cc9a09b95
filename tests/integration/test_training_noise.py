"""Noise: 30% of the annotators always say the opposite. How much of what that costs a reward model consensus wins back.

Judgements are planted, the road is the real one: feedback, curate, rows, reward model, accuracy on pairs it never saw.
"""

import random
from datetime import datetime, timezone

import numpy as np
import pytest

from heedloop.schema import Author, Call, Comparison, Feedback, Message, Ranking, Target
from heedloop_server.curate import Judgement, Rules, curate
from heedloop_trainer.methods.reward_linear import LinearRewardConfig, train_reward_linear

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
PROMPT = (Message("user", "Which answer is better?"),)
NUM_JUDGES, VOTES, RIGHT = 40, 5, 0.9
MODEL = LinearRewardConfig(inverse_penalty=3.0, surface_scale=0.0, max_words=1, min_count=1)

STATED_SHARE = 0.9
"""Of the lost accuracy, what majority and reliability together win back, in the mean over seeds."""


class World:
    """Answers of ten words, each word worth something; people see the difference, with errors."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.worth = {f"word{i}": self.rng.gauss(0, 1) for i in range(80)}

    def answer(self) -> str:
        return " ".join(self.rng.sample(sorted(self.worth), 10))

    def value(self, answer: str) -> float:
        return sum(self.worth[w] for w in answer.split())

    def pairs(self, count: int) -> list[tuple[str, str]]:
        """(better, worse) by what the words are worth."""
        found = [(self.answer(), self.answer()) for _ in range(count)]
        return [(a, b) if self.value(a) > self.value(b) else (b, a) for a, b in found]


def judged(
    world: World, pairs: list[tuple[str, str]], adversarial: float
) -> tuple[list[Call], list[Judgement]]:
    """Every pair as two calls, and five judges' comparisons of it."""
    bad = set(range(int(adversarial * NUM_JUDGES)))
    calls, judgements = [], []
    for k, pair in enumerate(pairs):
        targets = []
        for side, text in enumerate(pair):
            n = 2 * k + side + 1
            targets.append(Target(trace_id=f"{n:032x}", span_id=f"{n:016x}"))
            answer = (Message("assistant", text),)
            calls.append(Call(f"{n:032x}", f"{n:016x}", START, input_messages=PROMPT, output_messages=answer))
        for judge in world.rng.sample(range(NUM_JUDGES), VOTES):
            agrees = (world.rng.random() < RIGHT) != (judge in bad)
            ranking = Ranking(tuple(targets), (1, 2) if agrees else (2, 1))
            said = Feedback(
                "comparison", targets[0], ranking=ranking, author=Author("annotator", f"j{judge}")
            )
            judgements.append(Judgement(str(said.identity("p")), 1, said))
    return calls, judgements


def accuracy(
    world: World, train: list[tuple[str, str]], test: list[tuple[str, str]], share: float, **rules
) -> float:
    calls, judgements = judged(world, train, share)
    whole = Rules(
        near_duplicate=1.0, max_author_share=1.0, validation_fraction=0.0, test_fraction=0.0, **rules
    )
    rows = curate(calls, judgements, whole).rows["comparisons"]
    model = train_reward_linear(MODEL, [r for r in rows if isinstance(r, Comparison)])
    held_out = [Comparison(PROMPT, better, worse) for better, worse in test]
    return float((model.margins(held_out) > 0).mean())


@pytest.mark.parametrize("seeds", [(0, 1, 2)])
def test_consensus_wins_back_what_adversaries_took(seeds):
    found = []
    for seed in seeds:
        world = World(seed)
        train, test = world.pairs(250), world.pairs(1500)
        consensus = {"consensus": "majority", "reliability": True}
        found.append(
            [
                accuracy(world, train, test, 0.0),
                accuracy(world, train, test, 0.3),
                accuracy(world, train, test, 0.3, consensus="majority"),
                accuracy(world, train, test, 0.3, **consensus),
            ]
        )
    clean, votes, majority, reliable = np.mean(found, 0)
    share = (reliable - votes) / (clean - votes)
    print(
        f"clean {clean:.3f}; 30% adversarial: votes {votes:.3f}, majority {majority:.3f}, with reliability {reliable:.3f}: "
        f"{share:.0%} of the loss won back"
    )
    assert clean - votes > 0.05, "the noise should cost something"
    assert share > STATED_SHARE
