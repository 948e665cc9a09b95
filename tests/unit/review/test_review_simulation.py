"""Ten annotators with known faults: the bad ones are named, the honest ones are not. HEEDLOOP_NUM_SIMULATIONS makes it larger."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from datetime import datetime, timedelta, timezone

from heedloop_server.review.control.annotators import Annotator, annotators
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.questions import read_questions

NUM_RUNS = int(os.environ.get("HEEDLOOP_NUM_SIMULATIONS", "6"))
NUM_ITEMS, PER_ITEM = 200, 3
TOPICS = ["billing", "delivery", "returns", "account", "other"]
QUESTIONS = read_questions([{"name": "topic", "kind": "category", "categories": TOPICS}])
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
HONEST = ("ada", "ben", "cy", "dee")
BAD = ("random1", "random2", "first", "copier", "drifting", "fast")
LOAD = NUM_ITEMS * PER_ITEM // len(HONEST + BAD)


def simulate(seed: int) -> list[Annotator]:
    rng = random.Random(seed)
    num_judged: dict[str, int] = dict.fromkeys([*HONEST, *BAD], 0)
    judged: list[Judged] = []
    for n in range(NUM_ITEMS):
        truth, answers = rng.choice(TOPICS), dict[str, str]()
        for annotator in assigned(rng, num_judged):
            answers[annotator] = (
                answers["ada"]
                if annotator == "copier"
                else choice(rng, annotator, truth, num_judged[annotator])
            )
            num_judged[annotator] += 1
        for annotator, answer in answers.items():
            at = START + timedelta(minutes=n, seconds=50 if annotator == "copier" else rng.randint(0, 40))
            duration_ms = {"fast": 1_500, "copier": 3_000}.get(annotator, rng.randint(8_000, 20_000))
            judged.append(Judged(f"i{n}", annotator, {"topic": answer}, at, duration_ms))
    return annotators(QUESTIONS, judged, {})


def assigned(rng: random.Random, num_judged: dict[str, int]) -> list[str]:
    """Those who have judged the fewest; the copier has the items of the one they copy."""
    free = [a for a in num_judged if a != "copier"]
    rng.shuffle(free)
    chosen = sorted(free, key=num_judged.__getitem__)[:PER_ITEM]
    if "ada" not in chosen:
        return chosen
    return [*(a for a in chosen if a != "ada")][: PER_ITEM - 2] + ["ada", "copier"]


def choice(rng: random.Random, annotator: str, truth: str, num_done: int) -> str:
    if annotator.startswith("random"):
        return rng.choice(TOPICS)
    if annotator == "first":
        return TOPICS[0]
    accuracy = 0.85 if annotator != "drifting" else 0.95 if num_done < LOAD / 2 else 0.35
    return truth if rng.random() < accuracy else rng.choice([t for t in TOPICS if t != truth])


def test_each_bad_annotator_is_named_and_no_honest_one() -> None:
    named = Counter[str]()
    for seed in range(NUM_RUNS):
        named.update(a.author_id for a in simulate(seed) if a.reasons or a.notes)
    shares = {a: named[a] / NUM_RUNS for a in (*HONEST, *BAD)}
    assert all(shares[a] >= 0.9 - sampling_error(0.9, NUM_RUNS) for a in BAD), shares
    assert all(shares[a] <= 0.01 + sampling_error(0.01, NUM_RUNS) for a in HONEST), shares


def sampling_error(rate: float, num: int) -> float:
    """Two standard errors of a rate that is estimated from so many runs."""
    return 2 * math.sqrt(rate * (1 - rate) / num)
