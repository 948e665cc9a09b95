"""What an annotator's key can reach: its queues and nothing else. Every route of the app is tried with it, found by walking the app."""

import re

import pytest
from review_people import THUMB_ONLY, World, call, review_server
from server_world import furnish

from heedloop_server.app import scopes_of
from heedloop_server.http.auth import PROJECT_SCOPES, make_key
from heedloop_server.store.spans import insert_calls

SECRET = "what-others-said"
OPEN = {"/healthz", "/readyz", "/openapi.json", "/static/feedback.js", "/v1/me"}
MINE = {
    ("GET", "/v1/review/queues"),
    ("GET", "/v1/review/queues/{queue_id}"),
    ("GET", "/v1/review/queues/{queue_id}/guidelines"),
    ("GET", "/v1/review/queues/{queue_id}/mine"),
    ("POST", "/v1/review/queues/{queue_id}/next"),
    ("PUT", "/v1/review/assignments/{assignment_id}/draft"),
    ("POST", "/v1/review/assignments/{assignment_id}/submit"),
    ("POST", "/v1/review/assignments/{assignment_id}/skip"),
    ("POST", "/v1/review/assignments/{assignment_id}/reopen"),
    ("POST", "/v1/review/assignments/{assignment_id}/note"),
    ("GET", "/v1/review/queues/{queue_id}/record"),
}
BODIES = {
    "next": {"count": 3},
    "draft": {"answers": {"thumb": 1}},
    "submit": {"answers": {"thumb": 1}, "next": 3},
    "skip": {"reason": "x", "next": 3},
    "note": {"text": "x"},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    """A project full of secrets, and an annotator with a queue of their own in it."""
    with review_server(tmp_path_factory.mktemp("walks")) as new_project:
        server: World = new_project()
        key, _ = make_key(server.store, server.project.project, name="all", scopes=PROJECT_SCOPES)
        known = furnish(server.project, server.client, key, SECRET)
        own = call("My question?", "My answer.")
        insert_calls(server.project, [own])
        queue = server.queue(THUMB_ONLY, fill=False, annotators=["ada", "bob"])
        target = {"trace_id": own.trace_id, "span_id": own.span_id}
        body = {"source": "targets", "items": [[target]]}
        server.admin.ask("POST", f"/review/queues/{queue}/items", body)
        server.admin.ask("PATCH", f"/review/queues/{known['queue_id']}", {"annotators": ["somebody else"]})
        yield server, known, queue


def routes(server: World) -> list[tuple[str, str]]:
    return [(m, r.path) for r in server.app.state.routes for m in sorted(r.methods - {"HEAD"})]


def ask(server: World, key: str, method: str, path: str, known: dict[str, str]):
    body = BODIES.get(path.rpartition("/")[2], {})
    filled = re.sub(r"\{(\w+)[^}]*\}", lambda m: known.get(m[1], "x"), path)
    return server.client.request(method, filled, headers={"Authorization": f"Bearer {key}"}, json=body)


def test_every_route_but_the_annotators_own_is_closed_to_them(world) -> None:
    server, known, _ = world
    ada = server.person("ada").key
    tried = [r for r in routes(server) if r[1] not in OPEN]
    assert set(tried) >= MINE
    for method, path in tried:
        answer = ask(server, ada, method, path, known)
        wanted = (
            (404,)
            if (method, path) in MINE and "{" in path
            else (200,)
            if (method, path) in MINE
            else (403, 401)
        )
        assert answer.status_code in wanted, (method, path, answer.status_code, answer.text[:300])
        assert SECRET not in answer.text, (method, path)


def test_the_only_routes_with_the_scope_are_those(world) -> None:
    server, _, _ = world
    opened = {
        (m, r.path)
        for r in server.app.state.routes
        for m in r.methods - {"HEAD"}
        if "annotate" in scopes_of(r)
    }
    assert opened == MINE


def test_nobody_sees_or_touches_what_another_annotator_does(world) -> None:
    server, _, queue = world
    server.admin.ask("PATCH", f"/review/queues/{queue}", {"judgements_per_item": 2})
    ada, bob = server.person("ada"), server.person("bob")
    hers = ada.take(queue)
    ada.submit(hers, {"thumb": 0})
    his = bob.take(queue)
    assert his["assignment_id"] != hers["assignment_id"]
    seen = [
        bob.ask("GET", "/review/queues"),
        bob.ask("GET", f"/review/queues/{queue}"),
        bob.ask("GET", f"/review/queues/{queue}/mine"),
        bob.next(queue, 3),
        bob.draft(his, {}),
    ]
    assert "ada" not in str(seen)
    assert his["submitted"] is None
    assert his["suggestions"] == {}
    for path in ("submit", "skip", "reopen", "draft"):
        method = "PUT" if path == "draft" else "POST"
        url = f"/review/assignments/{hers['assignment_id']}/{path}"
        error = bob.ask(method, url, BODIES.get(path), status=404)["error"]
        assert "for you" in error["message"]
    assert [f["value"] for f in server.admin.feedback(author_id="ada")] == [0.0]


def test_who_is_taken_off_the_queue_can_go_on_with_nothing(world) -> None:
    server, _, _ = world
    queue = server.queue(THUMB_ONLY, annotators=["eve"])
    eve = server.person("eve")
    held = eve.take(queue)
    server.admin.ask("PATCH", f"/review/queues/{queue}", {"annotators": ["ada"]})
    eve.submit(held, {"thumb": 1}, status=404)
    eve.ask("GET", f"/review/queues/{queue}", status=404)
    assert queue not in {q["queue_id"] for q in eve.ask("GET", "/review/queues")["queues"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/review/queues", {"name": "q"}, "questions"),
        ("POST", "/review/queues", {"name": "q", "questions": []}, "questions"),
        ("POST", "/review/queues", {"name": "q", "questions": [{"name": "Thumb", "kind": "thumb"}]}, "questions[0].name"),
        ("POST", "/review/queues", {"name": "q", "questions": [{"name": "a", "kind": "star"}]}, "questions[0].kind"),
        ("POST", "/review/queues", {"name": "q", "questions": [{"name": "a", "kind": "scale", "min": 5, "max": 1}]}, "questions[0].max"),
        ("POST", "/review/queues", {"name": "q", "questions": [{"name": "a", "kind": "category", "categories": ["x"]}]}, "questions[0].categories"),
        ("POST", "/review/queues", {"name": "q", "questions": [{"name": "a", "kind": "thumb", "min": 1}]}, "questions[0].min"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY * 2}, "questions[1].name"),
        ("POST", "/review/queues", {"name": " ", "questions": THUMB_ONLY}, "name"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY, "lease": 3}, "lease"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY, "lease_s": 0}, "lease_s"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY, "gold_share": 0.9}, "gold_share"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY, "due_at": "tomorrow"}, "due_at"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY, "show": ["secrets"]}, "show[0]"),
        ("POST", "/review/queues", {"name": "q", "questions": THUMB_ONLY, "guideline": {"text": 5}}, "guideline.text"),
        ("PATCH", "/review/queues/{queue_id}", {"status": "gone"}, "status"),
        ("PATCH", "/review/queues/{queue_id}", {"queue_id": "x"}, "queue_id"),
        ("PUT", "/review/queues/{queue_id}/guideline", {"text": "x", "send_back": "yes"}, "send_back"),
        ("PUT", "/review/queues/{queue_id}/guideline", {"text": "x", "examples": [{"bad": 1}]}, "examples[0].bad"),
        ("POST", "/review/queues/{queue_id}/items", {"source": "nowhere"}, ""),
        ("POST", "/review/queues/{queue_id}/items", {"source": "sample"}, "sample.size"),
        ("POST", "/review/queues/{queue_id}/items", {"source": "targets", "items": [[]]}, "items[0]"),
        ("POST", "/review/queues/{queue_id}/items", {"source": "targets", "items": [[{"trace_id": "x"}]]}, "items[0][0].trace_id"),
        ("POST", "/review/queues/{queue_id}/gold", {"items": []}, "items"),
        ("POST", "/review/queues/{queue_id}/next", {"count": 4}, "count"),
        ("POST", "/review/queues/{queue_id}/next", {"nonsense": 4}, "nonsense"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_field_that_is_wrong(
    world, method: str, path: str, body, field: str
) -> None:
    server, _, queue = world
    error = server.admin.ask(method, path.format(queue_id=queue), body, status=422)["error"]
    assert error.get("field", "").endswith(field), error
    assert len(error["message"]) > 15
