"""What was reviewed: a reviewer's adjudication stands over the annotators' words, which stay in the history."""

from __future__ import annotations

from curate_cases import call, ranking, thumb

from heedloop_server.curate import Rules, curate

ADJUDICATED = {"adjudication": "true"}


def of_item(n, up, author, item="item-1", **fields):
    return thumb(n, up, author, queue_item=item, **fields)


def test_a_reviewers_word_stands_over_the_annotators():
    said = [of_item(1, True, a) for a in ("a1", "a2", "a3")]
    boss = of_item(1, False, "boss", metadata=ADJUDICATED)
    found = curate([call(1)], [*said, boss], Rules())
    assert [(r.label, r.author) for r in found.rows["unpaired"]] == [(False, "boss")]
    assert found.rows["demonstrations"] == []
    assert found.dropped["overruled_by_reviewer"] == 3


def test_only_the_items_own_judgements_are_overruled():
    said = [of_item(1, True, "a1"), of_item(2, True, "a1", item="item-2"), thumb(1, True, "user")]
    boss = of_item(1, False, "boss", metadata=ADJUDICATED)
    found = curate([call(1), call(2)], [*said, boss], Rules())
    assert sorted((r.author, r.label) for r in found.rows["unpaired"]) == [
        ("a1", True),
        ("boss", False),
        ("user", True),
    ]


def test_an_adjudication_that_was_taken_back_overrules_nobody():
    boss = of_item(1, False, "boss", metadata=ADJUDICATED, retracted=True)
    found = curate([call(1)], [of_item(1, True, "a1"), boss], Rules())
    assert [r.author for r in found.rows["unpaired"]] == ["a1"]


def test_rankings_are_settled_alike():
    calls = [call(1), call(2, answer="Three days.")]
    said = [ranking([1, 2], [1, 2], a, queue_item="item-1") for a in ("a1", "a2")]
    boss = ranking([1, 2], [2, 1], "boss", queue_item="item-1", metadata=ADJUDICATED)
    rows = curate(calls, [*said, boss], Rules()).rows["comparisons"]
    assert [(r.chosen, r.author) for r in rows] == [(calls[1].output_text, "boss")]
