"""Pools of annotators (the groups of a team) held against each other: how each rates, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from heedloop import responses
from heedloop_server.review.control.agreement import agreement_of_question
from heedloop_server.review.control.annotators import scaled
from heedloop_server.review.control.labels import Judged, labels
from heedloop_server.review.questions import Question
from heedloop_server.statistics.consensus import majority_vote
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.means import bootstrap_mean

NO_POOL = ""
"""The pool of those who are in no group."""


def pools_of(judged: Sequence[Judged], groups: Mapping[str, Sequence[str]]) -> dict[str, list[Judged]]:
    """Pool -> judgements of its annotators; one who is in two groups counts in both."""
    result: dict[str, list[Judged]] = {}
    for one in judged:
        for pool in groups.get(one.annotator) or (NO_POOL,):
            result.setdefault(pool, []).append(one)
    return dict(sorted(result.items()))


def compare_pools(question: Question, pools: Mapping[str, Sequence[Judged]]) -> responses.PoolComparison:
    """Each pool's mean (of ordered labels, on 0 to 1) and agreement within; and per pair, of the units that both judged,
    the share on which their majorities are the same (Wilson). Ties of a pool are no majority."""
    majorities = {
        name: {u: c.label for u, c in majority_vote(labels(question, found)).items() if c.label is not None}
        for name, found in pools.items()
    }
    pairs: list[responses.PoolPair] = []
    for first, second in combinations(pools, 2):
        both = majorities[first].keys() & majorities[second].keys()
        same = sum(majorities[first][u] == majorities[second][u] for u in both)
        pairs.append(responses.PoolPair(first=first, second=second, agreement=wilson(same, len(both))))
    return responses.PoolComparison(
        question=question.name, pools=[_pool(question, n, found) for n, found in pools.items()], pairs=pairs
    )


def _pool(question: Question, name: str, found: Sequence[Judged]) -> responses.Pool:
    said = [label for _, _, label in labels(question, found)]
    values = [scaled(question, label) for label in said] if question.is_ordered else []
    return responses.Pool(
        name=name,
        num_annotators=len({j.annotator for j in found}),
        num_judgements=len(said),
        mean=bootstrap_mean(values, scale=(0, 1), num_samples=400),
        percent=agreement_of_question(question, found).percent,
    )
