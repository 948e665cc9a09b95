"""A linear reward model: Bradley-Terry on TF-IDF words (of any script) and a few surface features.

What most teams should start with: from a thousand judgements it learns more than a transformer from random weights, trains
in seconds, is calibrated, and says which words it goes by. It scores texts for reports and best-of-n, and gives PPO a reward
function; since it can be gamed by words alone, the alarms matter all the more.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from heedloop.schema import Comparison
from heedloop.words import CLOSERS, COMMAS, EXCLAMATIONS, QUESTIONS, QUOTES, num_sentences, terms
from heedloop_trainer.ppo.rollout import Response


@dataclass(frozen=True, slots=True)
class LinearRewardConfig:
    """Settings of the linear reward model.

    Attributes:
        inverse_penalty: C of the logistic regression; smaller is smoother.
        surface_scale: how much the standardised surface features (length, sentences, punctuation) count against words.
        max_words: longest word sequence that is a feature; scripts without spaces have runs of up to four characters.
        min_count: texts in which a feature must occur.
        seed: kept for the manifest; the fit has no randomness.
    """

    inverse_penalty: float = 0.3
    surface_scale: float = 0.3
    max_words: int = 2
    min_count: int = 2
    seed: int = 0


SURFACE = (
    "root_characters", "log_characters", "log_words", "log_sentences", "words_per_sentence", "characters_per_word",
    "root_type_ratio", "type_ratio", "capitals", "exclamations", "questions", "commas", "starts_capital", "ends_closed",
    "long_words", "numbers", "quotes", "has_lines", "first_person", "lower_i",
)  # fmt: skip


FEATURES = 2
"""How texts are read: 2 by `heedloop.words`, any script; 1 as models were saved before, ASCII's punctuation and regular words."""


def surface_features(text: str, version: int = FEATURES) -> list[float]:
    """Length, sentence and punctuation features of one text, in the order of `SURFACE`; a character counts as a word where a
    script has no spaces."""
    if version == 1:
        words = re.findall(r"\w+", text)
        sentences = len([s for s in re.split(r"[.!?]+", text) if s.strip()])
        exclamations, questions, commas, quotes, closers = "!", "?", ",", '"', ".!?\"')"
    else:
        words, sentences = terms(text, most=1), num_sentences(text)
        exclamations, questions, commas, quotes, closers = EXCLAMATIONS, QUESTIONS, COMMAS, QUOTES, CLOSERS
    types = {w.lower() for w in words}
    count, characters = max(1, len(words)), max(1, len(text))
    return [
        len(text) ** 0.5,
        float(np.log1p(len(text))),
        float(np.log1p(len(words))),
        float(np.log1p(sentences)),
        count / max(1, sentences),
        sum(map(len, words)) / count,
        len(types) / count**0.5,
        len(types) / count,
        sum(c.isupper() for c in text) / characters,
        sum(map(text.count, exclamations)) / count,
        sum(map(text.count, questions)) / count,
        sum(map(text.count, commas)) / count,
        float(text[:1].isupper()),
        float(text.rstrip()[-1:] in tuple(closers)),
        sum(len(w) > 6 for w in words) / count,
        sum(w.isdigit() for w in words) / count,
        sum(map(text.count, quotes)) / count,
        float("\n" in text),
        sum(w.lower() == "i" for w in words) / count,
        sum(w == "i" for w in words) / count,
    ]


class LinearReward:
    """A fitted linear reward model; `train_reward_linear` makes it and `load` reads it back."""

    def __init__(
        self,
        config: LinearRewardConfig,
        vocabulary: dict[str, int],
        idf: np.ndarray,
        surface_mean: np.ndarray,
        surface_deviation: np.ndarray,
        weights: np.ndarray,
        *,
        gain: float = 1.0,
        bias: float = 0.0,
        version: int = FEATURES,
    ) -> None:
        self.version = version
        self.config, self.vocabulary, self.idf = config, vocabulary, idf
        self.surface_mean, self.surface_deviation = surface_mean, surface_deviation
        self.weights, self.gain, self.bias = weights, gain, bias
        self._vectors = _vectors(config, version, vocabulary=vocabulary)
        self._vectors.idf_ = idf

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """TF-IDF and scaled surface features, sparse [len(texts), num_features]."""
        surface = (
            np.array([surface_features(t, self.version) for t in texts]) - self.surface_mean
        ) / self.surface_deviation
        words = self._vectors.transform(texts)
        return csr_matrix(hstack([words, csr_matrix(surface * self.config.surface_scale)]))

    def raw(self, texts: Sequence[str]) -> np.ndarray:
        """Scores whose difference is the log-odds that one text is preferred to the other, [len(texts)]."""
        return np.zeros(0) if not texts else np.asarray(self.features(texts) @ self.weights)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Scores with mean 0 and variance 1 over the training texts."""
        return self.raw(texts) * self.gain + self.bias

    def __call__(self, responses: Sequence[Response]) -> list[float]:
        """The score of each response: a reward function for PPO and evaluation."""
        return self.score([r.text for r in responses]).tolist()

    def margins(self, rows: Sequence[Comparison]) -> np.ndarray:
        """Log-odds that `chosen` wins, [len(rows)]."""
        return self.raw([r.chosen for r in rows]) - self.raw([r.rejected for r in rows])

    def strongest(self, count: int = 20) -> list[tuple[str, float]]:
        """The features with the largest weights either way, strongest first."""
        names = [*sorted(self.vocabulary, key=self.vocabulary.__getitem__), *SURFACE]
        order = np.argsort(-np.abs(self.weights), kind="stable")[:count]
        return [(names[i], float(self.weights[i])) for i in order]

    def save(self, folder: str | Path) -> None:
        """Write `linear.json` (settings and vocabulary) and `linear.safetensors` (numbers)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "idf": self.idf,
            "surface_mean": self.surface_mean,
            "surface_deviation": self.surface_deviation,
            "weights": self.weights,
        }
        save_file(
            {k: np.ascontiguousarray(v, dtype=np.float64) for k, v in tensors.items()},
            folder / "linear.safetensors",
        )
        settings = {
            "config": {n: getattr(self.config, n) for n in LinearRewardConfig.__dataclass_fields__},
            "vocabulary": self.vocabulary,
            "features": self.version,
            "gain": self.gain,
            "bias": self.bias,
        }
        (folder / "linear.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> LinearReward:
        """Read a model that `save` wrote."""
        settings = json.loads((Path(folder) / "linear.json").read_text(encoding="utf-8"))
        tensors = load_file(Path(folder) / "linear.safetensors")
        config = LinearRewardConfig(**settings["config"])
        return cls(
            config,
            settings["vocabulary"],
            gain=settings["gain"],
            bias=settings["bias"],
            version=settings.get("features", 1),
            **tensors,
        )


def _vectors(config: LinearRewardConfig, version: int = FEATURES, **kwargs: Any) -> TfidfVectorizer:
    if version == 1:
        return TfidfVectorizer(ngram_range=(1, config.max_words), sublinear_tf=True, **kwargs)
    return TfidfVectorizer(
        analyzer=functools.partial(terms, max_words=config.max_words), sublinear_tf=True, **kwargs
    )


def train_reward_linear(config: LinearRewardConfig, rows: Sequence[Comparison]) -> LinearReward:
    """Fit Bradley-Terry on feature differences, weighted by row; ties enter as half a win for either side.

    Raises:
        ValueError: there are no rows.
    """
    rows = [r for r in rows if r.weight > 0]
    if not rows:
        raise ValueError(
            "there are no comparisons to learn from; pairs come from comparisons, corrections and thumbs"
        )
    texts = list(dict.fromkeys(t for r in rows for t in (r.chosen, r.rejected)))
    vocabulary, idf = _vocabulary(config, texts)
    surface = np.array([surface_features(t) for t in texts])
    deviation = surface.std(0)
    model = LinearReward(
        config,
        vocabulary,
        idf,
        surface.mean(0),
        np.where(deviation > 1e-9, deviation, 1.0),
        np.zeros(len(vocabulary) + len(SURFACE)),
    )
    place = {t: i for i, t in enumerate(texts)}
    features = model.features(texts)
    pairs = _pairs(rows)
    gaps = features[[place[a] for a, _ in pairs]] - features[[place[b] for _, b in pairs]]
    won, lost = np.array(list(pairs.values())).T / 2
    # Both ways round, half the weight each: the same likelihood as once, and the regression has no side to prefer.
    labels = np.r_[np.ones(2 * len(pairs)), np.zeros(2 * len(pairs))]
    fit = LogisticRegression(C=config.inverse_penalty, max_iter=1000, fit_intercept=False)
    fit.fit(vstack([gaps, -gaps, gaps, -gaps]), labels, sample_weight=np.r_[won, lost, lost, won])
    model.weights = fit.coef_[0]
    raw = model.raw(texts)
    spread = float(raw.std())
    model.gain = 1 / spread if spread > 1e-9 else 1.0
    model.bias = -float(raw.mean()) * model.gain
    return model


def _pairs(rows: Sequence[Comparison]) -> dict[tuple[str, str], tuple[float, float]]:
    """Weight of wins and of losses by pair of texts, a tie half of each: many votes on one pair are one row of the fit."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        turned = row.chosen > row.rejected
        pair = (row.rejected, row.chosen) if turned else (row.chosen, row.rejected)
        share = 0.5 if row.tie else float(not turned)
        won, lost = found.get(pair, (0.0, 0.0))
        found[pair] = (won + row.weight * share, lost + row.weight * (1 - share))
    return found


def _vocabulary(config: LinearRewardConfig, texts: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
    """Words and word pairs with their inverse document frequencies; all of them where nothing occurs often enough."""
    for min_count in (config.min_count, 1):
        try:
            fitted = _vectors(config, min_df=min_count).fit(texts)
        except ValueError:
            continue
        return {word: int(i) for word, i in fitted.vocabulary_.items()}, fitted.idf_
    return {"\x00": 0}, np.ones(1)  # texts without any word: the surface features are all there is
