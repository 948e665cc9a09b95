"""Baselines of a set of comparisons: what a reward model must beat, and the agreement that it cannot beat."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from heedloop.responses import Interval
from heedloop.schema import Comparison
from heedloop.words import terms
from heedloop_server.curate.judged_calls import Judgement
from heedloop_server.curate.votes import PairVote
from heedloop_server.statistics.means import resamples

NUM_FOLDS = 5
NUM_SAMPLES = 1000
MAX_PAIRS = 3000
"""The bag of words is fitted on this many pairs at most: a report must not take minutes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DecidedPair:
    """Two texts for one prompt, the better one by all votes on them together."""

    chosen: str
    rejected: str
    group: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far judges of one pair agree.

    Attributes:
        share: the probability that two judges of one pair say the same, ties apart.
        share_with_ties: the same where a tie is a third answer.
        ceiling: the accuracy of the best model against one held-out vote, at most: if each vote is right with
            probability p, two agree with p^2 + (1-p)^2, hence p = (1 + sqrt(2 share - 1)) / 2.
        num_pairs: pairs with two or more decided votes.
    """

    share: Interval | None
    share_with_ties: Interval | None
    ceiling: float | None
    num_pairs: int


def decided_pairs(rows: Iterable[Comparison]) -> list[DecidedPair]:
    """Each pair of texts once, the better one by the weight of all rows on it; ties and even votes left out."""
    totals: dict[tuple[str, str, str], float] = {}
    for row in rows:
        if row.tie or row.chosen == row.rejected:
            continue
        swap = row.rejected < row.chosen
        key = (row.group, row.rejected, row.chosen) if swap else (row.group, row.chosen, row.rejected)
        totals[key] = totals.get(key, 0.0) + (-row.weight if swap else row.weight)
    pairs: list[DecidedPair] = []
    for (group, first, second), total in totals.items():
        if abs(total) > 1e-12:
            better, worse = (first, second) if total > 0 else (second, first)
            pairs.append(DecidedPair(better, worse, group))
    return pairs


def longer_wins(pairs: Sequence[DecidedPair]) -> Interval | None:
    """Accuracy of "the longer answer is better", in characters; equal lengths are half right."""
    right = [_longer(p) for p in pairs]
    return clustered_share(right, [p.group for p in pairs], "longer answer")


def length_wins(pairs: Sequence[DecidedPair]) -> Interval | None:
    """Accuracy of the better of "the longer is better" and "the shorter is better", chosen on the other prompts (five folds).

    What a model must beat where short answers are liked, and "longer wins" alone looks like a bad guess. None below 5 groups.
    """
    folds = _folds(pairs)
    if folds is None:
        return None
    longer = np.array([_longer(p) for p in pairs])
    right = np.full(len(pairs), 0.5)
    for fold in range(NUM_FOLDS):
        held = folds == fold
        longer_is_better = longer[~held].mean() >= 0.5
        right[held] = longer[held] if longer_is_better else 1 - longer[held]
    return clustered_share(right.tolist(), [p.group for p in pairs], "longer or shorter, 5 folds by prompt")


def _folds(pairs: Sequence[DecidedPair]) -> NDArray[np.intp] | None:
    """The fold of each pair, by its prompt group; None below 5 groups."""
    groups = sorted({p.group for p in pairs}, key=_hashed)
    fold_of = {g: n % NUM_FOLDS for n, g in enumerate(groups)}
    return None if len(groups) < NUM_FOLDS else np.array([fold_of[p.group] for p in pairs])


def _longer(pair: DecidedPair) -> float:
    a, b = len(pair.chosen), len(pair.rejected)
    return 0.5 if a == b else float(a > b)


def bag_of_words(pairs: Sequence[DecidedPair]) -> Interval | None:
    """Accuracy of a logistic regression on TF-IDF differences of `heedloop.words.terms`, five folds by prompt group.

    None below 20 pairs or 5 groups. At most 3,000 pairs, chosen by their hashes.
    """
    chosen = _sample(pairs)
    folds = _folds(chosen)
    if len(chosen) < 20 or folds is None:
        return None
    counts = _word_counts(chosen)
    right = np.full(len(chosen), 0.5)
    for fold in range(NUM_FOLDS):
        held, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if len(held) and len(train) and counts is not None:
            right[held] = _fold_accuracy(counts, train, held)
    return clustered_share(right.tolist(), [p.group for p in chosen], "TF-IDF difference, 5 folds by prompt")


def _sample(pairs: Sequence[DecidedPair]) -> Sequence[DecidedPair]:
    if len(pairs) <= MAX_PAIRS:
        return pairs
    return sorted(pairs, key=lambda p: _hashed(p.chosen + "\x00" + p.rejected))[:MAX_PAIRS]


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _word_counts(pairs: Sequence[DecidedPair]) -> Any:
    """(2n, words) sparse counts, chosen texts first; None where there is no word at all."""
    from sklearn.feature_extraction.text import CountVectorizer

    words = cast(Any, CountVectorizer)(max_features=20_000, analyzer=terms)
    try:
        return words.fit_transform([p.chosen for p in pairs] + [p.rejected for p in pairs])
    except ValueError:
        return None


def _fold_accuracy(counts: Any, train: NDArray[np.intp], held: NDArray[np.intp]) -> Floats:
    """1 where the held pair's better text scores higher, 0.5 where both score the same."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    n = counts.shape[0] // 2
    tfidf: Any = TfidfTransformer(sublinear_tf=True).fit(counts[np.concatenate([train, train + n])])
    difference = tfidf.transform(counts[train]) - tfidf.transform(counts[train + n])
    model = LogisticRegression(fit_intercept=False, C=1.0, max_iter=200)
    model.fit(vstack([difference, -difference]), np.repeat([1, 0], len(train)))
    margin = model.decision_function(tfidf.transform(counts[held]) - tfidf.transform(counts[held + n]))
    return np.where(margin == 0, 0.5, (margin > 0).astype(np.float64))


def clustered_share(right: Sequence[float], clusters: Sequence[str], method: str) -> Interval | None:
    """Mean of `right` with a percentile bootstrap interval over clusters; None where there is nothing.

    Pairs of one prompt are no independent witnesses, so whole clusters are drawn.
    """
    if not right:
        return None
    names = {c: n for n, c in enumerate(dict.fromkeys(clusters))}
    which = np.array([names[c] for c in clusters])
    sums = np.bincount(which, np.array(right, dtype=np.float64), minlength=len(names))
    sizes = np.bincount(which, minlength=len(names)).astype(np.float64)
    draws = resamples(len(names), NUM_SAMPLES)
    shares = (draws @ sums) / (draws @ sizes)
    low, high = np.quantile(shares, [0.025, 0.975])
    estimate = float(sums.sum() / sizes.sum())
    if len(names) < 2:
        low, high = 0.0, 1.0  # one cluster shows nothing of how clusters differ
    return Interval(
        estimate,
        min(estimate, float(low)),
        max(estimate, float(high)),
        len(right),
        f"{method}, bootstrap by prompt group",
    )


def agreement(votes: Sequence[PairVote]) -> Agreement:
    """Agreement of two judges of one pair, every pair that two or more judged counting once."""
    pairs: dict[tuple[str, str], list[int]] = {}
    questions: dict[tuple[str, str], str] = {}
    for vote in votes:
        key = (vote.first.text_key, vote.second.text_key)
        pairs.setdefault(key, []).append(vote.side)
        questions[key] = vote.first.question
    decided = {k: [s for s in sides if s] for k, sides in pairs.items()}
    share, num = _agree({k: s for k, s in decided.items() if len(s) > 1}, questions)
    with_ties, _ = _agree({k: s for k, s in pairs.items() if len(s) > 1}, questions)
    ceiling = None
    if share is not None:
        ceiling = (1 + math.sqrt(max(0.0, 2 * share.estimate - 1))) / 2
    return Agreement(share, with_ties, ceiling, num)


def _agree(
    pairs: Mapping[tuple[str, str], Sequence[int]], questions: Mapping[tuple[str, str], str]
) -> tuple[Interval | None, int]:
    shares: list[float] = []
    for sides in pairs.values():
        n = len(sides)
        same = sum(c * (c - 1) for c in (sides.count(s) for s in (1, 0, -1)))
        shares.append(same / (n * (n - 1)))
    return clustered_share(shares, [questions[k] for k in pairs], "pairwise agreement"), len(shares)


def first_shown_wins(judgements: Iterable[Judgement]) -> Interval | None:
    """Share of decided two-answer comparisons in which the answer shown first won; one half without position bias."""
    right: list[float] = []
    clusters: list[str] = []
    for judgement in judgements:
        ranking = judgement.feedback.ranking
        if ranking is None or ranking.shown_order is None or len(ranking.answers) != 2:
            continue
        first, second = (ranking.ranks[i] for i in ranking.shown_order)
        if first != second:
            right.append(float(first < second))
            clusters.append(judgement.feedback.author.id or judgement.feedback_id)
    return clustered_share(right, clusters, "first shown wins")
