"""Runs: registered, changed, followed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[TestClient]:
    """One server for all tests of this file; each has a project of its own."""
    with temporary_store() as store:
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        with TestClient(app) as made:
            yield made


@pytest.fixture
def client(server) -> TestClient:
    """A client with a key of a fresh project."""
    text, _ = make_key(server.app.state.store, f"shop_{secrets.token_hex(4)}", name="test", scopes=SCOPES)
    return TestClient(server.app, headers={"Authorization": f"Bearer {text}"})


JSON = {"Content-Type": "application/json"}
RUN = {
    "id": "r1",
    "method": "reward",
    "seed": 3,
    "config": {"lr": 1e-5},
    "started_at": "2026-03-01T10:00:00Z",
}


def test_a_run_lives(client):
    made = client.post("/v1/runs", json=RUN)
    assert made.status_code == 201
    assert made.json()["status"] == "running"
    client.patch("/v1/runs/r1", json={"metrics": {"loss": 0.5, "accuracy": 0.6}})
    changes = {
        "status": "finished",
        "metrics": {"loss": 0.4},
        "finished_at": "2026-03-01T11:00:00Z",
        "model_name": "shop-2",
    }
    client.patch("/v1/runs/r1", json=changes)
    run = client.get("/v1/runs/r1").json()
    assert run["status"] == "finished"
    assert run["metrics"] == {"loss": 0.4, "accuracy": 0.6}
    assert run["started_at"] == "2026-03-01T10:00:00.000000Z"
    assert run["finished_at"] == "2026-03-01T11:00:00.000000Z"
    assert run["config"] == {"lr": 1e-5}


def test_sending_a_run_twice_is_harmless_and_another_under_its_id_is_not(client):
    client.post("/v1/runs", json=RUN)
    client.patch("/v1/runs/r1", json={"status": "finished"})
    again = client.post("/v1/runs", json=RUN)
    assert again.status_code == 200
    assert again.json()["status"] == "finished"
    assert client.post("/v1/runs", json={**RUN, "method": "ppo"}).status_code == 409


def test_runs_are_listed_newest_first(client):
    for n in (1, 3, 2):
        client.post(
            "/v1/runs", json={"id": f"r{n}", "method": "sft", "started_at": f"2026-03-0{n}T00:00:00Z"}
        )
    assert [r["id"] for r in client.get("/v1/runs").json()["runs"]] == ["r3", "r2", "r1"]


def test_history_keeps_the_last_word_of_a_step(client):
    client.post("/v1/runs", json=RUN)
    post = "/v1/runs/r1/history"
    assert client.post(
        post, json={"rows": [{"step": 2, "loss": 0.5}, {"step": 1, "loss": 0.9, "kl": 0.1}]}
    ).json() == {"stored": 3}
    client.post(post, json={"rows": [{"step": 2, "loss": 0.4}]})
    assert client.get(post).json()["rows"] == [{"step": 1, "loss": 0.9, "kl": 0.1}, {"step": 2, "loss": 0.4}]
    assert client.get(post, params={"from_step": 2}).json()["rows"] == [{"step": 2, "loss": 0.4}]


def test_a_number_that_is_none_is_null(client):
    client.post("/v1/runs", json=RUN)
    body = b'{"rows": [{"step": 1, "a": NaN, "b": 1.5, "c": Infinity, "d": 2}]}'
    assert client.post("/v1/runs/r1/history", content=body, headers=JSON).status_code == 200
    (row,) = client.get("/v1/runs/r1/history").json()["rows"]
    assert row == {"step": 1, "a": None, "b": 1.5, "c": None, "d": 2}
    patched = client.patch(
        "/v1/runs/r1",
        content=b'{"metrics": {"loss": NaN, "kl": 0.1}, "evaluation": {"ece": NaN}}',
        headers=JSON,
    )
    assert patched.status_code == 200
    assert patched.json()["metrics"] == {"kl": 0.1}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/v1/runs", {"id": "x"}, 422, "method"),
        ("POST", "/v1/runs", {"id": "x", "method": "magic"}, 422, "method"),
        ("POST", "/v1/runs", {"id": "x", "method": "sft", "snapshot_id": "none"}, 422, "snapshot_id"),
        ("PATCH", "/v1/runs/r1", {"seed": 4}, 422, "seed"),
        ("PATCH", "/v1/runs/r1", {"status": "tired"}, 422, "status"),
        ("PATCH", "/v1/runs/r1", {"metrics": {"loss": "low"}}, 422, "metrics.loss"),
        ("PATCH", "/v1/runs/r1", {"metrics": 5}, 422, "metrics"),
        ("PATCH", "/v1/runs/none", {"status": "failed"}, 404, None),
        ("POST", "/v1/runs/none/history", {"rows": []}, 404, None),
        ("POST", "/v1/runs/r1/history", {}, 422, "rows"),
        ("POST", "/v1/runs/r1/history", {"rows": [{"loss": 1}]}, 422, "rows[0].step"),
        ("POST", "/v1/runs/r1/history", {"rows": [{"step": 1, "loss": "x"}]}, 422, "rows[0].loss"),
        ("POST", "/v1/runs/r1/history", {"rows": [{"step": -1}]}, 422, "rows[0].step"),
        ("GET", "/v1/runs/none", None, 404, None),
        ("GET", "/v1/runs/none/history", None, 404, None),
    ],
)
def test_what_is_wrong_is_named(client, method, path, body, status, field):
    client.post("/v1/runs", json=RUN)
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].get("field") == field


def test_changes_at_once_lose_nothing(client):
    client.post("/v1/runs", json=RUN)

    def change(n: int) -> None:
        client.patch("/v1/runs/r1", json={"metrics": {f"m{n}": float(n)}})

    threads = [threading.Thread(target=change, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert client.get("/v1/runs/r1").json()["metrics"] == {f"m{n}": float(n) for n in range(8)}
