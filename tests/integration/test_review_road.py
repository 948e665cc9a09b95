"""An annotator's road through a queue: next, draft, submit, skip, back; and what of it becomes feedback."""

import pytest
from review_people import QUESTIONS, World, review_server


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("review")) as new_project:
        yield new_project


@pytest.fixture
def server(projects):
    return projects()


def test_a_judgement_becomes_feedback_with_everything_about_it(server: World) -> None:
    calls = server.calls(2)
    queue = server.queue(QUESTIONS, guideline={"text": "Be kind."}, show=["model"])
    ada = server.person("ada")
    one = ada.take(queue)
    assert one["state"] == "leased"
    assert one["guideline_version"] == 1
    assert one["messages"] == [{"role": "user", "text": "Question 0?"}]
    answer = one["answers"][0]
    assert answer["text"] == "Answer 0."
    assert answer["facts"] == {"model": "model-a"}
    done = ada.submit(
        one,
        {
            "thumb": 0,
            "helpfulness": 2,
            "what_is_wrong": [{"category": "tone", "severity": "high", "comment": "rude"}],
            "parts": [{"start": 0, "end": 6, "label": "inaccurate"}],
            "better": "A better answer.",
            "note": "see above",
        },
        duration_ms=1234,
        next=1,
    )
    counts = {"done": 1, "done_today": 1, "skipped": 0, "remaining": 1, "items": 2}
    assert done["progress"] == counts | {"is_paused": False}
    assert [a["answers"][0]["text"] for a in done["assignments"]] == ["Answer 1."]
    said = {(f["kind"], f["name"]): f for f in server.admin.feedback(author_id="ada")}
    assert {f["feedback_id"] for f in said.values()} == set(done["feedback"])
    thumb = said["rating", "thumb"]
    assert (thumb["value"], thumb["scale"], thumb["guideline"], thumb["solicited"]) == (
        0.0,
        {"min": 0, "max": 1},
        "1",
        True,
    )
    assert thumb["author"] == {"kind": "annotator", "id": "ada"}
    assert thumb["target"] == {"trace_id": calls[0].trace_id, "span_id": calls[0].span_id}
    assert thumb["queue_item"] == one["item_id"]
    assert said["rating", "helpfulness"]["scale"] == {"min": 1, "max": 5}
    flag = said["flag", "what_is_wrong"]
    assert (flag["category"], flag["severity"], flag["comment"]) == ("tone", "high", "rude")
    place = said["flag", "parts"]["target"]["range"]
    assert place == {"start": 0, "end": 6, "answer_hash": answer["hash"]}
    assert said["correction", "better"]["correction"] == "A better answer."
    assert said["comment", "note"]["comment"] == "see above"


def test_the_same_again_changes_nothing_and_other_answers_replace(server: World) -> None:
    server.calls(1)
    queue = server.queue(QUESTIONS, fill=True)
    bob = server.person("bob")
    one = bob.take(queue)
    answers = {
        "thumb": 1,
        "what_is_wrong": [{"category": "tone"}],
        "parts": [{"start": 0, "end": 3, "label": "misleading"}],
    }
    first = bob.submit(one, answers)
    assert bob.submit(one, answers)["feedback"] == first["feedback"]
    mine = {"author_id": "bob"}
    words = server.admin.ask("GET", f"/feedback/{first['feedback'][0]}")["history"]
    assert len(words) == 1
    assert len(server.admin.feedback(**mine)) == 3
    bob.submit(
        one, {"thumb": 0, "what_is_wrong": [], "parts": [{"start": 0, "end": 3, "label": "inaccurate"}]}
    )
    now = sorted((f["kind"], f.get("category"), f.get("value")) for f in server.admin.feedback(**mine))
    assert now == [("flag", "inaccurate", None), ("rating", None, 0.0)]


def test_undo_retracts_and_gives_the_answers_back(server: World) -> None:
    server.calls(1)
    queue = server.queue()
    eve = server.person("eve")
    one = eve.take(queue)
    eve.submit(one, {"thumb": 1})
    again = eve.reopen(one)
    assert (again["state"], again["draft"]) == ("leased", {"thumb": 1})
    assert server.admin.feedback(author_id="eve") == []
    eve.submit(one, {"thumb": 1})
    assert [f["value"] for f in server.admin.feedback(author_id="eve")] == [1.0]
    assert eve.ask("GET", f"/review/queues/{queue}/mine")["assignments"][0]["submitted"] == {"thumb": 1}


def test_a_draft_outlives_the_page(server: World) -> None:
    server.calls(2)
    queue = server.queue()
    kim = server.person("kim")
    one = kim.take(queue)
    kim.draft(one, {"thumb": 0, "half": "a wo"})
    again = kim.take(queue)
    assert again["assignment_id"] == one["assignment_id"]
    assert again["draft"] == {"thumb": 0, "half": "a wo"}
    assert (
        kim.next(queue, holding=[one["assignment_id"]])["assignments"][0]["assignment_id"]
        != one["assignment_id"]
    )


def test_a_skipped_item_goes_to_others_and_can_be_taken_back(server: World) -> None:
    queue = server.queue(fill=False)
    made = server.calls(1)
    body = {"source": "targets", "items": [[{"trace_id": made[0].trace_id, "span_id": made[0].span_id}]]}
    assert server.admin.ask("POST", f"/review/queues/{queue}/items", body)["added"] == 1
    lee, max_ = server.person("lee"), server.person("max")
    one = lee.take(queue)
    assert max_.take(queue) is None
    lee.skip(one, "not my subject")
    assert lee.take(queue) is None
    assert max_.take(queue) is not None
    lee.reopen(one, status=409)
