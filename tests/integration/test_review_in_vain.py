"""Nobody judges in vain: what changed meanwhile is told at once, and the answers are kept."""

import pytest
from review_people import World, review_server

GUIDELINE = {"text": "First."}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("in-vain")) as new_world:
        yield new_world


@pytest.fixture
def world(server) -> World:
    world = server()
    world.calls(6)
    return world


@pytest.mark.parametrize("shown", [None, 1])
def test_a_guideline_that_is_sent_back_while_somebody_works(world: World, shown: int | None) -> None:
    queue = world.queue(guideline=GUIDELINE)
    ada = world.person("ada")
    one = ada.take(queue)
    world.admin.ask("PUT", f"/review/queues/{queue}/guideline", {"text": "Second.", "send_back": True})
    drafted = ada.draft(one, {"thumb": 0})
    assert (drafted["guideline_version"], drafted["sent_back"], drafted["queue_status"]) == (2, True, "open")
    more = {} if shown is None else {"guideline_version": shown}
    error = ada.submit(one, {"thumb": 1}, status=409, **more)["error"]
    assert error["field"] == "guideline_version" and "version 2" in error["message"]
    again = ada.take(queue)
    assert (again["assignment_id"], again["guideline_version"]) == (one["assignment_id"], 2)
    assert again["draft"] == {"thumb": 1}, "what was answered is kept"
    ada.submit(again, {"thumb": 1}, guideline_version=2)
    [mine] = ada.ask("GET", f"/review/queues/{queue}/mine")["assignments"]
    assert mine["guideline_version"] == 2
    assert world.admin.ask("GET", f"/review/queues/{queue}")["counts"]["judgements"] == 1


def test_a_new_guideline_that_sends_nothing_back_refuses_nothing(world: World) -> None:
    queue = world.queue(guideline=GUIDELINE)
    ada = world.person("ada")
    one = ada.take(queue)
    world.admin.ask("PUT", f"/review/queues/{queue}/guideline", {"text": "Second."})
    assert ada.draft(one, {"thumb": 0})["sent_back"] is False
    ada.submit(one, {"thumb": 1}, guideline_version=1)


def test_a_closed_queue_says_so_and_keeps_the_draft(world: World) -> None:
    queue = world.queue()
    ada = world.person("ada")
    one = ada.take(queue)
    ada.draft(one, {"thumb": 0})
    world.admin.ask("PATCH", f"/review/queues/{queue}", {"status": "closed"})
    assert "closed" in ada.draft(one, {"thumb": 1}, status=409)["error"]["message"]
    assert "closed" in ada.submit(one, {"thumb": 1}, status=409)["error"]["message"]
    world.admin.ask("PATCH", f"/review/queues/{queue}", {"status": "open"})
    assert ada.take(queue)["draft"] == {"thumb": 0}


def test_a_second_tab_or_device_overwrites_nothing_unseen(world: World) -> None:
    queue = world.queue()
    ada = world.person("ada")
    one = ada.take(queue)
    ada.submit(one, {"thumb": 1}, revision=one["revision"])
    ada.submit(one, {"thumb": 1}, revision=one["revision"])  # the same, sent again because the reply was lost
    assert ada.submit(one, {"thumb": 0}, revision=one["revision"], status=409)["error"]["field"] == "revision"
    [mine] = ada.ask("GET", f"/review/queues/{queue}/mine")["assignments"]
    assert mine["submitted"] == {"thumb": 1}
    ada.submit(one, {"thumb": 0}, revision=mine["revision"])
    ada.submit(one, {"thumb": 1})  # a program that names no revision replaces, as before


def test_undo_counts_right(world: World) -> None:
    """Two judged, one skipped, the skip taken back: two done, six in all."""
    queue = world.queue()
    ada = world.person("ada")
    for _ in range(2):
        ada.submit(ada.take(queue), {"thumb": 1})
    skipped = ada.take(queue)
    assert ada.skip(skipped, "no idea")["progress"]["items"] == 5
    progress = ada.reopen(skipped)["progress"]
    assert (progress["done"], progress["done_today"], progress["skipped"], progress["items"]) == (2, 2, 0, 6)
    [first, _] = ada.ask("GET", f"/review/queues/{queue}/mine")["assignments"]
    progress = ada.reopen(first)["progress"]
    assert (progress["done"], progress["items"]) == (1, 6)
