"""Which texts are like a text: word weights and cosine, of a bounded number of candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from heedloop.words import terms, words
from heedloop_server.statistics.clusters import MAX_CHARS


def telling_words(text: str, sample: Sequence[str] = (), *, limit: int = 12) -> list[str]:
    """The words of a text that a search should look for: those in fewest texts of `sample` first, the longer before the shorter.

    Filler words are known by how many texts have them, not by a list: in any language they come last. Words of one character
    are left out where there are others.
    """
    own = set(words(text[:MAX_CHARS]))
    own = {w for w in own if len(w) > 1} or own
    num_texts = Counter(w for s in sample for w in own & set(words(s[:MAX_CHARS])))
    return sorted(own, key=lambda w: (num_texts[w], -len(w), w))[:limit]


def most_similar(
    text: str, texts: Sequence[str], *, background: Sequence[str] = (), limit: int = 5, least: float = 0.05
) -> list[tuple[int, float]]:
    """(index, cosine of TF-IDF vectors) of the texts most like `text`, the most alike first; those below `least` are left out.

    Words and pairs of words (characters where a script has no spaces), sublinear counts; how rare a word is is counted over
    the candidates, the text itself and `background`, so that filler words of any language weigh little.
    Source: Salton & Buckley 1988, Inf. Process. Manag. 24:513-523.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    if not texts:
        return []
    rows = [text[:MAX_CHARS], *(t[:MAX_CHARS] for t in texts), *(t[:MAX_CHARS] for t in background)]
    vectorizer = cast(Any, TfidfVectorizer)(
        analyzer=partial(terms, most=2, max_words=2), sublinear_tf=True, norm=None
    )
    try:
        vectors = vectorizer.fit_transform(rows)[: 1 + len(texts)]
    except ValueError:  # no word is left
        return []
    weight = (
        1 - 0.5 / vectorizer.idf_
    )  # idf - 0.5: what everybody says weighs a half, a rare word of 2,000 texts seven
    vectors = cast(Any, normalize)(vectors.multiply(weight).tocsr())
    cosines = np.asarray((vectors[1:] @ vectors[0].T).todense(), float).ravel()
    order = np.argsort(-cosines, kind="stable")[:limit]
    return [(int(i), float(min(cosines[i], 1.0))) for i in order if cosines[i] >= least]
