"""Tags that users add to calls later: seen wherever tags are, taken off again, and never written into the spans."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Call, Message
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store import added_tags
from heedloop_server.store.admin.erasure import erase
from heedloop_server.store.admin.retention import drop_old_calls
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.spans import insert_calls

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
PERIOD = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
CALLS = [
    Call(
        trace_id=f"{i + 1:032x}",
        span_id=f"{i + 1:016x}",
        start_time=START + timedelta(minutes=i),
        input_messages=(Message("user", "Where is it?"),),
        output_messages=(Message("assistant", f"answer {i}"),),
        tags=("sent",) if i % 2 == 0 else (),
    )
    for i in range(4)
]
IDS = [{"trace_id": c.trace_id, "span_id": c.span_id} for c in CALLS]


@pytest.fixture
def place(tmp_path) -> Iterator[tuple[TestClient, ProjectStore]]:
    with (
        temporary_store() as store,
        TestClient(create_app(Settings(data=tmp_path), store=store)) as client,
    ):
        key, _ = make_key(store, "mine", name="ada", scopes=SCOPES)
        client.headers["Authorization"] = f"Bearer {key}"
        insert_calls(store.project("mine"), CALLS)
        insert_calls(store.project("other"), CALLS)
        yield client, store.project("mine")


def _change(client: TestClient, which: list[int], **tags: list[str]) -> dict:
    answer = client.post("/v1/calls/tags", json={"calls": [IDS[i] for i in which], **tags})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _tagged(client: TestClient, *tags: str) -> list[int]:
    found = client.get("/v1/calls", params={**PERIOD, "tag": list(tags)}).json()["calls"]
    return sorted(int(c["trace_id"], 16) - 1 for c in found)


def test_an_added_tag_is_seen_wherever_tags_are(place: tuple[TestClient, ProjectStore]) -> None:
    client, project = place
    assert _change(client, [0, 1], add=["Überprüft, bald", "sent"]) == {"num_calls": 2, "num_unknown": 0}
    assert _tagged(client, "Überprüft, bald") == [0, 1]
    assert _tagged(client, "sent", "Überprüft, bald") == [0, 1]
    assert _tagged(client, "sent") == [0, 1, 2]
    trace = client.get(f"/v1/traces/{CALLS[0].trace_id}").json()
    assert trace["spans"][0]["tags"] == ["sent", "Überprüft, bald"]
    listed = client.get("/v1/calls", params=PERIOD).json()["calls"]
    assert [c["tags"] for c in listed][2:] == [["sent", "Überprüft, bald"]] * 2
    exported = client.get("/v1/calls/export", params={**PERIOD, "tag": "Überprüft, bald"}).text.splitlines()
    assert [sorted(json.loads(line)["tags"]) for line in exported] == [["sent", "Überprüft, bald"]] * 2
    groups = client.get("/v1/quality/by", params={**PERIOD, "field": "tag"}).json()
    assert {g["value"]: g["num_answers"] for g in groups["groups"]} == {"sent": 3, "Überprüft, bald": 2}
    facets = client.get("/v1/facets", params={**PERIOD, "field": "tag"}).json()["values"]
    assert {f["value"]: f["count"] for f in facets} == {"sent": 3, "Überprüft, bald": 2}
    who = project.rows("SELECT DISTINCT author_id FROM added_tags WHERE project_id = {project:String}")
    assert who == [{"author_id": "ada"}]
    assert project.store.project("other").row(
        "SELECT count() AS n FROM added_tags WHERE project_id = {project:String}"
    ) == {"n": 0}


def test_added_tags_are_taken_off_and_sent_ones_stay(place: tuple[TestClient, ProjectStore]) -> None:
    client, project = place
    for _ in range(2):  # twice is once
        _change(client, [0, 1], add=["vip"])
    insert_calls(project, CALLS[:2])  # sent again
    assert _tagged(client, "vip") == [0, 1]
    assert project.row("SELECT count() AS n FROM added_tags WHERE project_id = {project:String}") == {"n": 2}
    _change(client, [0, 2], remove=["vip", "sent"])
    assert (_tagged(client, "vip"), _tagged(client, "sent")) == ([1], [0, 2])
    _change(client, [0], add=["vip"])
    assert _tagged(client, "vip") == [0, 1]


def test_what_makes_no_sense_is_refused(
    place: tuple[TestClient, ProjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, project = place
    for body in (
        {},
        {"add": [" "]},
        {"add": ["a\0b"]},
        {"add": ["a"], "remove": ["a"]},
        {"add": ["x" * 201]},
        {"add": [f"{i}" for i in range(21)]},
        {"add": ["a"], "calls": []},
        {"add": ["a"], "calls": [{"trace_id": IDS[0]["trace_id"]}]},
    ):
        answer = client.post("/v1/calls/tags", json={"calls": IDS, **body})
        assert answer.status_code == 422, (body, answer.text)
    unknown = {"trace_id": "f" * 32, "span_id": "f" * 16}
    answer = client.post("/v1/calls/tags", json={"calls": [IDS[0], unknown, IDS[0]], "add": [" ok "]})
    assert answer.json() == {"num_calls": 1, "num_unknown": 1}
    assert _tagged(client, "ok") == [0]
    monkeypatch.setattr(added_tags, "MAX_ADDED", 2)
    answer = client.post("/v1/calls/tags", json={"calls": IDS, "add": ["more"]})
    assert (answer.status_code, _tagged(client, "more")) == (422, [])
    for scopes in (["read"], ["annotate"], ["ingest"]):
        key, _ = make_key(project.store, "mine", name="less", scopes=scopes)
        headers = {"Authorization": f"Bearer {key}"}
        assert (
            client.post("/v1/calls/tags", json={"calls": IDS, "add": ["a"]}, headers=headers).status_code
            == 403
        )


def test_added_tags_go_with_their_calls(place: tuple[TestClient, ProjectStore]) -> None:
    client, project = place
    _change(client, [0, 1, 2], add=["vip"])
    assert erase(project, "trace_id", CALLS[0].trace_id, erasure_id="e1").rows["added_tags"] == 1
    assert _tagged(client, "vip") == [1, 2]
    drop_old_calls(project.store, 1)
    assert project.row("SELECT count() AS n FROM added_tags WHERE project_id = {project:String}") == {"n": 0}
