"""Which texts are like a text: word weights and cosine, of a bounded number of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from heedloop_server.statistics.clusters import MAX_CHARS, TOKEN

__all__ = ["most_similar", "telling_words"]


def telling_words(text: str, *, limit: int = 12) -> list[str]:
    """The words of a text that a search should look for, the longest first: letters and digits, no stop words."""
    from sklearn.feature_extraction.text import (
        ENGLISH_STOP_WORDS,  # scikit-learn takes two seconds to import, which a starting server shall not wait for
    )

    words = {
        w for w in "".join(c if c.isalnum() else " " for c in text[:MAX_CHARS].lower()).split() if len(w) > 2
    }
    told = [w for w in words if w.isascii() and w not in ENGLISH_STOP_WORDS]
    return sorted(told, key=lambda w: (-len(w), w))[:limit]


def most_similar(
    text: str, texts: Sequence[str], *, limit: int = 5, least: float = 0.05
) -> list[tuple[int, float]]:
    """(index, cosine of TF-IDF vectors) of the texts most like `text`, the most alike first; those below `least` are left out.

    Words and pairs of words, sublinear counts; the weights are made over the candidates and the text itself.
    Source: Salton & Buckley 1988, Inf. Process. Manag. 24:513-523.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not texts:
        return []
    try:
        vectors = cast(
            Any,
            TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), sublinear_tf=True, stop_words="english"),
        ).fit_transform([text[:MAX_CHARS], *(t[:MAX_CHARS] for t in texts)])
    except ValueError:  # no word is left
        return []
    cosines = np.asarray((vectors[1:] @ vectors[0].T).todense(), float).ravel()
    order = np.argsort(-cosines, kind="stable")[:limit]
    return [(int(i), float(min(cosines[i], 1.0))) for i in order if cosines[i] >= least]
