"""Prompt groups: near-copies of one prompt, one conversation's turns, one user's questions; and their splits.

Near-copies are found by MinHash over character 5-grams (Broder 1997) with banded buckets (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, chapter 3), each candidate confirmed by its exact Jaccard similarity.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from heedloop.schema import Split
from heedloop_server.curate.judged_calls import Answer, question_text
from heedloop_server.curate.rules import Rules

__all__ = ["Placement", "near_duplicate_groups", "place", "split_of"]

SHINGLE = 5
NUM_HASHES = 64
BAND_ROWS = 4
"""16 bands of 4 rows: a pair of similarity 0.8 becomes a candidate with probability 0.9998, one of 0.3 with 0.12."""
DOUBT = 0.25
"""Candidates whose signatures agree in so much less than the threshold are not looked at: four standard deviations or more."""
MAX_COMPARED = 16
"""A bucket's newcomer is compared with this many of its members: near-copies are found without a square of pairs."""
MAX_CHARS = 20_000
"""Of a longer prompt only its two ends are compared: the signature's memory grows with the text."""
BOILERPLATE_SHARE = 0.2
"""5-grams in more than this share of the distinct prompts are an app's template and say nothing about likeness."""
BOILERPLATE_FROM = 50
"""Templates are looked for from this many distinct prompts on."""
BOILERPLATE_SAMPLE = 200
"""Templates are looked for in this many of the distinct prompts at most: enough to tell a share of 0.2."""
SHINGLES_KEPT = 256
"""Texts whose shingles are kept for the next comparison; others are made again."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an answer's rows go.

    Attributes:
        prompt: name of the near-copies of its prompt.
        group: name of what the split must not tear apart: those near-copies, and what conversation or user join.
    """

    prompt: str
    group: str
    split: Split


class _Sets:
    """Disjoint sets over 0..n-1; a set's name is its smallest member."""

    def __init__(self, n: int) -> None:
        self._up = list(range(n))

    def find(self, i: int) -> int:
        while self._up[i] != i:
            self._up[i] = self._up[self._up[i]]
            i = self._up[i]
        return i

    def join(self, i: int, j: int) -> None:
        a, b = self.find(i), self.find(j)
        self._up[max(a, b)] = min(a, b)


def place(answers: Sequence[Answer], rules: Rules, *, reserved: Iterable[str] = ()) -> dict[str, Placement]:
    """Group and split of every answer, by its key.

    Args:
        answers: oldest first; a group is named after its oldest prompt, so that later near-copies join the side
            that it is on.
        reserved: keys of answers whose groups must be in the test split.
    """
    wording = _prompt_groups(answers, rules.near_duplicate)
    sets = _Sets(len(answers))
    if "prompt" in rules.group_by:
        for i, first in enumerate(wording):
            sets.join(i, first)
    if "session" in rules.group_by:
        _join_equal([a.call.session_id for a in answers], sets)
    if "user" in rules.group_by:
        _join_equal([a.call.user_id for a in answers], sets)
    roots = [sets.find(i) for i in range(len(answers))]
    names = {r: _name(answers[r], rules) for r in dict.fromkeys(roots)}
    splits = _splits(sorted(names), names, rules)
    held = set(reserved)
    for answer, root in zip(answers, roots, strict=True):
        if answer.key in held:
            splits[root] = "test"
    return {
        a.key: Placement(answers[w].question[:16], names[r], splits[r])
        for a, w, r in zip(answers, wording, roots, strict=True)
    }


def split_of(group: str, rules: Rules) -> Split:
    """The split of a group by its name and the rules' seed alone."""
    digest = hashlib.sha256(f"{rules.seed}|{group}".encode()).digest()
    u = int.from_bytes(digest[:7], "big") / 2**56
    if u < rules.test_fraction:
        return "test"
    return "validation" if u < rules.test_fraction + rules.validation_fraction else "train"


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the index of the first text of its group; texts of similarity `threshold` or more share one."""
    distinct: dict[str, int] = {}
    where = [distinct.setdefault(_normal(t), len(distinct)) for t in texts]
    sets = _Sets(len(distinct))
    if threshold < 1 and len(distinct) > 1:
        _join_similar(list(distinct), threshold, sets)
    first: dict[int, int] = {}
    return [first.setdefault(sets.find(w), i) for i, w in enumerate(where)]


def _prompt_groups(answers: Sequence[Answer], threshold: float) -> list[int]:
    """For each answer the index of the first answer whose prompt is a near-copy of its own."""
    firsts: dict[str, int] = {}
    for i, answer in enumerate(answers):
        firsts.setdefault(answer.question, i)
    where = list(firsts.values())
    groups = near_duplicate_groups([question_text(answers[i].prompt) for i in where], threshold)
    group_of = {q: where[g] for q, g in zip(firsts, groups, strict=True)}
    return [group_of[a.question] for a in answers]


def _join_equal(values: Sequence[str | None], sets: _Sets) -> None:
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if value:
            sets.join(i, first.setdefault(value, i))


def _name(answer: Answer, rules: Rules) -> str:
    parts = [answer.question]
    if "prompt" not in rules.group_by:
        parts = [answer.call.user_id or answer.call.session_id or answer.key]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _splits(roots: Sequence[int], names: dict[int, str], rules: Rules) -> dict[int, Split]:
    if rules.split_by == "hash":
        return {r: split_of(names[r], rules) for r in roots}
    n = len(roots)
    num_test = round(n * rules.test_fraction)
    num_held = num_test + round(n * rules.validation_fraction)
    # Answers come oldest first, so a smaller root is an older group.
    return {
        r: "test" if place >= n - num_test else "validation" if place >= n - num_held else "train"
        for place, r in enumerate(roots)
    }


# ------------------------------------------------------------------------------------------------------- MinHash


def _normal(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().lower()


def _join_similar(texts: Sequence[str], threshold: float, sets: _Sets) -> None:
    """Join what is alike. Of each text only its signature is kept: shingles are eight times as large as the text."""
    boilerplate = _boilerplate(texts)

    @lru_cache(SHINGLES_KEPT)
    def shingles(i: int) -> Hashes:
        own = _shingles(texts[i])
        kept = np.setdiff1d(own, boilerplate, assume_unique=True)
        return kept if len(kept) else own

    signatures = np.stack([_signature(shingles(i)) for i in range(len(texts))])
    for band in range(0, NUM_HASHES, BAND_ROWS):
        for i, members in _bucketed(signatures[:, band : band + BAND_ROWS]):
            recent = np.array(members[-MAX_COMPARED:])
            agreeing = (signatures[recent] == signatures[i]).mean(axis=1)
            for j in recent[agreeing >= threshold - DOUBT].tolist():
                if sets.find(i) != sets.find(j) and _jaccard(shingles(i), shingles(j)) >= threshold:
                    sets.join(i, j)


def _bucketed(band: NDArray[np.uint32]) -> Iterator[tuple[int, list[int]]]:
    """Each row that shares its band with an earlier one, with the earlier ones, in the order of rows."""
    _, bucket, sizes = np.unique(band, axis=0, return_inverse=True, return_counts=True)
    bucket = bucket.reshape(-1)
    members: dict[int, list[int]] = {}
    for i in np.flatnonzero(sizes[bucket] > 1).tolist():
        of_bucket = members.setdefault(int(bucket[i]), [])
        if of_bucket:
            yield i, of_bucket
        of_bucket.append(i)


def _shingles(text: str) -> Hashes:
    """Sorted distinct 64-bit hashes of the text's 5-grams of code points (of the whole text where it is shorter)."""
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS // 2] + text[-MAX_CHARS // 2 :]
    points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    width = min(SHINGLE, max(1, len(points)))
    count = max(0, len(points) - width + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for k in range(width):
        hashes = hashes * np.uint64(0x100000001B3) + points[k : k + count] + np.uint64(1)
    return np.unique(_mix(hashes))


def _mix(x: Hashes) -> Hashes:
    """Steele and others' splitmix64 finaliser: near inputs give unrelated outputs."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_MULTIPLIERS = _mix(np.arange(1, NUM_HASHES + 1, dtype=np.uint64)) | np.uint64(1)


def _signature(shingles: Hashes) -> NDArray[np.uint32]:
    if not len(shingles):
        return np.zeros(NUM_HASHES, dtype=np.uint32)
    hashed = (shingles[None, :] * _MULTIPLIERS[:, None]) >> np.uint64(32)
    return hashed.min(axis=1).astype(np.uint32)


def _boilerplate(texts: Sequence[str]) -> Hashes:
    """The 5-grams that too many of the texts share, from an even sample of them."""
    if len(texts) < BOILERPLATE_FROM:
        return np.zeros(0, dtype=np.uint64)
    sample = texts[:: -(-len(texts) // BOILERPLATE_SAMPLE)]
    found, counts = np.unique(np.concatenate([_shingles(t) for t in sample]), return_counts=True)
    return found[counts > BOILERPLATE_SHARE * len(sample)]


def _jaccard(a: Hashes, b: Hashes) -> float:
    if not len(a) and not len(b):
        return 1.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
