"""Whatever JSON comes, the review routes answer with a sentence: never a server error, never a broken queue."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from review_people import QUESTIONS, World, review_server

TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([q["name"] for q in QUESTIONS])
MARK = st.dictionaries(
    st.sampled_from(["start", "end", "label", "category", "severity", "comment"]), JSON, max_size=4
)
ANSWERS = st.dictionaries(NAMES, JSON | st.lists(MARK, max_size=2), max_size=4)
SETTINGS = st.dictionaries(
    st.sampled_from(
        [
            "name",
            "questions",
            "guideline",
            "status",
            "due_at",
            "lease_s",
            "judgements_per_item",
            "gold_share",
            "show",
            "annotators",
            "suggestions",
        ]
    ),
    JSON,
)
QUESTION = st.fixed_dictionaries(
    {
        "name": st.just("a") | JSON,
        "kind": st.sampled_from(["thumb", "scale", "category", "flags", "ranges", "text"]) | JSON,
    },
    optional=dict.fromkeys(
        ("min", "max", "anchors", "categories", "labels", "required", "per_answer", "severity", "title"), JSON
    ),
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("fuzz")) as new_project:
        server: World = new_project()
        server.calls(2)
        queue = server.queue(QUESTIONS)
        ada = server.person("ada")
        yield server, queue, ada, ada.take(queue)


def send(server: World, person, method: str, path: str, body) -> int:
    """The status; `TestClient` raises what the server did not answer."""
    import json

    answer = server.client.request(
        method,
        f"/v1{path}",
        content=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {person.key}", "Content-Type": "application/json"},
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]
    return answer.status_code


@FEW
@given(answers=ANSWERS | JSON)
def test_submissions_and_drafts(world, answers) -> None:
    server, _, ada, one = world
    path = f"/review/assignments/{one['assignment_id']}"
    send(server, ada, "PUT", f"{path}/draft", {"answers": answers})
    send(server, ada, "POST", f"{path}/submit", {"answers": answers})
    assert ada.reopen(one)["state"] == "leased"


@FEW
@given(body=SETTINGS | st.fixed_dictionaries({"name": TEXT, "questions": st.lists(QUESTION, max_size=2)}))
def test_queues(world, body) -> None:
    server, queue, _, _ = world
    send(server, server.admin, "POST", "/review/queues", body)
    if not set(body) & {"status", "annotators", "lease_s"}:
        send(server, server.admin, "PATCH", f"/review/queues/{queue}", body)
    server.admin.ask("GET", "/review/queues")


@FEW
@given(
    body=st.fixed_dictionaries(
        {"source": st.sampled_from(["filter", "sample", "targets", "disagreement"])},
        optional=dict.fromkeys(("filters", "limit", "size", "items", "kind", "seed"), JSON),
    )
    | st.fixed_dictionaries(
        {
            "items": st.lists(
                st.dictionaries(st.sampled_from(["targets", "answers", "training", "why"]), JSON), max_size=2
            )
        }
    )
)
def test_items_and_gold(world, body) -> None:
    server, queue, _, _ = world
    for what in ("items", "gold", "next"):
        send(server, server.admin, "POST", f"/review/queues/{queue}/{what}", body)
    send(server, server.admin, "PUT", f"/review/queues/{queue}/guideline", body)


def test_text_that_no_utf8_can_carry_is_stored_replaced(world) -> None:
    server, _, _, _ = world
    bob = server.person("bob")
    queue = server.queue(QUESTIONS)  # the fuzzed one may have been paused
    one = bob.take(queue)
    assert (
        send(
            server,
            bob,
            "PUT",
            f"/review/assignments/{one['assignment_id']}/draft",
            {"answers": {"note": "\udfff"}},
        )
        == 200
    )
    body = {"answers": {"thumb": 1, "note": "a\ud800b"}}
    assert send(server, bob, "POST", f"/review/assignments/{one['assignment_id']}/submit", body) == 200
    assert [f["comment"] for f in server.admin.feedback(author_id="bob", kind="comment")] == ["a\ufffdb"]
