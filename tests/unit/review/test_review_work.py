"""Who gets what next: places of an item, leases that end, gold nobody can tell, guidelines that send back."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedloop_server.review.assignments import GRACE, Work
from heedloop_server.review.gold import GoldPlan
from heedloop_server.review.questions import read_questions
from heedloop_server.review.queue import Queue
from heedloop_server.store.review.assignments import Assignment, ReviewItem

NOW = datetime(2026, 5, 5, 12, tzinfo=timezone.utc)
LEASE = timedelta(minutes=30)


def queue(**settings) -> Queue:
    questions = read_questions([{"name": "thumb", "kind": "thumb"}])
    return Queue("q", "q", questions, NOW, seed="secret", **settings)


def item(name: str, position: int = 0, gold: str = "") -> ReviewItem:
    return ReviewItem(name, (("ab" * 16, "cd" * 8),), (NOW,), "filter", position, gold=gold)


def work(num: int = 3, gold: int = 0, training: int = 0, **settings) -> Work:
    made = Work(queue(**settings))
    made.take_items(item(f"i{n}", n) for n in range(num))
    made.take_items(item(f"g{n}", n, "gold") for n in range(gold))
    made.take_items(item(f"t{n}", n, "training") for n in range(training))
    return made


def lease(
    w: Work, name: str, who: str, at: datetime = NOW, state: str = "leased", guideline: int = 0
) -> Assignment:
    known = w.of(name, who)
    base = known or Assignment(name, who, f"{name}/{who}", state, at, at + LEASE, guideline, (0,))
    a = base.moved(state=state, leased_at=at, expires_at=at + LEASE, guideline=guideline, judged_at=at)
    w.take([a])
    return a


def test_each_item_goes_to_as_many_as_are_wanted_and_never_twice_to_one() -> None:
    w = work(1, judgements_per_item=2)
    for who in ("ada", "bob"):
        assert w.next_items(who, NOW, 5) == ["i0"]
        lease(w, "i0", who)
        assert w.next_items(who, NOW, 5) == []
    assert w.next_items("eve", NOW, 5) == []
    lease(w, "i0", "ada", state="done")
    assert w.next_items("eve", NOW, 5) == []
    lease(w, "i0", "bob", state="skipped")
    assert w.next_items("eve", NOW, 5) == ["i0"]
    assert w.next_items("bob", NOW, 5) == []


def test_a_lease_ends_by_itself_and_its_holder_comes_first() -> None:
    w = work(2)
    lease(w, "i0", "ada")
    later = NOW + LEASE
    assert w.next_items("bob", later, 1) == ["i1"]  # others wait a little longer than the clock says
    assert w.next_items("ada", later, 1) == ["i0"]
    assert w.next_items("bob", later + GRACE, 1) == ["i0"]
    lease(w, "i0", "bob", at=later + GRACE)
    assert w.next_items("ada", later + GRACE, 1) == ["i1"]


def test_an_older_row_never_wins() -> None:
    w = work(1)
    first = lease(w, "i0", "ada")
    done = lease(w, "i0", "ada", state="done")
    w.take([first.touched(draft={"x": 1})])
    assert w.of("i0", "ada") == done


def test_a_newer_guideline_sends_back_first_to_those_who_judged() -> None:
    w = work(3)
    lease(w, "i1", "ada", state="done", guideline=1)
    assert w.progress("ada", NOW).remaining == 2
    w.set_queue(queue(judged_from=2))
    assert w.progress("ada", NOW).done == 0
    assert w.progress("ada", NOW).remaining == 3
    assert w.next_items("ada", NOW, 1) == ["i1"]
    assert w.next_items("bob", NOW, 3) == ["i0", "i2", "i1"]
    lease(w, "i1", "ada", guideline=2)
    lease(w, "i1", "ada", state="done", guideline=2)
    assert w.next_items("bob", NOW, 3) == ["i0", "i2"]


def test_more_judgements_wanted_opens_finished_items() -> None:
    w = work(1)
    lease(w, "i0", "ada", state="done")
    assert w.totals(NOW).done == 1
    w.set_queue(queue(judgements_per_item=2))
    assert w.totals(NOW).done == 0
    assert w.next_items("bob", NOW, 1) == ["i0"]


def test_training_comes_first_and_gold_goes_to_everybody() -> None:
    w = work(4, gold=2, training=1, gold_share=0.5)
    assert w.next_items("ada", NOW, 1) == ["t0"]
    lease(w, "t0", "ada", state="done")
    got = w.next_items("ada", NOW, 10)
    assert sorted(got) == ["g0", "g1", "i0", "i1", "i2", "i3"]
    for name in ("g0", "g1"):
        lease(w, name, "ada", state="done")
    assert {"g0", "g1"} <= set(w.next_items("bob", NOW, 10))
    assert w.totals(NOW).items == 4


def test_remaining_falls_by_one_with_every_item_so_that_it_does_not_tell_gold() -> None:
    w = work(30, gold=5, training=2, gold_share=0.2)
    left = w.progress("ada", NOW).remaining
    num_gold = 0
    while chosen := w.next_items("ada", NOW, 1):
        lease(w, chosen[0], "ada")
        assert w.progress("ada", NOW).remaining == left
        lease(w, chosen[0], "ada", state="done")
        left -= 1
        num_gold += chosen[0].startswith("g")
        assert w.progress("ada", NOW).remaining == left
    assert left == 0
    assert num_gold == 5


def test_places_of_gold_are_the_same_in_any_batch_size() -> None:
    one, many = (work(40, gold=8, gold_share=0.2) for _ in range(2))
    singly = []
    while chosen := one.next_items("ada", NOW, 1):
        singly += chosen
        lease(one, chosen[0], "ada", state="done")
    assert many.next_items("ada", NOW, 100) == singly


@settings(max_examples=80, deadline=None)
@given(share=st.floats(0.01, 0.5), seed=st.text(max_size=5), places=st.integers(1, 300))
def test_the_plan_keeps_its_share_and_counts_what_it_places(share: float, seed: str, places: int) -> None:
    plan = GoldPlan(share, seed, "ada")
    gold = [plan.is_gold(p) for p in range(places)]
    assert sum(gold) == plan.num_before(places)
    assert abs(sum(gold) - share * places) <= 2


@settings(max_examples=80, deadline=None)
@given(
    share=st.floats(0.01, 0.5), place=st.integers(0, 50), ordinary=st.integers(0, 60), gold=st.integers(0, 30)
)
def test_what_is_left_is_what_a_walk_finds(share: float, place: int, ordinary: int, gold: int) -> None:
    plan = GoldPlan(share, "s", "ada")
    at, left, gold_left = place, ordinary, gold
    while left:
        if plan.is_gold(at) and gold_left:
            gold_left -= 1
        else:
            left -= 1
        at += 1
    assert plan.num_until(place, ordinary, gold) == at - place


def test_annotators_meet_gold_at_different_places() -> None:
    plans = [GoldPlan(0.1, "secret", f"a{n}") for n in range(20)]
    assert len({tuple(p.is_gold(i) for i in range(40)) for p in plans}) > 15


@pytest.mark.parametrize("state", ["claimed", "leased"])
def test_a_claim_takes_a_place_and_a_withdrawn_one_does_not(state: str) -> None:
    w = work(1)
    lease(w, "i0", "ada", state=state)
    assert w.next_items("bob", NOW, 1) == []
    lease(w, "i0", "ada", state="withdrawn")
    assert w.next_items("bob", NOW, 1) == ["i0"]
    assert w.next_items("ada", NOW, 1) == ["i0"]


def test_a_claim_that_nobody_decided_comes_back_to_its_annotator() -> None:
    w = work(1)
    lease(w, "i0", "ada", at=NOW - 2 * LEASE, state="claimed")
    assert w.next_items("ada", NOW, 1) == ["i0"]
