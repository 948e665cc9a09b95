"""Queues that fill themselves, ask as often as needed, know their people, and say what happens in them."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient
from review_people import Person, World, call, review_server
from test_review_control_routes import post, read

from heedloop.schema import THUMB, Author, Feedback, Target, utc_now
from heedloop_server.alerts.scheduler import tell
from heedloop_server.alerts.webhooks import signature
from heedloop_server.review.queue import Queue
from heedloop_server.review.upkeep import QueueUpkeep
from heedloop_server.store.admin.alerts import pending_deliveries
from heedloop_server.store.review.queues import find_queue
from heedloop_server.store.spans import insert_calls

CATEGORIES = ["billing", "delivery", "returns", "account", "other"]


@pytest.fixture(scope="module")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with review_server(tmp_path_factory.mktemp("staffing")) as made:
        yield made


@pytest.fixture
def world(new_world: Any) -> World:
    return new_world()


def look(
    world: World, queue_id: str, *, later: timedelta = timedelta(), upkeep: QueueUpkeep | None = None
) -> None:
    """One round of what the server's own thread does."""
    queue = find_queue(world.project, queue_id)
    assert isinstance(queue, Queue)
    upkeep = upkeep or QueueUpkeep(world.store, world.app.state.review)
    upkeep.look_after(world.project, queue, utc_now() + later)


def items(world: World, queue_id: str) -> list[dict[str, Any]]:
    return world.admin.ask("GET", f"/review/queues/{queue_id}/items", limit=500)["items"]


def rate(world: World, target: Any, value: float, *, kind: str = "end_user", who: str = "u1") -> None:
    said = Feedback(
        "rating", Target(trace_id=target.trace_id, span_id=target.span_id), "thumb", value, THUMB, author=Author(kind, who)
    )  # fmt: skip
    world.app.state.review.record(world.project.project, [said], "test").result()
    world.app.state.intake.wait_until_stored()


# --------------------------------------------------------------------------------------------------------------- rules


def test_a_share_is_drawn_once_with_its_probability(world: World) -> None:
    rules = [{"source": "share", "share": 0.25, "since": "2020-01-01T00:00:00Z"}]
    queue = world.queue(fill=False, rules=rules)
    made = world.calls(400)
    look(world, queue)
    first = items(world, queue)
    assert 60 <= len(first) <= 140
    assert {i["sampling_probability"] for i in first} == {0.25}
    look(world, queue)
    assert len(items(world, queue)) == len(first), "a second look draws nothing anew"
    other = world.queue(fill=False, rules=rules)
    look(world, other)
    ids = [{i["targets"][0]["trace_id"] for i in items(world, q)} for q in (queue, other)]
    assert ids[0] != ids[1], "two queues draw apart"
    assert {c.trace_id for c in made} >= ids[0] | ids[1]


def test_what_comes_later_is_drawn_with_the_same_probability_and_old_answers_are_not(world: World) -> None:
    world.calls(50)
    queue = world.queue(fill=False, rules=[{"source": "share", "share": 1.0}])
    look(world, queue)
    assert items(world, queue) == [], "the rule holds from the moment it was made"
    insert_calls(world.project, [call(at_s=-1) for _ in range(5)])
    look(world, queue, later=timedelta(minutes=1))
    assert len(items(world, queue)) == 5


def test_a_share_draws_an_answer_that_arrives_days_after_it_was_given(world: World) -> None:
    rules = [{"source": "share", "share": 1.0, "since": "2020-01-01T00:00:00Z"}]
    queue = world.queue(fill=False, rules=rules)
    upkeep = QueueUpkeep(world.store, world.app.state.review)
    world.calls(3)
    look(world, queue, upkeep=upkeep)
    late = call(at_s=10 * 86_400)
    insert_calls(world.project, [late])
    look(world, queue, later=timedelta(minutes=1), upkeep=upkeep)
    assert late.trace_id in {i["targets"][0]["trace_id"] for i in items(world, queue)}
    assert len(items(world, queue)) == 4


def test_all_thumbs_down_come_whenever_they_are_given(world: World) -> None:
    rules = [{"source": "thumbs_down", "since": "2020-01-01T00:00:00Z", "priority": 7}]
    made = world.calls(6)
    queue = world.queue(fill=False, rules=rules)
    rate(world, made[0], 1)
    rate(world, made[1], 0)
    look(world, queue)
    assert [i["targets"][0]["trace_id"] for i in items(world, queue)] == [made[1].trace_id]
    rate(world, made[0], 0)
    look(world, queue)
    found = items(world, queue)
    assert {i["targets"][0]["trace_id"] for i in found} == {made[0].trace_id, made[1].trace_id}
    assert {(i["source"], i["sampling_probability"]) for i in found} == {("thumbs_down", None)}


def test_new_disagreements_and_filters_of_a_rule(world: World) -> None:
    rules = [
        {"source": "disagreement", "kind": "user_annotator", "since": "2020-01-01T00:00:00Z"},
        {"source": "share", "share": 1, "filters": {"model": "special"}, "since": "2020-01-01T00:00:00Z"},
    ]
    made = world.calls(3)
    [special] = world.calls(1, model="special")
    queue = world.queue(fill=False, rules=rules)
    rate(world, made[0], 1)
    rate(world, made[0], 0, kind="annotator", who="ada")
    look(world, queue)
    found = {i["targets"][0]["trace_id"]: i["source"] for i in items(world, queue)}
    assert found == {made[0].trace_id: "disagreement", special.trace_id: "share"}


def test_what_was_judged_before_a_share_drew_it_belongs_to_the_share(world: World) -> None:
    world.calls(1)
    queue = world.queue()
    ada = world.person("ada")
    ada.submit(ada.take(queue), {"thumb": 1})
    rules = [{"source": "share", "share": 1, "since": "2020-01-01T00:00:00Z"}]
    world.admin.ask("PATCH", f"/review/queues/{queue}", {"rules": rules})
    look(world, queue)
    [said] = world.admin.feedback(author_kind="annotator")
    assert said["sampling_probability"] == 1


# ------------------------------------------------------------------------------------------------ adaptive, assignment


def judge(person: Person, queue: str, thumb: int) -> bool:
    taken = person.take(queue)
    if taken is None:
        return False
    person.submit(taken, {"thumb": thumb})
    return True


def test_a_third_is_asked_where_two_differ_also_after_a_restart(world: World) -> None:
    world.calls(2)
    queue = world.queue(judgements_per_item=2, until="agreement", max_judgements=3)
    ada, bob, eve = (world.person(n) for n in ("ada", "bob", "eve"))
    assert judge(ada, queue, 1) and judge(ada, queue, 1)
    assert judge(bob, queue, 1) and judge(bob, queue, 0)
    world.app.state.review.forget(world.project.project)  # as a restart does: everything is read again
    assert judge(eve, queue, 1)
    assert not judge(eve, queue, 1)
    shown = world.admin.ask("GET", f"/review/queues/{queue}")
    assert (shown["counts"]["done"], shown["counts"]["judgements"]) == (2, 5)
    states = [(i["state"], len(i["judgements"])) for i in items(world, queue)]
    assert sorted(states) == [("disagreement", 3), ("done", 2)]


def test_settings_may_ask_for_more_after_the_fact(world: World) -> None:
    world.calls(1)
    queue = world.queue(judgements_per_item=2)
    ada, bob, eve = (world.person(n) for n in ("ada", "bob", "eve"))
    assert judge(ada, queue, 1) and judge(bob, queue, 0) and not judge(eve, queue, 1)
    world.admin.ask("PATCH", f"/review/queues/{queue}", {"until": "agreement", "max_judgements": 3})
    assert judge(eve, queue, 1)


def test_people_groups_and_languages(world: World) -> None:
    made = [call(f"Q{n}", attributes={"heedloop.metadata.language": ln}) for n, ln in enumerate(["de", "en"])]
    insert_calls(world.project, made)
    for name, groups, languages in (("ada", ["legal"], ["de"]), ("bob", [], ["en"])):
        body = {"author_id": name, "groups": groups, "languages": languages}
        assert world.admin.ask("PUT", "/review/team", body)["groups"] == groups
    assert [p["author_id"] for p in world.admin.ask("GET", "/review/team")["members"]] == ["ada", "bob"]
    queue = world.queue(by_language=True, judgements_per_item=2)
    ada, bob = world.person("ada"), world.person("bob")
    assert [a["messages"][0]["text"] for a in ada.next(queue, 3)["assignments"]] == ["Q0"]
    assert [a["messages"][0]["text"] for a in bob.next(queue, 3)["assignments"]] == ["Q1"]
    closed = world.queue(annotators=["group:legal"])
    ada.ask("GET", f"/review/queues/{closed}")
    bob.ask("GET", f"/review/queues/{closed}", status=404)
    assert closed not in [q["queue_id"] for q in bob.ask("GET", "/review/queues")["queues"]]
    body = {"author_id": "bob", "groups": ["legal"], "languages": []}
    world.admin.ask("PUT", "/review/team", body)
    assert bob.take(closed) is not None, "at once"
    world.person("eve").ask("GET", "/review/team", status=403)
    bob.ask("PUT", "/review/team", body, status=403)


def test_items_assigned_and_with_priority_when_filled(world: World) -> None:
    made = world.calls(3)
    queue = world.queue(fill=False)
    path = f"/review/queues/{queue}/items"
    world.admin.ask("POST", path, {"source": "filter", "assign": ["ada"]})
    ada, bob = world.person("ada"), world.person("bob")
    assert bob.take(queue) is None
    named = [[{"trace_id": made[2].trace_id, "span_id": made[2].span_id}]]
    again = {"source": "targets", "items": named, "priority": 9, "assign": []}
    assert world.admin.ask("POST", path, again)["added"] == 0
    assert bob.take(queue)["messages"][0]["text"] == "Question 2?"
    assert ada.take(queue)["messages"][0]["text"] == "Question 0?"


def test_queues_that_are_due_first_come_first(world: World) -> None:
    now = utc_now()
    late, none, soon = (
        world.queue(fill=False, name=name, due_at=due)
        for name, due in (
            ("late", (now + timedelta(days=9)).isoformat()), ("none", None), ("soon", (now + timedelta(days=1)).isoformat()),
        )
    )  # fmt: skip
    for who in (world.admin, world.person("ada")):
        assert [q["queue_id"] for q in who.ask("GET", "/review/queues")["queues"]] == [soon, late, none]


# ------------------------------------------------------------------------------------------------------- sign-in links


def test_a_link_makes_one_key_once_and_can_do_nothing_else(world: World) -> None:
    world.calls(1)
    queue = world.queue()
    made = world.admin.ask("POST", "/keys/links", {"author_id": "ada@example.org"}, status=201)
    link = Person(world.client, made["token"])
    for method, path in (
        ("GET", "/review/queues"),
        ("GET", "/calls"),
        ("POST", f"/review/queues/{queue}/next"),
        ("GET", "/keys"),
    ):
        link.ask(method, path, {} if method == "POST" else None, status=403)  # fmt: skip
    accepted = link.ask("POST", "/keys/accept", {}, status=201)
    assert (accepted["role"], accepted["author_id"]) == ("annotator", "ada@example.org")
    link.ask("POST", "/keys/accept", {}, status=401)
    ada = Person(world.client, accepted["key"])
    assert judge(ada, queue, 1)
    assert world.admin.feedback(author_kind="annotator")[0]["author"]["id"] == "ada@example.org"
    ada.ask("POST", "/keys/accept", {}, status=403)
    ada.ask("POST", "/keys/links", {"author_id": "eve"}, status=403)
    world.admin.ask("POST", "/keys/links", {"author_id": "x", "role": "emperor"}, status=422)
    world.admin.ask("POST", "/keys", {"name": "x", "scopes": ["sign-in:admin"]}, status=422)


def test_a_link_that_was_revoked_is_of_no_use(world: World) -> None:
    made = world.admin.ask(
        "POST", "/keys/links", {"author_id": "eve", "role": "reviewer", "hours": 1}, status=201
    )
    world.admin.ask("DELETE", f"/keys/{made['key_id']}")
    Person(world.client, made["token"]).ask("POST", "/keys/accept", {}, status=401)


# ------------------------------------------------------------------------------------------------------------ webhooks


class Receiver(http.server.BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def webhook() -> Iterator[str]:
    Receiver.got.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


def told(world: World) -> list[dict[str, Any]]:
    """Deliver what is due; what was told, in order."""
    for row in pending_deliveries(world.store):
        if row.project == world.project.project:
            assert tell(world.store, row, True).delivery.status == "delivered"
    return [json.loads(body)["review"] for _, body in Receiver.got]


def test_the_webhook_hears_of_items_and_of_the_queue_once(world: World, webhook: str) -> None:
    world.calls(2)
    queue = world.queue(webhook_url=webhook)
    secret = world.admin.ask("GET", f"/review/queues/{queue}")["webhook_secret"]
    ada = world.person("ada")
    assert "webhook_url" not in ada.ask("GET", f"/review/queues/{queue}")
    judge(ada, queue, 1)
    look(world, queue)
    look(world, queue)
    judge(ada, queue, 0)
    look(world, queue)
    look(world, queue)
    found = told(world)
    assert [e["event"] for e in found] == ["items_done", "items_done", "queue_done"] or {
        e["event"] for e in found
    } == {"items_done", "queue_done"}
    assert sum(e["num"] for e in found if e["event"] == "items_done") == 2
    assert {i for e in found for i in e.get("item_ids", [])} == {i["item_id"] for i in items(world, queue)}
    headers, body = Receiver.got[0]
    assert headers["X-Heedloop-Signature"] == signature(secret, headers["X-Heedloop-Timestamp"], body)
    world.calls(1)
    world.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "filter"})
    look(world, queue)
    assert len(told(world)) == len(found), "an open queue is not done"
    judge(ada, queue, 0)
    look(world, queue)
    assert [e["event"] for e in told(world)].count("queue_done") == 2


def test_a_stuck_queue_is_told_once_by_its_reason(world: World, webhook: str) -> None:
    world.calls(1)
    queue = world.queue(webhook_url=webhook, stuck_hours=24, annotators=["ada", "bob"])
    look(world, queue)
    assert told(world) == []
    look(world, queue, later=timedelta(hours=25))
    look(world, queue, later=timedelta(hours=26))
    assert [(e["event"], e["reason"]) for e in told(world)] == [("stuck", "idle")]
    for name in ("ada", "bob"):
        person = world.person(name)
        person.skip(person.take(queue), "not my subject")
    look(world, queue)
    look(world, queue)
    events = told(world)
    assert [(e["event"], e["reason"]) for e in events[1:]] == [("stuck", "skipped_by_all")]
    assert events[1]["item_ids"] == [items(world, queue)[0]["item_id"]]


NUM_JUDGED = 24


def careless_queue(world: World, **settings: Any) -> str:
    """Answers with their topic in the question, judged by three good annotators and one who always says the same."""
    insert_calls(world.project, [call(CATEGORIES[n % 5], at_s=60 + n) for n in range(NUM_JUDGED)])
    question = {"name": "topic", "kind": "category", "categories": CATEGORIES}
    queue = world.queue([question], judgements_per_item=4, **settings)

    def said(item: dict[str, Any], who: str) -> dict[str, Any]:
        topic = CATEGORIES[0] if who == "eve" else item["asked"]
        return {"annotator": who, "answers": {"topic": topic}, "duration_ms": 9000}

    lines = [
        {"item_id": i["item_id"], "judgements": [said(i, who) for who in ("ada", "bob", "cy", "eve")]}
        for i in items(world, queue)
    ]
    done = post(world.admin, f"/review/queues/{queue}/import", "\n".join(map(json.dumps, lines)).encode())
    assert done["stored"] == 4 * NUM_JUDGED
    return queue


@pytest.mark.parametrize("action", ["tell", "pause", "replace"])
def test_a_careless_annotator_is_told_paused_or_replaced(world: World, webhook: str, action: str) -> None:
    queue = careless_queue(world, webhook_url=webhook, on_careless=action)
    look(world, queue)
    look(world, queue)
    [event] = [e for e in told(world) if e["event"] == "careless"]
    assert event["annotator"] == "eve" and event["reasons"]
    shown = world.admin.ask("GET", f"/review/queues/{queue}")
    assert shown["suspended"] == ([] if action == "tell" else ["eve"])
    eve, dee = world.person("eve"), world.person("dee")
    assert eve.ask("GET", f"/review/queues/{queue}")["mine"]["is_paused"] == (action != "tell")
    asked_again = dee.take(queue) is not None
    assert asked_again == (action == "replace")
    if action == "replace":
        assert shown["counts"]["judgements"] == 3 * NUM_JUDGED
        assert len(world.admin.feedback(author_id="eve")) == NUM_JUDGED, "it stays feedback"
        world.admin.ask("PATCH", f"/review/queues/{queue}", {"suspended": [], "uncounted": []})
        assert world.admin.ask("GET", f"/review/queues/{queue}")["counts"]["judgements"] == 4 * NUM_JUDGED


def test_the_servers_own_thread_does_the_rounds(world: World, webhook: str) -> None:
    assert isinstance(world.client, TestClient)
    world.calls(3)
    queue = world.queue(fill=False, rules=[{"source": "share", "share": 1, "since": "2020-01-01T00:00:00Z"}])
    QueueUpkeep(world.store, world.app.state.review).round(utc_now())
    assert len(items(world, queue)) == 3


# ---------------------------------------------------------------------------------------------------------------- gold


@pytest.mark.parametrize("format", ["jsonl", "label_studio", "argilla"])
def test_gold_answers_stay_out_of_what_outsiders_get(world: World, format: str) -> None:
    """Files for other tools and pseudonymous ones neither hold gold answers nor tell which items are gold."""
    questions = [{"name": "thumb", "kind": "thumb"}, {"name": "note", "kind": "text", "required": False}]
    queue = world.queue(questions, fill=False)
    plain, gold = world.calls(2)
    targets = [[{"trace_id": c.trace_id, "span_id": c.span_id}] for c in (plain, gold)]
    world.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": targets})
    known = {
        "targets": targets[1],
        "answers": {"thumb": 0, "note": "the secret note"},
        "why": "the secret reason",
    }
    world.admin.ask("POST", f"/review/queues/{queue}/gold", {"items": [known]})
    for pseudonyms in ("true", *(["false"] if format != "jsonl" else [])):
        text = read(world.admin, f"/review/queues/{queue}/export", format=format, pseudonyms=pseudonyms)
        assert not re.search(r"secret|gold", text)
        entries = [json.loads(t) for t in text.splitlines()] if format == "jsonl" else json.loads(text)
        shapes = {json.dumps(shape(e)) for e in entries}
        assert len(entries) == 2
        assert len(shapes) == 1, "a gold item looks like every other"
    world.person("ann").ask("GET", f"/review/queues/{queue}/export", status=403)


def shape(value: Any) -> Any:
    """A JSON value without its texts and numbers."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in sorted(value.items())}
    return [shape(v) for v in value] if isinstance(value, list) else type(value).__name__
