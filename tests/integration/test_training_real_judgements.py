"""The linear reward model on 11,650 real comparisons of arguments: across 32 topics, train on 31, test on the other."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from heedloop.schema import Comparison, Message
from heedloop_trainer.calibration import calibration_error
from heedloop_trainer.estimates import cluster_bootstrap
from heedloop_trainer.evaluate import bag_of_words_margins, length_margins
from heedloop_trainer.reward_linear import LinearRewardConfig, train_reward_linear


def lines(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def comparisons(shared: Path) -> dict[str, list[Comparison]]:
    """The strict pairs by topic."""
    arguments = {(a["topic"], a["arg"]): a for a in lines(shared / "data" / "ukpconvarg1_args.jsonl.gz")}
    topics: dict[str, list[Comparison]] = defaultdict(list)
    for pair in lines(shared / "data" / "ukpconvarg1_pairs.jsonl.gz"):
        if pair["strict"] is None:
            continue
        first, second = (arguments[pair["topic"], pair[n]] for n in ("a1", "a2"))
        better, worse = (first, second) if pair["strict"] == "a1" else (second, first)
        prompt = (Message("user", f"{first['question']} {first['stance']}"),)
        topics[pair["topic"]].append(Comparison(prompt, better["text"], worse["text"], group=pair["topic"]))
    return topics


@pytest.mark.shared
@pytest.mark.slow
def test_arguments_across_topics_reach_the_published_accuracy(shared):
    """Published: 0.78 (SVM), known to be possible: 0.795, with an expected calibration error of 0.028."""
    topics = comparisons(shared)
    assert len(topics) == 32
    assert sum(map(len, topics.values())) == 11_650
    accuracy, longest, margins, judged = [], [], [], []
    for name, test in topics.items():
        train = [r for other, rows in topics.items() if other != name for r in rows]
        found = train_reward_linear(LinearRewardConfig(), train).margins(test)
        accuracy.append(float((found > 0).mean()))
        longest.append(float((length_margins(test) > 0).mean()))
        margins.append(found)
        judged += [name] * len(test)
    gaps = np.concatenate(margins)
    interval = cluster_bootstrap((gaps > 0).astype(float), judged)
    error = calibration_error(gaps)
    print(
        f"macro {np.mean(accuracy):.4f}, micro {interval.text} by topic, ECE {error:.4f}, longest {np.mean(longest):.4f}"
    )
    assert np.mean(accuracy) > 0.795
    assert interval.low > 0.78
    assert error < 0.05
    assert np.mean(accuracy) > np.mean(longest) + 0.02


@pytest.mark.shared
@pytest.mark.slow
def test_harmless_pairs_stay_above_chance(shared):
    """Real pairs where the longer answer wins only 44%: words carry some signal, and the report says how little."""
    rows = [
        Comparison((Message("user", r["prompt"]),), r["chosen"], r["rejected"])
        for r in lines(shared / "data" / "hh_harmless_pairs.jsonl.gz")
    ]
    train, test = rows[:1800], rows[1800:]
    right = {
        "longest": (length_margins(test) > 0).mean(),
        "bag of words": (bag_of_words_margins(train, test) > 0).mean(),
        "linear": (train_reward_linear(LinearRewardConfig(), train).margins(test) > 0).mean(),
    }
    print({k: round(float(v), 3) for k, v in right.items()})
    assert right["linear"] > 0.56
    assert right["longest"] < 0.5
