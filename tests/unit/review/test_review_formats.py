"""Judgements out to other tools and back in: nothing lost where the tool can say it, clear errors where it cannot."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone

import pytest

from heedloop.schema import SchemaError
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats import FORMATS, Reviewed, Users, read_entry, write_entry
from heedloop_server.review.formats.details import with_details
from heedloop_server.review.questions import read_questions
from heedloop_server.review.responses import check_judgement, draft_to_shown, draft_to_stored

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
    before = one.judgements[0].answers
    assert found.answers == {**before, "tone": 2}, "what the tool cannot say stays where it still belongs"
    results["flaws"]["value"]["choices"] = ["long"]
    assert back("label_studio", questions, task, one)[0].answers["flaws"] == [{"category": "long"}]


def test_a_mark_that_another_tool_left_keeps_its_details():
    """One answer's marks, and those of each answer of several: what is new or gone is as the tool says."""
    flaws = [{"category": "wrong", "severity": "high"}, {"category": "long", "comment": "rambles"}]
    before = {"flaws": flaws, "marks": [{"start": 6, "end": 7, "label": "wrong", "severity": "low"}]}
    written = {"flaws": [{"category": "wrong"}, {"category": "long"}], "marks": []}
    now = {"flaws": [{"category": "long"}], "marks": [{"start": 0, "end": 5, "label": "wrong"}]}
    assert with_details(SINGLE, now, before, written) == {"flaws": flaws[1:], "marks": now["marks"]}
    each = {"flaws": [flaws, None, [{"category": "wrong"}]]}
    seen = {"flaws": [[{"category": "wrong"}], [{"category": "long"}], [{"category": "wrong"}]]}
    assert with_details(PAIR, seen, each, {}) == {
        "flaws": [flaws[:1], [{"category": "long"}], [{"category": "wrong"}]]
    }


def test_label_studio_counts_code_points():
    questions, one = CASES["single"]
    task = write_entry("label_studio", questions, one)
    spans = [r["value"] for r in task["annotations"][0]["result"] if r["type"] == "labels"]
    assert [(s["start"], s["end"], s["text"]) for s in spans] == [(6, 7, "🗼"), (8, 10, "is")]


def test_offsets_of_older_exports_are_utf16_units():
    """Known by the marked words: only in UTF-16 units do the offsets fit them."""
    questions, one = CASES["single"]
    task = write_entry("label_studio", questions, one)
    task["meta"] = {}
    for annotation in task["annotations"]:
        annotation["completed_by"] = 7
        for result in annotation["result"]:
            if result["type"] == "labels":
                value = result["value"]
                value["end"] += 1
                value["start"] += value["start"] > 6
    marks = back("label_studio", questions, task, one)[0].answers["marks"]
    assert [(m["start"], m["end"]) for m in marks] == [(6, 7), (8, 10)]


@pytest.mark.parametrize("ranks", [[3, 1, 2], [1, 1, 2], [2, 1, 2], [1, 2, 3], [1, 1, 1]])
def test_argilla_keeps_order_and_ties_where_the_sdk_drops_ranks(ranks):
    item_ = item(["A", "B", "C"], [judged("ann", {"order": {"ranks": ranks}}, 3)])
    record = write_entry("argilla", TRIPLE, item_)
    kept = {k: record[k] for k in ("id", "fields", "metadata", "suggestions", "vectors")}
    kept["responses"] = {
        "order": [{"value": [v["value"] for v in r["value"]], "user_id": r["user_id"]} for r in record["responses"]["order"]]
    }  # fmt: skip
    assert back("argilla", TRIPLE, kept, item_)[0].answers == {"order": {"ranks": ranks}}
    kept["responses"]["order"][0]["value"] = ["answer_3", "answer_2", "answer_1"]
    if ranks != [3, 2, 1]:
        assert back("argilla", TRIPLE, kept, item_)[0].answers["order"]["ranks"] == [3, 2, 1]


@pytest.mark.parametrize("format", FORMATS)
def test_drafts_and_skips_stay_what_they_are(format):
    draft = Judged("item-1", "ann", {"thumb": 1, "note": "half"}, AT, state="draft")
    skipped = Judged("item-1", "bob", {}, AT, state="skipped", reason="no idea 🤷")
    empty = Judged("item-1", "cy", {"thumb": 1, "tone": 1, "topic": "other", "flaws": [], "marks": []}, AT)
    one = item([TEXT], [draft, skipped, empty])
    found = back(format, SINGLE, write_entry(format, SINGLE, one), one)
    seen = {f.annotator: (f.state, f.reason, f.answers) for f in found}
    assert seen == {j.annotator: (j.state, j.reason, j.answers) for j in one.judgements}
    assert len(found) == 3


def test_users_of_the_tool_are_named():
    _, one = CASES["single"]
    users = Users({"bob": "bob@tool.example"})
    task = write_entry("label_studio", SINGLE, one, users)
    assert [a.get("completed_by") for a in task["annotations"]] == [None, {"email": "bob@tool.example"}]
    task["annotations"].append(
        {"completed_by": {"id": 4, "email": "bob@tool.example"}, "import_id": None, "result": []}
    )
    found = read_entry("label_studio", SINGLE, task, lambda _: one, users)
    assert [f.annotator for f in found] == ["ann@x.org", "bob", "bob"]


def test_an_old_export_still_comes_in():
    """Files of before: the original next to an annotation, `NAME_2` for the second answer."""
    _, one = CASES["pair"]
    answers = one.judgements[0].answers
    task = {"data": {"item_id": "item-1"}, "annotations": [{
        "completed_by": {"email": "ann"}, "created_at": "2026-05-04T12:30:00Z", "lead_time": 4.2,
        "result": [
            {"from_name": "choice", "to_name": "answer_1,answer_2", "type": "pairwise", "value": {"selected": "right"}},
            {"from_name": "helpful", "to_name": "answer_1", "type": "rating", "value": {"rating": 0}},
            {"from_name": "helpful", "to_name": "answer_2", "type": "rating", "value": {"rating": 3}},
            {"from_name": "flaws", "to_name": "answer_1", "type": "choices", "value": {"choices": ["wrong"]}},
        ],
        "heedloop": {"answers": answers, "guideline_version": 3},
    }]}  # fmt: skip
    [found] = back("label_studio", PAIR, task, one)
    assert (found.annotator, found.answers, found.guideline_version) == ("ann", answers, 3)
    assert (found.submitted_at, found.duration_ms) == (AT, 4200)


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
    found, cancelled = back("label_studio", PAIR, task, one)
    assert (cancelled.annotator, cancelled.state, cancelled.answers) == ("11", "skipped", {})
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
    found, draft = back("argilla", PAIR, record, one)
    assert (draft.annotator, draft.state, draft.answers) == ("u2", "draft", {"choice": {"preferred": None}})
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
        ("label_studio", ["annotations", 0, "id"], None, "annotations[0].completed_by"),
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


def test_a_draft_of_any_form_comes_back_as_it_is():
    """The page's drafts are unchecked: a text where a list belongs, ranks with holes, a comparison not made yet."""
    answers = {"helpful": "half", "choice": {}, "flaws": [[{"category": "long"}], []]}
    one = item(["A", "B"], [Judged("item-1", "ann", answers, AT, None, (0, 1), state="draft")])
    for format in FORMATS:
        [found] = back(format, PAIR, write_entry(format, PAIR, one), one)
        assert (found.state, found.answers) == ("draft", answers)
    shown = draft_to_shown(PAIR, answers, (1, 0))
    assert shown == {"helpful": "half", "choice": {}, "flaws": [[], [{"category": "long"}]]}
    assert draft_to_stored(PAIR, shown, (1, 0)) == answers
