"""Comparison rows: what corrections, rankings and thumbs become."""

from __future__ import annotations

import pytest
from curate_cases import call, correction, flag, ranking, stored, target, thumb

from heedloop.schema import Author, Feedback, Scale, Target
from heedloop_server.curate import Rules, curate


def comparisons(calls, judgements, **rules):
    return curate(calls, judgements, Rules(**rules)).rows["comparisons"]


def test_correction_gives_a_demonstration_and_a_comparison_over_the_original():
    judged = correction(1, "Three days.")
    made = curate([call(1)], [judged])
    (row,) = made.rows["comparisons"]
    assert (row.chosen, row.rejected, row.source) == ("Three days.", "Two days.", "correction")
    assert row.feedback_ids == (judged.feedback_id,)
    assert row.trace_ids == (f"{1:032x}",)
    (demo,) = made.rows["demonstrations"]
    assert (demo.completion, demo.source) == ("Three days.", "correction")


def test_correction_that_repeats_the_answer_is_no_comparison_but_is_counted():
    made = curate([call(1)], [correction(1, " Two days. ")])
    assert made.rows["comparisons"] == []
    assert made.dropped == {"correction_equals_answer": 1}


def test_ranking_of_four_gives_six_comparisons_of_one_weight_with_ties_kept():
    calls = [call(n, answer=f"answer {n}") for n in range(1, 5)]
    rows = comparisons(calls, [ranking([3, 1, 4, 2], [1, 2, 2, 3])], max_author_share=1.0)
    assert len(rows) == 6
    assert sum(r.weight for r in rows) == pytest.approx(1.0)
    decided = {(r.chosen, r.rejected) for r in rows if not r.tie}
    assert decided == {
        ("answer 3", "answer 1"),
        ("answer 3", "answer 4"),
        ("answer 3", "answer 2"),
        ("answer 1", "answer 2"),
        ("answer 4", "answer 2"),
    }
    (tie,) = [r for r in rows if r.tie]
    assert {tie.chosen, tie.rejected} == {"answer 1", "answer 4"}


@pytest.mark.parametrize(("strength", "margin"), [(1.0, 2.0), (0.5, 1.0), (None, None)])
def test_strength_gives_margin_on_the_stated_scale(strength, margin):
    calls = [call(1, answer="a"), call(2, answer="b")]
    (row,) = comparisons(calls, [ranking([1, 2], [2, 1], strength=strength)], margin_scale=2.0)
    assert (row.chosen, row.margin) == ("b", margin)


def test_a_tie_has_no_margin():
    calls = [call(1, answer="a"), call(2, answer="b")]
    (row,) = comparisons(calls, [ranking([1, 2], [1, 1], strength=1.0)])
    assert row.tie
    assert row.margin is None


def test_thumbs_on_several_answers_to_one_prompt_give_comparisons():
    calls = [call(1, answer="good"), call(2, answer="bad"), call(3, "Another question?", "bad too")]
    rows = comparisons(calls, [thumb(1, True, "u1"), thumb(2, False, "u2"), thumb(3, False, "u3")])
    assert [(r.chosen, r.rejected, r.source) for r in rows] == [("good", "bad", "thumbs")]
    assert len(rows[0].feedback_ids) == 2


def test_stars_give_a_margin_and_thumbs_none():
    """5 and 4 of five stars against 1 and 2: 0.875 less 0.125 of the scale."""
    calls = [call(1, answer="good"), call(2, answer="bad")]
    stars = [
        stored(Feedback("rating", target(n), "stars", value, Scale(1, 5), author=Author("annotator", who)))
        for n, value, who in ((1, 5.0, "a"), (1, 4.0, "b"), (2, 1.0, "a"), (2, 2.0, "b"))
    ]
    (row,) = comparisons(calls, stars, like_names=("stars", "thumb"), margin_scale=2.0)
    assert (row.chosen, row.margin) == ("good", pytest.approx(1.5))
    (row,) = comparisons(calls, [thumb(1, True, "u1"), thumb(2, False, "u2")])
    assert row.margin is None


@pytest.mark.parametrize("other", ["caf\u00e9 au lait \n", "\n caf\u00e9 au lait", "cafe\u0301 au lait"])
@pytest.mark.parametrize("judged", [[thumb(1, True, "u1"), thumb(2, False, "u2")], [ranking([1, 2], [1, 2])]])
def test_answers_that_look_alike_are_no_comparison(other, judged):
    assert comparisons([call(1, answer="caf\u00e9 au lait"), call(2, answer=other)], judged) == []
    assert (
        len(comparisons([call(1, answer="caf\u00e9 au lait"), call(2, answer="cafe au lait")], judged)) == 1
    )


def test_one_question_is_one_however_its_end_was_typed():
    calls = [call(1, "O\u00f9 est-il ?", "a"), call(2, "Ou\u0300 est-il ? \n", "b")]
    assert len(comparisons(calls, [thumb(1, True, "u1"), thumb(2, False, "u2")])) == 1


def test_a_rejecting_flag_is_a_dislike_between_answers_as_well():
    calls = [call(1, answer="good"), call(2, answer="bad")]
    rejected = [flag(1, "inaccurate", "u2"), thumb(1, True, "u1"), thumb(2, False, "u3")]
    assert comparisons(calls, rejected) == []
    (row,) = comparisons(calls, [thumb(1, True, "u1"), flag(2, "inaccurate", "u2")])
    assert (row.chosen, row.rejected, row.weight) == ("good", "bad", 1)


def test_a_pair_of_thumbs_weighs_the_smaller_count():
    calls = [call(1, answer="good"), call(2, answer="bad")]
    ups = [thumb(1, True, f"u{i}") for i in range(5)]
    downs = [thumb(2, False, f"d{i}") for i in range(3)]
    (row,) = comparisons(calls, ups + downs)
    assert row.weight == 3


def test_many_thumbs_on_one_prompt_neither_explode_nor_weigh_by_their_square():
    calls = [call(n, answer=f"answer {n}") for n in range(1, 61)]
    judged = [thumb(n, n % 2 == 0, f"u{n}") for n in range(1, 61)]
    rows = comparisons(calls, judged, max_pairs_per_prompt=40)
    assert len(rows) == 40
    assert sum(r.weight for r in rows) == pytest.approx(30)


def test_ranking_over_different_prompts_is_refused_and_counted():
    calls = [call(1, "Question one, about money?", "a"), call(2, "Something else altogether", "b")]
    made = curate(calls, [ranking([1, 2], [1, 2])])
    assert made.rows["comparisons"] == []
    assert made.dropped == {"ranking_over_different_prompts": 1}


def test_ranking_with_a_missing_answer_is_counted():
    made = curate([call(1)], [ranking([1, 2], [1, 2])])
    assert made.rows["comparisons"] == []
    assert made.dropped == {"unknown_target": 1}


def test_equal_texts_are_a_tie_or_nothing():
    calls = [call(1), call(2)]
    assert comparisons(calls, [ranking([1, 2], [1, 2])]) == []
    (row,) = comparisons(calls, [ranking([1, 2], [1, 1])])
    assert row.tie


def test_excluding_flag_keeps_the_answer_out_of_every_form_whoever_raised_it():
    calls = [call(1, answer="Call Jane on 555-0199"), call(2, answer="bad")]
    judged = [thumb(1, True), thumb(2, False, "u2"), ranking([1, 2], [1, 2]), correction(1, "Call us")]
    made = curate(calls, [*judged, flag(1, "privacy", "detector", "code")])
    texts = str(made.rows)
    assert "Jane" not in texts
    assert "Call us" not in texts
    assert [r.completion for r in made.rows["unpaired"]] == ["bad"]


def test_majority_takes_one_row_per_pair_weighted_by_agreement():
    calls = [call(1, answer="a"), call(2, answer="b")]
    judged = [
        ranking([1, 2], [1, 2], "a1", strength=1.0),
        ranking([2, 1], [2, 1], "a2", strength=0.5),
        ranking([1, 2], [2, 1], "a3", strength=1.0),
        ranking([1, 2], [1, 1], "a4"),
    ]
    (row,) = comparisons(calls, judged, consensus="majority")
    assert (row.chosen, row.tie) == ("a", False)
    assert row.weight == pytest.approx(0.5)
    assert row.margin == pytest.approx(0.75)
    assert row.author is None
    assert len(row.feedback_ids) == 4


def test_an_even_vote_is_a_tie():
    calls = [call(1, answer="a"), call(2, answer="b")]
    judged = [ranking([1, 2], [1, 2], "a1"), ranking([1, 2], [2, 1], "a2")]
    (row,) = comparisons(calls, judged, consensus="majority")
    assert row.tie


def test_votes_keep_every_judge():
    calls = [call(1, answer="a"), call(2, answer="b")]
    judged = [ranking([1, 2], [1, 2], "a1"), ranking([1, 2], [2, 1], "a2")]
    rows = comparisons(calls, judged)
    assert {(r.chosen, r.author) for r in rows} == {("a", "a1"), ("b", "a2")}


def test_a_trace_target_is_the_outermost_answer():
    inner = call(1, answer="inner", is_answer=False)
    outer = call(2, answer="outer", is_answer=True)
    from dataclasses import replace

    outer = replace(outer, trace_id=inner.trace_id)
    judged = correction(1, "better")
    judged = replace(judged, feedback=replace(judged.feedback, target=Target(trace_id=inner.trace_id)))
    (row,) = comparisons([inner, outer], [judged])
    assert row.rejected == "outer"
    assert target(1).trace_id == inner.trace_id
