"""A mistyped query parameter is refused by every route, before it could show numbers that were not filtered."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("parameters")
    with temporary_store() as store, TestClient(create_app(Settings(data=folder), store=store)) as client:
        key, _ = make_key(store, "mine", name="all", scopes=list(SCOPES))
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


@pytest.mark.parametrize("path", ["/v1/calls", "/v1/quality/summary", "/v1/feedback", "/v1/me", "/v1/runs"])
def test_an_unknown_parameter_is_named(client: TestClient, path: str) -> None:
    answer = client.get(path, params={"colour": "red"})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "colour"
    assert client.get(path).status_code == 200


def test_the_message_lists_what_the_route_takes(client: TestClient) -> None:
    message = client.get("/v1/calls", params={"modle": "x"}).json()["error"]["message"]
    assert "model" in message
    assert "cursor" in message
    assert client.get("/v1/calls", params={"model": "x", "limit": 5, "rating": "up"}).status_code == 200


def test_a_second_value_of_a_parameter_that_takes_one_is_refused(client: TestClient) -> None:
    twice = client.get("/v1/calls", params=[("model", "a"), ("model", "b")])
    assert (twice.status_code, twice.json()["error"]["field"]) == (422, "model")
    tags = client.get("/v1/calls", params=[("tag", "a"), ("tag", "b")])
    assert tags.status_code == 200, tags.text


def test_times_are_written_out_and_any_year_is_answered(client: TestClient) -> None:
    for since in ("0419-09-12T00:00:00+15:59", "0001-01-01T00:00:00+10:00", "2026-01-01T00:00:00Z"):
        assert client.get("/v1/calls", params={"since": since}).status_code == 200
    assert client.get("/v1/calls", params={"until": "9999-12-31T23:59:59-10:00"}).status_code == 200
    for wrong in ("0.5", "1700000000", "2026-01-01T00:00:00", "yesterday"):
        answer = client.get("/v1/calls", params={"since": wrong})
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "since")


def test_a_405_names_every_method_of_the_path(client: TestClient) -> None:
    answer = client.put("/v1/snapshots")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_telemetry_with_a_parameter_is_refused_too(client: TestClient) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    assert client.post("/v1/traces", content=b"", headers=headers).status_code == 200
    response = client.post("/v1/traces?colour=red", content=b"", headers=headers)
    assert (response.status_code, response.json()["error"]["field"]) == (422, "colour")
    assert client.get("/v1/traces").status_code == 405
