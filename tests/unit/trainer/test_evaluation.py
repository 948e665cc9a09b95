"""Accuracy with honest intervals, baselines, win rates, the gate and the alarms."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from heedloop.schema import Comparison, Message, PromptRow
from heedloop_trainer.evaluation.calibration import calibration_error, fit_temperature, reliability
from heedloop_trainer.evaluation.cross_validation import cross_validate
from heedloop_trainer.evaluation.estimates import cluster_bootstrap
from heedloop_trainer.evaluation.evaluate import (
    best_of,
    compare_policies,
    evaluate_comparisons,
    reward_margins,
    score_responses,
)
from heedloop_trainer.evaluation.gate import decide
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.reward_linear import (
    SURFACE,
    LinearReward,
    LinearRewardConfig,
    surface_features,
    train_reward_linear,
)
from heedloop_trainer.nn.models import RewardModel
from heedloop_trainer.ppo.rollout import Response
from heedloop_trainer.runs.cards import accuracy_table

PROMPT = (Message("user", "w1"),)


def comparison(chosen, rejected, **changes) -> Comparison:
    return Comparison(PROMPT, chosen, rejected, **changes)


def answers(texts) -> list[Response]:
    return [Response(PromptRow(PROMPT, group=str(i)), t, [1], True) for i, t in enumerate(texts)]


def test_intervals_resample_judges_not_rows():
    """Ten rows of each judge that all agree carry the evidence of the judges, not of the rows."""
    values = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 50)
    judges = np.repeat(list("abcdef"), 50).tolist()
    clustered = cluster_bootstrap(values, judges)
    alone = cluster_bootstrap(values, [None] * 300)
    assert clustered.estimate == alone.estimate == pytest.approx(2 / 3)
    assert clustered.high - clustered.low > 4 * (alone.high - alone.low)
    assert (clustered.num_clusters, alone.num_clusters) == (6, 300)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.Generator(np.random.Philox(1))
    hits = 0
    for k in range(100):
        rates = rng.beta(7, 3, 40)
        values = (rng.random((40, 5)) < rates[:, None]).astype(float).ravel()
        found = cluster_bootstrap(values, np.repeat(np.arange(40), 5).tolist(), num_resamples=400, seed=k)
        hits += found.low <= 0.7 <= found.high
    assert 88 <= hits <= 99


def test_rows_of_nobody_go_with_their_prompt_group():
    """Fifty unnamed votes on each of two prompts are two pieces of evidence; of fifty prompts, fifty."""

    def width(num_groups):
        rows = [
            comparison(
                "longer answer" if i % num_groups < num_groups / 2 else "x",
                "short",
                group=f"g{i % num_groups}",
            )
            for i in range(100)
        ]
        found = evaluate_comparisons(rows, rows)["accuracy"]["longer answer wins"]
        return found["high"] - found["low"]

    assert width(2) > 3 * width(50)


@pytest.mark.parametrize("authors", [["only"], ["most"] * 19 + ["other"]], ids=len)
def test_where_one_judge_made_the_labels_prompt_groups_are_the_evidence(authors):
    """Two prompts, a hundred judgements of one person: as wide as two pieces of evidence, and no wider than they."""

    def width(num_groups, authors):
        rows = [
            comparison(
                "longer answer" if i % num_groups < num_groups / 2 else "x",
                "short",
                group=f"g{i % num_groups}",
                author=authors[i % len(authors)],
            )
            for i in range(100)
        ]
        found = evaluate_comparisons(rows, rows)["accuracy"]["longer answer wins"]
        return found["high"] - found["low"]

    assert width(2, authors) > 3 * width(50, authors)
    assert width(50, authors) == width(50, [None])
    assert width(50, authors) != width(50, [f"j{i}" for i in range(20)])


def test_the_length_baseline_takes_its_sign_from_the_training_rows():
    rows = [comparison("ok", "long answer" + "!" * i, group=f"g{i}") for i in range(20)]
    accuracy = evaluate_comparisons(rows[10:], rows[:10])["accuracy"]
    assert accuracy["longer answer wins"]["estimate"] == 0.0
    assert accuracy["length, sign fitted on train"]["estimate"] == 1.0
    report = cross_validate(rows, LinearRewardConfig()).report
    assert report["longer_wins_mean_of_folds"] == 0.0
    assert report["length_wins_mean_of_folds"] == 1.0


def test_a_decision_between_equal_answers_counts_half():
    """Answers of one length for the baseline, the same answer twice for the model."""
    rows = [comparison("ok", "ok", group=f"g{i}") for i in range(20)]
    report = cross_validate(rows, LinearRewardConfig()).report
    assert report["accuracy"]["estimate"] == report["mean_of_folds"] == 0.5
    assert report["longer_wins_mean_of_folds"] == 0.5


def test_surface_features_by_hand():
    """Eight words in 41 characters and two sentences; words are lower case before they are counted."""
    text = 'I saw 12 cats, i think: yes!\n"Wonderful"?'
    found = dict(zip(SURFACE, surface_features(text), strict=True))
    assert found == pytest.approx(
        {
            "root_characters": 41**0.5, "log_characters": math.log(42), "log_words": math.log(9), "log_sentences": math.log(3),
            "words_per_sentence": 4, "characters_per_word": 28 / 8, "root_type_ratio": 7 / 8**0.5, "type_ratio": 7 / 8,
            "capitals": 2 / 41, "exclamations": 1 / 8, "questions": 1 / 8, "commas": 1 / 8, "starts_capital": 1,
            "ends_closed": 1, "long_words": 1 / 8, "numbers": 1 / 8, "quotes": 2 / 8, "has_lines": 1, "first_person": 2 / 8,
            "lower_i": 2 / 8,
        }
    )  # fmt: skip


def test_the_advantage_over_a_baseline_is_of_the_same_rows():
    """The longer answer is right in 60 of 100 rows; a model that is right there and in half of the others gains 0.2."""
    rows = [comparison("long answer" if i % 5 < 3 else "ok", "so-so", group=f"g{i}") for i in range(100)]
    longer = np.array([len(r.chosen) - len(r.rejected) for r in rows], dtype=float)
    better = np.where(longer > 0, 1.0, np.where(np.arange(100) % 2, 1.0, -1.0))
    found = evaluate_comparisons(rows, rows, models={"mine": better, "other": -better})
    gain = found["paired_gain"]["longer answer wins"]
    assert gain["estimate"] == pytest.approx(0.2)
    assert 0.1 < gain["low"] < gain["high"] < 0.3, "narrower than the two accuracies' own intervals"
    same = evaluate_comparisons(rows, rows, models={"mine": longer})["paired_gain"]["longer answer wins"]
    assert (same["low"], same["estimate"], same["high"]) == (0, 0, 0)
    assert "| advantage over longer answer wins (same rows) | +0.200 | [+0.1" in accuracy_table(found)


def test_a_report_says_how_far_a_reward_goes_by_length():
    rng = np.random.default_rng(0)
    rows = [comparison("a" * int(n), "b" * int(m)) for n, m in rng.integers(1, 99, (300, 2)) if n != m]
    gaps = np.array([len(r.chosen) - len(r.rejected) for r in rows], dtype=float)
    models = {
        "length": gaps**3,
        "short": -gaps,
        "noise": rng.normal(size=len(rows)),
        "none": np.zeros(len(rows)),
    }
    found = evaluate_comparisons(rows, rows, models=models)["length_correlation"]
    assert found["length"] == pytest.approx(1.0)
    assert found["short"] == pytest.approx(-1.0)
    assert abs(found["noise"]) < 0.15
    assert found["none"] is None


@pytest.mark.parametrize(
    "good, bad", [("謝謝您", "不關我事"), ("អរគុណ", "មិនដឹង"), ("ขอบคุณ", "ไม่รู้"), ("ευχαριστώ", "ΔΕΝ ΞΕΡΩ")]
)
def test_the_linear_reward_model_reads_every_script_and_keeps_it(good, bad, tmp_path):
    rng = np.random.default_rng(1)

    def text(word):
        return "".join(rng.permutation([word, "。1", "abc ", "? "]))

    rows = [comparison(text(good), text(bad), group=f"g{i}") for i in range(80)]
    model = train_reward_linear(LinearRewardConfig(), rows[:60])
    assert (model.margins(rows[60:]) > 0).all()
    model.save(tmp_path)
    assert LinearReward.load(tmp_path).margins(rows) == pytest.approx(model.margins(rows))


def test_a_linear_model_of_an_earlier_version_scores_as_it_did(tmp_path):
    """Its vocabulary is that of scikit-learn's own pattern, and its file does not say how texts are read."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(
        ["good answer, thanks", "bad answer"]
    )
    vocabulary = {w: int(i) for w, i in vectors.vocabulary_.items()}
    zeros = np.zeros(len(SURFACE))
    weights = np.r_[np.arange(1.0, len(vocabulary) + 1), zeros]
    LinearReward(LinearRewardConfig(), vocabulary, vectors.idf_, zeros, zeros + 1, weights, version=1).save(
        tmp_path
    )
    settings = json.loads((tmp_path / "linear.json").read_text())
    del settings["features"]
    (tmp_path / "linear.json").write_text(json.dumps(settings))
    expected = vectors.transform(["a good answer, bad thanks"]) @ np.arange(1.0, len(vocabulary) + 1)
    assert LinearReward.load(tmp_path).raw(["a good answer, bad thanks"]) == pytest.approx(expected)


def test_one_cluster_and_agreement_are_not_certainty():
    """Wilson's interval of 1 of 1 and of 32 of 32, by hand; a mean that is no share reaches over its values."""
    one = cluster_bootstrap(np.ones(60), ["only"] * 60)
    assert (one.estimate, one.low, one.high) == pytest.approx((1.0, 1 / (1 + 1.96**2), 1.0), abs=1e-3)
    every = cluster_bootstrap(np.ones(32), [None] * 32)
    assert (every.low, every.high) == pytest.approx((32 / (32 + 1.96**2), 1.0), abs=1e-3)
    gap = cluster_bootstrap(np.array([0.5, 3.0]), ["only", "only"], share=False)
    assert (gap.low, gap.high) == (0.5, 3.0)


def test_weights_count():
    found = cluster_bootstrap(np.array([1.0, 0.0]), ["a", "b"], np.array([3.0, 1.0]))
    assert found.estimate == 0.75
    rows = [comparison("longer", "x", weight=3.0), comparison("x", "longer", weight=1.0)]
    assert evaluate_comparisons(rows, rows)["accuracy"]["longer answer wins"]["estimate"] == 0.75


def test_the_report_names_all_baselines_and_leaves_ties_out():
    rows = [comparison("good answer " * (i + 1), "bad", author=f"j{i % 3}") for i in range(12)]
    report = evaluate_comparisons([*rows, comparison("a", "b", tie=True)], rows)
    assert report["num_ties"] == 1
    assert report["num_comparisons"] == 12
    assert report["accuracy"]["chance"]["estimate"] == 0.5
    assert report["accuracy"]["longer answer wins"]["estimate"] == 1.0
    assert report["accuracy"]["bag of words"]["estimate"] == 1.0


def test_the_baseline_does_not_know_the_side():
    """Bag of words is fitted on differences both ways round: without words that tell, it is at chance."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(30)]
    rows = [comparison(" ".join(rng.sample(words, 5)), " ".join(rng.sample(words, 5))) for _ in range(400)]
    found = evaluate_comparisons(rows[200:], rows[:200])["accuracy"]["bag of words"]
    assert 0.4 < found["estimate"] < 0.6


def test_nothing_held_out_is_said():
    with pytest.raises(ValueError, match="none of the 1 held-out"):
        evaluate_comparisons([comparison("a", "b", tie=True)], [])


def test_calibration_by_hand():
    certain = np.full(100, 20.0)
    assert calibration_error(certain) == pytest.approx(0.0, abs=1e-6)
    overconfident = np.r_[np.full(60, 20.0), np.full(40, -20.0)]
    assert calibration_error(overconfident, num_bins=1) == pytest.approx(0.4, abs=1e-6)


def test_a_temperature_mends_overconfidence_and_needs_enough_rows():
    """Planted: outcomes drawn from sigmoid(margin), margins then told five times too large."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, 3000)
    turned = np.where(rng.random(3000) < 1 / (1 + np.exp(-honest)), honest, -honest)
    told = 5 * turned
    assert fit_temperature(told) == pytest.approx(5.0, rel=0.1)
    assert calibration_error(told) > 0.1
    assert calibration_error(told / fit_temperature(told)) < 0.03
    assert fit_temperature(told[:20]) == 1.0
    assert fit_temperature(np.zeros(100)) == 1.0
    assert sum(b.n for b in reliability(told)) == 3000


def test_slices_are_reported_from_twenty_rows_and_not_of_everything():
    rows = [comparison("good", "bad", trace_ids=(f"t{i}",)) for i in range(60)]
    attributes = {f"t{i}": frozenset({"tag=all", "tag=few" if i < 5 else "tag=many"}) for i in range(60)}
    margins = np.array([-1.0] * 5 + [1.0] * 55)
    report = evaluate_comparisons(rows, rows, models={"m": margins}, ceiling=0.8, attributes=attributes)
    assert set(report["slices"]) == {"tag=many"}
    assert report["slices"]["tag=many"]["estimate"] == 1.0
    assert report["agreement_ceiling"] == 0.8
    assert report["accuracy"]["m"]["estimate"] == pytest.approx(55 / 60)


def length_judge(responses):
    return [float(len(r.text)) for r in responses]


def test_win_rate_and_its_control_for_length():
    """A judge who only counts characters: the plain win rate is total, at equal length nothing is left."""
    rng = random.Random(0)
    parent = answers(["x" * rng.randint(5, 60) for _ in range(120)])
    new = answers(["x" * rng.randint(15, 90) for _ in range(120)])
    found = compare_policies(new, parent, length_judge)
    assert found.win_rate.low > 0.55
    assert found.length_controlled.estimate < found.win_rate.estimate
    assert abs(found.length_controlled.estimate - 0.5) < 0.25
    even = compare_policies(parent, parent, length_judge)
    assert even.win_rate.estimate == 0.5
    assert even.gain.estimate == 0.0


GOOD = {
    "win_rate": {"estimate": 0.62, "low": 0.55, "high": 0.69},
    "length_controlled": {"estimate": 0.6, "low": 0.5, "high": 0.7},
    "length_ratio": 1.1,
    "num_prompts": 200,
    "new": {"ended_share": 0.99},
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"win_rate": {"estimate": 0.53, "low": 0.47, "high": 0.6}}, "no significant gain"),
        ({"length_controlled": {"estimate": 0.45, "low": 0.4, "high": 0.5}}, "one of length"),
        ({"length_ratio": 2.0}, "times as long"),
        ({"num_prompts": 10}, "only 10"),
        ({"judge_is_the_reward": True}, "the judge is the reward model that it was trained for"),
        ({"new": {"ended_share": 0.3}}, "end by themselves"),
        ({"people": {"estimate": 0.4, "low": 0.3, "high": 0.5, "n": 80}}, "people prefer the parent"),
        ({"slices": {"refunds": {"estimate": 0.3, "low": 0.2, "high": 0.4}}}, "slice 'refunds'"),
    ],
)
def test_the_gate_refuses_with_its_reason(change, sentence):
    assert decide(GOOD).promote
    decision = decide({**GOOD, **change})
    assert not decision.promote
    assert any(sentence in r for r in decision.reasons)


def test_scores_of_a_model_and_of_a_function(classifier, tokenizer):
    given = answers(["w1 w2", "w3"])
    assert score_responses(given, length_judge).tolist() == [5.0, 2.0]
    assert score_responses(given, RewardModel(classifier, tokenizer)).shape == (2,)


# ------------------------------------------------------------------------------------------------- the linear model


def judged(count: int, seed: int = 0) -> list[Comparison]:
    rng = random.Random(seed)
    fill = [f"filler{i}" for i in range(20)]
    made = []
    for _ in range(count):
        polite = " ".join(rng.sample(fill, 4)) + " thank you"
        rude = " ".join(rng.sample(fill, 4)) + " go away"
        made.append(comparison(polite, rude))
    return made


def test_the_linear_model_learns_words_and_is_calibrated():
    rng = random.Random(1)
    rows = [
        dataclasses.replace(r, chosen=r.rejected, rejected=r.chosen) if rng.random() < 0.2 else r
        for r in judged(600)
    ]
    model = train_reward_linear(LinearRewardConfig(), rows[:400])
    margins = model.margins(judged(200, seed=9))
    assert (margins > 0).mean() > 0.97
    held_out = model.margins(rows[400:])
    assert calibration_error(held_out, num_bins=4) < 0.15
    assert {"thank", "thank you", "go away", "away", "go", "you"} & {n for n, _ in model.strongest(8)}


def test_the_linear_model_comes_back_as_it_was(tmp_path):
    model = train_reward_linear(LinearRewardConfig(), judged(60))
    model.save(tmp_path)
    texts = ["thank you kindly", "go away", ""]
    assert np.array_equal(LinearReward.load(tmp_path).score(texts), model.score(texts))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["linear.json", "linear.safetensors"]


def test_linear_weights_and_ties_count():
    rows = judged(40)
    twice = train_reward_linear(LinearRewardConfig(), [dataclasses.replace(rows[0], weight=2.0), *rows[1:]])
    doubled = train_reward_linear(LinearRewardConfig(), [rows[0], *rows])
    assert np.allclose(twice.weights, doubled.weights, atol=1e-3)
    tied = train_reward_linear(LinearRewardConfig(), [dataclasses.replace(r, tie=True) for r in rows])
    assert np.abs(tied.weights).max() < 1e-3


@pytest.mark.parametrize("text", ["", "   ", "\u2603", "!!!"])
def test_texts_without_words_are_scored(text):
    model = train_reward_linear(LinearRewardConfig(), [comparison(text, "x y z")])
    assert np.isfinite(model.score([text, "other"])).all()


def test_no_rows_are_refused_by_the_linear_model():
    with pytest.raises(ValueError, match="no comparisons"):
        train_reward_linear(LinearRewardConfig(), [])


def test_a_reward_model_is_judged_on_the_scale_it_was_fitted_on(classifier, tokenizer):
    """Gain and bias change no accuracy and no calibration: margins are read before them."""
    rows = [comparison("w1", "w2 w3"), comparison("w4", "w5")]
    reward = RewardModel(classifier, tokenizer)
    first = reward_margins(reward, rows)
    reward.normalise(gain=9.0, bias=4.0)
    assert reward_margins(reward, rows).tolist() == first.tolist()
    reward.calibrate(2.0)
    assert reward_margins(reward, rows) == pytest.approx(first / 2)
    assert torch.is_grad_enabled()


def test_the_best_of_several_is_the_one_the_judge_prefers(policy, tokenizer):
    prompts = [PromptRow((Message("user", f"w{i}"),)) for i in range(8)]
    judge = lambda rs: [float(sum(r.token_ids)) for r in rs]  # noqa: E731
    config = SamplingConfig(6)
    one, many = (best_of(policy, tokenizer, prompts, judge, config, num_candidates=n) for n in (1, 16))
    assert [r.prompt for r in many] == prompts
    assert sum(judge(many)) > 1.3 * sum(judge(one))
    with pytest.raises(ValueError, match="num_candidates"):
        best_of(policy, tokenizer, prompts, judge, config, num_candidates=0)
