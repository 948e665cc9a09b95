"""How good a model really is: held-out judgements beside the baselines, and new against parent.

Every number comes with a 95% interval. Comparisons of one judge are not independent, so their intervals resample judges,
not rows, and prompt groups where the judges are few or have no name. In every report are baselines: "the longer answer wins", the better
of longer and shorter (chosen on the training rows), and a logistic regression on TF-IDF differences; a reward model that does not beat
them has learned nothing worth running PPO against.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import vstack
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from heedloop.schema import Comparison, PromptRow
from heedloop.words import terms
from heedloop_trainer.evaluation.calibration import calibration_error, log_loss, reliability
from heedloop_trainer.evaluation.estimates import Estimate, cluster_bootstrap, row_bootstrap
from heedloop_trainer.evaluation.slices import Attributes, slice_estimates
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.nn.encoder import Encoder, PromptConfig
from heedloop_trainer.nn.models import RewardModel, evaluating, stop_ids
from heedloop_trainer.ppo.rollout import Response, RewardFunction, function_scores

BASELINES = ("longer answer wins", "length, sign fitted on train", "bag of words")
"""What every reward model is compared with."""

# ----------------------------------------------------------------------------------------- margins of comparisons


def length_margins(rows: Sequence[Comparison]) -> np.ndarray:
    """Characters of chosen minus rejected: "the longer answer wins"."""
    return np.array([len(r.chosen) - len(r.rejected) for r in rows], dtype=float)


def fitted_length_margins(train: Sequence[Comparison], test: Sequence[Comparison]) -> np.ndarray:
    """`length_margins` with the sign that is right more often on `train`: the better of longer and shorter wins."""
    decided = [r for r in train if not r.tie]
    votes = np.sign(length_margins(decided)) @ np.array([r.weight for r in decided])
    return length_margins(test) * (1.0 if votes >= 0 else -1.0)


def bag_of_words_margins(train: Sequence[Comparison], test: Sequence[Comparison]) -> np.ndarray:
    """Log-odds that `chosen` wins from a logistic regression on TF-IDF differences (words and pairs of words, in any
    script: `heedloop.words.terms`).

    Each training pair enters both ways round, so that the model has no side to prefer.
    """
    decided = [r for r in train if not r.tie]
    if not decided:
        return np.zeros(len(test))
    vectors = TfidfVectorizer(analyzer=functools.partial(terms, max_words=2), min_df=2, sublinear_tf=True)
    try:
        vectors.fit([t for r in decided for t in (r.chosen, r.rejected)])
    except ValueError:  # nothing occurs twice in so few rows
        vectors = TfidfVectorizer(analyzer=terms).fit([t for r in decided for t in (r.chosen, r.rejected)])

    def differences(rows: Sequence[Comparison]) -> Any:
        return vectors.transform([r.chosen for r in rows]) - vectors.transform([r.rejected for r in rows])

    gaps = differences(decided)
    weights = np.array([r.weight for r in decided])
    model = LogisticRegression(C=1.0, max_iter=1000, fit_intercept=False)
    labels = np.r_[np.ones(gaps.shape[0]), np.zeros(gaps.shape[0])]
    model.fit(vstack([gaps, -gaps]), labels, sample_weight=np.r_[weights, weights])
    return model.decision_function(differences(test))


def reward_margins(
    reward_model: RewardModel, rows: Sequence[Comparison], *, max_tokens: int = 16_384
) -> np.ndarray:
    """Log-odds that `chosen` wins: the raw rewards' difference, divided by the model's calibration temperature.

    Answers are read at the lengths that the model was trained on. Rows that its chat template cannot write, and answers that
    are equal within those lengths, get 0: the model cannot tell.
    """
    encoded = reward_model.encoder().rows(rows, needed=False)
    margins = np.zeros(len(rows))
    if not encoded.rows:
        return margins
    sequences = [pair[side] for side in (0, 1) for pair in encoded.sequences]
    distinct = {
        (*s.prompt_ids, -1, *s.response_ids): s for s in sequences
    }  # many judgements are of the same few answers
    with evaluating(reward_model):
        found = reward_model.outputs([*distinct.values()], max_tokens=max_tokens)[:, 0].tolist()
    raw = dict(zip(distinct, found, strict=True))
    chosen, rejected = np.split(np.array([raw[(*s.prompt_ids, -1, *s.response_ids)] for s in sequences]), 2)
    read = {id(r) for r in encoded.rows}
    margins[[id(r) in read for r in rows]] = (chosen - rejected) / reward_model.temperature
    return margins


def _right(margins: np.ndarray) -> np.ndarray:
    """1 where a row is judged right, 0.5 where not at all, float64 [n]."""
    return np.where(margins == 0, 0.5, margins > 0).astype(float)


def _mean(rows: Sequence[Comparison], values: np.ndarray, *, share: bool = True) -> Estimate:
    weights = np.array([r.weight for r in rows])
    return cluster_bootstrap(values, _clusters(rows), weights, share=share)


MIN_JUDGES = 5


def _clusters(rows: Sequence[Comparison]) -> list[Any]:
    """What goes together: a judge's rows; those of nobody by name (also a majority's) by their prompt group.

    By prompt group throughout where fewer than five judges made the labels (one who made most counts as one: the inverse of the
    summed squares of their shares), since resampling so few says nothing.
    """
    groups: list[Any] = [("group", r.group) if r.group else None for r in rows]
    counts = np.array([*Counter(r.author for r in rows if r.author is not None).values()], dtype=float)
    if len(counts) == 0 or counts.sum() ** 2 / (counts**2).sum() < MIN_JUDGES:
        return groups
    return [r.author if r.author is not None else group for r, group in zip(rows, groups, strict=True)]


def _correlation(margins: np.ndarray, lengths: np.ndarray) -> float | None:
    """Spearman's rank correlation of what a model prefers with how much longer that is; None where either never varies."""
    if len(margins) < 3 or not margins.std() or not lengths.std():
        return None
    # either side may be called the first: both ways round, so that "always the chosen one" is no correlation
    return float(spearmanr(np.r_[margins, -margins], np.r_[lengths, -lengths]).statistic)


def evaluate_comparisons(
    test: Sequence[Comparison],
    train: Sequence[Comparison],
    *,
    models: Mapping[str, np.ndarray] | None = None,
    ceiling: float | None = None,
    attributes: Attributes | None = None,
) -> dict[str, Any]:
    """Held-out pairwise accuracy of reward models beside chance, length and bag of words, as JSON.

    Args:
        test: held-out comparisons; ties are counted but decide nothing.
        train: what the bag-of-words baseline is fitted on.
        models: log-odds that `chosen` wins by a model's name, one per row of `test`. The first is the one in question:
            calibration and slices are its, and `paired_gain`, its accuracy minus each baseline's on the same rows.
        ceiling: the accuracy that no model can exceed on single votes, from how far judges agree.
        attributes: which slices each trace is in.

    Raises:
        ValueError: no decided comparison is held out.
    """
    keep = [i for i, r in enumerate(test) if not r.tie]
    decided = [test[i] for i in keep]
    if not decided:
        raise ValueError(
            f"none of the {len(test)} held-out comparisons is decided; there is nothing to measure accuracy on"
        )
    known = (
        length_margins(decided),
        fitted_length_margins(train, decided),
        bag_of_words_margins(train, decided),
    )
    margins = {
        **dict(zip(BASELINES, known, strict=True)),
        **{name: values[keep] for name, values in (models or {}).items()},
    }
    accuracies: dict[str, Any] = {"chance": {"estimate": 0.5}}
    right = {name: _right(values) for name, values in margins.items()}
    accuracies |= {name: asdict(_mean(decided, values)) for name, values in right.items()}
    report: dict[str, Any] = {
        "num_comparisons": len(decided),
        "num_ties": len(test) - len(decided),
        "num_judges": len({r.author for r in decided if r.author is not None}),
        "num_train": len(train),
        "accuracy": accuracies,
        "agreement_ceiling": ceiling,
    }
    if models:
        report["length_correlation"] = {
            name: _correlation(values[keep], margins["longer answer wins"]) for name, values in models.items()
        }
        first = next(iter(models))
        report["paired_gain"] = {
            name: asdict(_mean(decided, right[first] - right[name], share=False)) for name in BASELINES
        }
        report |= _calibration_and_slices(decided, margins[first], attributes or {})
    return report


def _calibration_and_slices(
    rows: Sequence[Comparison], margins: np.ndarray, attributes: Attributes
) -> dict[str, Any]:
    slices = slice_estimates(rows, _right(margins), _clusters(rows), attributes)
    return {
        "calibration_error": calibration_error(margins),
        "log_loss": log_loss(margins),
        "reliability": [asdict(b) for b in reliability(margins)],
        "slices": {name: asdict(found) for name, found in slices.items()},
    }


# ----------------------------------------------------------------------------------------------- new against parent


def sample_responses(
    policy: Any,
    tokenizer: Any,
    prompts: Sequence[PromptRow],
    config: SamplingConfig,
    *,
    written: PromptConfig = PromptConfig(),  # noqa: B008  (frozen)
) -> list[Response]:
    """One response of a policy per prompt; `written` says how prompts are written for it."""
    encoder = Encoder.of(written, tokenizer, config.max_new_tokens)
    generate = CachedGenerator(policy, stop_ids(policy, tokenizer))
    out = generate(encoder.prompts([p.prompt for p in prompts], [p.tools for p in prompts]), config)
    return [
        Response(p, encoder.decode(g.response_ids), g.response_ids, g.ended)
        for p, g in zip(prompts, out, strict=True)
    ]


def score_responses(
    responses: Sequence[Response], judge: RewardModel | RewardFunction, *, max_tokens: int = 16_384
) -> np.ndarray:
    """A judge's number for each response, float64 [n]."""
    if not isinstance(judge, RewardModel):
        return np.array(function_scores(judge, responses))
    sequences = judge.encoder().sequences(
        [r.prompt.prompt for r in responses],
        [r.text for r in responses],
        tools=[r.prompt.tools for r in responses],
        ended=[r.ended for r in responses],
    )
    return judge.score(sequences, max_tokens=max_tokens).double().numpy()


def best_of(
    policy: Any,
    tokenizer: Any,
    prompts: Sequence[PromptRow],
    judge: RewardModel | RewardFunction,
    config: SamplingConfig,
    *,
    num_candidates: int,
    written: PromptConfig = PromptConfig(),  # noqa: B008  (frozen)
) -> list[Response]:
    """The response per prompt that the judge scores highest of `num_candidates`: a reward model's gain without training.

    Its KL to the policy is at most log n - (n - 1) / n nats (arXiv 2112.09332, section 3.2).
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates must be 1 or more, not {num_candidates}")
    repeated = [p for p in prompts for _ in range(num_candidates)]
    candidates = sample_responses(policy, tokenizer, repeated, config, written=written)
    scores = score_responses(candidates, judge).reshape(len(prompts), num_candidates)
    return [candidates[i * num_candidates + int(k)] for i, k in enumerate(scores.argmax(1))]


@dataclass(frozen=True, slots=True)
class WinRate:
    """New against parent on the same prompts.

    Attributes:
        win_rate: share of prompts on which the new answer scores higher, ties half.
        gain: mean difference of scores.
        length_controlled: win rate expected at equal length, by a logistic regression on the length difference.
        length_ratio: mean characters of new answers over those of the parent.
        slices: win rates by slice.
    """

    win_rate: Estimate
    gain: Estimate
    length_controlled: Estimate
    length_ratio: float
    slices: Mapping[str, Estimate] = field(default_factory=dict)


def compare_policies(
    new: Sequence[Response],
    parent: Sequence[Response],
    judge: RewardModel | RewardFunction,
    *,
    attributes: Attributes | None = None,
) -> WinRate:
    """Win rate of `new` over `parent`, prompt by prompt, clustered by prompt group."""
    gaps = score_responses(new, judge) - score_responses(parent, judge)
    groups = [r.prompt.group or None for r in new]
    wins = np.where(gaps == 0, 0.5, gaps > 0).astype(float)
    lengths = np.array([len(a.text) - len(b.text) for a, b in zip(new, parent, strict=True)], dtype=float)
    before = max(1, sum(len(r.text) for r in parent))
    return WinRate(
        cluster_bootstrap(wins, groups),
        cluster_bootstrap(gaps, groups, share=False),
        _length_controlled(wins, lengths),
        sum(len(r.text) for r in new) / before,
        slice_estimates([r.prompt for r in new], wins, groups, attributes or {}),
    )


def _length_controlled(wins: np.ndarray, lengths: np.ndarray) -> Estimate:
    """Win rate at equal length: the intercept of a logistic regression on the (bounded) length difference.

    After "Length-Controlled AlpacaEval" (arXiv 2404.04475): tanh of the standardised difference, so that one huge answer
    does not decide the slope.
    """
    features = np.tanh(lengths / max(float(lengths.std()), 1e-9))[:, None]

    def fit(rows: np.ndarray) -> float:
        won, x = wins[rows], features[rows]
        both = np.r_[np.ones(len(rows)), np.zeros(len(rows))]
        weights = np.r_[won, 1 - won]
        if weights[both == 1].sum() == 0 or weights[both == 0].sum() == 0:
            return float(won.mean())
        model = LogisticRegression(C=10.0).fit(np.r_[x, x], both, sample_weight=weights)
        return float(1 / (1 + np.exp(-model.intercept_[0])))

    return row_bootstrap(fit, len(wins))


def response_table(responses: Sequence[Response]) -> dict[str, float]:
    """Mean length in characters and the share that ended."""
    return {
        "length": float(np.mean([len(r.text) for r in responses])),
        "ended_share": float(np.mean([r.ended for r in responses])),
    }
