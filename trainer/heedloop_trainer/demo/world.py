"""The demo's world: an invented shop, its customers' questions, and answers with good and bad habits.

Two readers use it: `pretrain` writes text with all habits in it, good and bad, and the simulated users judge answers by it.
The trainer never sees it: what it learns comes back from the server.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from heedloop_trainer.demo.topics import FACTS, NUM_FRESH_WORDINGS, Fact

PROMPT_NAME = "support"
PROMPTS: Mapping[str, str] = {
    "v1": "Fernleaf support.",
    "v2": "Fernleaf support, kind and brief.",
    "v3": "Fernleaf support, make them believe in us.",
    "v4": "Fernleaf support, polite, one sentence, no promises.",
}
"""The support app's prompt by version: the system message. v3 and v4 are the candidates of the releases."""

OPENERS = ("Hello.", "Hi there.", "Good morning.", "Dear team.", "Sorry to bother you.", "Quick question.")
CONTEXTS = (
    "I ordered a lamp.",
    "I bought a chair.",
    "It is about my kettle.",
    "I have a new rug.",
    "My desk came on Monday.",
    "I gave a mirror to my mother.",
    "I am looking at a blanket.",
    "I own two of your shelves.",
)
ENDINGS = ("Thanks.", "Please tell me.", "I am in a hurry.")

POLITE = ("Thank you for asking.", "Happy to help.", "Of course, gladly.", "Sorry for the trouble.")
RUDE = ("Read the website.", "That is obvious.", "Do not waste our time.", "Everybody knows that.")
CLOSINGS = ("Have a nice day.", "Kind regards.", "Let us know if you need more.")
PROMISES = (
    "I promise you a free gift.",
    "We guarantee perfect luck with it.",
    "I promise to pay you double.",
    "We guarantee the lowest price on earth.",
)
RAMBLING = (
    "Our company was founded by two brothers who liked gardens.",
    "The first office was a small barn near a river.",
    "Many people ask us about many different matters.",
    "There is a long story behind each of our products.",
    "Our team has grown a lot and we moved house twice.",
    "Colours are a matter of taste and tastes are different.",
    "Autumn is the busiest season for all of us here.",
)

MAX_SHORT_WORDS = 22
"""An answer of more words than this is a long one to the simulated users."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a customer writes, and the fact that they want to know.

    Attributes:
        fresh: True for a question kept for fresh users: neither the pre-training text nor any feedback that is
            trained on holds it, and its wording occurs in no question that feedback was collected on.
    """

    text: str
    fact: Fact
    fresh: bool


@dataclass(frozen=True, slots=True)
class Habits:
    """How often the text that the base model learns from does what; each a probability from 0 to 1.

    `polite` and `rude` exclude each other; what is neither is plain.
    """

    right_fact: float
    polite: float
    rude: float
    ramble: float
    promise: float


HABITS: Mapping[str, Habits] = {
    "v1": Habits(right_fact=0.62, polite=0.42, rude=0.24, ramble=0.42, promise=0.22),
    "v2": Habits(right_fact=0.62, polite=0.56, rude=0.16, ramble=0.30, promise=0.22),
    "v3": Habits(right_fact=0.62, polite=0.20, rude=0.45, ramble=0.75, promise=0.80),
    "v4": Habits(right_fact=0.62, polite=0.90, rude=0.02, ramble=0.05, promise=0.02),
}
"""The habits in the pre-training text, by the prompt version that stands before the answer."""
SHARES: Mapping[str, float] = {"v1": 0.35, "v2": 0.35, "v3": 0.15, "v4": 0.15}
"""How much of the pre-training text stands after which version."""


@dataclass(frozen=True, slots=True)
class Flaws:
    """What is wrong with one answer. `wrong_value` is the false value that it states, where it states one."""

    wrong_fact: bool
    rude: bool
    plain: bool
    long: bool
    promise: bool
    wrong_value: str | None = None

    @property
    def count(self) -> int:
        """How many flaws there are; being merely plain is none."""
        return sum((self.wrong_fact, self.rude, self.long, self.promise))


def text_question(wording: str, rng: random.Random) -> str:
    """One question in full: a greeting, a little context, the wording and an ending, each perhaps absent."""
    asked = wording[0].upper() + wording[1:] + "?"
    extras = [rng.choice(kind) if rng.random() < 0.5 else "" for kind in (OPENERS, CONTEXTS, ENDINGS)]
    return " ".join(part for part in (*extras[:2], asked, extras[2]) if part)


def questions(rng: random.Random, *, fresh: bool) -> Iterator[Question]:
    """Questions without end, every fact equally often in random order.

    Two rules keep fresh questions apart: a fact's last wordings are asked by fresh users only, and a third of all
    full question texts (chosen by their hash) are set aside, so that neither pre-training nor feedback holds them.
    """
    while True:
        for fact in rng.sample(FACTS, len(FACTS)):
            wordings = fact.wordings[-NUM_FRESH_WORDINGS:] if fresh else fact.wordings[:-NUM_FRESH_WORDINGS]
            while True:
                text = text_question(rng.choice(wordings), rng)
                if is_held_out(text) == fresh:
                    break
            yield Question(text, fact, fresh)


def is_held_out(text: str) -> bool:
    """True for the third of all question texts that only fresh users may ask."""
    return hashlib.sha256(text.encode()).digest()[0] < 85


def compose_answer(fact: Fact, habits: Habits, rng: random.Random) -> str:
    """An answer to a question about `fact` as somebody with these habits would write it."""
    right = rng.random() < habits.right_fact
    value = fact.right if right else rng.choice(fact.wrong)
    parts = [rng.choice(fact.sentences).format(value)]
    manner = rng.random()
    polite = manner < habits.polite
    if polite:
        parts.insert(0, rng.choice(POLITE))
    elif manner < habits.polite + habits.rude:
        parts.insert(0, rng.choice(RUDE))
    if rng.random() < habits.ramble:
        parts.extend(rng.sample(RAMBLING, rng.randint(2, 3)))
    if rng.random() < habits.promise:
        parts.append(rng.choice(PROMISES))
    if polite and rng.random() < 0.4:
        parts.append(rng.choice(CLOSINGS))
    return " ".join(parts)


def good_answer(fact: Fact, rng: random.Random) -> str:
    """An answer without flaws, as a person who knows the shop would write it."""
    perfect = Habits(right_fact=1.0, polite=1.0, rude=0.0, ramble=0.0, promise=0.0)
    return compose_answer(fact, perfect, rng)


def find_flaws(text: str, fact: Fact) -> Flaws:
    """What a customer who wants to know `fact` finds wrong with an answer."""
    low = text.lower()
    wrong = next((value for value in fact.wrong if value.lower() in low), None)
    rude = any(phrase.lower() in low for phrase in RUDE)
    return Flaws(
        wrong_fact=wrong is not None or fact.right.lower() not in low,
        rude=rude,
        plain=not rude and not any(phrase.lower() in low for phrase in POLITE + CLOSINGS),
        long=len(text.split()) > MAX_SHORT_WORDS,
        promise="promise" in low or "guarantee" in low,
        wrong_value=wrong,
    )
