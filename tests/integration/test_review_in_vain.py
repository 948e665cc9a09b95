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


def test_one_judgement_is_sent_back_with_a_remark(world: World) -> None:
    queue = world.queue()
    ada, lead = world.person("ada"), world.person("lead", scopes=("review",))
    one = ada.take(queue)
    ada.submit(one, {"thumb": 1})
    path = f"/review/items/{one['item_id']}/send-back"
    lead.ask("POST", path, {"annotator": "nobody", "remark": "x"}, status=404)
    lead.ask("POST", path, {"annotator": "ada", "remark": " "}, status=422)
    item = lead.ask("POST", path, {"annotator": "ada", "remark": "Read the second line."})
    assert item["judgements"] == [] and world.admin.feedback(author_id="ada") == []
    again = ada.take(queue)
    assert (again["assignment_id"], again["remark"], again["draft"]) == (
        one["assignment_id"],
        "Read the second line.",
        {"thumb": 1},
    )
    ada.submit(again, {"thumb": 0}, revision=again["revision"])
    assert [f["value"] for f in world.admin.feedback(author_id="ada")] == [0]
    [mine] = ada.ask("GET", f"/review/queues/{queue}/mine")["assignments"]
    assert mine["remark"] == ""


def test_leases_are_released_and_items_removed(world: World) -> None:
    queue = world.queue()
    ada, bob = world.person("ada"), world.person("bob")
    held = ada.next(queue, 3)["assignments"]
    ada.draft(held[0], {"thumb": 1})
    assert world.admin.ask("POST", f"/review/queues/{queue}/release", {"annotator": "ada"}) == {"released": 3}
    assert [a["item_id"] for a in bob.next(queue, 3)["assignments"]] == [a["item_id"] for a in held]
    gone = held[0]["item_id"]
    removed = world.admin.ask("POST", f"/review/queues/{queue}/items/remove", {"item_ids": [gone, "f" * 32]})
    assert removed == {"removed": 1, "unknown": 1}
    assert world.admin.ask("GET", f"/review/queues/{queue}")["counts"]["items"] == 5
    items = world.admin.ask("GET", f"/review/queues/{queue}/items", limit=100)["items"]
    assert gone not in {i["item_id"] for i in items}
    again = world.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "filter"})
    assert again["added"] == 1, "it can come in again"


def test_queues_are_archived_and_deleted(world: World) -> None:
    queue = world.queue()
    ada = world.person("ada")
    ada.submit(ada.take(queue), {"thumb": 1})
    one = ada.take(queue)
    world.admin.ask("PATCH", f"/review/queues/{queue}", {"status": "archived"})
    assert world.admin.ask("GET", "/review/queues")["queues"] == []
    assert [q["status"] for q in world.admin.ask("GET", "/review/queues", archived=True)["queues"]] == [
        "archived"
    ]
    assert ada.next(queue)["assignments"] == []
    ada.submit(one, {"thumb": 1}, status=409)
    ada.ask("DELETE", f"/review/queues/{queue}", status=403)
    world.admin.ask("DELETE", f"/review/queues/{queue}")
    world.admin.ask("GET", f"/review/queues/{queue}", status=404)
    assert world.admin.ask("GET", "/review/queues", archived=True)["queues"] == []
    assert len(world.admin.feedback(author_id="ada")) == 1, "what was judged stays"


TOPIC = {"name": "topic", "kind": "category", "categories": ["a", "b"]}
TONE = {"name": "tone", "kind": "scale", "min": 1, "max": 5}


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ([TOPIC | {"title": "Which topic?", "help": "…", "required": False}, TONE], ""),
        ([TOPIC | {"categories": ["c", "b", "a"]}, TONE], ""),
        ([TONE, TOPIC, {"name": "note", "kind": "text", "required": False}], ""),
        ([TOPIC | {"categories": ["a", "c"]}, TONE], "'b' of 'topic'"),
        ([TOPIC, TONE | {"max": 7}], "'tone'"),
        ([TOPIC], "'tone'"),
        ([TOPIC, TONE, {"name": "note", "kind": "text"}], "'note' is new"),
    ],
)
def test_questions_change_while_the_answers_stay_answers(world: World, after, why) -> None:
    queue = world.queue([TOPIC, TONE])
    ada = world.person("ada")
    one = ada.take(queue)
    ada.submit(one, {"topic": "b", "tone": 3})
    status = 409 if why else 200
    found = world.admin.ask("PATCH", f"/review/queues/{queue}", {"questions": after}, status=status)
    if why:
        assert why in found["error"]["message"] and "new queue" in found["error"]["message"]
    else:
        assert found["questions_version"] == 2
        [entry] = world.admin.ask("GET", "/audit", action="change_queue", limit=1)["entries"]
        assert "topic" in str(entry["details"]["questions_before"])
        ada.submit(one, {"topic": "a", "tone": 3})
