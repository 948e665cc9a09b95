"""Bodies over the limit get 413, declared or not, and are never held whole."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings

LIMIT = 4096


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A client of a server that takes little, and its key."""
    settings = Settings(data=tmp_path_factory.mktemp("limit"), max_body_bytes=LIMIT)
    with temporary_store() as store, TestClient(create_app(settings, store=store)) as client:
        key, _ = make_key(store, "mine", name="all", scopes=SCOPES)
        yield client, {"Authorization": f"Bearer {key}"}


def _pieces(num_bytes: int) -> Iterator[bytes]:
    for _ in range(num_bytes // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("path", ["/v1/feedback", "/v1/runs", "/v1/snapshots", "/v1/keys", "/v1/delivery"])
def test_too_much_is_413(door: tuple[TestClient, dict[str, str]], path: str) -> None:
    client, auth = door
    headers = auth | {"Content-Type": "application/json"}
    whole = client.post(path, content=b" " * (LIMIT + 1), headers=headers)
    pieces = client.post(path, content=_pieces(64 << 10), headers=headers)
    for answer in (whole, pieces):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), answer.text
    at_limit = client.post(path, content=b"{" + b" " * (LIMIT - 2) + b"}", headers=headers)
    assert at_limit.status_code in (200, 422), at_limit.text
