"""Groups of near-copies, their splits, caps, reliability and propensity."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from curate_cases import START, call, ranking, thumb

from heedloop_server.curate import Rules, curate
from heedloop_server.curate.caps import capped_scales
from heedloop_server.curate.groups import split_of
from heedloop_server.curate.near_copies import near_duplicate_groups
from heedloop_server.curate.propensity import effective_size, inverse_weights, sensitivity_bounds
from heedloop_server.curate.reliability import judge_accuracies, judge_weights

WORDS = [f"word{n}" for n in range(400)]


def sentence(seed: int, length: int = 30) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(length))


def test_near_copies_are_one_group_and_others_are_not():
    texts = [sentence(n) for n in range(40)]
    copies = [t.replace(t.split()[3], "changed", 1).upper() for t in texts]
    assert near_duplicate_groups(texts + copies, 0.8) == list(range(40)) * 2


def test_exact_threshold_joins_equal_texts_only():
    a = sentence(1)
    assert near_duplicate_groups([a, a + " more", a], 1.0) == [0, 1, 0]


def test_a_shared_template_does_not_make_prompts_alike():
    template = (
        "You are given a document of our company. Answer from it alone, cite the section, be brief. " * 4
    )
    texts = [template + sentence(n, 4) for n in range(80)]
    assert near_duplicate_groups(texts, 0.5) == list(range(80))
    assert near_duplicate_groups(texts[:10], 0.5) == list(range(10))


def test_texts_that_are_somewhat_alike_stay_apart():
    """Four of thirty words differ: a Jaccard similarity of about 0.65, which signatures alone would not tell from 0.8."""
    texts = [sentence(n) for n in range(40)]
    others = [" ".join(f"other{i}" if i % 8 == 4 else w for i, w in enumerate(t.split())) for t in texts]
    assert near_duplicate_groups(texts + others, 0.8) == list(range(80))


def test_grouping_keeps_signatures_not_shingles():
    """1,000 texts of 3,000 characters, 24 MB of shingles and more to count them, when a sample of 200 tells the templates."""
    rng = random.Random(5)
    texts = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=3000)) for _ in range(1000)]
    tracemalloc.start()
    assert len(set(near_duplicate_groups(texts, 0.8))) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_no_near_copy_of_a_training_prompt_is_in_the_test_set():
    calls = [call(n, sentence(n % 60) + (" please" if n >= 60 else "")) for n in range(1, 120)]
    made = curate(calls, [thumb(n, True, f"u{n}") for n in range(1, 120)], Rules(test_fraction=0.3))
    sides = {}
    for row in made.rows["unpaired"]:
        sides.setdefault(row.prompt[0].text.removesuffix(" please"), set()).add(row.split)
    assert all(len(s) == 1 for s in sides.values())
    assert {s for v in sides.values() for s in v} == {"train", "validation", "test"}


def test_a_users_questions_stay_on_one_side_where_asked():
    calls = [call(n, sentence(n), user_id=f"u{n % 10}") for n in range(1, 101)]
    judged = [thumb(n, True, f"u{n % 10}") for n in range(1, 101)]
    rows = curate(calls, judged, Rules(group_by=("prompt", "user"), test_fraction=0.3)).rows["unpaired"]
    sides = {u: {r.split for r in rows if r.author == u} for u in {r.author for r in rows}}
    assert all(len(s) == 1 for s in sides.values())
    assert len({s for v in sides.values() for s in v}) > 1


def test_a_conversation_stays_on_one_side():
    calls = [call(n, sentence(n), session_id=f"s{n % 10}") for n in range(1, 101)]
    rows = curate(calls, [thumb(n, True, f"u{n}") for n in range(1, 101)]).rows["unpaired"]
    by_session = {}
    for row, c in zip(rows, calls, strict=True):
        by_session.setdefault(c.session_id, set()).add((row.group, row.split))
    assert all(len(v) == 1 for v in by_session.values())
    assert len({r.group for r in rows}) == 10


def test_splits_follow_the_seed_and_nothing_else():
    rules = Rules(seed=3)
    names = [f"{n:016x}" for n in range(5000)]
    first = [split_of(n, rules) for n in names]
    assert first == [split_of(n, rules) for n in names]
    assert first != [split_of(n, Rules(seed=4)) for n in names]
    shares = Counter(first)
    assert shares["test"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert shares["validation"] / 5000 == pytest.approx(0.1, abs=0.02)


def test_later_calls_do_not_move_earlier_groups():
    early = [call(n, sentence(n)) for n in range(1, 41)]
    late = [
        call(n + 100, sentence(n) + " please", start_time=START + timedelta(days=9)) for n in range(1, 41)
    ]
    before = {r.prompt[0].text: r.split for r in curate(early, []).rows["prompts"]}
    after = {
        r.prompt[0].text.removesuffix(" please"): r.split for r in curate(early + late, []).rows["prompts"]
    }
    assert before == after


def test_split_by_time_tests_on_the_newest():
    calls = [call(n, sentence(n)) for n in range(1, 51)]
    rows = curate(calls, [], Rules(split_by="time", test_fraction=0.2)).rows["prompts"]
    assert [r.split for r in rows] == ["train"] * 35 + ["validation"] * 5 + ["test"] * 10


def test_randomly_chosen_answers_are_kept_for_the_test():
    calls = [call(n, sentence(n)) for n in range(1, 31)]
    judged = [thumb(n, True, f"u{n}", sampling_probability=0.02 if n <= 5 else None) for n in range(1, 31)]
    rows = curate(calls, judged, Rules(reserve_random=True)).rows["unpaired"]
    assert [r.split for r in rows[:5]] == ["test"] * 5


def test_cap_leaves_the_largest_share_at_the_cap():
    weights, authors = [60.0, 20.0] + [2.0] * 10, ["a", "b"] + [f"c{n}" for n in range(10)]
    scales = capped_scales(weights, authors, 0.25)
    scaled = [w * scales.get(a, 1.0) for w, a in zip(weights, authors, strict=True)]
    assert max(scaled) / sum(scaled) == pytest.approx(0.25)
    assert set(scales) == {"a", "b"}
    assert scaled[0] == pytest.approx(scaled[1])


@pytest.mark.parametrize("authors", [["a"], [None, None], [], ["a", "b"]])
def test_cap_never_forces_few_authors_apart(authors):
    assert capped_scales([1.0] * len(authors), authors, 0.05) == {}


def adversarial_votes(share: float, num_pairs: int = 400, num_judges: int = 40):
    rng = random.Random(7)
    bad = {f"j{n}" for n in range(int(share * num_judges))}
    votes = []
    for pair in range(num_pairs):
        for judge in rng.sample(range(num_judges), 5):
            right = rng.random() < 0.9
            side = 1 if right else -1
            votes.append((f"p{pair}", f"j{judge}", -side if f"j{judge}" in bad else side))
    return votes, bad


def test_adversaries_are_told_from_careful_judges():
    votes, bad = adversarial_votes(0.3)
    accuracies = judge_accuracies(votes)
    assert all((accuracies[j] < 0.5) == (j in bad) for j in accuracies)
    weights = judge_weights(accuracies)
    assert all(weights[j] < 0 for j in bad)


def test_reliable_consensus_recovers_what_adversaries_took():
    votes, _ = adversarial_votes(0.3)
    pairs = sorted({v[0] for v in votes})
    calls, judged = [], []
    for n, pair in enumerate(pairs):
        calls += [call(2 * n + 1, f"{pair} question", "right"), call(2 * n + 2, f"{pair} question", "wrong")]
        for p, judge, side in votes:
            if p == pair:
                judged.append(ranking([2 * n + 1, 2 * n + 2], [1, 2] if side > 0 else [2, 1], judge))

    def share_right(**rules):
        rows = curate(calls, judged, Rules(near_duplicate=1.0, max_author_share=1.0, **rules)).rows[
            "comparisons"
        ]
        return sum(r.weight for r in rows if r.chosen == "right") / sum(r.weight for r in rows)

    votes_alone, by_majority = share_right(), share_right(consensus="majority")
    by_reliability = share_right(consensus="majority", reliability=True)
    assert votes_alone < 0.7
    assert by_majority > votes_alone + 0.05
    assert by_reliability > 0.97


def test_propensity_weights_recover_a_planted_rate():
    rng = np.random.default_rng(5)
    n = 20_000
    long_answer = rng.random(n) < 0.5
    liked = rng.random(n) < np.where(long_answer, 0.9, 0.5)
    rated = rng.random(n) < np.where(long_answer, 0.4, 0.05)
    weights = inverse_weights(long_answer[:, None].astype(float), rated, clip=(0.01, 100))
    naive = liked[rated].mean()
    corrected = (weights * liked).sum() / weights.sum()
    assert naive > 0.83
    assert corrected == pytest.approx(0.7, abs=0.02)
    assert effective_size(weights) < rated.sum()


def test_clipping_limits_the_weights():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2000, 1))
    rated = rng.random(2000) < 1 / (1 + np.exp(-3 * x[:, 0]))
    weights = inverse_weights(x, rated, clip=(0.5, 2.0))
    assert weights[rated].min() >= 0.5
    assert weights.max() <= 2.0
    assert (weights[~rated] == 0).all()


def test_sensitivity_bounds_by_hand():
    bounds = sensitivity_bounds(0.8, ratios=(1, 4))
    assert bounds[1] == pytest.approx((0.8, 0.8))
    assert bounds[4] == pytest.approx((0.5, 16 / 17))


def test_what_is_rated_limits_the_bounds():
    assert sensitivity_bounds(0.8, 0.9, (100,))[100] == pytest.approx((0.72, 0.82))
    assert sensitivity_bounds(0.8, 1.0, (100,))[100] == pytest.approx((0.8, 0.8))


def test_propensity_weighs_the_rows_of_rarely_rated_answers_up():
    calls = [call(n, sentence(n), "x" * (10 if n % 2 else 500)) for n in range(1, 201)]
    judged = [thumb(n, True, f"u{n}") for n in range(1, 201) if n % 2 or n % 20 == 0]
    made = curate(calls, judged, Rules(propensity=True))
    weight = {len(r.completion): r.weight for r in made.rows["unpaired"]}
    assert weight[500] > 3 * weight[10]
    assert made.exposure.num_shown == 200
    assert made.exposure.num_rated == 110
    assert made.exposure.rate.num_effective < 110


def test_known_adversaries_outvote_nobody():
    rng = random.Random(3)
    careful, adverse = ["c1", "c2", "c3", "c4"], ["a1", "a2", "a3"]
    votes = []
    for pair in range(300):
        judges = [*careful, adverse[pair % 3]] if pair < 200 else ["c1", *adverse]
        for judge in judges:
            right = 1 if rng.random() < 0.95 else -1
            votes.append((f"p{pair}", judge, -right if judge in adverse else right))
    accuracies = judge_accuracies(votes)
    assert accuracies["c1"] > 0.9
    assert max(accuracies[j] for j in adverse) < 0.1
