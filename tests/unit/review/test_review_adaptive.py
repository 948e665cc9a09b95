"""How many judgements an item gets where that depends on what was said; order, second layer, people and their languages."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from test_review_work import NOW, item, lease

from heedloop.schema import SchemaError
from heedloop_server.review.adaptive import accuracies, num_wanted
from heedloop_server.review.assignments import Work
from heedloop_server.review.questions import read_questions
from heedloop_server.review.queue import Queue, changed, queue_from_record
from heedloop_server.store.review.team import Member

THUMB = read_questions([{"name": "thumb", "kind": "thumb"}])
BOTH = read_questions([
    {"name": "thumb", "kind": "thumb"}, {"name": "topic", "kind": "category", "categories": ["a", "b", "c", "d"]},
])  # fmt: skip


def queue(questions=THUMB, **settings) -> Queue:
    return Queue("q", "q", questions, NOW, seed="secret", **settings)


def said(*thumbs: int) -> list[dict]:
    return [{("thumb", "0"): t} for t in thumbs]


@pytest.mark.parametrize(
    ("thumbs", "wanted"),
    [((), 2), ((1,), 2), ((1, 1), 2), ((1, 0), 3), ((1, 0, 1), 3), ((1, 0, 0), 3)],
)
def test_a_third_on_disagreement(thumbs: tuple[int, ...], wanted: int) -> None:
    two = queue(judgements_per_item=2, until="agreement", max_judgements=3)
    assert num_wanted(two, said(*thumbs), {}) == wanted


def test_no_majority_of_many_labels_asks_on_up_to_the_most() -> None:
    many = queue(BOTH, judgements_per_item=2, until="agreement", max_judgements=5)
    votes = [{("topic", "0"): label} for label in "abcda"]
    assert [num_wanted(many, votes[:n], {}) for n in range(6)] == [2, 2, 3, 4, 5, 5]


def test_one_question_that_is_undecided_is_enough() -> None:
    many = queue(BOTH, judgements_per_item=2, until="agreement", max_judgements=4)
    votes = [{("thumb", "0"): 1, ("topic", "0"): "a"}, {("thumb", "0"): 1, ("topic", "0"): "b"}]
    assert num_wanted(many, votes, {}) == 3


def test_until_confident_by_hand() -> None:
    """With accuracy 0.8 two equal thumbs have the probability 0.64 / (0.64 + 0.04) = 0.941."""
    sure = {"judgements_per_item": 1, "until": "confidence", "max_judgements": 9}
    assert num_wanted(queue(confidence=0.94, **sure), said(1, 1), {"thumb": 0.8}) == 2
    assert num_wanted(queue(confidence=0.942, **sure), said(1, 1), {"thumb": 0.8}) == 3
    assert num_wanted(queue(confidence=0.79, **sure), said(1), {"thumb": 0.8}) == 1
    assert num_wanted(queue(confidence=0.94, **sure), said(1, 0, 1, 1), {"thumb": 0.8}) == 4
    assert num_wanted(queue(confidence=0.94, **sure), said(1, 0, 1, 0), {"thumb": 0.8}) == 5


def test_the_accuracy_is_that_which_explains_the_agreement() -> None:
    """Two who are right in 90% and err independently agree in 0.81 + 0.01 = 82% of thumbs."""
    pairs = [said(1, 1)] * 82 + [said(1, 0)] * 18
    assert accuracies(THUMB, pairs)["thumb"] == pytest.approx(0.9)
    four = [[{("topic", "0"): "a"}, {("topic", "0"): b}] for b in "a" * 52 + "b" * 48]
    assert accuracies(BOTH, four)["topic"] == pytest.approx(0.7)
    assert accuracies(THUMB, [said(1, 1)] * 5) == {}


def test_an_item_opens_again_for_a_third_and_closes() -> None:
    w = Work(queue(judgements_per_item=2, until="agreement", max_judgements=3))
    w.take_items([item("i0")])

    def judge(who: str, thumb: int) -> None:
        a = lease(w, "i0", who).moved(state="done", answers={"thumb": thumb}, judged_at=NOW)
        w.take_votes([a])
        w.take([a.without_words()])

    judge("ada", 1)
    assert w.next_items("bob", NOW, 1) == ["i0"]
    judge("bob", 0)
    assert w.next_items("eve", NOW, 1) == ["i0"]
    lease(w, "i0", "eve")
    assert w.next_items("dan", NOW, 1) == [], "one more, not two"
    judge("eve", 1)
    assert w.totals(NOW).done == 1
    judge("ada", 0)  # changed their mind: two of three still agree
    assert w.totals(NOW).done == 1


def test_a_second_blind_layer_is_a_share_with_one_judgement_more() -> None:
    w = Work(queue(judgements_per_item=1, second_share=0.25, second_by=("group:seniors",)))
    w.members = {"sue": Member("sue", ("seniors",))}
    w.take_items(item(f"i{n}", n) for n in range(400))
    twice = [i for i in w.items if w.num_wanted(i) == 2]
    assert 70 <= len(twice) <= 130
    for name in list(w.items):
        lease(w, name, "ada", state="done")
    assert w.next_items("bob", NOW, 500) == [], "the second layer is the seniors'"
    assert sorted(w.next_items("sue", NOW, 500)) == sorted(twice)
    assert w.progress("bob", NOW).remaining == 0
    assert w.progress("sue", NOW).remaining == len(twice)


def test_priority_then_the_chosen_order() -> None:
    items = [replace(item(f"i{n}", n), call_times=(NOW + timedelta(hours=n),)) for n in range(6)]
    items[3] = replace(items[3], priority=5)
    orders = {}
    for order in ("added", "newest", "random"):
        w = Work(queue(order=order))
        w.take_items(items)
        orders[order] = w.next_items("ada", NOW, 6)
    assert orders["added"] == ["i3", "i0", "i1", "i2", "i4", "i5"]
    assert orders["newest"] == ["i3", "i5", "i4", "i2", "i1", "i0"]
    assert orders["random"][0] == "i3" and sorted(orders["random"]) == sorted(orders["added"])
    assert orders["random"][1:] not in (orders["added"][1:], orders["newest"][1:])


def test_items_go_to_those_named_and_to_those_who_read_the_language() -> None:
    w = Work(queue(by_language=True))
    w.members = {"ada": Member("ada", ("legal",), ("de",)), "bob": Member("bob", (), ("en", "fr"))}
    w.take_items([
        replace(item("german", 0), language="de"), replace(item("english", 1), language="en"), item("any", 2),
        replace(item("legal", 3), assigned=("group:legal",)), replace(item("eves", 4), assigned=("eve",)),
    ])  # fmt: skip
    assert w.next_items("ada", NOW, 9) == ["german", "any", "legal"]
    assert w.next_items("bob", NOW, 9) == ["english", "any"]
    assert w.next_items("eve", NOW, 9) == ["german", "english", "any", "eves"], "of whom nothing is known"
    assert [w.progress(p, NOW).remaining for p in ("ada", "bob", "eve")] == [3, 2, 4]


def test_a_group_may_be_named_as_a_queues_annotators() -> None:
    w = Work(queue(annotators=("group:legal", "eve")))
    w.members = {"ada": Member("ada", ("legal",))}
    assert [w.admits(p) for p in ("ada", "eve", "bob")] == [True, True, False]


def test_the_suspended_get_nothing_and_the_replaced_do_not_count() -> None:
    w = Work(queue(judgements_per_item=1))
    w.take_items(item(f"i{n}", n) for n in range(3))
    lease(w, "i0", "eve", state="done")
    assert w.totals(NOW).done == 1
    w.set_queue(queue(judgements_per_item=1, suspended=("eve",), uncounted=("eve",)))
    assert w.totals(NOW).done == 0
    assert w.next_items("eve", NOW, 9) == []
    assert w.progress("eve", NOW).is_paused
    assert "i0" in w.next_items("ada", NOW, 9), "others are asked again"


def test_a_calibration_round_is_for_everybody_and_comes_first() -> None:
    w = Work(queue(judgements_per_item=1))
    w.take_items([item("i0"), item("c0", 1, "calibration"), item("c1", 2, "calibration")])
    for who in ("ada", "bob"):
        assert w.next_items(who, NOW, 2) == ["c0", "c1"]
        for name in ("c0", "c1"):
            lease(w, name, who, state="done")
    assert w.next_items("ada", NOW, 2) == ["i0"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"until": "agreement"}, "max_judgements"),
        ({"until": "agreement", "judgements_per_item": 3, "max_judgements": 3}, "max_judgements"),
        ({"until": "always"}, "until"),
        ({"order": "best"}, "order"),
        ({"second_share": 1.5}, "second_share"),
        ({"confidence": 0.2}, "confidence"),
        ({"webhook_url": "ftp://example.org"}, "webhook_url"),
        ({"webhook_url": "https:///x"}, "webhook_url"),
        ({"webhook_url": "http://["}, "webhook_url"),
        ({"webhook_url": "https://user:secret@example.org"}, "webhook_url"),
        ({"on_careless": "shout"}, "on_careless"),
        ({"rules": [{"source": "share"}]}, "rules[0].share"),
        ({"rules": [{"source": "share", "share": 0}]}, "rules[0].share"),
        ({"rules": [{"source": "all"}]}, "rules[0].source"),
        ({"rules": [{"source": "thumbs_down", "share": 0.1}]}, "rules[0].share"),
        ({"rules": [{"source": "disagreement", "kind": "cats_dogs"}]}, "rules[0].kind"),
        ({"rules": [{"source": "thumbs_down", "priority": 1000}]}, "rules[0].priority"),
        ({"rules": "all"}, "rules"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, field: str) -> None:
    with pytest.raises(SchemaError) as refused:
        changed(queue(), settings)
    assert refused.value.field == field


def test_settings_survive_the_store() -> None:
    made = changed(queue(), {
        "until": "confidence", "max_judgements": 5, "confidence": 0.95, "order": "random", "second_by": ["group:x"],
        "rules": [{"source": "share", "share": 0.1}], "suspended": ["eve"], "webhook_url": "https://example.org/x",
    })  # fmt: skip
    assert replace(queue_from_record(made.to_record()), questions=made.questions) == made
    assert datetime.fromisoformat(made.rules[0]["since"]).tzinfo == timezone.utc
