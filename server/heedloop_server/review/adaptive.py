"""How many judgements an item needs, where that depends on what was said: one more while annotators differ, or until one is sure.

The probability of the leading label is that of annotators who err independently, are right equally often (`accuracy`), and say
each wrong label alike: with K labels and m of n votes it is proportional to (a (K-1) / (1-a))^m. `accuracy` is found from how
often two of them agree: p = a^2 + (1-a)^2 / (K-1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from heedloop_server.review.control.labels import Judged, Label, labels
from heedloop_server.review.questions import Question
from heedloop_server.review.queue import Queue

Votes = Mapping[tuple[str, ...], Label]
"""(question, unit) -> label: what one judgement says; marks and flags, where most say nothing, are not among them."""
COUNTED = frozenset({"thumb", "scale", "category", "comparison", "ranking"})
BEGIN = 0.8
"""The accuracy that is assumed before there are `FEWEST` pairs of judgements."""
FEWEST = 20


def votes_of(questions: Sequence[Question], one: Judged) -> Votes:
    """What a judgement says."""
    return {
        (q.name, *unit[1:]): label
        for q in questions
        if q.kind in COUNTED
        for _, unit, label in labels(q, [one])
    }


def num_wanted(queue: Queue, votes: Sequence[Votes], accuracy: Mapping[str, float]) -> int:
    """Judgements that an item should have, by those that it has, in the order in which they were made."""
    least = queue.judgements_per_item
    if queue.until == "number":
        return least
    for num in range(least, len(votes) + 1):
        if num >= queue.max_judgements or _all_decided(queue, votes[:num], accuracy):
            return num
    return max(least, len(votes) + 1)


def _all_decided(queue: Queue, votes: Sequence[Votes], accuracy: Mapping[str, float]) -> bool:
    num_labels = {q.name: _num_labels(q) for q in queue.questions}
    return all(
        _is_decided(queue, [v[u] for v in votes if u in v], num_labels[u[0]], accuracy.get(u[0], BEGIN))
        for u in {u for v in votes for u in v}
    )


def _is_decided(queue: Queue, said: Sequence[Label], num_labels: int, accuracy: float) -> bool:
    counts = [n for _, n in Counter(said).most_common()]
    if queue.until == "agreement":
        return counts[0] * 2 > len(said)
    odds = math.log(accuracy * (num_labels - 1) / (1 - accuracy))
    rest = sum(math.exp(odds * (n - counts[0])) for n in counts[1:])
    rest += (num_labels - len(counts)) * math.exp(-odds * counts[0])
    return 1 / (1 + rest) >= queue.confidence


def _num_labels(question: Question) -> int:
    if question.kind == "scale":
        return question.max - question.min + 1
    return {"thumb": 2, "category": len(question.choices)}.get(question.kind, 3)


def accuracies(questions: Sequence[Question], items: Iterable[Sequence[Votes]]) -> dict[str, float]:
    """Question -> how often an annotator is right, by how often two of them agree on it."""
    equal, num = Counter[str](), Counter[str]()
    for votes in items:
        for i, one in enumerate(votes):
            for other in votes[i + 1 :]:
                for unit in one.keys() & other.keys():
                    num[unit[0]] += 1
                    equal[unit[0]] += one[unit] == other[unit]
    return {
        q.name: _accuracy(equal[q.name] / num[q.name], _num_labels(q))
        for q in questions
        if num[q.name] >= FEWEST
    }


def _accuracy(agreement: float, num_labels: int) -> float:
    k = num_labels
    root = math.sqrt(max((k - 1) * (k * agreement - 1), 0.0))
    return min(max((1 + root) / k, 1 / k + 0.01), 0.99)
