"""Simulated users with stated tastes. Every one of them is plainly labelled: author ids start with `sim-`.

What they like is stated in `TASTE`: the right fact above all, then no forbidden promise, a kind tone and a short answer. They are
noisy: each has a mood of their own, the same answer may please one and not another, and some hit the wrong thumb. Not everybody
rates, and who is unhappy rates more often. Rates of rating are compressed (`Rates`): in production 1 to 3 of 100 answers are
rated, here about 40, so that a demonstration of minutes holds as much feedback as an app collects in weeks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from heedloop_trainer.demo.world import Flaws, Question, find_flaws, good_answer


@dataclass(frozen=True, slots=True)
class Taste:
    """How pleased users are, in logits: `base` for a flawless answer, less each flaw's weight.

    Attributes:
        mood: standard deviation of a user's own mood, added to each of their answers.
        slip: probability of hitting the wrong thumb.
    """

    base: float = 3.0
    wrong_fact: float = 4.0
    promise: float = 2.0
    rude: float = 2.0
    plain: float = 0.6
    long: float = 1.6
    mood: float = 0.6
    slip: float = 0.03

    def pleasure(self, flaws: Flaws) -> float:
        """How pleased an average user is with an answer of these flaws, in logits."""
        return (
            self.base
            - self.wrong_fact * flaws.wrong_fact
            - self.promise * flaws.promise
            - self.rude * flaws.rude
            - self.plain * flaws.plain
            - self.long * flaws.long
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """How often users say something; each a probability. Compressed: see the module's docstring.

    Attributes:
        thumb_up: that a pleased user rates.
        thumb_down: that a displeased one does.
        correction: that one who rated down also writes what should have been said.
        sloppy: that a correction is itself wrong, as people are.
        flag: that one who rated down marks the reason.
        comment: that one who rated down says why in words.
    """

    thumb_up: float = 0.36
    thumb_down: float = 0.48
    correction: float = 0.30
    sloppy: float = 0.05
    flag: float = 0.35
    comment: float = 0.20


TASTE = Taste()
RATES = Rates()

COMMENTS = {
    "inaccurate": ("This is not right.", "Wrong, I checked.", "That does not match what I was told."),
    "policy": ("You cannot promise that.", "I do not believe this promise."),
    "tone": ("Why so unfriendly?", "Not a kind answer."),
    "too long": ("Too long.", "I only wanted the answer."),
    "other": ("Did not help.", "Not what I needed."),
}


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one user did after one answer; None where they did not.

    Attributes:
        thumb: True for up, False for down.
        correction: what should have been said.
        flag: category of what is wrong.
        wrong_part: the words of the answer that the flag is about, where it is about some of them.
    """

    thumb: bool | None = None
    correction: str | None = None
    flag: str | None = None
    wrong_part: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class SimulatedUser:
    """One simulated person: an id that says so, and a mood that stays."""

    id: str
    mood: float
    taste: Taste = TASTE
    rates: Rates = RATES

    @classmethod
    def named(cls, group: str, number: int, rng: random.Random) -> SimulatedUser:
        """A user of a group such as `early` or `fresh`, with a mood drawn from the taste's spread."""
        return cls(id=f"sim-{group}-{number:04d}", mood=rng.gauss(0, TASTE.mood))

    def react(self, question: Question, answer: str, rng: random.Random) -> Reaction:
        """What this user does after reading an answer to their question."""
        flaws = find_flaws(answer, question.fact)
        up = rng.random() < _sigmoid(self.taste.pleasure(flaws) + self.mood)
        if rng.random() < self.taste.slip:
            up = not up
        if rng.random() >= (self.rates.thumb_up if up else self.rates.thumb_down):
            return Reaction()
        return Reaction(thumb=True) if up else self._complain(question, flaws, rng)

    def prefer(self, question: Question, answers: Sequence[str], rng: random.Random) -> int | None:
        """Which of two answers this user likes better: 0, 1, or None for no preference.

        The choice follows the difference in pleasure (a Bradley–Terry draw); answers equally good are mostly a tie.
        """
        first, second = (self.taste.pleasure(find_flaws(a, question.fact)) for a in answers)
        if abs(first - second) < 0.1 and rng.random() < 0.7:
            return None
        return 0 if rng.random() < _sigmoid(first - second) else 1

    def _complain(self, question: Question, flaws: Flaws, rng: random.Random) -> Reaction:
        reason = _reason(flaws)
        flagged = reason != "other" and rng.random() < self.rates.flag
        correction = None
        if rng.random() < self.rates.correction:
            correction = good_answer(question.fact, rng)
            if rng.random() < self.rates.sloppy:
                correction = correction.replace(question.fact.right, rng.choice(question.fact.wrong))
        return Reaction(
            thumb=False,
            correction=correction,
            flag=reason if flagged else None,
            wrong_part=flaws.wrong_value if flagged and reason == "inaccurate" else None,
            comment=rng.choice(COMMENTS[reason]) if rng.random() < self.rates.comment else None,
        )


def _reason(flaws: Flaws) -> str:
    """The category of an answer's worst flaw."""
    if flaws.wrong_fact:
        return "inaccurate"
    if flaws.promise:
        return "policy"
    if flaws.rude:
        return "tone"
    return "too long" if flaws.long else "other"


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
