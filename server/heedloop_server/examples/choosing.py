"""A few examples from different people out of the similar ones. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from heedloop.schema import AnswerExample
from heedloop_server.examples.candidates import Supported, question_key


def choose(similar: Iterable[Supported], k: int) -> list[AnswerExample]:
    """Up to `k` of the examples, the most alike first, one for each question.

    First those that somebody stands for who stands for none yet; then the rest, of one person at most half of `k`, so that nobody's
    judgements alone fill them.
    """
    distinct = _one_of_each_question(similar)
    counts: Counter[str] = Counter()
    chosen: dict[int, Supported] = {}
    for most in (1, max(1, (k + 1) // 2)):
        for i, one in enumerate(distinct):
            free = sorted((p for p in one.supporters if counts[p] < most), key=lambda p: (counts[p], p))
            if i not in chosen and free and len(chosen) < k:
                chosen[i] = one
                counts[free[0]] += 1
    return [chosen[i].example for i in sorted(chosen)]


def _one_of_each_question(similar: Iterable[Supported]) -> Sequence[Supported]:
    """The first of each question, corrections before likes of the same."""
    ordered = sorted(similar, key=lambda s: (-s.example.score, s.example.why == "liked", -len(s.supporters)))
    first: dict[str, Supported] = {}
    for one in ordered:
        first.setdefault(question_key(one.example.question), one)
    return list(first.values())
