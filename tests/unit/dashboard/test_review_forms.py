"""Questions as form fields and back, filling requests, and templates that the server takes as they are."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from heedloop_dashboard.review import questions as review_questions
from heedloop_dashboard.review.templates import TEMPLATES
from heedloop_dashboard.views.review import filling_rules, staffing
from heedloop_dashboard.views.review.fill import KINDS, body_of
from heedloop_server.review.questions import read_questions
from heedloop_server.review.queue import new_queue


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_goes_through_the_form_unchanged_and_is_taken(name: str) -> None:
    questions = [
        review_questions.from_fields(review_questions.to_fields(q)) for q in TEMPLATES[name].questions
    ]
    assert read_questions(questions) == read_questions(list(TEMPLATES[name].questions))
    made = new_queue(
        {"name": name, "questions": questions, "judgements_per_item": TEMPLATES[name].judgements_per_item},
        queue_id="q", created_by="admin", created_at=datetime.now(timezone.utc), seed="s",
    )  # fmt: skip
    assert [q.kind for q in made.questions] == [q["kind"] for q in TEMPLATES[name].questions]
    assert TEMPLATES[name].guideline


def test_a_name_is_made_of_the_title() -> None:
    fields = review_questions.to_fields({"kind": "thumb", "title": "1st: Is it Good?"})
    assert review_questions.from_fields(fields)["name"] == "q_1st_is_it_good"
    with pytest.raises(ValueError, match="title"):
        review_questions.from_fields(review_questions.to_fields({"kind": "thumb", "title": " "}))


def test_choices_and_anchors_are_lines() -> None:
    fields = review_questions.to_fields({"kind": "flags", "title": "Wrong"}) | {
        "choices": " Fact \n\nTone\nFact"
    }
    assert review_questions.from_fields(fields)["categories"] == ["Fact", "Tone"]
    with pytest.raises(ValueError, match="enter the options"):
        review_questions.from_fields(fields | {"choices": "\n"})
    anchors = review_questions.parse_anchors("1 = Wrong: it misleads: badly\n-2=Low\n5 = ")
    assert anchors == [
        {"value": 1, "label": "Wrong", "description": "it misleads: badly"},
        {"value": -2, "label": "Low", "description": ""},
        {"value": 5, "label": "", "description": ""},
    ]
    assert review_questions.parse_anchors(review_questions.anchor_lines(anchors)) == anchors
    with pytest.raises(ValueError, match="one = Wrong"):
        review_questions.parse_anchors("one = Wrong")


@pytest.mark.parametrize(
    ("kind", "value", "several", "words"),
    [
        ("thumb", 1, False, "Good"),
        ("thumb", 0, False, "Bad"),
        ("thumb", None, False, "–"),
        ("thumb", [1, 0], True, "A: Good; B: Bad"),
        ("flags", [], False, "none"),
        ("flags", [{"category": "Tone", "severity": "high"}], False, "Tone (high)"),
        ("ranges", [{"start": 1, "end": 4, "label": "X"}], False, "X 1 to 4"),
        ("comparison", {"preferred": 1, "strength": 0.5}, True, "B is better (slightly)"),
        ("comparison", {"preferred": None, "all_bad": True}, True, "tie, all bad"),
        ("ranking", {"ranks": [2, 1, 2]}, True, "A 2, B 1, C 2"),
        ("scale", 4, False, "4"),
    ],
)
def test_answers_in_words(kind: str, value: object, several: bool, words: str) -> None:
    assert review_questions.answer_text(kind, value, several=several) == words


def test_what_the_server_is_asked_to_fill_in() -> None:
    fields = {"filters": "tag=refunds\ntag=late\nmodel=large-2", "limit": 50}
    filters = {"tag": ["refunds", "late"], "model": "large-2"}
    assert body_of("filter", fields) == {"source": "filter", "filters": filters, "limit": 50}
    assert body_of("sample", fields) == {"source": "sample", "filters": filters, "size": 50}
    assert body_of("disagreement", fields | {"kind": "annotators"})["kind"] == "annotators"
    assert "judge" not in body_of("low_confidence", fields | {"judge": " "})
    assert body_of("same_prompt", fields | {"answers_per_item": 3})["answers_per_item"] == 3
    trace, span = "ab" * 16, "cd" * 8
    targets = f"{trace}:{span}, {trace}\n00-{trace}-{span}-01\n"
    assert body_of("targets", {"targets": targets})["items"] == [
        [{"trace_id": trace, "span_id": span}, {"trace_id": trace}],
        [{"trace_id": trace, "span_id": span}],
    ]
    with pytest.raises(ValueError, match="trace id"):
        body_of("targets", {"targets": "\n"})
    with pytest.raises(ValueError, match="no filter"):
        body_of("filter", {"filters": "refunds", "limit": 1})


@pytest.mark.parametrize(
    "question",
    [
        {"name": "minutes", "kind": "number", "title": "Minutes", "min": 0, "max": 60},
        {"name": "topics", "kind": "choices", "title": "Topics", "categories": ["a", "b"]},
        {"name": "wrong", "kind": "flags", "title": "Wrong", "categories": ["x"], "severity": True, "severity_required": True},
        {"name": "solved", "kind": "scale", "title": "Solved", "min": 1, "max": 5, "per_answer": False},
    ],
)  # fmt: skip
def test_every_new_kind_goes_through_the_form_unchanged(question: dict) -> None:
    first = {"name": "thumb", "kind": "thumb"}
    question = question | {"when": {"question": "thumb", "is": [0]}}
    fields = review_questions.to_fields(question)
    assert read_questions([first, review_questions.from_fields(fields)]) == read_questions([first, question])


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("", None),
        ("  ", None),
        ("thumb = bad", {"question": "thumb", "is": [0]}),
        ("thumb=Good, bad", {"question": "thumb", "is": [1, 0]}),
        ("accuracy = 1, 2", {"question": "accuracy", "is": [1, 2]}),
        ("topic = Wrong fact, Tone", {"question": "topic", "is": ["Wrong fact", "Tone"]}),
    ],
)
def test_a_condition_in_words(text: str, when: dict | None) -> None:
    assert review_questions.parse_when(text) == when
    assert review_questions.parse_when(review_questions.when_text(when)) == when


@pytest.mark.parametrize("text", ["thumb", "= bad", "thumb =", "My Thumb = bad"])
def test_a_condition_that_says_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="name = answer"):
        review_questions.parse_when(text)


def test_how_often_and_who_is_told_as_the_server_takes_it() -> None:
    fields = {
        "until": "agreement", "max_judgements": 3, "confidence": 90, "order": "random", "by_language": True, "second_share": 25,
        "second_by": "group:seniors, ada", "on_careless": "pause", "webhook_url": " https://example.org/x ", "stuck_hours": 24,
        "suspended": "", "uncounted": "eve",
    }  # fmt: skip
    found = staffing.checked(fields)
    assert (found["second_by"], found["uncounted"], found["second_share"]) == (
        ["group:seniors", "ada"],
        ["eve"],
        0.25,
    )
    new_queue(
        {"name": "q", "questions": [{"name": "t", "kind": "thumb"}], "judgements_per_item": 2, **found},
        queue_id="q", created_by="admin", created_at=datetime.now(timezone.utc), seed="s",
    )  # fmt: skip
    assert staffing.checked(fields | {"until": "number"})["max_judgements"] == 0


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"source": "share", "share": 0.05}, "5.0% of all answers, at random"),
        ({"source": "thumbs_down", "priority": 3}, "All thumbs-down, priority 3"),
        ({"source": "disagreement", "kind": "annotators", "filters": {"model": "m"}}, "New disagreements: between annotators, where model m"),
    ],
)  # fmt: skip
def test_rules_in_words(rule: dict, words: str) -> None:
    assert filling_rules.sentence(rule, KINDS) == words


def test_where_items_are_placed() -> None:
    fields = {"filters": "", "limit": 5, "priority": 3, "assign": "ada, group:legal", "calibration": " may "}
    body = body_of("sessions", fields)
    assert body == {
        "source": "sessions", "filters": {}, "limit": 5, "priority": 3, "assign": ["ada", "group:legal"], "calibration": "may",
    }  # fmt: skip
