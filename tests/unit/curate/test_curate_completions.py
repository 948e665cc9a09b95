"""Rows about single answers: demonstrations, unpaired, rated, prompts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from curate_cases import START, call, correction, flag, ranking, stored, target, thumb
from hypothesis import given, settings
from hypothesis import strategies as st

from heedloop.schema import Author, Feedback, Message, Scale
from heedloop_server.curate import Rules, count_rows, curate


def rating(n, value, name, scale, author="u1"):
    return stored(
        Feedback("rating", target(n), name, value=value, scale=scale, author=Author("annotator", author))
    )


def test_liked_answer_gives_a_demonstration():
    (row,) = curate([call(1)], [thumb(1, True)]).rows["demonstrations"]
    assert (row.completion, row.source) == ("Two days.", "liked")


@pytest.mark.parametrize(
    "more", [[thumb(1, False, "u2")], [flag(1, "inaccurate", "u2")], [ranking([1, 2], [1, 2], all_bad=True)]]
)
def test_liked_by_one_and_rejected_by_another_is_no_demonstration(more):
    made = curate([call(1), call(2, answer="other")], [thumb(1, True), *more])
    assert made.rows["demonstrations"] == []


def test_corrected_answer_is_not_itself_a_demonstration():
    made = curate([call(1)], [thumb(1, True, "u2"), correction(1, "Three days.")])
    assert [r.completion for r in made.rows["demonstrations"]] == ["Three days."]


def test_same_text_liked_twice_is_one_demonstration_of_both():
    judged = [thumb(1, True), thumb(2, True, "u2")]
    (row,) = curate([call(1), call(2)], judged).rows["demonstrations"]
    assert set(row.feedback_ids) == {j.feedback_id for j in judged}
    assert len(row.trace_ids) == 2


@pytest.mark.parametrize(
    ("more", "dropped"),
    [
        ([thumb(2, False, "u2")], {}),
        ([correction(2, "Three days.", "u2")], {}),
        ([flag(2, "inaccurate", "u2")], {"liked_but_rejected": 1}),
        ([ranking([2, 3], [1, 2], all_bad=True)], {"liked_but_rejected": 1}),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_said_of_a_text_in_one_call_counts_in_the_other(more, dropped, order):
    calls = [call(1), call(2), call(3, answer="other")]
    made = curate(calls[::order], [thumb(1, True), *more])
    assert [r.completion for r in made.rows["demonstrations"] if r.source == "liked"] == []
    assert made.dropped == dropped
    elsewhere = [call(1), call(2, "Another question?"), call(3, "Another question?", "other")]
    assert curate(elsewhere, [thumb(1, True), *more]).rows["demonstrations"][0].completion == "Two days."


def test_a_majority_is_of_all_calls_that_gave_the_text():
    judged = [thumb(1, True, "a"), *(thumb(n, False, f"u{n}") for n in (2, 3, 4))]
    made = curate([call(n) for n in (1, 2, 3, 4)], judged, Rules(consensus="majority"))
    (row,) = made.rows["unpaired"]
    assert (row.label, row.weight, len(row.trace_ids)) == (False, 0.75, 4)


def test_thumbs_give_unpaired_rows():
    made = curate([call(1), call(2, "Other?", "No idea.")], [thumb(1, True), thumb(2, False, "u2")])
    assert [(r.completion, r.label, r.author) for r in made.rows["unpaired"]] == [
        ("Two days.", True, "u1"),
        ("No idea.", False, "u2"),
    ]


def test_flag_rejects_by_category_and_counts_once_beside_a_thumb():
    flagged = curate([call(1)], [flag(1, "inaccurate"), flag(1, "misleading"), thumb(1, False)])
    assert [r.label for r in flagged.rows["unpaired"]] == [False]
    ignored = curate([call(1)], [flag(1, "inaccurate")], Rules(reject_flags=("policy",)))
    assert ignored.rows["unpaired"] == []
    assert ignored.dropped == {"flag_not_in_rules": 1}


def test_majority_of_thumbs_is_one_row_and_an_even_split_none():
    votes = [thumb(1, True, "u1"), thumb(1, True, "u2"), thumb(1, False, "u3")]
    (row,) = curate([call(1)], votes, Rules(consensus="majority")).rows["unpaired"]
    assert row.label
    assert row.weight == pytest.approx(2 / 3)
    even = curate([call(1)], votes[1:], Rules(consensus="majority"))
    assert even.rows["unpaired"] == []
    assert even.dropped["no_majority"] == 1


def test_ratings_are_rescaled_by_name():
    judged = [
        rating(1, 4, "helpfulness", Scale(1, 5)),
        rating(1, "fair", "tone", Scale(categories=("poor", "fair", "good"))),
        rating(1, 1, "helpfulness", Scale(1, 5), "u2"),
    ]
    rows = curate([call(1)], judged).rows["rated"]
    assert {r.author: dict(r.ratings) for r in rows} == {
        "u1": {"helpfulness": 0.75, "tone": 0.5},
        "u2": {"helpfulness": 0.0},
    }


def test_stars_count_as_likes_when_named():
    made = curate([call(1)], [rating(1, 5, "stars", Scale(1, 5))], Rules(like_names=("stars",)))
    assert [r.label for r in made.rows["unpaired"]] == [True]
    assert len(made.rows["demonstrations"]) == 1


def test_models_judgements_are_left_out_unless_asked_for():
    judged = stored(Feedback("rating", target(1), value=1.0, author=Author("model", "judge")))
    assert curate([call(1)], [judged]).rows["unpaired"] == []
    rules = Rules(author_kinds=("end_user", "model"))
    assert len(curate([call(1)], [judged], rules).rows["unpaired"]) == 1


def test_solicited_can_be_told_apart():
    judged = [thumb(1, True, solicited=True), thumb(2, True, "u2", solicited=False)]
    calls = [call(1), call(2, "Other?")]
    assert [r.author for r in curate(calls, judged, Rules(solicited=True)).rows["unpaired"]] == ["u1"]
    assert [r.author for r in curate(calls, judged, Rules(solicited=False)).rows["unpaired"]] == ["u2"]


def test_prompts_come_once_with_their_number():
    calls = [
        call(1, "How long does delivery take?"),
        call(2, "how long  does delivery take?"),
        call(3, "Refund?"),
    ]
    rows = curate(calls, []).rows["prompts"]
    assert [(r.prompt[0].text, r.weight) for r in rows] == [
        ("how long  does delivery take?", 2),
        ("Refund?", 1),
    ]


def test_unusable_answers_are_counted():
    cut = call(1, attributes={"heedloop.truncated": '["gen_ai.output.messages"]'})
    hidden = call(2, output_messages=())
    mute = call(3, messages=())
    made = curate([cut, hidden, mute], [thumb(1, True), thumb(2, True), thumb(3, True)])
    assert not any(made.rows.values())
    assert made.dropped == {
        "answer_no_completion": 1,
        "answer_no_prompt": 1,
        "answer_truncated": 1,
        "no_completion": 1,
        "no_prompt": 1,
        "truncated": 1,
    }


def test_retracted_counts_for_nothing():
    judged = thumb(1, True)
    gone = replace(judged, feedback=replace(judged.feedback, retracted=True))
    assert curate([call(1)], [gone]).rows["unpaired"] == []


def test_one_author_is_capped_in_every_form():
    calls = [call(n, f"Question number {n} about {'x' * n}?") for n in range(1, 121)]
    judged = [thumb(n, True, "loud") for n in range(1, 101)] + [
        thumb(n, True, f"u{n}") for n in range(101, 121)
    ]
    made = curate(calls, judged, Rules(max_author_share=0.2))
    for form in ("unpaired", "demonstrations"):
        total = sum(r.weight for r in made.rows[form])
        loud = sum(
            r.weight for r, j in zip(made.rows[form], judged, strict=True) if j.feedback.author.id == "loud"
        )
        assert loud / total == pytest.approx(0.2)
    assert made.capped["unpaired"] == ["loud"]


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_arrival_changes_nothing(order):
    calls = [call(n, f"Question {n % 4}?", f"Answer {n}.") for n in range(12)]
    calls = [replace(c, trace_id=f"{n + 1:032x}") for n, c in enumerate(calls)]
    judged = [
        replace(j, feedback=replace(j.feedback, target=replace(j.feedback.target, trace_id=f"{n + 1:032x}")))
        for n, j in enumerate(thumb(n + 1, n % 3 == 0, f"u{n % 5}") for n in range(12))
    ]
    first = curate(calls, judged)
    again = curate([calls[i] for i in order], [judged[i] for i in reversed(order)])
    assert again.rows == first.rows


def test_counts_name_every_form_and_split():
    made = curate([call(1, start_time=START + timedelta(days=1))], [thumb(1, True)])
    counts = count_rows(made.rows)
    assert set(counts) == {"demonstrations", "comparisons", "unpaired", "prompts", "rated"}
    assert sum(counts["unpaired"].values()) == 1
    assert sum(counts["comparisons"].values()) == 0


def test_empty_answers_can_be_preferred_but_not_demonstrated():
    calls = [call(1, answer=""), call(2, answer="Rude words.")]
    made = curate(calls, [ranking([1, 2], [1, 2]), thumb(1, True)])
    assert [r.chosen for r in made.rows["comparisons"]] == [""]
    assert made.rows["demonstrations"] == []


def test_messages_keep_their_roles():
    messages = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "Bye"),
    )
    (row,) = curate([call(1, messages=messages)], [thumb(1, True)]).rows["demonstrations"]
    assert row.prompt == messages
