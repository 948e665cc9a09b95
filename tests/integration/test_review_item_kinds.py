"""Numbers, several choices, conditions, severities that must be said, sessions of turns, images, notes and the own record."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from review_people import World, call, review_server
from test_review_control_routes import post, read

from heedloop.schema import Message, SchemaError
from heedloop_server.review.item_view import images_of
from heedloop_server.review.questions import read_questions
from heedloop_server.review.responses import check_judgement
from heedloop_server.store.spans import insert_calls

MINUTES = {"name": "minutes", "kind": "number", "min": 0, "max": 60, "required": False}
TOPICS = {
    "name": "topics",
    "kind": "choices",
    "categories": ["billing", "delivery", "other"],
    "required": False,
}
THUMB = {"name": "thumb", "kind": "thumb"}
WHY = {"name": "why", "kind": "text", "when": {"question": "thumb", "is": [0]}}


@pytest.fixture(scope="module")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with review_server(tmp_path_factory.mktemp("kinds")) as made:
        yield made


@pytest.fixture
def world(new_world: Any) -> World:
    return new_world()


def check(questions: list[dict[str, Any]], answers: dict[str, Any], num: int = 1) -> dict[str, Any]:
    return check_judgement(read_questions(questions), answers, ["some text"] * num)


def refused(questions: list[dict[str, Any]], answers: dict[str, Any], num: int = 1) -> str:
    with pytest.raises(SchemaError) as err:
        check(questions, answers, num)
    return err.value.field


@pytest.mark.parametrize("value", [0, 0.5, 60, 12.25])
def test_numbers_within_their_bounds(value: float) -> None:
    assert check([MINUTES], {"minutes": value}) == {"minutes": float(value)}


@pytest.mark.parametrize("value", [-0.1, 60.01, "12", True, float("nan"), float("inf"), [1]])
def test_numbers_that_are_none(value: Any) -> None:
    assert refused([MINUTES], {"minutes": value}) == "answers.minutes"


def test_several_choices_in_the_questions_order() -> None:
    assert check([TOPICS], {"topics": ["other", "billing"]}) == {"topics": ["billing", "other"]}
    assert check([TOPICS], {"topics": []}) == {}
    for wrong in (["tone"], ["other", "other"], "other", [1]):
        assert refused([TOPICS], {"topics": wrong}).startswith("answers.topics")
    assert refused([TOPICS | {"required": True}], {"topics": []}) == "answers.topics"


def test_a_condition_asks_and_does_not_ask() -> None:
    assert check([THUMB, WHY], {"thumb": 1}) == {"thumb": 1}
    assert refused([THUMB, WHY], {"thumb": 0}) == "answers.why"
    assert check([THUMB, WHY], {"thumb": 0, "why": "wrong"}) == {"thumb": 0, "why": "wrong"}
    assert refused([THUMB, WHY], {"thumb": 1, "why": "wrong"}) == "answers.why"


@pytest.mark.parametrize(
    ("before", "said", "values"),
    [
        ({"name": "a", "kind": "scale", "min": 1, "max": 5}, 2, [1, 2]),
        ({"name": "a", "kind": "category", "categories": ["x", "y"]}, "y", ["y"]),
        ({"name": "a", "kind": "choices", "categories": ["x", "y"]}, ["x", "y"], ["y"]),
        ({"name": "a", "kind": "flags", "categories": ["x", "y"]}, [{"category": "x"}], ["x"]),
    ],
)
def test_conditions_on_every_kind(before: dict[str, Any], said: Any, values: list[Any]) -> None:
    later = {"name": "b", "kind": "thumb", "when": {"question": "a", "is": values}}
    assert refused([before, later], {"a": said}) == "answers.b"
    assert "b" in check([before, later], {"a": said, "b": 1})


def test_a_condition_of_several_answers_holds_for_each_by_itself() -> None:
    assert refused([THUMB, WHY], {"thumb": [0, 1]}, 2) == "answers.why"
    assert refused([THUMB, WHY], {"thumb": [0, 0], "why": ["x", None]}, 2) == "answers.why[1]"
    assert check([THUMB, WHY], {"thumb": [0, 1], "why": ["x", None]}, 2)["why"] == ["x", None]
    about_all = WHY | {"per_answer": False}
    assert refused([THUMB, about_all], {"thumb": [1, 0]}, 2) == "answers.why"
    assert check([THUMB, about_all], {"thumb": [1, 1]}, 2) == {"thumb": [1, 1]}


@pytest.mark.parametrize(
    "when",
    [
        {"question": "why", "is": [0]}, {"question": "later", "is": [0]}, {"question": "thumb", "is": []},
        {"question": "thumb", "is": [2]}, {"question": "thumb", "is": [True]}, {"question": "thumb"}, "thumb", {"is": [1]},
    ],
)  # fmt: skip
def test_conditions_that_make_no_sense(when: Any) -> None:
    later = {"name": "later", "kind": "thumb"}
    with pytest.raises(SchemaError) as err:
        read_questions([THUMB, WHY | {"when": when}, later])
    assert err.value.field.startswith("questions[1].when")


def test_a_severity_that_must_be_said() -> None:
    for kind, choices, mark in (
        ("flags", "categories", {"category": "x"}), ("ranges", "labels", {"start": 0, "end": 2, "label": "x"})
    ):  # fmt: skip
        asked = {"name": "q", "kind": kind, choices: ["x"], "severity": True, "severity_required": True}
        assert refused([asked], {"q": [mark]}) == "answers.q[0].severity"
        assert check([asked], {"q": [mark | {"severity": "low"}]})["q"][0]["severity"] == "low"
        with pytest.raises(SchemaError):
            read_questions([asked | {"severity": False}])


def test_what_they_become_and_how_they_travel(world: World) -> None:
    world.calls(1)
    queue = world.queue([THUMB, WHY, MINUTES, TOPICS])
    ada = world.person("ada")
    answers = {"thumb": 0, "why": "late", "minutes": 2.5, "topics": ["delivery"]}
    ada.submit(ada.take(queue), answers)
    said = {f["name"]: f for f in ada_said(world)}
    assert said["minutes"]["value"] == 2.5 and said["minutes"]["scale"] == {"min": 0, "max": 60}
    chosen = {n: f["value"] for n, f in said.items() if n.startswith("topics")}
    assert chosen == {"topics: billing": 0, "topics: delivery": 1, "topics: other": 0}
    path = f"/review/queues/{queue}"
    for fmt in ("jsonl", "label_studio", "argilla"):
        done = post(
            world.admin,
            f"{path}/import",
            read(world.admin, f"{path}/export", format=fmt).encode(),
            format=fmt,
        )
        assert (done["stored"], done["duplicate"], done["rejected"]) == (0, 1, 0), fmt
    for fmt in ("label_studio", "argilla"):
        assert read(world.admin, f"{path}/export/settings", format=fmt)
    agreement = world.admin.ask("GET", f"{path}/agreement")["questions"]
    assert {q["question"] for q in agreement} >= {"thumb", "minutes", "topics"}


def ada_said(world: World) -> list[dict[str, Any]]:
    return [f for f in world.admin.feedback(author_kind="annotator") if not f.get("retracted")]


# ------------------------------------------------------------------------------------------------------------ sessions

TURN = {"name": "helpful", "kind": "thumb"}
WHOLE = {"name": "solved", "kind": "scale", "min": 1, "max": 5, "per_answer": False}


def session(world: World, name: str, num: int) -> list[Any]:
    made = [call(f"{name} turn {n}", f"Answer {n}", at_s=100 - n, session_id=name) for n in range(num)]
    insert_calls(world.project, made)
    return made


def test_a_session_is_one_item_of_its_turns_in_order(world: World) -> None:
    made = session(world, "s1", 3)
    session(world, "s2", 1)
    queue = world.queue([TURN, WHOLE], fill=False)
    path = f"/review/queues/{queue}"
    assert world.admin.ask("POST", f"{path}/items", {"source": "sessions"})["added"] == 2
    ada = world.person("ada")
    taken = [ada.take(queue)]
    assert taken[0]["is_session"]
    found = {a["answers"][0]["asked"].split()[0]: a for a in ada.next(queue, 3)["assignments"]}
    whole = found["s1"]
    assert [a["asked"] for a in whole["answers"]] == [f"s1 turn {n}" for n in range(3)]
    assert [a["text"] for a in whole["answers"]] == [f"Answer {n}" for n in range(3)]
    ada.submit(whole, {"helpful": [1, 0, 1], "solved": 4})
    ada.submit(found["s2"], {"helpful": 1, "solved": 2})
    by_target = {
        (f["name"], f["target"].get("span_id") or f["target"]["session_id"]): f["value"]
        for f in ada_said(world)
    }
    assert [by_target["helpful", c.span_id] for c in made] == [1, 0, 1]
    assert (by_target["solved", "s1"], by_target["solved", "s2"]) == (4, 2)
    [item] = [i for i in world.admin.ask("GET", f"{path}/items")["items"] if len(i["targets"]) == 3]
    shown = world.admin.ask("GET", f"/review/items/{item['item_id']}")
    assert shown["is_session"] and next(a["asked"] for a in shown["answers"]) == "s1 turn 0"
    word = {"answers": {"helpful": [1, 1, 1], "solved": 5}, "reason": "all fine"}
    world.admin.ask("POST", f"/review/items/{item['item_id']}/adjudicate", word)
    reopened = ada.reopen(whole)
    assert reopened["draft"] == {"helpful": [1, 0, 1], "solved": 4}


def test_about_several_answers_a_question_of_the_whole_is_not_asked(world: World) -> None:
    made = world.calls(2)
    queue = world.queue([TURN, WHOLE], fill=False)
    items = [[{"trace_id": c.trace_id, "span_id": c.span_id} for c in made]]
    world.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": items})
    assert world.person("ada").take(queue)["questions"] == ["helpful"]
    with pytest.raises(SchemaError):
        read_questions([{"name": "r", "kind": "ranges", "labels": ["x"], "per_answer": False}])


# ---------------------------------------------------------------------------------------------- images, notes, record

PIXEL = base64.b64encode(b"\x89PNG not really").decode()


@pytest.mark.parametrize(
    ("part", "num"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}, 1),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PIXEL}}, 1),
        ({"type": "blob", "mime_type": "image/gif", "content": PIXEL}, 1),
        ({"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}, 0),
        ({"type": "image_url", "image_url": {"url": f"data:image/svg+xml;base64,{PIXEL}"}}, 0),
        ({"type": "blob", "mime_type": "image/png", "content": '"><script>'}, 0),
        ({"type": "blob", "mime_type": "text/html", "content": PIXEL}, 0),
    ],
)
def test_images_of_the_content_and_nothing_else(part: dict[str, Any], num: int) -> None:
    text = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "an image/png"}, part, part]}])
    made = call(attributes={"gen_ai.input.messages": text, "other": "{image/ broken"})
    assert len(images_of(made)) == num


def test_a_note_to_the_lead_is_no_judgement_and_stays(world: World) -> None:
    world.calls(1)
    queue = world.queue()
    ada, bob = world.person("ada"), world.person("bob")
    taken = ada.take(queue)
    path = f"/review/assignments/{taken['assignment_id']}/note"
    ada.ask("POST", path, {"text": "The policy says otherwise 🤔"}, status=201)
    bob.ask("POST", path, {"text": "x"}, status=404)
    ada.ask("POST", path, {"text": ""}, status=422)
    ada.submit(taken, {"thumb": 1})
    ada.reopen(taken)
    world.app.state.review.forget(
        world.project.project
    )  # a restart repairs what is missing, and leaves notes alone
    ada.submit(taken, {"thumb": 0})
    [item] = world.admin.ask("GET", f"/review/queues/{queue}/items")["items"]
    assert [(n["annotator"], n["text"]) for n in item["notes"]] == [("ada", "The policy says otherwise 🤔")]
    assert item["judgements"][0]["answers"] == {"thumb": 0}


def test_the_own_record_counts_training_and_hours_and_never_gold(world: World) -> None:
    made = world.calls(5)
    queue = world.queue(fill=False, gold_share=0.5)
    path = f"/review/queues/{queue}"
    world.admin.ask("POST", f"{path}/items", {"source": "filter"})
    entry = [
        {"targets": [{"trace_id": c.trace_id, "span_id": c.span_id}], "answers": {"thumb": 1}}
        for c in made[:3]
    ]
    world.admin.ask("POST", f"{path}/gold", {"items": [entry[0] | {"training": True}, entry[1] | {"training": True}, entry[2]]})  # fmt: skip
    ada = world.person("ada")
    thumbs = iter([1, 0, 1, 1, 1])
    while taken := ada.take(queue):
        ada.submit(taken, {"thumb": next(thumbs)}, duration_ms=720_000)
    record = ada.ask("GET", f"{path}/record")
    assert record == {
        "done": 5, "skipped": 0, "sent_back": 0, "hours": 1.0, "training": 2, "training_right": 1,
    }  # fmt: skip
    assert world.person("bob").ask("GET", f"{path}/record")["done"] == 0


def test_the_prompt_may_be_a_whole_conversation(world: World) -> None:
    turns = [
        Message("system", "Be kind."),
        Message("user", "One"),
        Message("assistant", "Two"),
        Message("user", "Three"),
    ]
    made = call()
    insert_calls(world.project, [replace(made, input_messages=tuple(turns))])
    queue = world.queue()
    shown = world.person("ada").take(queue)["messages"]
    assert [(m["role"], m["text"]) for m in shown] == [(m.role, m.text) for m in turns]
