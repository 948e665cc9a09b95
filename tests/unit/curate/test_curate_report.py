"""What a report says: baselines by hand and on planted signals, agreement and its ceiling, what the data support."""

from __future__ import annotations

import json
import math
import random

import pytest
from curate_cases import call, correction, ranking, thumb

from heedloop.schema import Comparison, Message
from heedloop_server.curate import Rules, curate
from heedloop_server.curate.baselines import (
    DecidedPair,
    agreement,
    bag_of_words,
    decided_pairs,
    first_shown_wins,
    length_wins,
    longer_wins,
)
from heedloop_server.curate.report import describe


def pair(chosen: str, rejected: str, group: str = "g", **fields) -> Comparison:
    return Comparison((Message("user", "Q?"),), chosen, rejected, group=group, **fields)


def test_votes_on_one_pair_of_texts_are_one_decided_pair():
    rows = [
        pair("a", "b"),
        pair("a", "b"),
        pair("b", "a"),
        pair("c", "d"),
        pair("d", "c"),
        pair("e", "f", tie=True),
    ]
    (decided,) = decided_pairs(rows)
    assert (decided.chosen, decided.rejected) == ("a", "b")


def test_the_longer_answer_by_hand():
    rows = [
        pair("long one", "short", "1"),
        pair("x", "longer", "2"),
        pair("same", "four", "3"),
        pair("longest of all", "no", "4"),
    ]
    found = longer_wins(decided_pairs(rows))
    assert found.estimate == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found.low <= found.estimate <= found.high
    assert longer_wins([]) is None


def test_where_short_answers_are_liked_the_baseline_is_that_the_shorter_wins():
    rows = [pair("ok", f"a very long answer {n}", f"g{n}") for n in range(40)]
    rows += [pair(f"a long answer after all {n}", "no", f"h{n}") for n in range(10)]
    decided = decided_pairs(rows)
    assert longer_wins(decided).estimate == pytest.approx(0.2)
    assert length_wins(decided).estimate == pytest.approx(0.8)
    turned = [DecidedPair(p.rejected, p.chosen, p.group) for p in decided]
    assert length_wins(turned).estimate == longer_wins(turned).estimate == pytest.approx(0.8)
    assert length_wins(decided[:4]) is None


@pytest.mark.parametrize(
    ("good", "bad", "fill"),
    [
        ("謝謝您", "不關我事", "檯燈明天到達從商店郵寄"),
        ("អរគុណ", "មិនដឹងទេ", "ចង្កៀងនឹងមកដល់ថ្ងៃស្អែក"),
        ("ຂອບໃຈ", "ບໍ່ຮູ້", "ໂຄມໄຟມາຮອດມື້ອື່ນ"),
        ("ကျေးဇူးပါ", "မသိဘူး", "မီးအိမ်မနက်ဖြန်ရောက်မယ်"),
        ("நன்றி", "தெரியாது", "விளக்கு நாளை வரும்"),
        ("ευχαριστώ", "ΔΕΝ ΞΕΡΩ", "η λάμπα έρχεται αύριο"),
    ],
    ids=str,
)
def test_the_bag_of_words_reads_every_script(good, bad, fill):
    rng = random.Random(1)
    sep = " " if " " in fill else ""

    def text(word):
        parts = fill.split() if sep else [fill[:5], fill[5:]]
        rng.shuffle(parts)
        parts.insert(rng.randrange(len(parts) + 1), word)
        return sep.join(parts)

    pairs = [DecidedPair(text(good), text(bad), f"g{n}") for n in range(60)]
    assert bag_of_words(pairs).estimate >= 0.98


def test_pairs_of_one_prompt_are_no_independent_witnesses():
    many = decided_pairs([pair(f"longer answer {n}", f"b{n}", "one") for n in range(50)])
    assert (longer_wins(many).low, longer_wins(many).high) == (0.0, 1.0)


def test_the_bag_of_words_finds_a_planted_word_and_nothing_in_noise():
    rng = random.Random(2)
    words = [f"w{n}" for n in range(60)]

    def text(extra: str = "") -> str:
        return " ".join([*rng.sample(words, 12), extra])

    planted = [pair(text("please"), text(), f"g{n}") for n in range(200)]
    noise = [pair(text(), text(), f"g{n}") for n in range(200)]
    assert bag_of_words(decided_pairs(planted)).estimate > 0.95
    found = bag_of_words(decided_pairs(noise))
    assert found.low < 0.5 < found.high
    assert bag_of_words(decided_pairs(planted[:10])) is None


def votes(*sides_of_pairs):
    calls, judged = [], []
    for n, sides in enumerate(sides_of_pairs):
        calls += [
            call(2 * n + 1, f"Question {n}?", f"first {n}"),
            call(2 * n + 2, f"Question {n}?", f"second {n}"),
        ]
        for who, ranks in enumerate(sides):
            judged.append(ranking([2 * n + 1, 2 * n + 2], list(ranks), f"a{who}"))
    return curate(calls, judged, Rules(near_duplicate=1.0))


A, B, TIE = (1, 2), (2, 1), (1, 1)


def test_agreement_and_its_ceiling_by_hand():
    made = votes([A, A, B], [A, A, A], [B, TIE], [A])
    found = agreement(made.votes)
    # of three judges A, A, B one of three pairs agrees; of A, A, A all; the third pair has one decided vote only
    assert found.share.estimate == pytest.approx((1 / 3 + 1) / 2)
    assert found.share_with_ties.estimate == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert found.num_pairs == 2
    p = found.ceiling
    assert p**2 + (1 - p) ** 2 == pytest.approx(found.share.estimate)


def test_agreement_below_chance_has_the_ceiling_of_a_coin():
    assert agreement(votes([A, B], [A, B]).votes).ceiling == 0.5


def test_nobody_judged_twice_is_not_known():
    found = agreement(votes([A], [B]).votes)
    assert (found.share, found.ceiling, found.num_pairs) == (None, None, 0)


def test_position_bias_needs_the_order_shown():
    calls = [call(1, answer="a"), call(2, answer="b")]
    judged = [
        ranking([1, 2], [1, 2], "a1", shown_order=(0, 1)),
        ranking([1, 2], [2, 1], "a2", shown_order=(1, 0)),
        ranking([1, 2], [1, 2], "a3", shown_order=(1, 0)),
        ranking([1, 2], [1, 1], "a4", shown_order=(0, 1)),
        ranking([1, 2], [1, 2], "a5"),
    ]
    found = first_shown_wins(curate(calls, judged).used)
    assert found.n == 3
    assert found.estimate == pytest.approx(2 / 3)


def test_the_report_is_json_and_names_nobody():
    calls = [call(n, f"Question {n * 7919}?", f"Answer {n}.") for n in range(1, 40)]
    judged = [thumb(n, n % 3 > 0, f"person{n % 5}") for n in range(1, 40)] + [
        correction(3, "Better.", "person1")
    ]
    report = describe(curate(calls, judged, Rules(propensity=True, reliability=True)))
    text = json.dumps(report, allow_nan=False)
    assert "person" not in text
    assert report["feedback"] == {"correction": 1, "rating": 39}
    assert report["contributors"]["num"] == 6  # as end users, and one of them as an annotator
    assert sum(report["rows"]["unpaired"].values()) == 39
    assert report["comparisons"]["by_source"] == {"correction": 1}
    assert report["exposure"]["rate"]["counted"] == pytest.approx(26 / 39)


def test_an_empty_dataset_has_a_report():
    report = describe(curate([], []))
    assert report["comparisons"] is None
    assert not any(m["supported"] for m in report["methods"])
    json.dumps(report, allow_nan=False)


def test_kto_needs_both_sides():
    calls = [call(n, f"Question {n * 7919}?", f"Answer {n}.") for n in range(1, 701)]
    rules = Rules(near_duplicate=1.0, forms=("unpaired",))

    def kto(num_down: int) -> bool:
        judged = [thumb(n, n > num_down, f"u{n}") for n in range(1, 701)]
        methods = describe(curate(calls, judged, rules))["methods"]
        return next(m["supported"] for m in methods if m["method"] == "kto")

    assert kto(200)
    assert not kto(2)


def test_the_ceiling_formula_at_its_ends():
    assert (1 + math.sqrt(2 * 1.0 - 1)) / 2 == 1.0
    assert agreement(votes([A, A], [B, B]).votes).ceiling == 1.0
