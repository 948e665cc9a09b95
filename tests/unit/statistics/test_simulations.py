"""Planted truths: what the statistics say about worlds whose truth is known."""

from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest
from statistics_cases import share_of_gold

from heedloop_server.statistics.consensus import (
    dawid_skene,
    majority_vote,
    reliability_weights,
    weighted_vote,
)
from heedloop_server.statistics.drift import Alarm, AlarmRule, next_alarm, watch
from heedloop_server.statistics.findings import most_important
from heedloop_server.statistics.patterns import Cell, overrepresented
from heedloop_server.statistics.sequential import Block, compare_blocks
from heedloop_server.statistics.stratified import stratified_comparison
from heedloop_server.statistics.versions import compare_versions

DAY = date(2026, 11, 1)


# --------------------------------------------------------------------------------------------- looking every day


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_daily_peeking_on_equal_versions_decides_wrongly_in_under_5_percent(rate):
    rng, runs = np.random.default_rng(17), 200
    wrong = naive = 0
    for _ in range(runs):
        ups = rng.binomial(25, rate, size=(2, 30))
        blocks = [Block(int(a), 25, int(b), 25) for a, b in ups.T]
        wrong += any(compare_blocks(blocks[: day + 1]).decided for day in range(len(blocks)))
        total, n = ups.cumsum(axis=1), 25 * np.arange(1, 31)
        p = total.sum(axis=0) / (2 * n)
        with np.errstate(all="ignore"):
            z = (total[0] - total[1]) / n / np.sqrt(2 * p * (1 - p) / n)
        naive += bool((np.abs(z) > 1.96).any())
    assert wrong / runs < 0.05
    assert naive / runs > 0.2


def test_a_shared_bad_day_decides_nothing():
    """The rate swings from day to day for both, and who gets more traffic swings with it: a trap for pooled counts."""
    rng, runs, wrong = np.random.default_rng(5), 100, 0
    for _ in range(runs):
        rates = rng.uniform(0.3, 0.9, 20)
        blocks = [
            Block(int(rng.binomial(a, p)), a, int(rng.binomial(b, p)), b)
            for p in rates
            for a, b in [(60, 15) if p > 0.6 else (15, 60)]
        ]
        wrong += compare_blocks(blocks).decided is not None
    assert wrong / runs < 0.05


def test_a_true_difference_is_found_with_its_direction():
    rng = np.random.default_rng(2)
    found = [
        compare_blocks(
            [Block(int(rng.binomial(40, 0.7)), 40, int(rng.binomial(40, 0.58)), 40) for _ in range(30)]
        )
        for _ in range(40)
    ]
    assert sum(f.decided == "a" for f in found) >= 38
    assert not any(f.decided == "b" for f in found)


def test_before_and_after_with_daily_peeking():
    """The later version's days come one by one; every second morning somebody looks."""
    rng, runs, wrong, right = np.random.default_rng(8), 60, 0, 0
    for better in (0.0, 0.12):
        for _ in range(runs):
            old = {DAY + timedelta(days=d): (int(rng.binomial(40, 0.6)), 40) for d in range(20)}
            new = {DAY + timedelta(days=20 + d): (int(rng.binomial(40, 0.6 + better)), 40) for d in range(20)}
            looks = [compare_versions(old, dict(list(new.items())[: d + 1])) for d in range(1, 20, 2)]
            assert all(v.design == "before_and_after" for v in looks)
            decided = next((v.test.decided for v in looks if v.test.decided), None)
            wrong += better == 0 and decided is not None
            right += better > 0 and decided == "b"
    assert wrong / runs < 0.05
    assert right / runs > 0.7


def test_the_number_still_needed_is_about_right():
    """Where the rates stay as they are, the decision comes at about the number of ratings named."""
    blocks = [Block(28, 40, 24, 40)] * 4
    first = compare_blocks(blocks)
    assert first.decided is None
    more = first.num_needed // 80
    assert compare_blocks(blocks * ((4 + more) // 4 + 1)).decided == "a"
    assert compare_blocks([*blocks, *[Block(28, 40, 24, 40)] * (more // 2)]).decided is None
    assert compare_blocks([Block(20, 40, 20, 40)] * 10).num_needed is None


# ------------------------------------------------------------------------------------------------ failure patterns

FIELDS = {
    "metadata.topic": ("account", "billing", "other", "refunds", "shipping", "technical"),
    "prompt_version": ("v11", "v12", "v13"),
    "model": ("small", "large"),
    "metadata.language": ("de", "en", "es", "fr"),
}


def _cells(rng, num, planted=()):
    """Rated answers with random attributes; the planted groups are rated down more often."""
    values = [rng.integers(len(v), size=num) for v in FIELDS.values()]
    rate = np.full(num, 0.37)
    for group, bad in planted:
        mask = np.ones(num, bool)
        for field, value in group.items():
            place = list(FIELDS).index(field)
            mask &= values[place] == FIELDS[field].index(value)
        rate[mask] = bad
    down = rng.random(num) < rate
    counts = {}
    for row in zip(*values, down, strict=True):
        cell = counts.setdefault(row[:-1], [0, 0])
        cell[0] += 1
        cell[1] += int(row[-1])
    names = list(FIELDS)
    return [
        Cell(frozenset((f, FIELDS[f][i]) for f, i in zip(names, key, strict=True)), n, bad)
        for key, (n, bad) in counts.items()
    ]


REFUNDS_V13 = ({"metadata.topic": "refunds", "prompt_version": "v13"}, 0.64)


def test_a_planted_failure_pattern_ranks_first_and_explains_its_parents():
    parents = 0
    for seed in range(20):
        report = overrepresented(_cells(np.random.default_rng(seed), 6000, [REFUNDS_V13]))
        assert report.patterns[0].attributes == (("metadata.topic", "refunds"), ("prompt_version", "v13"))
        parents += sum(len(p.attributes) == 1 for p in report.patterns)
    # what is left of a parent is tested at 1%: 2 parents x 20 worlds may leave one or two by chance
    assert parents <= 2


def test_children_explained_by_a_parent_are_pruned():
    """One model is bad throughout: its pairs with everything else say nothing new."""
    report = overrepresented(_cells(np.random.default_rng(1), 8000, [({"model": "large"}, 0.6)]))
    assert [p.attributes for p in report.patterns] == [(("model", "large"),)]
    assert len(report.explained) > 5
    assert all(
        p.explained_by == (("model", "large"),)
        for p in report.explained
        if ("model", "large") in p.attributes
    )


def test_shuffled_outcomes_give_discoveries_in_at_most_5_percent():
    rng, runs, found = np.random.default_rng(9), 200, 0
    cells = _cells(rng, 6000)
    owners = np.repeat(np.arange(len(cells)), [c.num_rated for c in cells])
    down = np.zeros(owners.size)
    down[: sum(c.num_bad for c in cells)] = 1
    for _ in range(runs):
        bad = np.bincount(owners, weights=rng.permutation(down), minlength=len(cells))
        shuffled = [Cell(c.attributes, c.num_rated, int(b)) for c, b in zip(cells, bad, strict=True)]
        report = overrepresented(shuffled)
        found += bool(report.patterns or report.explained)
    # at most 5%, within two standard errors of 200 runs
    assert found / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


def test_the_finding_is_the_planted_one_compared_with_its_own_topic():
    found = most_important(_cells(np.random.default_rng(3), 6000, [REFUNDS_V13]))
    assert found.attributes == (("metadata.topic", "refunds"), ("prompt_version", "v13"))
    assert found.rate.estimate == pytest.approx(0.36, abs=0.06)
    assert found.other_rate.estimate == pytest.approx(0.63, abs=0.06)
    assert found.change.high < 0
    assert most_important(_cells(np.random.default_rng(4), 3000)) is None
    assert most_important([]) is None


# ------------------------------------------------------------------------------------------------------- Simpson


def test_a_planted_simpson_case_is_flagged_and_an_honest_one_is_not():
    rng = np.random.default_rng(6)
    flagged = 0
    for _ in range(50):
        easy_a, easy_b, hard_a, hard_b = 100, 900, 900, 100
        tables = {
            "easy": _table(rng, (easy_a, 0.95), (easy_b, 0.85)),
            "hard": _table(rng, (hard_a, 0.60), (hard_b, 0.45)),
        }
        flagged += stratified_comparison(tables).reversal
    assert flagged == 50
    honest = [
        stratified_comparison({s: _table(rng, (500, p + 0.1), (500, p)) for s, p in (("x", 0.5), ("y", 0.7))})
        for _ in range(50)
    ]
    assert not any(h.reversal for h in honest)
    assert np.mean([h.difference.low <= 0.1 <= h.difference.high for h in honest]) >= 0.86


def _table(rng, a, b):
    return [[int(u), n - int(u)] for n, u in ((n, rng.binomial(n, p)) for n, p in (a, b))]


# ------------------------------------------------------------------------------------------------- who rates


# --------------------------------------------------------------------------------------------------- annotators


def _crowd(
    seed, *, units=600, workers=40, per_unit=10, kinds=("random", "adversarial", "constant"), share=0.3
):
    """Judgements by careful and bad annotators, and the same with everybody careful."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=units)
    skill = rng.uniform(0.55, 0.85, workers)
    num_bad = int(share * workers)
    said, careful = [], []
    for unit in range(units):
        for worker in rng.choice(workers, per_unit, replace=False):
            right = rng.random() < skill[worker]
            wrong_label = (truth[unit] + rng.integers(1, 3)) % 3
            honest = truth[unit] if right else wrong_label
            kind = kinds[worker % len(kinds)] if worker < num_bad else "careful"
            label = {
                "careful": honest,
                "random": rng.integers(3),
                "constant": 0,
                "adversarial": (truth[unit] + 1) % 3,
            }[kind]
            said.append((int(worker), unit, int(label)))
            careful.append((int(worker), unit, int(honest)))
    return said, careful, dict(enumerate(truth.tolist())), set(range(num_bad))


def test_dawid_skene_recovers_what_careless_annotators_cost():
    lost, recovered, flagged, hits = [], [], 0, 0
    num_bad = 0
    for seed in range(4):
        said, careful, gold, bad = _crowd(seed)
        majority = share_of_gold(majority_vote(said), gold).estimate
        clean = share_of_gold(majority_vote(careful), gold).estimate
        model = dawid_skene(said)
        lost.append(clean - majority)
        recovered.append(share_of_gold(model.consensus, gold).estimate - majority)
        found = {w for w, q in model.annotators.items() if q.careless}
        flagged, hits, num_bad = flagged + len(found), hits + len(found & bad), num_bad + len(bad)
        weighted = share_of_gold(weighted_vote(said, reliability_weights(model)), gold).estimate
        assert weighted > majority
    assert np.mean(lost) > 0.02
    assert np.mean(recovered) >= 0.9 * np.mean(lost)
    assert hits / flagged >= 0.95  # precision
    assert hits / num_bad >= 0.95  # recall


# ------------------------------------------------------------------------------------------------------- drift


def _hours(rng, rates, per_hour):
    start = datetime(2026, 11, 1, tzinfo=timezone.utc)
    return {
        start + timedelta(hours=i): (int(rng.binomial(per_hour, p)), per_hour) for i, p in enumerate(rates)
    }


def test_a_drop_raises_the_alarm_and_its_end_resolves_it():
    rng = np.random.default_rng(1)
    rates = [0.7] * 100 + [0.5] * 60 + [0.7] * 100
    alarm = watch("model=small", AlarmRule(baseline=0.7), _hours(rng, rates, 10))
    steps = [(c.before, c.after) for c in alarm.history]
    assert ("warning", "alarm") in steps
    assert ("alarm", "resolved") in steps
    raised = next(c.at for c in alarm.history if c.after == "alarm")
    hours = (raised - datetime(2026, 11, 1, tzinfo=timezone.utc)).total_seconds() / 3600
    assert 100 <= hours < 130
    assert alarm.state in ("ok", "resolved")


def test_a_steady_rate_rarely_alarms():
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(60):
        alarm = watch("x", AlarmRule(baseline=0.7), _hours(rng, [0.7] * 120, 5))
        alarms += any(c.after == "alarm" for c in alarm.history)
    assert alarms <= 60 * 0.12 + 3  # at most one in 1,000 periods


def test_too_few_ratings_never_alarm_and_silence_is_no_recovery():
    rule = AlarmRule(baseline=0.7, min_ratings=30)
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    few = next_alarm(Alarm("x"), rule, at, 0, 29)
    assert few.state == "ok"
    loud = next_alarm(few, rule, at + timedelta(hours=1), 0, 5)
    assert loud.state == "alarm"
    for hour in range(10):
        loud = next_alarm(loud, rule, at + timedelta(hours=2 + hour), 0, 0)
    assert loud.state == "alarm"


@pytest.mark.parametrize("num_against", [1, 5, 20])
def test_a_gold_label_is_held_against_any_number_of_annotators(num_against):
    """However many say otherwise, and also where the other units make them look reliable."""
    annotators = [f"a{k}" for k in range(num_against)]
    judgements = [(a, unit, "A" if unit % 2 else "B") for a in annotators for unit in range(2, 12)]
    judgements += [(a, "gold", "A") for a in annotators] + [("alone", "gold", "B")]
    model = dawid_skene(judgements, known={"gold": "B"})
    assert dict(zip(model.labels, model.posterior["gold"], strict=True)) == {"A": 0.0, "B": 1.0}
    assert model.consensus["gold"].label == "B"
