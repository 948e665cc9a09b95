"""Which candidates' questions are like a question: TF-IDF and cosine over all of them, or a model's vectors.

An index is made of segments, a large one and the newest: a new candidate costs the small one alone. Terms are hashed to 2**20 places, so
that no vocabulary is kept. Source: Salton & Buckley 1988, Inf. Process. Manag. 24:513-523.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from heedloop.words import terms
from heedloop_server.examples.candidates import Candidate

NUM_PLACES = 1 << 20
MAX_CHARS = 2_000
"""Of a longer question only its beginning is compared."""
FEW = 2_000
"""So many candidates are made into one segment at every change; of more, those that changed make one of their own."""
MAX_MASKS = 64
FREQUENT = 8
"""Places that more than an eighth of the texts have are kept as a weight for every text; there are eight times a text's places at most."""
EMBEDDED_AT_ONCE = 64
Key = tuple[str, str]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> a row of unit length each."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question and which candidates may be like it; see `heedloop.examples`."""

    question: str
    min_score: float = 0.2
    prompt_name: str | None = None
    language: str | None = None


class Scorer(Protocol):
    """Finds the similar ones among texts."""

    def scores(self, question: str) -> NDArray[np.float32]:
        """Similarity of each text, 0 to 1."""
        ...


def term_counts(text: str) -> Counter[int]:
    """Places of a text's words and pairs of words with their counts."""
    found = terms(text[:MAX_CHARS], most=2, max_words=2)
    return Counter(crc32(t.encode("utf-8", "replace")) % NUM_PLACES for t in found)


@dataclass(frozen=True, slots=True)
class WordScorer:
    """Postings by place: `rows[starts[p]:starts[p + 1]]` are the texts that have the place, `weights` theirs, of unit length.

    Attributes:
        idf: by place, of the largest segment of the index.
    """

    num_texts: int
    idf: NDArray[np.float32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    _dense: dict[int, NDArray[np.float32]] = field(default_factory=dict[int, NDArray[np.float32]])

    @classmethod
    def of(cls, texts: Sequence[str], idf: NDArray[np.float32] | None = None) -> WordScorer:
        """The scorer of these texts; with an `idf` of its own where none is given."""
        counted = [term_counts(t) for t in texts]
        places = np.fromiter((p for c in counted for p in c), np.int64)
        rows = np.repeat(np.arange(len(counted), dtype=np.int32), [len(c) for c in counted])
        counts = np.fromiter((n for c in counted for n in c.values()), np.float32)
        if idf is None:
            idf = _idf(np.bincount(places, minlength=NUM_PLACES), len(texts))
        weights = (1 + np.log(counts)) * idf[places]
        lengths = np.sqrt(np.bincount(rows, weights**2, minlength=len(texts)))
        order = np.argsort(places, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=NUM_PLACES))])
        unit = (weights / lengths[rows]).astype(np.float32)
        return cls(len(texts), idf, starts, rows[order], unit[order])

    def scores(self, question: str) -> NDArray[np.float32]:
        """See `Scorer`."""
        scores = np.zeros(self.num_texts, np.float32)
        counts = term_counts(question)
        weights = {p: (1 + float(np.log(n))) * float(self.idf[p]) for p, n in counts.items()}
        length = sum(w * w for w in weights.values()) ** 0.5
        for place, weight in weights.items():
            first, last = self.starts[place], self.starts[place + 1]
            if last - first > self.num_texts / FREQUENT:
                scores += weight / length * self._of_all(place)
            else:
                scores[self.rows[first:last]] += weight / length * self.weights[first:last]
        return scores

    def _of_all(self, place: int) -> NDArray[np.float32]:
        """A frequent place's weight in every text; kept, since adding all is twenty times faster than adding at rows."""
        dense = self._dense.get(place)
        if dense is None:
            own = slice(self.starts[place], self.starts[place + 1])
            dense = np.zeros(self.num_texts, np.float32)
            dense[self.rows[own]] = self.weights[own]
            self._dense[place] = dense
        return dense


def _idf(num_with: NDArray[Any], num: int) -> NDArray[np.float32]:
    """ln((1 + n) / (1 + n with it)) + 0.5: what all have weighs a half."""
    return (np.log((1 + num) / (1 + num_with)) + 0.5).astype(np.float32)


@dataclass(frozen=True, slots=True)
class VectorScorer:
    """Vectors of a model, a row of unit length per text."""

    embed: Embed
    vectors: NDArray[np.float32]

    def scores(self, question: str) -> NDArray[np.float32]:
        """See `Scorer`."""
        return self.vectors @ self.embed([question[:MAX_CHARS]])[0]


@dataclass(frozen=True, slots=True)
class Segment:
    """Candidates that are searched together."""

    candidates: Sequence[Candidate]
    scorer: Scorer
    _masks: dict[tuple[str | None, str | None], NDArray[np.bool_]] = field(default_factory=dict)

    def similar(self, wanted: Wanted, limit: int) -> list[tuple[Candidate, float]]:
        """The candidates that are wanted with their scores, at most `limit`, in no order."""
        if not self.candidates:
            return []
        scores = self.scorer.scores(wanted.question)
        rows = np.flatnonzero(scores >= wanted.min_score)
        if wanted.prompt_name is not None or wanted.language is not None:
            rows = rows[self._mask(wanted)[rows]]
        if len(rows) > limit:
            rows = rows[np.argpartition(-scores[rows], limit)[:limit]]
        return [(self.candidates[row], min(float(scores[row]), 1.0)) for row in rows.tolist()]

    def _mask(self, wanted: Wanted) -> NDArray[np.bool_]:
        """True for the candidates that the filters take; kept, since an app asks with the same ones again and again."""
        chosen = (wanted.prompt_name, wanted.language)
        mask = self._masks.get(chosen)
        if mask is None:
            prompt, language = chosen
            mask = np.fromiter(
                (prompt in (None, c.prompt_name) and language in (None, c.language) for c in self.candidates),
                np.bool_,
                len(self.candidates),
            )
            if len(self._masks) >= MAX_MASKS:
                self._masks.clear()
            self._masks[chosen] = mask
        return mask


class ExampleIndex:
    """The candidates of one project: a large segment, and a small one of those that came or changed since.

    Args:
        embed: a model's vectors in place of words.
    """

    def __init__(self, embed: Embed | None = None) -> None:
        self._embed = embed
        self._main = self._recent = Segment((), WordScorer.of(()))
        self._changed: dict[Key, Candidate | None] = {}

    @property
    def num_candidates(self) -> int:
        """How many there are, those that changed lately counted twice."""
        return len(self._main.candidates) + len(self._recent.candidates)

    def candidates(self) -> list[Candidate]:
        """All of them."""
        main = (c for c in self._main.candidates if c.key not in self._changed)
        return [*main, *self._recent.candidates]

    def change(self, changed: Mapping[Key, Candidate | None]) -> None:
        """Put candidates in, in place of what their calls had; None takes one out."""
        if not changed:
            return
        now, main = {**self._changed, **changed}, self._main
        if len(now) > max(FEW, len(main.candidates) // 20) or len(main.candidates) < FEW:
            kept = {c.key: c for c in main.candidates} | now
            main, now = self._segment(kept.values(), None), dict[Key, Candidate | None]()
        recent = self._segment(now.values(), main.scorer)
        self._main, self._recent, self._changed = main, recent, now

    def similar(self, wanted: Wanted, *, limit: int) -> list[tuple[Candidate, float]]:
        """The candidates that are wanted, the most alike first."""
        changed = self._changed
        more = limit + min(limit, len(changed))  # as many as may be left out here
        found = [f for f in self._main.similar(wanted, more) if f[0].key not in changed]
        found += self._recent.similar(wanted, limit)
        return sorted(found, key=lambda f: -f[1])[:limit]

    def _segment(self, given: Iterable[Candidate | None], like: Scorer | None) -> Segment:
        candidates = [c for c in given if c is not None]
        questions = [c.question[:MAX_CHARS] for c in candidates]
        if self._embed is None:
            return Segment(
                candidates, WordScorer.of(questions, like.idf if isinstance(like, WordScorer) else None)
            )
        return Segment(candidates, VectorScorer(self._embed, self._vectors(candidates, questions)))

    def _vectors(self, candidates: Sequence[Candidate], questions: Sequence[str]) -> NDArray[np.float32]:
        """A model's vectors; those that are known are not asked for again."""
        assert self._embed is not None  # noqa: S101
        known = {
            c.question: vector
            for segment in (self._main, self._recent)
            if isinstance(segment.scorer, VectorScorer)
            for c, vector in zip(segment.candidates, segment.scorer.vectors, strict=True)
        }
        unknown = list({q for c, q in zip(candidates, questions, strict=True) if c.question not in known})
        made: dict[str, NDArray[np.float32]] = {}
        for first in range(0, len(unknown), EMBEDDED_AT_ONCE):
            batch = unknown[first : first + EMBEDDED_AT_ONCE]
            made |= dict(zip(batch, self._embed(batch), strict=True))
        vectors = [
            known[c.question] if c.question in known else made[q]
            for c, q in zip(candidates, questions, strict=True)
        ]
        return np.stack(vectors) if vectors else np.zeros((0, 1), np.float32)
