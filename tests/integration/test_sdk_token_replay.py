"""Feedback tokens at the HTTP door: one post each, the next one only for whoever reserved it; nothing captured is good again."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop._tokens import sign_token
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.ingest.token_claims import TokenClaims
from heedloop_server.settings import Settings
from heedloop_server.store.admin.token_uses import insert_token_uses, uses_of_tokens

TRACE, SPAN = "a" * 32, "b" * 16
HANDLE = f"00-{TRACE}-{SPAN}-01"


class Door:
    """A server, and what one needs to knock at it."""

    def __init__(self, client: TestClient, project: str, key: str, other_key: str) -> None:
        self.client, self.project, self.key, self.other_key = client, project, key, other_key

    def token(self, **more) -> str:
        return sign_token(more.pop("key", self.key), HANDLE, **{"subject": "person", **more})

    def post(self, token: str, body: object, *, proof: str = "", reserve: str = "") -> int:
        headers = {"x-heedloop-token": token}
        if proof:
            headers["x-heedloop-proof"] = proof
        if reserve:
            headers["x-heedloop-next"] = reserve
        return self.client.post("/v1/feedback", json=body, headers=headers).status_code

    def said(self) -> list[tuple[str, object]]:
        found = self.read("/v1/feedback")["feedback"]
        return sorted((f["kind"], f.get("value", f.get("comment"))) for f in found)

    def read(self, path: str) -> dict:
        return self.client.get(path, headers={"Authorization": f"Bearer {self.key}"}).json()


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[TestClient]:
    settings = Settings(data=tmp_path_factory.mktemp("server"))
    with temporary_store() as store, TestClient(create_app(settings, store=store)) as one:
        yield one


@pytest.fixture
def door(client) -> Door:
    """The same server for all, a project of its own for each."""
    store, mine = client.app.state.store, f"p{secrets.token_hex(6)}"
    key, _ = make_key(store, mine, name="app", scopes=["feedback", "read", "ingest"])
    other, _ = make_key(store, f"{mine}-rival", name="app", scopes=["feedback", "read"])
    return Door(client, mine, key, other)


def thumb(value: int, **more) -> dict:
    return {"kind": "rating", "name": "thumb", "value": value, **more}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def secret() -> str:
    return secrets.token_hex(16)


def test_a_token_is_good_for_one_post(door):
    token = door.token()
    assert door.post(token, thumb(1)) == 200
    assert door.post(token, thumb(0)) == 401
    assert door.post(token, {"kind": "comment", "comment": "mine"}) == 401
    assert door.said() == [("rating", 1)]
    assert door.post(door.token(), thumb(0)) == 200  # the app's next token for the same person
    assert door.said() == [("rating", 0)]


@pytest.mark.parametrize(
    "body", [thumb(1), thumb(1, id="f1"), {"feedback": [thumb(1), thumb(1, name="tone")]}]
)
def test_the_very_same_post_again_is_harmless(door, body):
    token = door.token()
    first = door.client.post("/v1/feedback", json=body, headers={"x-heedloop-token": token}).json()
    again = door.client.post("/v1/feedback", json=body, headers={"x-heedloop-token": token}).json()
    assert first["stored"] == len(first["results"]) and again["duplicate"] == len(first["results"])
    assert [r["id"] for r in first["results"]] == [r["id"] for r in again["results"]]
    one = door.read("/v1/feedback/" + first["results"][0]["feedback_id"])
    assert len(one["history"]) == 1


def test_whoever_reserved_the_next_post_may_change_their_mind(door):
    token, one, two = door.token(), secret(), secret()
    assert door.post(token, thumb(1), reserve=sha256(one)) == 200
    assert door.post(token, thumb(0), proof=one, reserve=sha256(two)) == 200
    assert door.post(token, {"kind": "comment", "comment": "no"}, proof=two) == 200
    assert door.said() == [("comment", "no"), ("rating", 0)]
    assert door.post(token, thumb(1), proof=two) == 401  # nobody reserved a fourth


def test_nothing_that_was_captured_is_good_again(door):
    token, one, two = door.token(), secret(), secret()
    assert door.post(token, thumb(1), reserve=sha256(one)) == 200
    assert door.post(token, thumb(0), proof=one, reserve=sha256(two)) == 200
    for proof in ("", one, secret(), sha256(one), sha256(two)):
        assert door.post(token, thumb(1), proof=proof, reserve=sha256("x" * 32)) == 401
    # recorded posts as they were: the old vote does not come back
    assert door.post(token, thumb(1), reserve=sha256(one)) == 200
    assert door.post(token, thumb(0), proof=one, reserve=sha256(two)) == 200
    assert door.said() == [("rating", 0)]
    assert door.post(token, thumb(1), proof=two) == 200  # and the person goes on


def test_the_mac_written_in_another_way_is_the_same_token(door):
    token = door.token()
    assert door.post(token, thumb(1)) == 200
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    for other in {last & ~3 | low for low in range(4)} - {last}:
        assert door.post(token[:-1] + alphabet[other], thumb(0)) == 401
    assert door.post(token + "=", thumb(0)) == 401
    assert door.said() == [("rating", 1)]


def test_a_page_without_tls_sends_the_secret_itself(door):
    token, one = door.token(), secret()
    assert door.post(token, thumb(1), reserve=f"plain.{one}") == 200
    assert door.post(token, thumb(0), proof=f"{one[:-1]}x") == 401
    assert door.post(token, thumb(0), proof=one) == 200
    assert door.said() == [("rating", 0)]


def test_a_post_that_is_refused_spends_nothing(door):
    token = door.token(kinds=["rating"])
    assert door.post(token, thumb(7)) == 422
    assert door.post(token, {"kind": "comment", "comment": "x"}) == 403
    assert door.post(token, thumb(1, target={"trace_id": "c" * 32})) == 403
    assert door.post(token, {"feedback": [thumb(1)] * 101}) == 413
    assert door.post(token, thumb(1), reserve="short") == 422
    assert door.post(token, thumb(1), proof="short") == 422
    assert door.said() == []
    assert door.post(token, thumb(1)) == 200


def test_forged_expired_foreign_and_revoked_tokens_are_refused(door):
    token = door.token()
    body, mac = token.rsplit(".", 1)
    assert door.post(f"{body}.{'A' * 43}", thumb(1)) == 401
    assert door.post(door.token(expires_in_s=0.001), thumb(1)) == 401
    theirs = door.token(key=door.other_key)
    forged = f"{theirs.rsplit('.', 1)[0]}.{mac}"
    assert door.post(forged, thumb(1)) == 401
    unknown = door.token(key=f"hl_{'0' * 12}_{'k' * 43}")
    assert door.post(unknown, thumb(1)) == 401
    assert door.post(theirs, thumb(1)) == 200  # goes to their project, whose key signed it
    assert door.said() == []


@pytest.mark.parametrize("method", ["get", "head", "put", "delete", "patch"])
def test_only_a_post_counts(door, method):
    token = door.token()
    answer = door.client.request(
        method, "/v1/feedback", params={"kind": "rating"}, headers={"x-heedloop-token": token}
    )
    assert answer.status_code in (401, 405)
    assert door.said() == []
    assert door.post(token, thumb(1)) == 200


def test_many_at_once_with_one_token_count_once(door):
    token = door.token()
    bodies = [thumb(i % 2, id=f"f{i}") for i in range(24)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda b: door.post(token, b), bodies))
    assert sorted(answers) == [200] + [401] * 23
    assert len(door.said()) == 1


def test_another_server_on_the_same_store_knows_what_was_used(door):
    token = door.token()
    assert door.post(token, thumb(1)) == 200
    store = door.client.app.state.store
    door.client.app.state.claims = TokenClaims(store)  # a restart, or a second server process
    assert door.post(token, thumb(0)) == 401
    used = sha256(token.rsplit(".", 1)[0])
    assert len(uses_of_tokens(store.project(door.project), [used])[used]) == 1
    stored = json.dumps([str(u) for u in uses_of_tokens(store.project(door.project), [used])[used]])
    assert "person" not in stored and token not in stored


def test_a_token_has_an_end(door):
    token, first = door.token(), secret()
    assert door.post(token, thumb(1), reserve=sha256(first)) == 200
    project = door.client.app.state.store.project(door.project)
    (one,) = uses_of_tokens(project, [used := sha256(token.rsplit(".", 1)[0])])[used]
    links = [one.next, *(sha256(f"secret-{i:011}") for i in range(98))]
    more = [
        replace(one, link=link, digest=sha256(link), next=following) for link, following in pairwise(links)
    ]
    insert_token_uses(project, more)
    assert door.post(token, thumb(0), proof=f"secret-{97:011}", reserve=sha256("secret-last-000000")) == 200
    assert door.post(token, thumb(1), proof="secret-last-000000") == 401
