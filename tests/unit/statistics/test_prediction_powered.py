"""People's labels and a judge together: worked examples in exact fractions, coverage by simulation, and what must never happen."""

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from heedloop_server.statistics.prediction_powered import (
    CombinedRate,
    Stratum,
    combined_rate,
    combined_rate_by_strata,
    combined_rate_of_draw,
    combined_rate_of_sample,
    difference_of_combined,
    paired_difference,
)

Z95 = 1.959963984540054
ROUNDS = int(os.environ.get("HEEDLOOP_COVERAGE_ROUNDS", "150"))


def _vectors() -> list[dict]:
    path = Path(os.environ.get("HEEDLOOP_SHARED", "/nowhere"), "stats", "ppi_vectors.json")
    return json.loads(path.read_text())["vectors"] if path.is_file() else []


def _expand(vector: dict) -> tuple[list[float], list[float], list[float]]:
    if "table" in vector:
        t = vector["table"]
        pairs = [(h, j) for h in (1, 0) for j in (1, 0) for _ in range(t[f"human{h}_judge{j}"])]
        human, judge = zip(*pairs, strict=True)
        return list(human), list(judge), [1.0] * t["unlabeled_judge1"] + [0.0] * t["unlabeled_judge0"]
    return vector["labeled"]["human"], vector["labeled"]["judge"], vector["unlabeled"]["judge"]


@pytest.mark.shared
def test_worked_examples() -> None:
    vectors = _vectors()
    assert len(vectors) >= 8
    for vector in vectors:
        want = vector["expected"]
        if "probability" in vector:
            found = combined_rate_of_draw(vector["judge"], vector["probability"], vector["human"])
            assert found.se == pytest.approx(want["se_ddof0"], abs=1e-9)
        else:
            asked = vector["lambda_requested"]
            found = combined_rate(*_expand(vector), weight=None if asked == "ppi++" else asked)
            assert found.weight == pytest.approx(want["lambda_used"], abs=1e-9), vector["name"]
            assert found.se == pytest.approx(want["se_ddof1"], abs=1e-9), vector["name"]
            ends = [found.raw - Z95 * found.se, found.raw + Z95 * found.se]
            assert ends == pytest.approx(want["ci95_z_ddof1"], abs=1e-9)
            assert found.people == pytest.approx(want["human_only"], abs=1e-12)
        assert found.raw == pytest.approx(want["estimate"], abs=1e-9), vector["name"]


def test_lambda_one_by_hand() -> None:
    """mean of the unlabelled 5/8 + what the labels say it is wrong by, 1/4."""
    found = combined_rate([1, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1, 0, 1, 1, 0], weight=1.0)
    assert found.raw == pytest.approx(7 / 8)


JUDGES = {
    "perfect": lambda y, r: y,
    "good": lambda y, r: np.where(r.random(len(y)) < 0.9, y, 1 - y),
    "weak": lambda y, r: np.where(r.random(len(y)) < 0.65, y, 1 - y),
    "constant": lambda y, r: np.ones(len(y)),
    "adversarial": lambda y, r: np.where(r.random(len(y)) < 0.1, y, 1 - y),
    "drifting": lambda y, r: np.where(r.random(len(y)) < np.linspace(0.95, 0.55, len(y)), y, 1 - y),
    "by length": lambda y, r: (r.exponential(1, len(y)) + y / 2 > 1.2).astype(float),
    "score": lambda y, r: np.clip(y * 0.4 + 0.3 + r.normal(0, 0.2, len(y)), 0, 1),
}


def _draw(judge: str, rate: float, num: int, rng: np.random.Generator, size: int = 1500) -> CombinedRate:
    y = (rng.random(size) < rate).astype(float)
    f = JUDGES[judge](y, rng)
    order = rng.permutation(size)
    seen, rest = order[:num], order[num:]
    return combined_rate(y[seen], f[seen], f[rest])


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("judge", JUDGES)
def test_coverage(judge: str, rate: float) -> None:
    """At least 93% at 20 to 500 labels; the allowance is three standard errors of the simulation."""
    rng = np.random.default_rng(7)
    for num in (20, 50, 200, 500):
        hits = 0
        for _ in range(ROUNDS):
            i = _draw(judge, rate, num, rng).interval
            hits += i.low <= rate <= i.high
        assert hits / ROUNDS >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / ROUNDS), (judge, rate, num, hits / ROUNDS)


@pytest.mark.parametrize("judge", ["constant", "adversarial"])
def test_a_worthless_judge_is_never_narrower_than_people_alone(judge: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        found = _draw(judge, 0.7, 30, rng)
        alone = combined_rate(
            [1.0] * round(found.people * 30) + [0.0] * round((1 - found.people) * 30), [0.0] * 30, []
        )
        assert found.effective_n == pytest.approx(30)
        assert found.interval.high - found.interval.low == pytest.approx(
            alone.interval.high - alone.interval.low
        )


def test_a_good_judge_makes_labels_worth_more() -> None:
    rng = np.random.default_rng(5)
    assert np.mean([_draw("good", 0.7, 100, rng).effective_n for _ in range(40)]) > 180


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_that_all_agree_leave_room_for_doubt(label: float) -> None:
    found = combined_rate([label] * 20, [label] * 20, [label] * 500)
    assert found.interval.high - found.interval.low > 0.1


def test_groups_widen() -> None:
    """Twenty prompts labelled five times each by people who agree are twenty labels, not a hundred."""
    rng = np.random.default_rng(1)
    y = np.repeat((rng.random(20) < 0.5).astype(float), 5)
    alone = combined_rate(y, y * 0, [])
    grouped = combined_rate(y, y * 0, [], groups=list(np.repeat(np.arange(20), 5)))
    assert alone.effective_n == 100
    assert grouped.effective_n == pytest.approx(20, abs=1.5)


def test_strata_cover_where_they_were_labelled_at_different_rates() -> None:
    rng = np.random.default_rng(11)
    rates, shares, nums = (0.9, 0.4), (0.8, 0.2), (20, 60)
    truth, hits = sum(r * s for r, s in zip(rates, shares, strict=True)), 0
    for _ in range(ROUNDS):
        strata = []
        for rate, share, num in zip(rates, shares, nums, strict=True):
            y = (rng.random(800) < rate).astype(float)
            f = JUDGES["good"](y, rng)
            strata.append(Stratum(share, y[:num], f[:num], f[num:]))
        i = combined_rate_by_strata(strata).interval
        hits += i.low <= truth <= i.high
    assert hits / ROUNDS >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / ROUNDS)
    assert combined_rate_by_strata([Stratum(1.0, [], [], [1.0])]) is None
    with pytest.raises(ValueError, match="add up to 1"):
        combined_rate_by_strata([Stratum(0.5, [1], [1], [1])])


@pytest.mark.parametrize("judge", ["good", "weak", "adversarial"])
def test_unequal_known_probabilities_cover(judge: str) -> None:
    """Doubtful answers are labelled more often; the estimate stays unbiased."""
    rng = np.random.default_rng(13)
    rate, hits, estimates = 0.8, 0, []
    for _ in range(ROUNDS):
        y = (rng.random(600) < rate).astype(float)
        f = JUDGES[judge](y, rng)
        pi = np.where(f > 0.5, 0.1, 0.4)
        human = [v if rng.random() < p else None for v, p in zip(y, pi, strict=True)]
        found = combined_rate_of_draw(f, pi, human)
        estimates.append(found.raw)
        hits += found.interval.low <= rate <= found.interval.high
    assert np.mean(estimates) == pytest.approx(rate, abs=4 * np.std(estimates) / math.sqrt(ROUNDS))
    assert hits / ROUNDS >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / ROUNDS)


@pytest.mark.parametrize("num", [20, 100])
def test_differences_cover(num: int) -> None:
    rng = np.random.default_rng(17)
    rates, apart, paired = (0.8, 0.65), 0, 0
    for _ in range(ROUNDS):
        ease = rng.random(1000)  # the same prompt is easy or hard for both
        ys = [np.where(ease < 0.5, ease / 0.5 < r, rng.random(1000) < r).astype(float) for r in rates]
        fs = [JUDGES["good"](y, rng) for y in ys]
        sides = [combined_rate(y[:num], f[:num], f[num:]) for y, f in zip(ys, fs, strict=True)]
        i = difference_of_combined(*sides)
        apart += i.low <= rates[0] - rates[1] <= i.high
        j = paired_difference(
            (ys[0][:num], ys[1][:num]), (fs[0][:num], fs[1][:num]), (fs[0][num:], fs[1][num:])
        ).interval
        paired += j.low <= rates[0] - rates[1] <= j.high
    allowed = 0.93 - 3 * math.sqrt(0.93 * 0.07 / ROUNDS)
    assert apart / ROUNDS >= allowed
    assert paired / ROUNDS >= allowed


@pytest.mark.parametrize(
    ("human", "judge", "unlabelled", "said"),
    [
        ([1], [1, 0], [], "as many"),
        ([2], [1], [], "human"),
        ([1], [float("nan")], [], "judge"),
        ([1], [1], [-1], "unlabelled"),
    ],
)
def test_wrong_input_is_refused(human, judge, unlabelled, said) -> None:
    with pytest.raises(ValueError, match=said):
        combined_rate(human, judge, unlabelled)
    assert combined_rate([], [], [0.5]) is None


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("labelled", [1.0, 0.5])
def test_unequal_samples_cover_though_labels_are_missing(judge: str, labelled: float) -> None:
    """Answers of the lower half of a score are drawn four times as often; half of what was drawn may not be labelled yet."""
    rng = np.random.default_rng(19)
    rate, hits = 0.8, 0
    for _ in range(ROUNDS):
        y = (rng.random(1200) < rate).astype(float)
        f, first = JUDGES[judge](y, rng), rng.random(1200)
        pi = np.where(first < 0.5, 0.4, 0.1)
        drawn = (rng.random(1200) < pi) & (rng.random(1200) < labelled)
        found = combined_rate_of_sample(y[drawn], f[drawn], f[~drawn], pi[drawn])
        hits += found.interval.low <= rate <= found.interval.high
    assert hits / ROUNDS >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / ROUNDS)


def test_equal_probabilities_change_next_to_nothing() -> None:
    rng = np.random.default_rng(23)
    y = (rng.random(1000) < 0.7).astype(float)
    f = JUDGES["good"](y, rng)
    plain = combined_rate(y[:100], f[:100], f[100:])
    drawn = combined_rate_of_sample(y[:100], f[:100], f[100:], [0.1] * 100)
    assert drawn.interval.estimate == pytest.approx(plain.interval.estimate, abs=0.01)
    assert drawn.effective_n == pytest.approx(plain.effective_n, rel=0.1)
    worthless = combined_rate_of_sample(y[:100], f[:100] * 0, f[100:] * 0, [0.1] * 100)
    assert (worthless.weight, worthless.effective_n) == (0.0, pytest.approx(100))


def test_the_weighted_estimate_by_hand() -> None:
    """Labels 1, 0 with probabilities 1/2, 1/4 weigh 2 and 4: a third. A judge that never varies adds nothing."""
    found = combined_rate_of_sample([1, 0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.25])
    assert found.raw == pytest.approx(1 / 3)
    assert combined_rate_of_sample([], [], [0.5], []) is None


@pytest.mark.parametrize("labels", [[1.0], [0.0], [1.0, 1.0], [0.0] * 5])
@pytest.mark.parametrize("unlabelled", [[], [1.0], [0.0, 1.0] * 50])
def test_few_labels_stay_within_bounds(labels: list[float], unlabelled: list[float]) -> None:
    """Neither a single label, nor labels without variation, nor nothing unlabelled gives certainty or a number outside 0 to 1."""
    for found in (
        combined_rate(labels, labels, unlabelled),
        combined_rate(labels, labels, unlabelled, groups=["same"] * len(labels)),
        combined_rate_of_sample(labels, labels, unlabelled, [0.5] * len(labels)),
        combined_rate_of_draw(labels, [1.0] * len(labels), labels),
    ):
        i = found.interval
        assert 0 <= i.low <= i.estimate <= i.high <= 1
        assert i.high - i.low > 0.3


def test_groups_of_the_judged_widen_too() -> None:
    rng = np.random.default_rng(29)
    y = (rng.random(60) < 0.6).astype(float)
    f = np.repeat((rng.random(40) < 0.6).astype(float), 10)
    apart = combined_rate(y, y, f)
    grouped = combined_rate(y, y, f, unlabelled_groups=list(np.repeat(np.arange(40), 10)))
    assert grouped.se > apart.se
    with pytest.raises(ValueError, match="groups"):
        combined_rate(y, y, f, groups=["one"])


def test_a_paired_difference_by_hand() -> None:
    """Differences 1, 0, 0, -1 without a judge: mean 0, variance 2/3, standard error sqrt(1/6)."""
    found = paired_difference(([1, 1, 0, 0], [0, 1, 0, 1]), ([0] * 4, [0] * 4), ([], []))
    assert (found.raw, found.people) == (0, 0)
    assert found.se == pytest.approx(math.sqrt(1 / 6))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "worth"), [("ukp", 1.24), ("tulu", 1.15)])
def test_the_longer_answer_as_a_judge_of_real_comparisons(name: str, worth: float) -> None:
    """What a label is worth in the limit of many judged answers; and the interval of 100 labels holds what all labels say."""
    y, f = (np.array(side) for side in zip(*_lengths_and_wins(name), strict=True))
    assert 1 / (1 - np.corrcoef(y, f)[0, 1] ** 2) == pytest.approx(worth, abs=0.01)
    rng, hits, gain = np.random.default_rng(31), 0, 0.0
    for _ in range(ROUNDS):
        order = rng.permutation(len(y))
        found = combined_rate(y[order[:100]], f[order[:100]], f[order[100:]])
        hits += found.interval.low <= y.mean() <= found.interval.high
        gain += found.effective_n / 100 / ROUNDS
    assert hits / ROUNDS >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / ROUNDS)
    assert gain == pytest.approx(worth, abs=0.06)


def _lengths_and_wins(name: str) -> list[tuple[float, float]]:
    if name == "ukp":
        length = {a["arg"]: len(a["text"]) for a in _rows("ukpconvarg1_args")}
        wins = {"a1": 1.0, "a2": 0.0, "equal": 0.5}
        pairs = [p for p in _rows("ukpconvarg1_pairs") if p["gold"]]
        return [(wins[p["gold"]], _longer(length[p["a1"]], length[p["a2"]])) for p in pairs]
    decided = [p for p in _rows("tulu1_human_eval") if p["preference"] != "tie"]
    return [
        (float(p["preference"][0] == "a"), _longer(len(p["completion_a"]), len(p["completion_b"])))
        for p in decided
    ]


def _longer(a: int, b: int) -> float:
    return 0.5 if a == b else float(a > b)


def _rows(name: str) -> list[dict]:
    path = Path(os.environ.get("HEEDLOOP_SHARED", "/nowhere"), "data", f"{name}.jsonl.gz")
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]
