"""What annotators answer is checked, survives the change of order, and becomes the feedback it means."""

from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedloop.schema import SchemaError, Target, answer_hash
from heedloop_server.review.judgement import JudgementContext, feedback_of, retractions
from heedloop_server.review.questions import applicable_questions, read_questions
from heedloop_server.review.responses import check_judgement, to_shown, to_stored

QUESTIONS = read_questions(
    [
        {"name": "thumb", "kind": "thumb"},
        {"name": "tone", "kind": "scale", "min": 1, "max": 5},
        {"name": "kind", "kind": "category", "categories": ["bad", "good"], "required": False},
        {"name": "wrong", "kind": "flags", "categories": ["fact", "tone"], "severity": True},
        {"name": "parts", "kind": "ranges", "labels": ["false"]},
        {"name": "better", "kind": "correction"},
        {"name": "note", "kind": "text", "required": False},
        {"name": "why", "kind": "text", "required": False, "per_answer": False},
        {"name": "preferred", "kind": "comparison", "strength": True, "required": False},
        {"name": "order", "kind": "ranking", "required": False},
    ]
)
ONE = {"thumb": 1, "tone": 3}


def refused(answers, texts=("Hello you",)) -> str:
    with pytest.raises(SchemaError) as err:
        check_judgement(QUESTIONS, answers, list(texts))
    return err.value.field


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({"tone": 3}, "answers.thumb"),
        ({"thumb": True, "tone": 3}, "answers.thumb"),
        ({"thumb": 2, "tone": 3}, "answers.thumb"),
        ({**ONE, "tone": 6}, "answers.tone"),
        ({**ONE, "tone": 2.5}, "answers.tone"),
        ({**ONE, "tone": float("nan")}, "answers.tone"),
        ({**ONE, "kind": "ugly"}, "answers.kind"),
        ({**ONE, "nonsense": 1}, "answers.nonsense"),
        ({**ONE, "wrong": "fact"}, "answers.wrong"),
        ({**ONE, "wrong": [{"category": "fact"}, {"category": "fact"}]}, "answers.wrong[1].category"),
        ({**ONE, "wrong": [{"category": "fact", "severity": "huge"}]}, "answers.wrong[0].severity"),
        ({**ONE, "parts": [{"start": 0, "end": 99, "label": "false"}]}, "answers.parts[0].end"),
        ({**ONE, "parts": [{"start": 3, "end": 3, "label": "false"}]}, "answers.parts[0].end"),
        ({**ONE, "parts": [{"start": -1, "end": 3, "label": "false"}]}, "answers.parts[0].start"),
        ({**ONE, "parts": [{"start": 0, "end": 3, "label": "false", "severity": "low"}]}, "answers.parts[0].severity"),
        ({**ONE, "better": 5}, "answers.better"),
        ({**ONE, "preferred": {"preferred": 0}}, "answers.preferred"),
    ],
)  # fmt: skip
def test_wrong_answers_are_refused_by_name(answers, field: str) -> None:
    assert refused(answers) == field


def test_several_answers_need_an_entry_each() -> None:
    texts = ("a", "b")
    both = {"thumb": [1, 0], "tone": [1, 2]}
    assert refused({**both, "thumb": 1}, texts) == "answers.thumb"
    assert refused({**both, "thumb": [1]}, texts) == "answers.thumb"
    assert refused({**both, "thumb": [1, None]}, texts) == "answers.thumb[1]"
    assert refused({**both, "preferred": {"preferred": 2}}, texts) == "answers.preferred.preferred"
    assert (
        refused({**both, "preferred": {"preferred": None, "strength": 1}}, texts)
        == "answers.preferred.strength"
    )
    assert refused({**both, "order": {"ranks": [1]}}, texts) == "answers.order.ranks"
    assert refused({**both, "order": {"ranks": [0, 1]}}, texts) == "answers.order.ranks"


def test_finding_nothing_is_an_answer_and_unchanged_text_no_correction() -> None:
    found = check_judgement(QUESTIONS, {**ONE, "better": "Hello you", "note": "  "}, ["Hello you"])
    assert found == {**ONE, "wrong": [], "parts": []}


def test_ranges_count_code_points() -> None:
    text = "👩‍👩‍👧 ok"
    found = check_judgement(QUESTIONS, {**ONE, "parts": [{"start": 6, "end": 8, "label": "false"}]}, [text])
    mark = found["parts"][0]
    assert text[mark["start"] : mark["end"]] == "ok"
    assert (
        refused({**ONE, "parts": [{"start": 0, "end": len(text) + 1, "label": "false"}]}, [text])
        == "answers.parts[0].end"
    )


def test_a_ranking_is_made_dense() -> None:
    found = check_judgement(
        QUESTIONS, {"thumb": [1] * 3, "tone": [1] * 3, "order": {"ranks": [3, 1, 3]}}, ["a", "b", "c"]
    )
    assert found["order"] == {"ranks": [2, 1, 2]}


def test_what_is_asked_depends_on_the_number_of_answers() -> None:
    names = {n: [q.name for q in applicable_questions(QUESTIONS, n)] for n in (1, 2, 3)}
    assert "preferred" not in names[1]
    assert "order" not in names[1]
    assert {"preferred", "order"} <= set(names[2])
    assert "preferred" not in names[3]
    assert "order" in names[3]


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(range(4)),
    values=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    best=st.integers(0, 3),
)
def test_orders_are_each_others_inverse(order, values, best) -> None:
    shown = {"tone": values, "order": {"ranks": [1 if i == best else 2 for i in range(4)]}, "why": "x"}
    stored = to_stored(QUESTIONS, shown, order)
    assert to_shown(QUESTIONS, stored, order) == shown
    # the k-th answer shown is the item's answer order[k]: what was said of it must stay with it
    assert all(stored["tone"][order[k]] == values[k] for k in range(4))
    assert stored["order"]["ranks"].index(1) == order[best]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_comparison_prefers_the_same_answer_whatever_its_side(order) -> None:
    stored = to_stored(QUESTIONS, {"preferred": {"preferred": 0}}, order)
    about = context(num=2, shown_order=order)
    said = feedback_of(QUESTIONS, stored, about)[0]
    winner = said.ranking.answers[said.ranking.ranks.index(1)]
    assert winner == about.targets[order[0]]
    assert said.ranking.shown_order == order


def context(num: int = 1, revision: int = 1, **more) -> JudgementContext:
    values = {
        "assignment_id": "ab" * 16,
        "item_id": "cd" * 16,
        "annotator": "ada",
        "targets": [Target(trace_id=f"{i + 1:032x}", span_id=f"{i + 1:016x}") for i in range(num)],
        "hashes": [answer_hash(str(i)) for i in range(num)],
        "shown_order": tuple(range(num)),
        "guideline": 2,
        "sampling_probability": 0.25,
        "revision": revision,
        "judged_at": datetime(2026, 1, revision, tzinfo=timezone.utc),
    }
    return JudgementContext(**{**values, **more})


def test_feedback_says_why_it_was_asked() -> None:
    said = feedback_of(QUESTIONS, {"thumb": 1}, context())[0]
    assert (said.author.kind, said.author.id, said.guideline, said.queue_item) == (
        "annotator",
        "ada",
        "2",
        "cd" * 16,
    )
    assert (said.solicited, said.sampling_probability, said.is_thumb) == (True, 0.25, True)


def test_a_resend_has_the_same_ids_and_a_revision_others() -> None:
    answers = {"thumb": 1, "wrong": [{"category": "fact"}, {"category": "tone"}]}
    first, again = (feedback_of(QUESTIONS, answers, context()) for _ in range(2))
    assert first == again
    assert len({f.id for f in first}) == 3
    later = feedback_of(QUESTIONS, answers, context(revision=2))
    assert not {f.id for f in first} & {f.id for f in later}
    assert [f.identity("p") for f in first] == [f.identity("p") for f in later]


def test_what_is_said_no_more_is_taken_back() -> None:
    before = feedback_of(QUESTIONS, {"thumb": 1, "wrong": [{"category": "fact"}], "note": "x"}, context())
    now = feedback_of(QUESTIONS, {"thumb": 0, "wrong": []}, context(revision=2))
    gone = retractions("p", before, now, context(revision=2))
    assert [(f.name, f.retracted) for f in gone] == [("wrong", True), ("note", True)]
    assert all(f.created_at > before[0].created_at for f in gone)
