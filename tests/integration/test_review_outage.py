"""The store refuses or goes away while people judge: 503, nothing lost, nothing double, and it goes on by itself."""

import pytest
from review_people import QUESTIONS, World, review_server

from heedloop.schema import Author, Feedback, Target
from heedloop_server.errors import Unavailable
from heedloop_server.review import open_queue
from heedloop_server.review.queue_service import ReviewQueueService


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("outage")) as new_project:
        yield new_project


@pytest.fixture
def server(projects) -> World:
    return projects()


def test_a_submission_that_the_store_refused_is_none_until_it_is_sent_again(
    server: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.calls(2)
    queue = server.queue()
    ada = server.person("ada")
    one, two = ada.next(queue, 2)["assignments"]
    real = open_queue.insert_assignments

    def away(*_args):
        raise Unavailable("the store is away")

    monkeypatch.setattr(open_queue, "insert_assignments", away)
    refused = ada.submit(one, {"thumb": 1}, status=503)
    assert "away" in refused["error"]["message"]
    monkeypatch.setattr(open_queue, "insert_assignments", real)
    held = ada.next(queue, 2)
    assert [a["assignment_id"] for a in held["assignments"]] == [one["assignment_id"], two["assignment_id"]]
    assert held["progress"]["done"] == 0
    assert server.admin.feedback(author_id="ada") == []
    assert ada.submit(one, {"thumb": 1}, next=1)["progress"]["done"] == 1
    assert [f["value"] for f in server.admin.feedback(author_id="ada")] == [1.0]


def test_feedback_that_the_store_refused_comes_by_itself(
    server: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.calls(1)
    queue = server.queue(QUESTIONS)
    ada = server.person("ada")
    one = ada.take(queue)
    queue_service: ReviewQueueService = server.app.state.review
    real = queue_service.record

    def away(*_args):
        raise Unavailable("too much waits")

    monkeypatch.setattr(queue_service, "record", away)
    answers = {"thumb": 1, "parts": [{"start": 0, "end": 2, "label": "inaccurate"}], "note": "x"}
    ada.submit(one, answers, status=503)
    assert server.admin.feedback(author_id="ada") == []
    queue_service.run_maintenance()  # the store is still away
    monkeypatch.setattr(queue_service, "record", real)
    queue_service.run_maintenance()
    first = {f["feedback_id"] for f in server.admin.feedback(author_id="ada")}
    assert len(first) == 3
    assert set(ada.submit(one, answers)["feedback"]) == first  # the page sends again, and nothing is double
    assert {f["feedback_id"] for f in server.admin.feedback(author_id="ada")} == first


def test_a_late_submission_is_taken_while_a_place_is_left_and_kept_as_a_draft_where_none_is(
    server: World,
) -> None:
    server.calls(2)
    queue = server.queue(lease_s=1)
    ada, bob = server.person("ada"), server.person("bob")
    one, two = ada.next(queue, 2)["assignments"]
    end_leases(server, queue)
    ada.submit(one, {"thumb": 1})
    theirs = bob.take(queue)
    assert theirs["item_id"] == two["item_id"]
    bob.submit(theirs, {"thumb": 0})
    assert "no further judgement" in ada.submit(two, {"thumb": 1}, status=409)["error"]["message"]
    assert ada.take(queue) is None
    said = server.admin.feedback(author_kind="annotator")
    assert sorted(f["author"]["id"] for f in said) == ["ada", "bob"]
    kept = server.project.rows(
        "SELECT draft FROM review_assignments FINAL WHERE project_id = {project:String} AND annotator = 'ada' AND state = 'leased'"
    )
    assert [r["draft"] for r in kept] == ['{"thumb":1}']


def end_leases(server: World, queue: str) -> None:
    """Let every lease of the queue have ended a minute ago, in the store and in the server's memory."""
    server.store.command(
        "ALTER TABLE review_assignments UPDATE expires_at = now64(6) - INTERVAL 1 MINUTE WHERE queue_id = {q:String}",
        {"q": queue},
        mutations_sync=2,
    )
    server.app.state.review.forget(server.project.project)


def test_a_user_of_the_same_name_is_not_the_annotator(server: World) -> None:
    (call,) = server.calls(1)
    theirs = Feedback(
        kind="rating",
        value=0,
        target=Target(trace_id=call.trace_id, span_id=call.span_id),
        author=Author("end_user", "ada"),
    )
    server.app.state.intake.record(server.project.project, [theirs], "").result()
    queue = server.queue()
    ada = server.person("ada")
    ada.submit(ada.take(queue), {"thumb": 1})
    values = {f["author"]["kind"]: f["value"] for f in server.admin.feedback()}
    assert values == {"end_user": 0.0, "annotator": 1.0}
