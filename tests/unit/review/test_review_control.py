"""Quality control of review against planted truths: who agrees, who is careless, what the consensus is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from heedloop_server.review.control.agreement import agreement_by_slice, agreement_of_question
from heedloop_server.review.control.annotators import annotators
from heedloop_server.review.control.bias import AnswerFacts, bias
from heedloop_server.review.control.confusion import Labelled, as_labels, confusion, confusion_by_slice
from heedloop_server.review.control.consensus import consensus_of_question
from heedloop_server.review.control.copying import copied_pairs
from heedloop_server.review.control.labels import Judged, labels
from heedloop_server.review.questions import Question, read_questions
from heedloop_server.statistics.agreement import confusion_table
from heedloop_server.statistics.consensus import dawid_skene, majority_vote

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
THUMB = Question("thumb", "thumb")
TONE = Question("tone", "scale", min=1, max=5)
FLAGS = Question("flaws", "flags", choices=("inaccurate", "incomplete"))
MARKS = Question("marks", "ranges", choices=("wrong",))
BETTER = Question("better", "comparison")
ORDER = Question("order", "ranking")


def judged(
    item: str, who: str, answers: dict, *, at: int = 0, ms: int | None = None, shown: Sequence[int] = (0,)
):
    return Judged(item, who, answers, START + timedelta(minutes=at), ms, tuple(shown))


def crowd(seed: int, *, num_items: int = 400, per_item: int = 5, num: int = 20, bad_share: float = 0.3):
    """Thumbs on items of known truth; the first annotators are careless (even) or adversarial (odd)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(2, size=num_items)
    skill = rng.uniform(0.75, 0.95, num)
    num_bad = round(num * bad_share)
    said = []
    for item in range(num_items):
        for who in rng.choice(num, per_item, replace=False):
            right = rng.random() < skill[who]
            if who < num_bad:
                right = rng.random() < (0.5 if who % 2 == 0 else 0.1)
            label = int(truth[item] if right else 1 - truth[item])
            said.append(judged(f"i{item:03}", f"w{who:02}", {"thumb": label}, at=len(said), ms=20_000))
    bad = {f"w{w:02}" for w in range(num_bad)}
    return said, {f"i{i:03}": int(t) for i, t in enumerate(truth)}, bad, (truth, skill)


def accuracy(rows, truth):
    return np.mean([row.label == truth[row.item_id] for row in rows])


def test_consensus_recovers_what_careless_and_adversarial_annotators_cost():
    gained, lost, found, hits, bad_ones = [], [], 0, 0, 0
    for seed in range(4):
        said, truth, bad, _ = crowd(seed)
        majority = accuracy(consensus_of_question(THUMB, said, method="majority"), truth)
        honest = [j for j in said if j.annotator not in bad]
        without = accuracy(consensus_of_question(THUMB, honest, method="majority"), truth)
        model = accuracy(consensus_of_question(THUMB, said, method="dawid_skene"), truth)
        weighted = accuracy(consensus_of_question(THUMB, said, method="weighted"), truth)
        assert weighted > majority
        gained.append(model - majority)
        lost.append(without - majority)
        flagged = {a.author_id for a in annotators([THUMB], said, {}) if a.careless}
        found, hits, bad_ones = found + len(flagged), hits + len(flagged & bad), bad_ones + len(bad)
    assert np.mean(lost) > 0.04
    assert np.mean(gained) >= 0.9 * np.mean(lost)
    assert hits / found >= 0.95  # precision
    assert hits / bad_ones >= 0.95  # recall


def test_gold_answers_hold_and_turn_a_captured_majority_round():
    """Where most annotators are adversarial only gold tells which of the two camps is right."""
    rng = np.random.default_rng(0)
    truth = {f"i{i}": int(t) for i, t in enumerate(rng.integers(2, size=200))}
    said = [
        judged(i, f"w{w}", {"thumb": t if (w < 2) == (rng.random() < 0.9) else 1 - t})
        for i, t in truth.items()
        for w in range(5)
    ]
    gold = {i: judged(i, "", {"thumb": truth[i]}) for i in list(truth)[:20]}
    rest = {i: t for i, t in truth.items() if i not in gold}
    blind = consensus_of_question(THUMB, said, method="dawid_skene")
    told = consensus_of_question(THUMB, said, method="dawid_skene", gold=gold)
    assert accuracy([r for r in blind if r.item_id in rest], rest) < 0.2
    assert accuracy([r for r in told if r.item_id in rest], rest) > 0.9
    record = {a.author_id: a for a in annotators([THUMB], said, gold)}
    assert record["w0"].gold.estimate > 0.7 and not record["w0"].careless
    assert record["w4"].careless and "gold" in record["w4"].reasons[-1]
    assert record["w4"].gold.n == 20


def test_known_labels_change_nothing_where_they_were_nobodys_word():
    said = [("a", 1, "x"), ("b", 1, "x"), ("a", 2, "y"), ("b", 2, "x")]
    assert dawid_skene(said, known={1: "never said"}).prior == pytest.approx(dawid_skene(said).prior)
    assert dawid_skene(said, known={2: "y"}).consensus[2].label == "y"


def test_an_adjudication_stands_over_the_others_and_everything_stays():
    said = [judged("i1", w, {"thumb": 1}) for w in "abc"]
    settled = {"i1": judged("i1", "boss", {"thumb": 0})}
    [row] = consensus_of_question(THUMB, said, method="majority", adjudicated=settled)
    assert (row.label, row.by, row.confidence, row.num) == (0, "adjudication", 1.0, 3)
    [tied] = consensus_of_question(THUMB, said[:1] + [judged("i1", "b", {"thumb": 0})], method="majority")
    assert (tied.label, tied.confidence) == (None, 0.5)


def test_agreement_of_a_scale_by_hand_and_undefined_where_it_is():
    ratings = [[1, 2, 3, 3, 2, 1, 4, 1, 2], [1, 2, 3, 3, 2, 2, 4, 1, 2], [None, 3, 3, 3, 2, 3, 4, 2, 2]]
    said = [
        judged(f"i{unit}", f"w{w}", {"tone": v})
        for w, row in enumerate(ratings)
        for unit, v in enumerate(row)
        if v is not None
    ]
    found = agreement_of_question(TONE, said)
    assert found.alpha.estimate == pytest.approx(0.752001, abs=1e-6)
    assert (found.num_units, found.num_annotators, found.cohen) == (9, 3, None)
    assert found.alpha.low <= found.alpha.estimate <= found.alpha.high
    same = agreement_of_question(TONE, [judged("i", w, {"tone": 3}) for w in "ab"])
    assert same.alpha is None
    assert agreement_of_question(TONE, []).percent is None


def test_two_annotators_get_cohens_kappa():
    table = {(1, 1): 20, (1, 0): 5, (0, 1): 10, (0, 0): 15}
    said, n = [], 0
    for (a, b), count in table.items():
        for _ in range(count):
            said += [judged(f"i{n}", "a", {"thumb": a}), judged(f"i{n}", "b", {"thumb": b})]
            n += 1
    found = agreement_of_question(THUMB, said)
    assert found.cohen.estimate == pytest.approx(0.4)
    assert found.percent.estimate == pytest.approx(0.7)
    assert found.fleiss is None


def test_two_who_always_agree_are_not_certain_to():
    """Every resample of four agreed answers gives kappa 1: the interval allows for what was not seen."""
    said = [judged(f"i{i}", who, {"thumb": i % 2}) for i in range(4) for who in ("ana", "ben")]
    cohen = agreement_of_question(THUMB, said).cohen
    assert (cohen.estimate, cohen.high, cohen.n) == (1.0, 1.0, 4)
    assert cohen.low == pytest.approx(1 - (1 - 0.025 ** (1 / 4)) / 0.5)


def test_the_order_of_annotators_and_judgements_changes_nothing():
    said, *_ = crowd(7, num_items=60)
    mixed = said[:]
    random.Random(1).shuffle(mixed)
    assert agreement_of_question(THUMB, said) == agreement_of_question(THUMB, mixed)
    assert consensus_of_question(THUMB, said, method="dawid_skene") == consensus_of_question(
        THUMB, mixed, method="dawid_skene"
    )


def test_slices_come_with_the_least_agreement_first():
    said = []
    for i in range(40):
        slice_agrees = i % 2 == 0
        said += [
            judged(f"i{i}", "a", {"thumb": i % 3 % 2}),
            judged(f"i{i}", "b", {"thumb": i % 3 % 2 if slice_agrees else (i // 3) % 2}),
        ]
    found = agreement_by_slice(THUMB, said, lambda j: ["easy" if int(j.item_id[1:]) % 2 == 0 else "hard"])
    assert [s.value for s in found] == ["hard", "easy"]
    assert found[1].percent.estimate == 1.0


def test_flags_count_what_was_not_chosen_too():
    said = [
        judged("i1", "a", {"flaws": [{"category": "inaccurate"}]}),
        judged("i1", "b", {"flaws": []}),
        judged("i2", "a", {"flaws": []}),
        judged("i2", "b", {"flaws": []}),
    ]
    found = agreement_of_question(FLAGS, said)
    assert found.num_units == 4  # two answers, two categories
    assert found.percent.estimate == pytest.approx(0.75)


def test_ranges_by_overlap_and_by_label():
    said = [
        judged("i1", "a", {"marks": [{"start": 0, "end": 10, "label": "wrong"}]}),
        judged("i1", "b", {"marks": [{"start": 5, "end": 15, "label": "wrong"}]}),
        judged("i2", "a", {"marks": [{"start": 3, "end": 9, "label": "wrong"}]}),
        judged("i2", "b", {"marks": [{"start": 3, "end": 9, "label": "wrong"}]}),
        judged("i3", "a", {"marks": []}),
        judged("i3", "b", {"marks": []}),
    ]
    found = agreement_of_question(MARKS, said)
    assert found.range_overlap.estimate == pytest.approx((5 / 15 + 1) / 2)
    assert found.range_overlap.n == 2
    assert found.percent.estimate == 1.0


def test_a_ranking_gives_a_label_per_pair():
    said = [judged("i", "a", {"order": {"ranks": [2, 1, 2]}}, shown=(2, 0, 1))]
    found = {unit: label for _, unit, label in labels(ORDER, said)}
    assert found == {("i", "0", "1"): 1, ("i", "0", "2"): 0, ("i", "1", "2"): -1}


def test_severity_speed_sameness_and_drift_are_noticed():
    rng = np.random.default_rng(3)
    said = []
    for i in range(80):
        fair = int(rng.integers(2, 5))
        said += [
            judged(f"i{i}", w, {"tone": min(5, max(1, fair + int(rng.integers(-1, 2))))}, at=i, ms=30_000)
            for w in "abc"
        ]
        said.append(judged(f"i{i}", "harsh", {"tone": max(1, fair - 1)}, at=i, ms=30_000))
        said.append(judged(f"i{i}", "same", {"tone": 5}, at=i, ms=4_000))
    record = {a.author_id: a for a in annotators([TONE], said, {})}
    assert record["harsh"].severity["tone"].high < 0
    assert record["a"].severity["tone"].low < record["a"].severity["tone"].estimate
    assert any("takes 4 s" in note for note in record["same"].notes)
    assert any("100%" in note for note in record["same"].notes)
    assert record["same"].careless and not record["a"].careless

    truth = {f"i{i}": i % 2 for i in range(120)}
    gold = {i: judged(i, "", {"thumb": t}) for i, t in truth.items()}
    tired = [
        judged(i, "tired", {"thumb": t if n < 60 else n // 2 % 2}, at=n)
        for n, (i, t) in enumerate(truth.items())
    ]
    [one] = annotators([THUMB], tired, gold)
    assert one.drift.high < 0
    assert any("lately" in note for note in one.notes)


def test_a_preference_for_length_and_for_the_first_place_is_measured():
    rng = np.random.default_rng(5)
    facts = {
        f"i{i}": [AnswerFacts(100 + int(rng.integers(900)), "m1"), AnswerFacts(500, "m2")] for i in range(200)
    }
    said = []
    for n, (item, (a, b)) in enumerate(facts.items()):
        shown = (0, 1) if n % 2 else (1, 0)
        said.append(
            judged(item, "long", {"better": {"preferred": int(b.num_chars > a.num_chars)}}, shown=shown)
        )
        said.append(judged(item, "first", {"better": {"preferred": shown[0]}}, shown=shown))
    found = bias(BETTER, said, facts).annotators
    assert found["long"].longer.low > 0.9
    assert found["long"].first_shown.low < 0.5 < found["long"].first_shown.high
    assert found["first"].first_shown.estimate == 1.0
    assert found["first"].longer.low < 0.5 < found["first"].longer.high
    rated = [
        judged(i, "w", {"tone": [1 + 4 * (f[0].num_chars > 500), 3]}, shown=(0, 1)) for i, f in facts.items()
    ]
    ratings = bias(TONE, rated, facts).all
    assert ratings.length.low > 0.3
    assert set(ratings.model) == {"m1", "m2"}
    assert bias(MARKS, [], {}) is None


def test_confusion_of_people_and_a_judge():
    said = [judged(f"i{i}", w, {"thumb": i % 2}) for i in range(40) for w in "abc"]
    people = as_labels(consensus_of_question(THUMB, said, method="majority"))
    judge = {(f"i{i}", "0"): i % 2 if i < 30 else 1 for i in range(40)}
    found = confusion(THUMB, people, Labelled(judge))
    assert found.table == [[15, 5], [0, 20]]
    assert found.accuracy.estimate == pytest.approx(35 / 40)
    slices = confusion_by_slice(
        THUMB, people, Labelled(judge), {f"i{i}": "old" if i < 30 else "new" for i in range(40)}
    )
    assert [(s.value, s.n, s.accuracy.estimate) for s in slices] == [
        ("old", 30, 1.0),
        ("new", 10, 0.5),
    ]
    assert confusion(THUMB, {}, Labelled(judge)).accuracy is None


def test_majority_is_the_plain_count():
    assert majority_vote([("a", 1, 1), ("b", 1, 0), ("c", 1, 1)])[1].label == 1


def test_nobody_is_careless_where_there_is_nothing_to_tell_apart():
    said = [judged(f"i{i}", w, {"thumb": 1}) for i in range(30) for w in "abc"]
    said += [judged(f"i{i}", "wrong", {"thumb": 0}) for i in range(30)]
    careless = {a.author_id: a.careless for a in annotators([THUMB], said, {})}
    assert careless == {"a": False, "b": False, "c": False, "wrong": True}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_categories_are_listed_says_nothing(seed):
    """Alpha of unordered categories is nominal; declared ordered, it is ordinal and depends on the order."""
    rng = random.Random(seed)
    names = ["refunds", "delivery", "warranty", "account", "billing"]
    judged = [
        Judged(
            f"i{n}", who, {"topic": names[n % 5] if rng.random() < 0.75 else rng.choice(names[::4])}, START
        )
        for n in range(60)
        for who in ("a", "b")
    ]
    shuffled = rng.sample(names, 5)

    def alpha(categories, **more):
        question = {"name": "topic", "kind": "category", "categories": categories, **more}
        found = agreement_of_question(read_questions([question])[0], judged)
        return found.metric, found.alpha.estimate

    assert alpha(names)[0] == "nominal"
    assert alpha(names)[1] == pytest.approx(alpha(shuffled)[1])
    assert alpha(names, ordered=True)[0] == "ordinal"
    assert alpha(names, ordered=True)[1] != pytest.approx(alpha(names)[1])


@pytest.mark.parametrize("distance", ["ordinal", "interval"])
def test_scales_choose_their_distance_and_have_a_weighted_kappa(distance):
    rng = random.Random(1)
    question = read_questions([{"name": "s", "kind": "scale", "min": 1, "max": 9, "distance": distance}])[0]
    values = {who: [] for who in "ab"}
    for _ in range(80):
        truth = rng.choice([1, 2, 5, 9])
        for who in "ab":
            values[who].append(max(1, min(9, truth + rng.choice([-1, 0, 0, 1]))))
    judged = [Judged(f"i{n}", who, {"s": v}, START) for who in "ab" for n, v in enumerate(values[who])]
    found = agreement_of_question(question, judged)
    assert found.metric == distance
    share = confusion_table(values["a"], values["b"], range(1, 10)) / len(values["a"])
    distances = np.subtract.outer(np.arange(9), np.arange(9)) ** 2
    by_chance = np.outer(share.sum(axis=1), share.sum(axis=0))
    expected = 1 - (share * distances).sum() / (by_chance * distances).sum()
    kappa = found.weighted_kappa
    assert kappa.estimate == pytest.approx(expected)
    assert kappa.low < expected < kappa.high


def test_a_copier_is_named_and_an_honest_pair_is_not():
    """Five honest annotators of 85%, one who submits what another one did a minute before."""
    rng = random.Random(4)
    judged = []
    for n in range(80):
        truth = rng.choice("abcde")
        said = {
            w: truth if rng.random() < 0.85 else rng.choice("abcde") for w in ("g1", "g2", "g3", "g4", "g5")
        }
        for who, label in (*said.items(), ("copier", said["g1"])):
            at = START + timedelta(minutes=5 * n + (1 if who == "copier" else 0), seconds=rng.randint(0, 40))
            judged.append(Judged(f"i{n}", who, {"topic": label}, at))
    question = read_questions([{"name": "topic", "kind": "category", "categories": list("abcde")}])
    [pair] = copied_pairs(question, judged)
    assert ({pair.first, pair.second}, pair.copier) == ({"g1", "copier"}, "copier")
    records = {a.author_id: a for a in annotators(question, judged, {})}
    assert [a for a, r in records.items() if r.careless] == ["copier"]
    assert "g1" in " ".join(records["copier"].reasons)
    assert copied_pairs(question, [j for j in judged if j.annotator != "copier"]) == []
