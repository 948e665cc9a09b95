"""Planted truths of comparisons: the verdict comes in time, is right, and is not given where a field reverses it."""

from datetime import date, timedelta

import numpy as np
import pytest

from heedloop_server.statistics.confounding import confounded_by, tag_tables
from heedloop_server.statistics.sequential import DECISION
from heedloop_server.statistics.versions import compare_versions

DAY = date(2026, 11, 1)
PER_DAY = 96


def _ratings(rng, num, rate):
    return int(rng.binomial(num, rate)), num


def _release(rng, hour, num_days, *, lift, straggling=0):
    """Ten days of the old version, then a new one from this hour on; the old one may straggle for days."""
    old = {DAY + timedelta(d): _ratings(rng, PER_DAY, 0.45) for d in range(10)}
    new = {}
    for d in range(num_days):
        share = (24 - hour) / 24 if d == 0 else 1
        day = DAY + timedelta(10 + d)
        new[day] = _ratings(rng, round(PER_DAY * share), 0.45 + lift)
        left = PER_DAY - new[day][1] if d == 0 else straggling
        if left:
            old[day] = _ratings(rng, left, 0.45)
    return {day: c for day, c in old.items() if c[1]}, {day: c for day, c in new.items() if c[1]}


@pytest.mark.parametrize("straggling", [0, 5])
@pytest.mark.parametrize("hour", range(24))
def test_a_release_at_any_hour_is_decided_within_days(hour, straggling):
    rng = np.random.default_rng(hour)
    old, new = _release(rng, hour, 5, lift=0.24, straggling=straggling)
    found = compare_versions(old, new)
    assert found.design == "before_and_after"
    assert found.test.decided == "b"
    assert found.difference.high < 0
    turned = compare_versions(new, old)
    assert turned.test.decided == "a"
    assert turned.difference.estimate == pytest.approx(-found.difference.estimate)


@pytest.mark.parametrize("hour", [2, 12, 20])
def test_a_release_that_changes_nothing_is_decided_in_under_5_percent_however_often_one_looks(hour):
    rng, runs, wrong = np.random.default_rng(100 + hour), 40, 0
    for _ in range(runs):
        old, new = _release(rng, hour, 12, lift=0.0, straggling=4)
        last = max(new)
        looks = (
            compare_versions(*({d: c for d, c in side.items() if d <= last - timedelta(back)} for side in (old, new)))
            for back in range(9, -1, -3)
        )  # fmt: skip
        wrong += any(found.test.decided for found in looks)
    assert wrong / runs < 0.05


def test_difference_interval_and_evidence_come_from_the_same_ratings():
    """The rates swing with the days and traffic with them: pooled, A looks much better; day by day it is a little worse."""
    days = [DAY + timedelta(d) for d in range(20)]
    good = [d % 2 == 0 for d in range(20)]
    a = {
        day: (round(n * (0.85 if g else 0.35)), n)
        for day, g in zip(days, good, strict=True)
        for n in [160 if g else 40]
    }
    b = {
        day: (round(n * (0.95 if g else 0.45)), n)
        for day, g in zip(days, good, strict=True)
        for n in [40 if g else 160]
    }
    found = compare_versions(a, b)
    assert sum(up for up, _ in a.values()) > sum(up for up, _ in b.values())
    assert (found.design, found.test.decided) == ("same_days", "b")
    assert (
        found.difference.estimate == pytest.approx(found.a.estimate - found.b.estimate) == pytest.approx(-0.1)
    )
    assert found.difference.n == found.a.n + found.b.n == 4000


def test_what_is_left_out_is_in_neither_side():
    """A ran for a month before B came beside it: only their common days are compared."""
    a = {DAY + timedelta(d): (90, 100) for d in range(30)} | {
        DAY + timedelta(30 + d): (50, 100) for d in range(10)
    }
    b = {DAY + timedelta(30 + d): (50, 100) for d in range(10)}
    found = compare_versions(a, b)
    assert found.design == "same_days"
    assert (found.a.n, found.b.n) == (1000, 1000)
    assert found.difference.estimate == 0
    assert found.days_a == found.days_b == frozenset(b)


def test_ratings_that_cannot_come_are_not_promised():
    old = {DAY + timedelta(d): (12, 20) for d in range(3)}
    new = {DAY + timedelta(3 + d): (13, 20) for d in range(40)}
    found = compare_versions(old, new)
    assert found.test.decided is None
    assert found.ended == {"a"}
    assert found.test.num_needed is None
    serving = compare_versions(*({DAY + timedelta(d): (up, 20) for d in range(6)} for up in (12, 15)))
    assert serving.test.num_needed > 0
    assert serving.ended == frozenset()
    over = compare_versions(old, old, as_of=DAY + timedelta(30))
    assert (over.ended, over.test.num_needed) == ({"a", "b"}, None)


def test_a_version_that_stopped_still_lends_what_is_not_compared_yet():
    old = {DAY + timedelta(d): (58, 100) for d in range(30)}
    new = {DAY + timedelta(30 + d): (66, 100) for d in range(3)}
    found = compare_versions(old, new)
    assert found.test.decided is None
    assert found.ended == {"a"}
    assert 0 < found.test.num_needed < 2700


# ------------------------------------------------------------------------------------------------ Simpson's paradox


def _strata(rng, sizes, rates):
    """[[up, down] of A, [up, down] of B] by stratum."""
    sides = [
        [_ratings(rng, n, r) for n, r in zip(s, p, strict=True)] for s, p in zip(sizes, rates, strict=True)
    ]
    return {str(i): [[up, n - up] for up, n in pair] for i, pair in enumerate(sides)}


def _headline(tables):
    total = np.array(list(tables.values())).sum(axis=0)
    (up_a, down_a), (up_b, down_b) = total.tolist()
    return compare_versions({DAY: (up_a, up_a + down_a)}, {DAY: (up_b, up_b + down_b)})


@pytest.mark.parametrize("field", ["tag", "model", "user_id", "status", "answer_chars", "metadata.topic"])
def test_a_planted_paradox_is_found_in_every_field(field):
    rng, runs, found = np.random.default_rng(3), 20, []
    for _ in range(runs):
        planted = _strata(rng, [(100, 900), (900, 100)], [(0.95, 0.80), (0.60, 0.40)])
        others = {f"metadata.k{i}": _split(rng, planted, 4) for i in range(12)}
        total = _headline(planted)
        assert total.test.decided == "b"
        found.append(confounded_by(total.difference, {**others, field: planted}, decided=True))
    assert {f.field for f in found} == {field}
    assert sum(f.kind == "reversed" for f in found) >= 19


def _split(rng, tables, num):
    """The same ratings in strata that have nothing to do with them."""
    total = np.array(list(tables.values())).sum(axis=0).ravel()
    parts = [rng.multinomial(n, np.full(num, 1 / num)) for n in total]
    return {str(i): np.array([p[i] for p in parts]).reshape(2, 2).tolist() for i in range(num)}


@pytest.mark.parametrize("lift", [0.0, 0.03, 0.1])
def test_no_paradox_is_claimed_where_there_is_none(lift):
    """Sides are drawn at random; every field has something to do with how good an answer is."""
    rng, runs, claimed = np.random.default_rng(9), 60, 0
    for _ in range(runs):
        values, side = rng.integers(4, size=(10, 600)), rng.integers(2, size=600)
        up = rng.random(600) < 0.5 + lift * (side == 0) + 0.05 * (values - 1.5).mean(axis=0)
        fields = {f"f{i}": _tables(v, side, up) for i, v in enumerate(values)}
        total = _headline(fields["f0"])
        claimed += confounded_by(total.difference, fields, decided=total.test.decided is not None) is not None
    assert claimed / runs < 0.05


def _tables(values, side, up):
    return {
        str(v): [[int((here & up).sum()), int((here & ~up).sum())] for s in (0, 1) for here in [(values == v) & (side == s)]]
        for v in range(4)
    }  # fmt: skip


def test_a_difference_that_segments_explain_is_no_verdict_but_what_a_version_does_is_its_own():
    """Equal in either kind of question, and used for other questions; the same of the length of answers is A's doing."""
    rng = np.random.default_rng(4)
    equal = _strata(rng, [(900, 300), (300, 900)], [(0.8, 0.8), (0.5, 0.5)])
    total = _headline(equal)
    assert total.test.decided == "a"
    assert total.test.e_value > DECISION
    assert confounded_by(total.difference, {"metadata.topic": equal}, decided=True).kind == "explained"
    assert confounded_by(total.difference, {"answer_chars": equal}, decided=True) is None


def test_tags_that_overlap_make_strata_that_do_not():
    sets = {("billing",): [[1, 2], [3, 4]], ("billing", "vip"): [[5, 6], [7, 8]], (): [[1, 0], [0, 1]]}
    found = tag_tables(sets)
    total = np.array(list(sets.values())).sum(axis=0).tolist()
    assert set(found) == {"tag", "tag billing", "tag vip"}
    for tables in found.values():
        assert np.array(list(tables.values())).sum(axis=0).tolist() == total
    assert found["tag vip"]["with"] == [[5, 6], [7, 8]]
