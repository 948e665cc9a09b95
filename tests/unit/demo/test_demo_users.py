"""Simulated users do what their stated tastes and rates say."""

import itertools
import random
from dataclasses import replace

import pytest

from heedloop_trainer.demo.topics import FACTS
from heedloop_trainer.demo.users import RATES, TASTE, Reaction, SimulatedUser
from heedloop_trainer.demo.world import Flaws, Habits, Question, compose_answer, find_flaws, questions

CLEAN = Flaws(wrong_fact=False, rude=False, plain=False, long=False, promise=False)


def reactions(habits: Habits, *, num: int = 4000) -> list[Reaction]:
    rng = random.Random(11)
    asked = questions(rng, fresh=False)
    return [
        SimulatedUser.named("early", i, rng).react(q, compose_answer(q.fact, habits, rng), rng)
        for i, q in enumerate(itertools.islice(asked, num))
    ]


def rate(found: list[Reaction]) -> float:
    thumbs = [r.thumb for r in found if r.thumb is not None]
    return sum(thumbs) / len(thumbs)


@pytest.mark.parametrize("flaw", ["wrong_fact", "rude", "plain", "long", "promise"])
def test_every_flaw_displeases(flaw: str) -> None:
    assert TASTE.pleasure(replace(CLEAN, **{flaw: True})) < TASTE.pleasure(CLEAN)


def test_a_wrong_fact_is_the_worst_flaw() -> None:
    wrong = TASTE.pleasure(replace(CLEAN, wrong_fact=True))
    others = [TASTE.pleasure(replace(CLEAN, **{f: True})) for f in ("rude", "plain", "long", "promise")]
    assert wrong < min(others)


def test_better_habits_get_more_thumbs_up_but_never_all() -> None:
    bad = rate(reactions(Habits(0.5, 0.3, 0.4, 0.5, 0.3)))
    good = rate(reactions(Habits(0.9, 0.9, 0.0, 0.1, 0.0)))
    perfect = rate(reactions(Habits(1.0, 1.0, 0.0, 0.0, 0.0)))
    assert bad < 0.35 < 0.7 < good < perfect < 0.95


def test_most_users_say_nothing_and_the_displeased_say_more() -> None:
    found = reactions(Habits(0.62, 0.5, 0.2, 0.35, 0.22), num=8000)
    rated = [r for r in found if r.thumb is not None]
    assert 0.3 < len(rated) / len(found) < 0.5
    down = [r for r in rated if r.thumb is False]
    assert sum(r.correction is not None for r in down) / len(down) == pytest.approx(
        RATES.correction, abs=0.03
    )
    assert all(r.correction is None and r.flag is None for r in rated if r.thumb)


def test_corrections_are_right_but_for_the_sloppy_ones() -> None:
    rng = random.Random(3)
    num_wrong = num = 0
    for i in range(4000):
        fact = FACTS[i % len(FACTS)]
        question = Question("?", fact, fresh=False)
        answer = fact.sentences[0].format(fact.wrong[0])
        reaction = SimulatedUser.named("early", i, rng).react(question, answer, rng)
        if reaction.correction is not None:
            num += 1
            num_wrong += find_flaws(reaction.correction, fact).wrong_fact
            assert reaction.flag is None or reaction.wrong_part == fact.wrong[0]
    assert num > 300
    assert num_wrong / num == pytest.approx(RATES.sloppy, abs=0.03)


def test_the_better_answer_is_preferred_most_of_the_time_whichever_side_it_is_on() -> None:
    fact = FACTS[0]
    question = Question("?", fact, fresh=False)
    good, bad = (f"Happy to help. {fact.sentences[0].format(v)}" for v in (fact.right, fact.wrong[0]))
    rng = random.Random(4)
    user = SimulatedUser.named("early", 1, rng)
    first = [user.prefer(question, [good, bad], rng) for _ in range(500)]
    second = [user.prefer(question, [bad, good], rng) for _ in range(500)]
    assert first.count(0) > 450
    assert second.count(1) > 450
    assert first.count(1) + second.count(0) > 0, "users are noisy"
    equal = [user.prefer(question, [good, good], rng) for _ in range(500)]
    assert equal.count(None) > 250


def test_ids_say_that_users_are_simulated() -> None:
    assert SimulatedUser.named("fresh", 12, random.Random(0)).id == "sim-fresh-0012"
