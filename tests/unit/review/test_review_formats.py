"""Judgements out to other tools and back in: nothing lost where the tool can say it, clear errors where it cannot."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone

import pytest

from heedloop.schema import SchemaError
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats import FORMATS, Reviewed, read_entry, write_entry
from heedloop_server.review.questions import read_questions
from heedloop_server.review.responses import check_judgement

AT = datetime(2026, 5, 4, 12, 30, tzinfo=timezone.utc)
TEXT = "Paris 🗼 is the capital of France."
SINGLE = read_questions(
    [
        {"name": "thumb", "kind": "thumb"},
        {"name": "tone", "kind": "scale", "min": 1, "max": 5},
        {"name": "topic", "kind": "category", "categories": ["geography", "other"]},
        {
            "name": "flaws",
            "kind": "flags",
            "categories": ["wrong", "long"],
            "severity": True,
            "required": False,
        },
        {"name": "marks", "kind": "ranges", "labels": ["wrong"], "severity": True, "required": False},
        {"name": "note", "kind": "text", "required": False},
        {"name": "better", "kind": "correction", "required": False},
    ]
)
PAIR = read_questions(
    [
        {"name": "choice", "kind": "comparison", "strength": True},
        {"name": "helpful", "kind": "scale", "min": 0, "max": 3},
        {"name": "flaws", "kind": "flags", "categories": ["wrong", "long"], "required": False},
    ]
)
TRIPLE = read_questions([{"name": "order", "kind": "ranking"}])


def judged(who, answers, num=1):
    return Judged("item-1", who, answers, AT, 4200, tuple(range(num)), 3)


def item(texts, judgements):
    targets = [{"trace_id": f"{i:032x}", "span_id": f"{i:016x}"} for i in range(1, len(texts) + 1)]
    messages = [{"role": "user", "text": "What is the capital?"}]
    return Reviewed("item-1", targets, messages, texts, [{"model": "m"} for _ in texts], judgements, 0.25)


CASES = {
    "single": (
        SINGLE,
        item(
            [TEXT],
            [
                judged(
                    "ann@x.org",
                    {
                        "thumb": 0,
                        "tone": 4,
                        "topic": "geography",
                        "flaws": [{"category": "wrong", "severity": "high"}, {"category": "long"}],
                        "marks": [
                            {"start": 6, "end": 7, "label": "wrong", "severity": "low"},
                            {"start": 8, "end": 10, "label": "wrong"},
                        ],
                        "note": "The tower 🗼 does not belong there.",
                        "better": "Paris is the capital of France.",
                    },
                ),
                judged("bob", {"thumb": 1, "tone": 5, "topic": "other", "flaws": [], "marks": []}),
            ],
        ),
    ),
    "pair": (
        PAIR,
        item(
            ["A", "B"],
            [
                judged("ann", {"choice": {"preferred": 1, "strength": 0.5}, "helpful": [0, 3], "flaws": [[{"category": "wrong"}], []]}, 2),
                judged("bob", {"choice": {"preferred": None, "all_bad": True}, "helpful": [1, 1], "flaws": [[], []]}, 2),
            ],
        ),
    ),
    "triple": (TRIPLE, item(["A", "B", "C"], [judged("ann", {"order": {"ranks": [2, 1, 2], "all_bad": True}}, 3)])),
}  # fmt: skip


def back(format, questions, entry, found_item):
    return read_entry(format, questions, json.loads(json.dumps(entry)), lambda _: found_item)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back_keeps_every_word(format, case):
    questions, one = CASES[case]
    found = back(format, questions, write_entry(format, questions, one), one)
    assert [(f.annotator, f.answers) for f in found] == [(j.annotator, j.answers) for j in one.judgements]
    assert {(f.submitted_at, f.duration_ms, f.guideline_version) for f in found} == {(AT, 4200, 3)}
    for external in found:
        assert check_judgement(questions, external.answers, one.answers) == external.answers


def test_what_a_label_studio_user_changed_counts():
    questions, one = CASES["single"]
    task = write_entry("label_studio", questions, one)
    results = {r["from_name"]: r for r in task["annotations"][0]["result"]}
    results["tone"]["value"]["rating"] = 2
    found = back("label_studio", questions, task, one)[0]
    assert found.answers["tone"] == 2
    assert found.answers["flaws"] == [{"category": "wrong"}, {"category": "long"}]  # it knows no severity
    assert found.answers["marks"][0] == {"start": 6, "end": 7, "label": "wrong"}


def test_label_studio_counts_utf16_units():
    questions, one = CASES["single"]
    task = write_entry("label_studio", questions, one)
    spans = [r["value"] for r in task["annotations"][0]["result"] if r["type"] == "labels"]
    assert [(s["start"], s["end"], s["text"]) for s in spans] == [(6, 8, "🗼"), (9, 11, "is")]


def test_a_task_that_label_studio_made_by_itself():
    """Without our own words beside it: the shapes of labelstud.io/guide/task_format."""
    _, one = CASES["pair"]
    task = {
        "id": 7,
        "data": {"item_id": "item-1"},
        "annotations": [
            {
                "completed_by": 10,
                "was_cancelled": False,
                "lead_time": 4.288,
                "created_at": "2021-03-09T22:16:08.728353Z",
                "result": [
                    {
                        "from_name": "choice",
                        "to_name": "a,b",
                        "type": "pairwise",
                        "value": {"selected": "right"},
                    },
                    {"from_name": "helpful", "to_name": "answer_1", "type": "rating", "value": {"rating": 2}},
                    {"from_name": "helpful", "to_name": "answer_2", "type": "rating", "value": {"rating": 3}},
                ],
            },
            {"completed_by": 11, "was_cancelled": True, "result": []},
        ],
    }
    [found] = back("label_studio", PAIR, task, one)
    assert (found.annotator, found.duration_ms) == ("10", 4288)
    assert found.answers == {"choice": {"preferred": 1}, "helpful": [2, 3]}


def test_a_record_that_argilla_made_by_itself():
    _, one = CASES["pair"]
    record = {
        "id": "item-1",
        "fields": {"prompt": "x"},
        "responses": {
            "choice": [
                {"value": "answer_2", "user_id": "u1"},
                {"value": "tie", "user_id": "u2", "status": "draft"},
            ],
            "helpful": [{"value": 1, "user_id": "u1"}],
            "helpful_2": [{"value": 3, "user_id": "u1"}],
        },
    }
    [found] = back("argilla", PAIR, record, one)
    assert found.answers == {"choice": {"preferred": 1}, "helpful": [1, 3]}
    _, triple = CASES["triple"]
    plain = {
        "id": "item-1",
        "responses": {"order": [{"value": ["answer_3", "answer_1", "answer_2"], "user_id": "u"}]},
    }
    assert back("argilla", TRIPLE, plain, triple)[0].answers == {"order": {"ranks": [2, 3, 1]}}


@pytest.mark.parametrize(
    ("format", "path", "value", "field"),
    [
        ("jsonl", ["item_id"], 5, "item_id"),
        ("jsonl", ["judgements", 0, "annotator"], None, "judgements[0].annotator"),
        ("jsonl", ["judgements", 0, "submitted_at"], "yesterday", "judgements[0].submitted_at"),
        ("jsonl", ["judgements", 0, "duration_ms"], -1, "judgements[0].duration_ms"),
        ("jsonl", ["judgements"], "many", "judgements"),
        ("label_studio", ["data"], None, "data"),
        ("label_studio", ["annotations", 0, "completed_by"], None, "annotations[0].completed_by"),
        ("label_studio", ["annotations", 0, "lead_time"], "soon", "annotations[0].lead_time"),
        ("label_studio", ["annotations", 0, "result", 0, "from_name"], "mood", "annotations[0].result[0].from_name"),
        ("label_studio", ["annotations", 0, "result", 0, "value"], 3, "annotations[0].thumb.value"),
        ("argilla", ["id"], None, "id"),
        ("argilla", ["responses", "mood"], [], "responses.mood"),
        ("argilla", ["responses", "thumb", 0, "user_id"], "", "responses.thumb[0].user_id"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(format, path, value, field):
    questions, one = CASES["single"]
    entry = copy.deepcopy(write_entry(format, questions, one))
    place = entry
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(SchemaError) as caught:
        back(format, questions, entry, one)
    assert caught.value.field == field
