"""Roles, keys of persons, the audit log, and what an address may send."""

from __future__ import annotations

import secrets

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from heedloop_server.app import create_app
from heedloop_server.errors import TooMany
from heedloop_server.http.auth import PROJECT_SCOPES, ROLES, SCOPES, make_key, role_of, scopes_of_role
from heedloop_server.http.rates import AddressLimit, RateLimit
from heedloop_server.settings import Settings

THUMB = {"kind": "rating", "name": "thumb", "value": 1, "target": {"trace_id": "a" * 32, "span_id": "b" * 16}}


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    settings = Settings(data=tmp_path_factory.mktemp("roles"), refused_per_minute=5)
    with temporary_store() as store, TestClient(create_app(settings, store=store)) as client:
        yield client


@pytest.fixture
def admin(http):
    """A fresh project, as its administrator."""
    key, _ = make_key(http.app.state.store, f"p{secrets.token_hex(6)}", name="boss", scopes=PROJECT_SCOPES)
    return key


def ask(http, key, method, path, **more):
    return http.request(method, path, headers={"Authorization": f"Bearer {key}"}, **more)


def new_key(http, admin, **body):
    made = ask(http, admin, "POST", "/v1/keys", json={"name": "k", **body})
    assert made.status_code == 201, made.text
    return made.json()


# --------------------------------------------------------------------------------------------------------------- roles


def test_roles_are_sets_of_scopes_of_the_project():
    for role, scopes in ROLES.items():
        assert set(scopes) <= set(PROJECT_SCOPES)
        assert role_of(scopes) == role
        assert scopes_of_role(role) == scopes
    assert role_of(SCOPES) == "admin"  # the first key of a store
    assert role_of(["read", "train"]) is None


@pytest.mark.parametrize("role", ROLES)
def test_a_key_by_role_has_its_scopes_and_says_its_role(http, admin, role):
    made = new_key(http, admin, role=role)
    assert made["role"] == role and set(made["scopes"]) == set(ROLES[role])
    me = ask(http, made["key"], "GET", "/v1/me").json()
    assert me["role"] == role and me["author_id"] is None
    listed = {k["key_id"]: k for k in ask(http, admin, "GET", "/v1/keys").json()["keys"]}
    assert listed[made["key_id"]]["role"] == role


def test_an_annotator_sees_nothing_but_queues(http, admin):
    key = new_key(http, admin, role="annotator")["key"]
    for path in ("/v1/calls", "/v1/feedback", "/v1/keys", "/v1/audit", "/v1/runs", "/v1/quality/summary"):
        assert ask(http, key, "GET", path).status_code == 403, path
    assert ask(http, key, "POST", "/v1/feedback", json=THUMB).status_code == 403
    assert ask(http, key, "GET", "/v1/review/queues").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "boss"}, "role"),
        ({}, "role"),
        ({"role": "viewer", "scopes": ["read"]}, "role"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"role": "viewer", "author_id": " ann"}, "author_id"),
        ({"role": "viewer", "author_id": ""}, "author_id"),
        ({"role": "viewer", "author_id": "x" * 257}, "author_id"),
    ],
)
def test_what_is_no_role_is_named(http, admin, body, field):
    answer = ask(http, admin, "POST", "/v1/keys", json={"name": "k", **body})
    assert answer.status_code == 422 and answer.json()["error"]["field"] == field


def test_a_role_cannot_give_more_than_its_giver_may(http, admin):
    viewer = new_key(http, admin, role="viewer")["key"]
    assert ask(http, viewer, "POST", "/v1/keys", json={"name": "k", "role": "admin"}).status_code == 403
    assert "instance" not in new_key(http, admin, role="admin")["scopes"]


# ------------------------------------------------------------------------------------------------------------- persons


@pytest.mark.parametrize(
    ("author", "kind"),
    [
        (None, "end_user"),
        ({"kind": "end_user", "id": "somebody-else"}, "end_user"),
        ({"kind": "annotator", "id": "somebody-else"}, "annotator"),
        ({"kind": "model", "id": "judge"}, "annotator"),
    ],
)
def test_what_is_said_with_a_persons_key_is_theirs(http, admin, author, kind):
    made = new_key(http, admin, scopes=["feedback", "read"], author_id="ann@example.com")
    assert made["author_id"] == "ann@example.com"
    assert ask(http, made["key"], "GET", "/v1/me").json()["author_id"] == "ann@example.com"
    body = THUMB if author is None else {**THUMB, "author": author}
    assert ask(http, made["key"], "POST", "/v1/feedback", json=body).json()["stored"] == 1
    (stored,) = ask(http, made["key"], "GET", "/v1/feedback").json()["feedback"]
    assert stored["author"] == {"kind": kind, "id": "ann@example.com"}


def test_a_programs_key_speaks_for_whom_it_says(http, admin):
    body = {**THUMB, "author": {"kind": "end_user", "id": "user-17"}}
    ask(http, admin, "POST", "/v1/feedback", json=body)
    (stored,) = ask(http, admin, "GET", "/v1/feedback").json()["feedback"]
    assert stored["author"]["id"] == "user-17"


# --------------------------------------------------------------------------------------------------------------- audit


def test_the_audit_log_says_who_did_what_page_by_page(http, admin):
    ann = new_key(http, admin, role="admin", author_id="ann")
    made = [new_key(http, ann["key"], role="viewer")["key_id"] for _ in range(4)]
    ask(http, ann["key"], "DELETE", f"/v1/keys/{made[0]}")
    entries, cursor = [], None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = ask(http, admin, "GET", "/v1/audit", params={"limit": 2, **more}).json()
        entries += page["entries"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [e["action"] for e in entries] == ["revoke_key"] + ["create_key"] * 5
    assert [e["subject"] for e in entries] == [made[0], *reversed(made), ann["key_id"]]
    assert entries[0]["author_id"] == "ann" and entries[0]["key_name"] == "k"
    assert entries[-1]["author_id"] is None and entries[-1]["key_name"] == "boss"
    assert entries[1]["details"] == {"name": "k", "scopes": ["read"], "author_id": None}
    assert ann["key"] not in str(entries)
    only = ask(http, admin, "GET", "/v1/audit", params={"action": "revoke_key"}).json()["entries"]
    assert [e["subject"] for e in only] == [made[0]]
    assert ask(http, admin, "GET", "/v1/audit", params={"until": entries[-1]["at"]}).json()["entries"] == []


def test_the_audit_log_is_the_projects_own(http, admin):
    other, _ = make_key(http.app.state.store, f"o{secrets.token_hex(6)}", name="x", scopes=PROJECT_SCOPES)
    new_key(http, admin, role="viewer")
    assert ask(http, other, "GET", "/v1/audit").json()["entries"] == []
    assert ask(http, admin, "GET", "/v1/audit", params={"cursor": "x"}).status_code == 422


# ----------------------------------------------------------------------------------------------------------- addresses


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_its_own_minute():
    clock = Clock()
    limit = AddressLimit(60, 0, clock)
    for _ in range(10):
        limit.check("10.0.0.1")
    with pytest.raises(TooMany) as told:
        limit.check("10.0.0.1")
    assert 0 < told.value.retry_after_s <= 1
    limit.check("10.0.0.2")
    clock.now += 1
    limit.check("10.0.0.1")


def test_of_ipv6_a_network_is_one_address():
    limit = AddressLimit(60, 0, Clock())
    for i in range(10):
        limit.check(f"2001:db8:1:2::{i}")
    with pytest.raises(TooMany):
        limit.check("2001:db8:1:2:ffff::1")
    limit.check("2001:db8:1:3::1")
    for _ in range(10):
        limit.check("::ffff:10.0.0.1")
    with pytest.raises(TooMany):
        limit.check("10.0.0.1")


def made_up() -> str:
    return f"hl_{secrets.token_hex(6)}_{'k' * 43}"


def test_made_up_keys_are_counted_and_those_who_share_the_address_go_on(http, admin):
    good = TestClient(http.app, client=("10.1.1.1", 1))
    assert ask(good, admin, "GET", "/v1/me").status_code == 200
    answers = [ask(good, made_up(), "GET", "/v1/calls").status_code for _ in range(8)]
    assert answers == [401] * 5 + [429] * 3
    refused = ask(good, made_up(), "POST", "/v1/traces", content=b"")
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
    assert ask(good, admin, "GET", "/v1/calls").status_code == 200
    elsewhere = TestClient(http.app, client=("10.1.1.2", 1))
    assert ask(elsewhere, made_up(), "GET", "/v1/calls").status_code == 401


def test_tokens_of_made_up_keys_are_counted_too(http):
    from heedloop._tokens import sign_token

    client = TestClient(http.app, client=("10.1.1.3", 1))

    def post() -> int:
        token = sign_token(made_up(), f"00-{'a' * 32}-{'b' * 16}-01", subject="u")
        return client.post("/v1/feedback", json=THUMB, headers={"x-heedloop-token": token}).status_code

    assert [post() for _ in range(7)] == [401] * 5 + [429] * 2


@pytest.mark.parametrize(("trusted", "told_apart"), [("10.9.9.9", True), ("127.0.0.1", False)])
def test_the_address_is_the_one_behind_a_trusted_proxy(http, trusted, told_apart):
    proxy = "10.9.9.9" if told_apart else "10.9.9.8"
    client = TestClient(ProxyHeadersMiddleware(http.app, trusted_hosts=trusted), client=(proxy, 1))
    for i in range(5):
        forwarded = {"X-Forwarded-For": "203.0.113.7", "Authorization": f"Bearer {made_up()}"}
        assert client.get("/v1/calls", headers=forwarded).status_code == 401, i
    other = {"X-Forwarded-For": "203.0.113.8", "Authorization": f"Bearer {made_up()}"}
    assert client.get("/v1/calls", headers=other).status_code == (401 if told_apart else 429)


def test_an_addresss_requests_are_limited_whatever_its_keys(tmp_path):
    settings = Settings(data=tmp_path, requests_per_minute_per_address=60)
    with temporary_store() as store, TestClient(create_app(settings, store=store)) as client:
        keys = [make_key(store, "p", name=str(i), scopes=["read"])[0] for i in range(2)]
        answers = [ask(client, keys[i % 2], "GET", "/v1/me").status_code for i in range(14)]
        assert answers[:10] == [200] * 10 and 429 in answers[10:]
        assert client.get("/healthz").status_code == 200


def test_a_projects_spans_are_limited_and_the_others_and_its_feedback_are_not(tmp_path):
    settings = Settings(data=tmp_path, spans_per_second=1)
    with temporary_store() as store, TestClient(create_app(settings, store=store)) as client:
        loud, quiet = (
            make_key(store, name, name=name, scopes=["ingest", "feedback"])[0] for name in ("loud", "quiet")
        )

        def send(key: str, num: int):
            spans = [{"traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8)} for _ in range(num)]
            body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
            return ask(client, key, "POST", "/v1/traces", json=body)

        assert send(loud, 60).status_code == 200  # more than a burst: taken whole, and owed
        refused = send(loud, 1)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert "spans of this project" in refused.text
        assert [send(quiet, 3).status_code for _ in range(3)] == [200] * 3
        assert ask(client, loud, "POST", "/v1/feedback", json=THUMB).status_code == 200


def test_what_is_owed_is_paid_by_waiting():
    now = [0.0]
    limit = RateLimit(60, lambda: now[0], burst=10)
    limit.spend("p", 25)
    with pytest.raises(TooMany) as refused:
        limit.spend("p", 1)
    assert refused.value.retry_after_s == 16
    now[0] = 16
    limit.spend("p", 100)
    RateLimit(0).spend("p", 10**9)
