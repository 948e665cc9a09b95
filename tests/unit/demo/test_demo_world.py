"""The demo's world is consistent: what it writes can be read back, and fresh questions stay fresh."""

import itertools
import random
import re
from collections import Counter

import pytest

from heedloop_trainer.demo.pretrain import make_text
from heedloop_trainer.demo.run import intro
from heedloop_trainer.demo.topics import FACTS, NUM_FRESH_WORDINGS, TOPICS, Fact
from heedloop_trainer.demo.world import (
    CLOSINGS,
    CONTEXTS,
    ENDINGS,
    HABITS,
    OPENERS,
    POLITE,
    PROMISES,
    RAMBLING,
    RUDE,
    SHARES,
    Habits,
    compose_answer,
    find_flaws,
    good_answer,
    is_held_out,
    questions,
)

FIXED = (*OPENERS, *CONTEXTS, *ENDINGS, *POLITE, *RUDE, *CLOSINGS, *PROMISES, *RAMBLING)


@pytest.mark.parametrize("fact", FACTS, ids=lambda f: f.name)
def test_values_of_a_fact_can_be_told_apart(fact: Fact) -> None:
    values = [v.lower() for v in (fact.right, *fact.wrong)]
    for a, b in itertools.permutations(values, 2):
        assert a not in b
    for value in values:
        assert not any(value in phrase.lower() for phrase in FIXED)
        assert not any(value in sentence.format("").lower() for sentence in fact.sentences)


@pytest.mark.parametrize("fact", FACTS, ids=lambda f: f.name)
def test_a_good_answer_has_no_flaw_and_each_flaw_is_found(fact: Fact) -> None:
    rng = random.Random(0)
    for _ in range(20):
        flaws = find_flaws(good_answer(fact, rng), fact)
        assert flaws.count == 0
        assert not flaws.plain
    sentence = fact.sentences[0]
    assert find_flaws(f"Happy to help. {sentence.format(fact.wrong[0])}", fact).wrong_value == fact.wrong[0]
    assert find_flaws("Happy to help.", fact).wrong_fact
    assert find_flaws(f"{RUDE[0]} {sentence.format(fact.right)}", fact).rude
    assert find_flaws(sentence.format(fact.right), fact).plain
    assert find_flaws(f"{sentence.format(fact.right)} {PROMISES[0]}", fact).promise
    assert find_flaws(" ".join([sentence.format(fact.right), *RAMBLING[:3]]), fact).long


def test_the_introduction_says_what_the_whole_text_does():
    """Two points each way: 12,000 answers as the text is made; a right answer may name a wrong value in passing."""
    rng, num = random.Random(1), 12_000
    found = Counter()
    for document in make_text(num, rng):
        question, answer = document.turns[0]
        fact = next(f for f in FACTS if any(w.lower() in question.lower() for w in f.wordings))
        flaws = find_flaws(answer, fact)
        found += Counter(wrong=flaws.wrong_fact, promise=flaws.promise, rude=flaws.rude)
    said = [int(n) for n in re.findall(r"(\d+) (?:state|make|are rude)", intro(1).replace("\n", " "))]
    assert len(said) == 3 and sum(SHARES.values()) == pytest.approx(1)
    for number, name in zip(said, ("wrong", "promise", "rude"), strict=True):
        assert number == pytest.approx(100 * found[name] / num, abs=2), name


@pytest.mark.parametrize("version", HABITS)
def test_answers_have_the_habits_that_are_stated(version: str) -> None:
    habits: Habits = HABITS[version]
    rng = random.Random(7)
    found: Counter[str] = Counter()
    num = 6000
    for i in range(num):
        fact = FACTS[i % len(FACTS)]
        flaws = find_flaws(compose_answer(fact, habits, rng), fact)
        found.update(name for name in ("wrong_fact", "rude", "promise") if getattr(flaws, name))
    assert found["wrong_fact"] / num == pytest.approx(1 - habits.right_fact, abs=0.025)
    assert found["rude"] / num == pytest.approx(habits.rude, abs=0.025)
    assert found["promise"] / num == pytest.approx(habits.promise, abs=0.025)


def test_fresh_questions_are_in_nothing_that_was_learned_from() -> None:
    early = list(itertools.islice(questions(random.Random(1), fresh=False), 3000))
    fresh = list(itertools.islice(questions(random.Random(2), fresh=True), 3000))
    read = {question for d in make_text(5000, random.Random(3)) for question, _ in d.turns}
    asked = {q.text for q in fresh}
    assert not asked & {q.text for q in early}
    assert not asked & read
    for q in early:
        assert not any(w[1:] in q.text for w in q.fact.wordings[-NUM_FRESH_WORDINGS:]), (
            f"{q.text!r} has a wording that only fresh users use"
        )


def test_a_third_of_all_questions_is_set_aside() -> None:
    share = sum(is_held_out(f"question {i}") for i in range(10_000)) / 10_000
    assert share == pytest.approx(1 / 3, abs=0.02)


def test_every_fact_and_topic_is_asked_equally_often() -> None:
    asked = list(itertools.islice(questions(random.Random(5), fresh=True), 10 * len(FACTS)))
    assert set(Counter(q.fact.name for q in asked).values()) == {10}
    assert {q.fact.topic for q in asked} == set(TOPICS)
