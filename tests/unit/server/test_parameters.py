"""A mistyped query parameter is refused by every route, before it could show numbers that were not filtered."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from heedloop_server.app import create_app
from heedloop_server.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.testing import temporary_store


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
