"""Clusters of low-rated answers and comments: what do the complaints have in common?"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from heedloop.words import graphemes, is_unspaced, spelled_words, terms
from heedloop_server.statistics.intervals import Array

MAX_TEXTS = 20_000
MAX_CHARS = 4_000
_COMPONENTS = 50
_MIN_TEXTS = 10


@dataclass(frozen=True, slots=True)
class Cluster:
    """Texts that are alike.

    Attributes:
        name: the three words that set it apart, the most telling first; stable while the words are.
        words: up to ten words that set it apart, as its texts write them.
        members: indices into the texts, the most central first.
        examples: the first of `members`.
        cohesion: mean cosine of members and centre, 0 to 1.
        key: short hash of `words`, to find the cluster again after the next run.
    """

    name: str
    words: tuple[str, ...]
    members: tuple[int, ...]
    examples: tuple[int, ...]
    cohesion: float
    key: str


def cluster_texts(
    texts: Sequence[str],
    *,
    num_clusters: int | None = None,
    background: Sequence[str] = (),
) -> list[Cluster]:
    """Clusters of texts, the largest first; empty where there are fewer than ten texts or they share no words.

    TF-IDF, reduced by SVD to 50 dimensions of unit length, k-means; the number of clusters is the one of 2 to 12 with the
    best silhouette. `background` are texts of all kinds: a word that they have as well tells nothing of a cluster.

    Source: Deerwester et al. 1990 (latent semantic analysis); Rousseeuw 1987 (silhouette).
    """
    chosen_texts = [t[:MAX_CHARS] for t in texts[:MAX_TEXTS]]
    if len(chosen_texts) < _MIN_TEXTS:
        return []
    points = _points(chosen_texts)
    if points is None:
        return []
    labels, centres = _partition(points, num_clusters)
    words = _class_words(chosen_texts, labels, int(labels.max()) + 1, background)
    result = [
        _cluster(points, labels == i, centres[i], words[i])
        for i in range(len(centres))
        if (labels == i).any()
    ]
    return sorted(result, key=lambda c: (-len(c.members), c.name))


def count_alike(texts: Sequence[str], clusters: Sequence[Cluster], others: Sequence[str]) -> list[int]:
    """How many of some other texts each cluster is nearest to, in a space that is made of both; 0 where they share no words.

    With the low-rated texts as `texts` and the liked ones as `others`, a cluster's share of low-rated ones is its down rate.
    """
    chosen_texts = [t[:MAX_CHARS] for t in texts[:MAX_TEXTS]]
    points = _points([*chosen_texts, *(t[:MAX_CHARS] for t in others[:MAX_TEXTS])]) if clusters else None
    if points is None:
        return [0] * len(clusters)
    centres = _unit(np.stack([points[list(c.members)].mean(axis=0) for c in clusters]))
    nearest = (points[len(chosen_texts) :] @ centres.T).argmax(axis=1) if others else np.zeros(0, int)
    return np.bincount(nearest, minlength=len(clusters)).tolist()


def _points(texts: Sequence[str]) -> Array | None:
    """(n, d) unit vectors; None where the texts share no words."""
    from sklearn.decomposition import (
        TruncatedSVD,  # scikit-learn takes two seconds to import, which a starting server shall not wait for
    )
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        table = cast(Any, TfidfVectorizer)(
            analyzer=_features, min_df=2, max_df=0.8, sublinear_tf=True, max_features=20_000
        ).fit_transform(texts)
    except ValueError:  # no word is left
        return None
    if min(table.shape) < 3:
        return None
    size = min(_COMPONENTS, table.shape[1] - 1, table.shape[0] - 1)
    return _unit(TruncatedSVD(size, random_state=0).fit_transform(table))


def _unit(rows: object) -> Array:
    from sklearn.preprocessing import normalize

    return np.asarray(cast(Any, normalize)(rows), float)


def _partition(points: Array, num_clusters: int | None) -> tuple[Array, Array]:
    """Labels (n,) and unit centres (k, d)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    most = min(12, len(points) // 3)
    choices = [num_clusters] if num_clusters else range(2, max(3, most + 1))
    sample = np.random.default_rng(0).permutation(len(points))[:2000]
    best: tuple[float, Any] | None = None
    for k in choices:
        fit = cast(Any, KMeans)(min(k, len(points)), n_init=4, random_state=0).fit(points)
        num_found = len(set(fit.labels_[sample].tolist()))
        score = (
            float(silhouette_score(points[sample], fit.labels_[sample]))
            if 1 < num_found < len(sample)
            else -1.0
        )
        if best is None or score > best[0]:
            best = (score, fit)
    if best is None:
        raise ValueError("num_clusters must be 1 or more")
    return best[1].labels_, _unit(best[1].cluster_centers_)


def _features(text: str) -> list[str]:
    """Terms of a text without numbers and single letters; single characters stay where a script has no spaces."""
    return [t for t in terms(text, most=2) if not t.isdigit() and (len(t) > 1 or not t.isascii())]


def _class_words(
    texts: Sequence[str], labels: Array, num_clusters: int, background: Sequence[str]
) -> list[list[str]]:
    """The ten words that set each cluster apart, as they are most often written in it.

    A word counts by the share of the cluster's texts that have it, times the logarithm of how much larger that is than the share
    of all texts, or of `background` where that is larger: what all have (filler words of any language) counts nothing. Source: the pointwise
    Kullback-Leibler divergence, Tomokiyo & Hurst 2003, ACL workshop on multiword expressions.
    """
    spelled = [_spellings(t) for t in texts]
    usual = _shares(spelled)
    for word, share in _shares([_spellings(t[:MAX_CHARS]) for t in background]).items():
        usual[word] = max(share, usual.get(word, 0.0))
    return [
        _telling([f for f, at in zip(spelled, labels, strict=True) if at == i], usual)
        for i in range(num_clusters)
    ]


def _shares(spelled: Sequence[dict[str, str]]) -> dict[str, float]:
    """Word -> share of texts that have it."""
    return {w: n / len(spelled) for w, n in Counter(w for result in spelled for w in result).items()}


def _spellings(text: str) -> dict[str, str]:
    """Folded word -> how the text writes it first; no numbers, single characters only where there is nothing else.

    Nor pieces of more than eight characters of a script without spaces: what ICU's dictionary does not know comes out whole.
    """
    result: dict[str, str] = {}
    for folded, written in spelled_words(text):
        if not folded.isdigit():
            result.setdefault(folded, written)
    return {
        f: w for f, w in result.items() if len(graphemes(f)) > 1 and not (len(w) > 8 and is_unspaced(w))
    } or result


def _telling(members: Sequence[dict[str, str]], usual: Mapping[str, float]) -> list[str]:
    scores = {w: share * math.log(share / usual[w]) for w, share in _shares(members).items()}
    best = sorted((w for w in scores if scores[w] > 0), key=lambda w: (-scores[w], w))[:10]
    written = {w: Counter(result[w] for result in members if w in result) for w in best}
    return [min(written[w], key=lambda form: (-written[w][form], form)) for w in best]


def _cluster(points: Array, mask: Array, centre: Array, words: Sequence[str]) -> Cluster:
    members = np.flatnonzero(mask)
    nearness = points[members] @ centre
    ordered = members[np.argsort(-nearness, kind="stable")]
    return Cluster(
        name=", ".join(words[:3]) or "other",
        words=tuple(words),
        members=tuple(int(i) for i in ordered),
        examples=tuple(int(i) for i in ordered[:3]),
        cohesion=float(np.clip(nearness.mean(), 0, 1)),
        key=hashlib.sha256(" ".join(sorted(words[:5])).encode()).hexdigest()[:12],
    )


def carry_names(now: Sequence[Cluster], before: Iterable[Cluster], *, least: float = 0.3) -> dict[str, str]:
    """Key of a cluster of today -> name of the one of before that it continues, so that a name lasts over runs.

    Two clusters are the same where their words overlap by `least` (Jaccard) or more; each earlier one is continued once,
    by the one most like it.
    """
    pairs = sorted(
        ((_likeness(a, b), a.key, b.key, b.name) for a in now for b in before),
        key=lambda p: (-p[0], p[1], p[2]),
    )
    names: dict[str, str] = {}
    continued: set[str] = set()
    for likeness, key, old_key, name in pairs:
        if likeness >= least and key not in names and old_key not in continued:
            names[key] = name
            continued.add(old_key)
    return names


def _likeness(a: Cluster, b: Cluster) -> float:
    either = set(a.words) | set(b.words)
    return len(set(a.words) & set(b.words)) / len(either) if either else 0.0
