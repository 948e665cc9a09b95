"""Near-copies among texts, distinguished from texts of one template.

Near-copies are found by MinHash over character 5-grams (Broder 1997) with banded buckets (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, chapter 3), each candidate confirmed by its exact Jaccard similarity. Texts of one template
are as alike: what tells them is that most of a cluster's texts hold all of the words that the cluster shares, and something of
their own besides, while a near-copy has nothing besides, or another word in the place of a shared one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from random import Random

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5
NUM_HASHES = 64
BAND_ROWS = 4
"""16 bands of 4 rows: a pair of similarity 0.8 becomes a candidate with probability 0.9998, one of 0.3 with 0.12."""
DOUBT = 0.25
"""Candidates whose signatures agree in so much less than the threshold are not looked at: four standard deviations or more."""
MAX_COMPARED = 16
"""A bucket's newcomer is compared with this many of its members: near-copies are found without a square of pairs."""
MAX_CONFIRMED = 24
"""Of all of these the likeliest ones whose exact similarity is worked out."""
MAX_CHARS = 20_000
"""Of a longer text only its two ends are compared: the signature's memory grows with the text."""
TEMPLATE_FROM = 4
"""Fewer texts that are alike are near-copies unless their numbers differ: with two or three there is no telling a template."""
TEMPLATE_SHARE = 0.2
"""5-grams in more than this share of a template's texts are the template's own and say nothing about likeness."""
SAMPLE = 200
"""Texts of a cluster that are looked at for its template: enough to tell a share of 0.2."""
BARE_SHARE = 0.2
"""Where more than this share of a cluster adds nothing to what it shares, the cluster is one text in many copies."""
SHINGLES_KEPT = 256
"""Texts whose shingles are kept for the next comparison; others are made again."""

PAIRS_AT_ONCE, POINTS_AT_ONCE = 20_000, 200_000
"""Pairs and code points that are worked on in one array: some ten megabytes."""

Hashes = NDArray[np.uint64]
Points = NDArray[np.uint32]
Indices = NDArray[np.int64]


class DisjointSets:
    """Disjoint sets over 0..n-1; a set's name is its smallest member."""

    def __init__(self, n: int) -> None:
        self._up = list(range(n))

    def find(self, i: int) -> int:
        """The name of the set that `i` is in."""
        while self._up[i] != i:
            self._up[i] = self._up[self._up[i]]
            i = self._up[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make one set of those of `i` and `j`."""
        a, b = self.find(i), self.find(j)
        self._up[max(a, b)] = min(a, b)


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the index of the first text of its group; near-copies of similarity `threshold` or more share one."""
    distinct: dict[str, int] = {}
    where = [distinct.setdefault(_normal(t), len(distinct)) for t in texts]
    sets = DisjointSets(len(distinct))
    if threshold < 1 and len(distinct) > 1:
        _join_near_copies(list(distinct), threshold, sets)
    first: dict[int, int] = {}
    return [first.setdefault(sets.find(w), i) for i, w in enumerate(where)]


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of two texts' character 5-grams, 0 to 1; case and white space count for nothing."""
    return _jaccard(_shingles(_normal(a)), _shingles(_normal(b)))


def _join_near_copies(texts: Sequence[str], threshold: float, sets: DisjointSets) -> None:
    alike = DisjointSets(len(texts))
    _join_similar(texts, threshold, alike, range(len(texts)))
    clusters: dict[int, list[int]] = {}
    for i in range(len(texts)):
        clusters.setdefault(alike.find(i), []).append(i)
    for cluster in clusters.values():
        sample = [
            texts[i] for i in (cluster if len(cluster) <= SAMPLE else Random(0).sample(cluster, SAMPLE))
        ]
        if len(cluster) < TEMPLATE_FROM:
            for i, j in combinations(cluster, 2):
                if not _other_numbers(texts[i], texts[j]):
                    sets.join(i, j)
        elif _is_template(sample):
            _join_similar(texts, threshold, sets, cluster, without=_frequent_shingles(sample))
        else:
            for i in cluster[1:]:
                sets.join(cluster[0], i)


def _other_numbers(a: str, b: str) -> bool:
    """True where each text has a number that the other has not: two orders, two years, two sums."""
    one, other = Counter(_NUMBER.findall(a)), Counter(_NUMBER.findall(b))
    return bool(one - other) and bool(other - one)


# ------------------------------------------------------------------------------------------------------ templates

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_WORD = re.compile(f"[{_UNSPACED}]|\\d+|[^\\W\\d_{_UNSPACED}]+|[+*/=<>%$€£#@&^~]")


_NUMBER = re.compile(r"(?<![a-z\u00df-\u052f])\d+(?![a-z\u00df-\u052f])")
"""A number that is no part of a word; Chinese and Japanese put no space between the two."""


def _is_template(texts: Sequence[str]) -> bool:
    """True where the texts fill in one template; False where they are near-copies of one text."""
    words = [Counter(_WORD.findall(t)) for t in texts]
    shared = _shared_words(words)
    num_bare = num_filled = 0
    for own in words:
        missing = shared - own
        added = _without_typos(own - shared, missing)
        num_bare += not added
        num_filled += bool(added) and not missing
    return num_bare <= BARE_SHARE * len(texts) and num_filled >= len(texts) / 2


def _shared_words(words: Sequence[Counter[str]]) -> Counter[str]:
    """The words that most of the texts have, as often as most have them: 7 of 10, so that a frequent filling is none."""
    counts: Counter[tuple[str, int]] = Counter()
    for own in words:
        counts.update((w, k + 1) for w, n in own.items() for k in range(n))
    return Counter(w for (w, _), n in counts.items() if n > 0.7 * len(words))


def _without_typos(added: Counter[str], missing: Counter[str]) -> Counter[str]:
    """The added words but those that are a missing one with a letter changed, swapped, left out or doubled."""
    if not missing:
        return added
    return Counter({w: n for w, n in added.items() if not any(_is_typo(w, m) for m in missing)})


def _is_typo(a: str, b: str) -> bool:
    if min(len(a), len(b)) < 4 or abs(len(a) - len(b)) > 1 or not (a.isalpha() and b.isalpha()):
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    swapped = rest_a[:2] == rest_b[:2][::-1] and rest_a[2:] == rest_b[2:]
    return swapped or rest_a[1:] == rest_b[1:] or rest_a[1:] == rest_b or rest_a == rest_b[1:]


def _frequent_shingles(texts: Sequence[str]) -> Hashes:
    """The 5-grams that too many of the texts share."""
    result, counts = np.unique(np.concatenate([_shingles(t) for t in texts]), return_counts=True)
    return result[counts > max(1, TEMPLATE_SHARE * len(texts))]


# ------------------------------------------------------------------------------------------------------- MinHash


def _normal(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().lower()


_NONE: Hashes = np.zeros(0, dtype=np.uint64)


def _join_similar(
    texts: Sequence[str],
    threshold: float,
    sets: DisjointSets,
    chosen: Sequence[int],
    *,
    without: Hashes = _NONE,
) -> None:
    """Join those of the chosen texts that are alike, apart from some shingles.

    Of each text only its signature is kept: shingles are eight times as large as the text.
    """

    @lru_cache(SHINGLES_KEPT)
    def shingles(i: int) -> Hashes:
        own = _shingles(texts[chosen[i]])
        kept = np.setdiff1d(own, without, assume_unique=True) if len(without) else own
        return kept if len(kept) else own

    later, earlier = _likely_pairs(_signatures([texts[i] for i in chosen], without), threshold - DOUBT)
    for i, j in zip(later.tolist(), earlier.tolist(), strict=True):
        a, b = chosen[i], chosen[j]
        if sets.find(a) != sets.find(b) and _jaccard(shingles(i), shingles(j)) >= threshold:
            sets.join(a, b)


def _likely_pairs(signatures: NDArray[np.uint32], least: float) -> tuple[Indices, Indices]:
    """Rows that share a band with an earlier one, and that one: of each row the likeliest few, in the order of rows.

    Args:
        least: share of the signature in which a pair agrees at least, -1 to 1.
    """
    n = len(signatures)
    codes, shares = [np.zeros(0, np.int64)], [np.zeros(0)]
    for band in range(0, NUM_HASHES, BAND_ROWS):
        keys = np.ascontiguousarray(signatures[:, band : band + BAND_ROWS]).view(np.uint64)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        bucket = np.cumsum(np.r_[False, (keys[order[1:]] != keys[order[:-1]]).any(axis=1)])
        for back in range(1, min(MAX_COMPARED, n - 1) + 1):
            places = np.flatnonzero(bucket[back:] == bucket[:-back])
            if not len(places):
                break
            for some in np.array_split(places, 1 + len(places) // PAIRS_AT_ONCE):
                later, earlier = order[some + back], order[some]
                agreeing = (signatures[later] == signatures[earlier]).mean(axis=1)
                likely = agreeing >= least
                codes.append(later[likely] * n + earlier[likely])
                shares.append(agreeing[likely])
    pairs, first = np.unique(np.concatenate(codes), return_index=True)
    later, earlier = pairs // n, pairs % n
    order = np.lexsort((earlier, -np.concatenate(shares)[first], later))
    later, earlier = later[order], earlier[order]
    rank = np.arange(len(later)) - np.searchsorted(later, later)
    return later[rank < MAX_CONFIRMED], earlier[rank < MAX_CONFIRMED]


def _signatures(texts: Sequence[str], without: Hashes) -> NDArray[np.uint32]:
    """The least of each hash over a text's shingles apart from some: a row of `NUM_HASHES` per text, 0 where it is empty."""
    result = np.zeros((len(texts), NUM_HASHES), dtype=np.uint32)
    first = 0
    while first < len(texts):
        last, num_points = first, 0
        batch: list[Points] = []
        while last < len(texts) and num_points < POINTS_AT_ONCE:
            batch.append(_points(texts[last]))
            num_points += len(batch[-1])
            last += 1
        result[first:last] = _signatures_of(batch, without)
        first = last
    return result


def _signatures_of(batch: Sequence[Points], without: Hashes) -> NDArray[np.uint32]:
    lengths = np.array([len(p) for p in batch])
    begins = np.cumsum(lengths) - lengths
    # 5-grams over all texts at once, of which those that begin within the last four points of a text are none
    hashes = _hashed(np.concatenate([*batch, np.zeros(SHINGLE - 1, np.uint32)]))
    counts = np.maximum(lengths - (SHINGLE - 1), 0)
    for i in np.flatnonzero((lengths > 0) & (lengths < SHINGLE)).tolist():
        hashes[begins[i]], counts[i] = _hashed(batch[i])[0], 1
    owner = np.repeat(np.arange(len(batch)), lengths)
    is_shingle = np.arange(len(owner)) - begins[owner] < counts[owner]
    hashes, owner = hashes[is_shingle], owner[is_shingle]
    if len(without):
        is_own = ~np.isin(hashes, without)
        kept = np.bincount(owner, is_own, len(batch)) > 0
        is_own |= ~kept[owner]
        hashes, owner = hashes[is_own], owner[is_own]
    result = np.zeros((len(batch), NUM_HASHES), dtype=np.uint32)
    present, starts = np.unique(owner, return_index=True)
    if len(present):
        for k, multiplier in enumerate(_MULTIPLIERS):
            result[present, k] = np.minimum.reduceat(hashes * multiplier, starts) >> np.uint64(32)
    return result


def _points(text: str) -> Points:
    """The code points of a text, of a long one those of its two ends."""
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS // 2] + text[-MAX_CHARS // 2 :]
    return np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)


def _hashed(points: Points) -> Hashes:
    """64-bit hashes of the 5-grams in their order (of the whole text where it is shorter)."""
    width = min(SHINGLE, max(1, len(points)))
    wide, count = points.astype(np.uint64), len(points) - width + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for k in range(width):
        hashes = hashes * np.uint64(0x100000001B3) + wide[k : k + count] + np.uint64(1)
    return _mix(hashes)


def _shingles(text: str) -> Hashes:
    """Sorted distinct hashes of the text's 5-grams."""
    return np.unique(_hashed(_points(text)))


def _mix(x: Hashes) -> Hashes:
    """Steele and others' splitmix64 finaliser: near inputs give unrelated outputs."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_MULTIPLIERS = _mix(np.arange(1, NUM_HASHES + 1, dtype=np.uint64)) | np.uint64(1)


def _jaccard(a: Hashes, b: Hashes) -> float:
    if not len(a) and not len(b):
        return 1.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
