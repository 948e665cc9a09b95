"""Snapshots over a real store: frozen rows, equal ids, lineage, filters, errors."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking, Target
from heedloop_server import snapshots
from heedloop_server.app import create_app
from heedloop_server.curate import Rules
from heedloop_server.filters import read_filters
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.snapshots import SnapshotRequest, make_snapshot
from heedloop_server.store.admin.erasure import hide, remove
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.snapshots import find_snapshot, snapshot_rows
from heedloop_server.store.feedback import StoredFeedback, insert_feedback, insert_history
from heedloop_server.store.job_statements import StatementKind, watched
from heedloop_server.store.spans import insert_calls

START = datetime(2026, 3, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[TestClient]:
    """One server for all tests of this file; each has a project of its own."""
    with temporary_store() as store:
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        with TestClient(app) as client:
            yield client


@pytest.fixture
def shop(server) -> tuple[TestClient, ProjectStore]:
    """A fresh project, and a client with a key of all its scopes."""
    name = f"shop_{secrets.token_hex(4)}"
    store = server.app.state.store
    text, _ = make_key(store, name, name="test", scopes=SCOPES)
    return TestClient(server.app, headers={"Authorization": f"Bearer {text}"}), store.project(name)


def call(n: int, answer: str, question: str = "How long does delivery take?", **fields) -> Call:
    return Call(
        trace_id=f"{n:032x}",
        span_id=f"{n:016x}",
        start_time=START + timedelta(minutes=n),
        input_messages=(Message("user", question),),
        output_messages=(Message("assistant", answer),),
        **fields,
    )


def target(n: int) -> Target:
    return Target(trace_id=f"{n:032x}", span_id=f"{n:016x}")


def thumb(n: int, up: bool, who: str = "u1", **fields) -> Feedback:
    return Feedback(
        "rating", target(n), value=float(up), scale=THUMB, author=Author("end_user", who), **fields
    )


def say(project: ProjectStore, *feedback: Feedback) -> list[str]:
    now = datetime.now(timezone.utc)
    stored = [StoredFeedback.of(project.project, f, now) for f in feedback]
    insert_feedback(project, stored)
    insert_history(project, stored)
    return [str(s.feedback_id) for s in stored]


def freeze(client: TestClient, status: int = 201, **body) -> dict:
    answer = client.post("/v1/snapshots", json={"name": "first", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def rows(client: TestClient, snapshot_id: str, form: str, **params) -> list[dict]:
    answer = client.get(f"/v1/snapshots/{snapshot_id}/rows", params={"form": form, **params})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.iter_lines()]


def test_the_same_query_over_the_same_feedback_is_the_same_snapshot(shop):
    client, project = shop
    insert_calls(project, [call(1, "Two days."), call(2, "No idea.")])
    say(project, thumb(1, True), thumb(2, False, "u2"))
    first = freeze(client)
    again = freeze(client, 200, name="second")
    assert again["id"] == first["id"]
    assert again["name"] == "first"
    other = freeze(client, rules={"seed": 5})
    assert other["id"] != first["id"]
    listed = client.get("/v1/snapshots").json()["snapshots"]
    assert {s["id"] for s in listed} == {first["id"], other["id"]}


def test_a_process_of_its_own_makes_the_same_snapshot(shop, monkeypatch):
    client, project = shop
    insert_calls(project, [call(n, f"Answer {n}.", model_requested=f"m{n % 2}") for n in range(1, 7)])
    say(project, *(thumb(n, n % 3 == 0, f"u{n}") for n in range(1, 7)))
    asked = {"filters": {"model": "m0", "since": "2026-03-01T00:00:00Z"}, "rules": {"forms": ["unpaired"]}}
    monkeypatch.setattr(snapshots, "IN_PROCESS_FROM", 0)
    made = freeze(client, **asked)
    assert len(rows(client, made["id"], "unpaired")) == 3
    monkeypatch.setattr(snapshots, "IN_PROCESS_FROM", 1000)
    assert freeze(client, 200, **asked) == made


def test_a_snapshot_stays_what_it_was(shop):
    client, project = shop
    insert_calls(project, [call(1, "Two days."), call(2, "No idea.")])
    say(project, thumb(1, True))
    frozen = freeze(client)
    before = rows(client, frozen["id"], "unpaired")
    say(project, thumb(1, False), thumb(2, True, "u2"))
    insert_calls(project, [call(3, "Later.")])
    assert rows(client, frozen["id"], "unpaired") == before
    assert [r["label"] for r in before] == [True]
    assert client.get(f"/v1/snapshots/{frozen['id']}").json()["report"]["rows"] == frozen["report"]["rows"]
    newer = freeze(client)
    assert newer["id"] != frozen["id"]
    assert len(rows(client, newer["id"], "unpaired")) == 2


def test_as_of_goes_back_in_time(shop):
    client, project = shop
    insert_calls(project, [call(1, "Two days."), call(2, "No idea.")])
    say(project, thumb(1, True))
    moment = datetime.now(timezone.utc)
    say(project, thumb(1, False), thumb(2, False, "u2"))
    then = freeze(client, as_of=moment.isoformat())
    assert [r["label"] for r in rows(client, then["id"], "unpaired")] == [True]


def test_retracted_feedback_is_in_no_later_snapshot(shop):
    client, project = shop
    insert_calls(project, [call(1, "Two days.")])
    say(project, thumb(1, True))
    say(project, Feedback("rating", target(1), author=Author("end_user", "u1"), name="thumb", retracted=True))
    assert rows(client, freeze(client)["id"], "unpaired") == []


def test_filters_choose_calls_and_rankings_keep_their_answers(shop):
    client, project = shop
    calls = [call(1, "Two days.", model_answered="m1"), call(2, "No idea.", model_answered="m2")]
    insert_calls(project, calls)
    ranking = Ranking((target(1), target(2)), (1, 2), strength=0.5)
    say(project, Feedback("comparison", target(1), ranking=ranking, author=Author("annotator", "a1")))
    say(project, thumb(1, True), thumb(2, False, "u2"))
    frozen = freeze(client, filters={"model": "m1"})
    (pair,) = rows(client, frozen["id"], "comparisons")
    assert (pair["chosen"], pair["rejected"], pair["margin"]) == ("Two days.", "No idea.", 0.5)
    assert frozen["query"]["filters"] == {"model": "m1"}
    nothing = freeze(client, filters={"model": "m3"})
    assert rows(client, nothing["id"], "prompts") == []


def test_old_calls_are_in_unless_a_period_is_named(shop):
    client, project = shop
    old = datetime(2016, 1, 1, tzinfo=timezone.utc)
    insert_calls(
        project,
        [
            Call(
                f"{9:032x}",
                f"{9:016x}",
                old,
                input_messages=(Message("user", "Q?"),),
                output_messages=(Message("assistant", "A."),),
            )
        ],
    )
    assert len(rows(client, freeze(client)["id"], "prompts")) == 1
    recent = freeze(client, filters={"since": "2020-01-01T00:00:00+01:00"})
    assert recent["query"]["filters"] == {"since": "2019-12-31T23:00:00.000000Z"}
    assert rows(client, recent["id"], "prompts") == []


def test_splits_are_read_one_at_a_time_and_together(shop):
    client, project = shop
    words = [
        "apple",
        "bridge",
        "candle",
        "dolphin",
        "engine",
        "forest",
        "guitar",
        "harbour",
        "island",
        "jacket",
    ]
    calls = [call(n, f"Answer {n}.", f"{words[n % 10]} {words[n // 10]} {n * 7919}?") for n in range(1, 100)]
    insert_calls(project, calls)
    say(project, *[thumb(n, n % 2 == 0, f"u{n}") for n in range(1, 100)])
    frozen = freeze(client, rules={"test_fraction": 0.3})
    whole = rows(client, frozen["id"], "unpaired")
    parts = {s: rows(client, frozen["id"], "unpaired", split=s) for s in ("train", "validation", "test")}
    assert len(whole) == 99
    assert all(parts.values())
    assert sum(len(p) for p in parts.values()) == 99
    assert frozen["num_rows"]["unpaired"] == {s: len(p) for s, p in parts.items()}
    assert [r for r in whole if r["split"] == "test"] == parts["test"]


def test_lineage_leads_from_a_thumb_to_the_model_and_its_heirs(shop):
    client, project = shop
    insert_calls(project, [call(1, "Two days."), call(2, "No idea.", "Refund?")])
    used, _ = say(project, thumb(1, True), thumb(2, False, "u2"))
    unused = say(project, Feedback("comment", target(1), comment="hm", author=Author("end_user", "u3")))[0]
    frozen = freeze(client)
    run = {
        "id": "r1",
        "method": "sft",
        "snapshot_id": frozen["id"],
        "checkpoint": "runs/r1/final",
        "model_name": "shop-1",
    }
    assert client.post("/v1/runs", json=run).status_code == 201
    heir = {
        "id": "r2",
        "method": "ppo",
        "config": {"policy": {"path": "runs/r1/final"}},
        "model_name": "shop-2",
    }
    assert client.post("/v1/runs", json=heir).status_code == 201
    assert client.post("/v1/runs", json={"id": "r3", "method": "ppo"}).status_code == 201
    one = client.get(f"/v1/feedback/{used}").json()
    assert [s["id"] for s in one["snapshots"]] == [frozen["id"]]
    assert [(r["id"], r["model_name"]) for r in one["runs"]] == [("r1", "shop-1"), ("r2", "shop-2")]
    assert client.get(f"/v1/feedback/{unused}").json()["snapshots"] == []
    trace = client.get(f"/v1/traces/{1:032x}").json()
    assert trace["snapshots"] == [frozen["id"]]
    assert [r["model_name"] for r in trace["runs"]] == ["shop-1", "shop-2"]
    assert [r["id"] for r in client.get(f"/v1/snapshots/{frozen['id']}").json()["runs"]] == ["r1", "r2"]


def test_another_project_sees_nothing(shop):
    client, project = shop
    insert_calls(project, [call(1, "Two days.")])
    say(project, thumb(1, True))
    frozen = freeze(client)
    client.post("/v1/runs", json={"id": "r1", "method": "sft", "snapshot_id": frozen["id"]})
    text, _ = make_key(project.store, f"rival_{secrets.token_hex(4)}", name="r", scopes=("read", "train"))
    rival = {"Authorization": f"Bearer {text}"}
    for path in (
        f"/v1/snapshots/{frozen['id']}",
        f"/v1/snapshots/{frozen['id']}/rows?form=prompts",
        "/v1/runs/r1",
        "/v1/runs/r1/history",
    ):
        assert client.get(path, headers=rival).status_code == 404, path
    assert client.get("/v1/snapshots", headers=rival).json() == {"snapshots": []}
    assert client.get("/v1/runs", headers=rival).json() == {"runs": []}
    assert client.post("/v1/snapshots", json={"name": "x"}, headers=rival).json()["id"] != frozen["id"]
    assert client.patch("/v1/runs/r1", json={"status": "failed"}, headers=rival).status_code == 404


def test_rows_need_the_train_scope(shop):
    client, project = shop
    frozen = freeze(client)
    text, _ = make_key(project.store, project.project, name="r", scopes=("read",))
    reader = {"Authorization": f"Bearer {text}"}
    assert client.get(f"/v1/snapshots/{frozen['id']}", headers=reader).status_code == 200
    assert client.get(f"/v1/snapshots/{frozen['id']}/rows?form=prompts", headers=reader).status_code == 403
    assert client.post("/v1/snapshots", json={"name": "x"}, headers=reader).status_code == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x", "rules": {"like_from": 3}}, "rules.like_from"),
        ({"name": "x", "rules": []}, "rules"),
        ({"name": "x", "filters": {"colour": "red"}}, "filters.colour"),
        ({"name": "x", "filters": {"rating": "meh"}}, "filters.rating"),
        ({"name": "x", "filters": "model"}, "filters"),
        ({"name": "x", "as_of": "2099-01-01T00:00:00Z"}, "as_of"),
        ({"name": "x", "as_of": "yesterday"}, "as_of"),
        ({"name": "x", "as_of": 5}, "as_of"),
        ({"name": "x", "colour": 1}, "colour"),
    ],
)
def test_a_wrong_snapshot_names_its_field(shop, body, field):
    answer = shop[0].post("/v1/snapshots", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field
    assert shop[0].get("/v1/snapshots").json() == {"snapshots": []}


def test_unknown_snapshots_and_forms_are_named(shop):
    client, _ = shop
    assert client.get("/v1/snapshots/abc").status_code == 404
    assert client.get("/v1/snapshots/abc/rows?form=prompts").status_code == 404
    wrong = client.get(f"/v1/snapshots/{freeze(client)['id']}/rows?form=pairs")
    assert wrong.status_code == 422
    assert wrong.json()["error"]["field"] == "form"


def test_many_rows_come_in_order_over_several_pages(shop):
    client, project = shop
    insert_calls(project, [call(n, f"Answer {n}.", f"Question {n * 104729}?") for n in range(1, 4501)])
    say(project, *[thumb(n, True, f"u{n}") for n in range(1, 4501)])
    frozen = freeze(client, rules={"near_duplicate": 1.0, "forms": ["unpaired"]})
    found = rows(client, frozen["id"], "unpaired")
    assert [r["completion"] for r in found] == [f"Answer {n}." for n in range(1, 4501)]


def test_erasing_a_person_cleans_the_snapshot_and_names_the_runs(shop):
    client, project = shop
    calls = [
        call(1, "Two days.", user_id="jane"),
        call(2, "No idea.", "Refund, please?", user_id="joe"),
        call(3, "Sorry.", "Opening hours today?", user_id="joe"),
    ]
    insert_calls(project, calls)
    say(project, thumb(1, True, "jane"), thumb(2, False, "joe"), thumb(3, True, "jane"))
    frozen = freeze(client)
    client.post(
        "/v1/runs", json={"id": "r1", "method": "kto", "snapshot_id": frozen["id"], "model_name": "shop-2"}
    )
    receipt = client.post("/v1/erasures", json={"user_id": "jane"})
    assert receipt.status_code == 200, receipt.text
    assert [s["id"] for s in receipt.json()["snapshots"]] == [frozen["id"]]
    assert [r["model_name"] for r in receipt.json()["runs"]] == ["shop-2"]
    assert [r["completion"] for r in rows(client, frozen["id"], "unpaired")] == ["No idea."]
    assert [r["prompt"][0]["text"] for r in rows(client, frozen["id"], "prompts")] == [
        "Refund, please?",
        "Opening hours today?",
    ]
    left = client.get(f"/v1/snapshots/{frozen['id']}").json()
    assert left["num_erased"] > 0
    assert "jane" not in json.dumps(left)
    again = freeze(client)
    assert again["id"] != frozen["id"]
    assert len(rows(client, again["id"], "unpaired")) == 1


@pytest.mark.parametrize(("insert", "is_removed_later"), [(0, False), (0, True), (2, True)])
def test_what_is_erased_while_a_snapshot_is_written_is_not_in_it_and_counted(shop, insert, is_removed_later):
    """Someone is erased before the insert of this number: of the rows, their sources, the snapshot."""
    _, project = shop
    insert_calls(project, [call(1, "Two days.", user_id="jane"), call(2, "No idea.", "Refund, please?")])
    say(project, thumb(1, True, "jane"), thumb(2, False, "joe"))
    inserts = iter(range(insert + 1))

    def erase_now(kind: StatementKind) -> None:
        if kind == "insert" and next(inserts, None) == insert:
            hide(project, "user_id", "jane", erasure_id="e1")
            if not is_removed_later:
                remove(project, "e1")

    now = datetime.now(timezone.utc)
    with watched(erase_now, lambda *_: None):
        made, _ = make_snapshot(project, SnapshotRequest("first", read_filters({}), Rules(), now, now))
    if is_removed_later:
        remove(project, "e1")
    stored = find_snapshot(project, made.id)
    assert stored is not None
    left = [row for form in stored.num_rows for row in snapshot_rows(project, stored.id, form=form)]
    num_made = sum(n for splits in stored.num_rows.values() for n in splits.values())
    assert 0 < stored.num_erased == num_made - len(left)
    assert any("No idea." in row for row in left)
    assert not any("Two days." in row for row in left)


def test_an_empty_answer_is_told_from_one_that_was_not_recorded(shop):
    client, project = shop
    silent = call(1, "")
    unrecorded = Call(
        f"{2:032x}", f"{2:016x}", START, input_messages=(Message("user", "How long does delivery take?"),)
    )
    insert_calls(project, [silent, call(3, "Rude."), unrecorded])
    ranking = Ranking((target(1), target(3)), (1, 2))
    say(project, Feedback("comparison", target(1), ranking=ranking, author=Author("annotator", "a1")))
    frozen = freeze(client)
    assert [(r["chosen"], r["rejected"]) for r in rows(client, frozen["id"], "comparisons")] == [
        ("", "Rude.")
    ]
    assert frozen["report"]["dropped"] == {"answer_no_completion": 1}
