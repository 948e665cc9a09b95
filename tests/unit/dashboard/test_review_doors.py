"""Who may ask the dashboard's review routes, and for what: everything else is refused before the server hears of it."""

from __future__ import annotations

import time

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from heedloop.client import Client
from heedloop_dashboard.auth.proxy import PERSON
from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS, Session
from heedloop_dashboard.review import api as review_api

OURS = {"x-heedloop-review": "1"}
ID = "ab" * 16


@pytest.fixture
def door():
    """The routes, of a dashboard at which nobody is signed in."""
    before = (SESSIONS.url, SESSIONS._local_key)
    SESSIONS.configure("http://127.0.0.1:9")
    yield TestClient(Starlette(routes=review_api.routes()), base_url="http://localhost:8501")
    SESSIONS.configure(before[0], local_key=before[1])


def test_nobody_is_signed_in(door: TestClient) -> None:
    answer = door.get("/review-api/queues", headers=OURS)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "signed_out"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-heedloop-review": "0"},
        {**OURS, "origin": "https://evil.example"},
        {**OURS, "origin": "null"},
        {**OURS, "origin": "http://localhost:9999"},
        {**OURS, "origin": "http://["},
        {**OURS, "sec-fetch-site": "cross-site"},
        {**OURS, "sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_is_refused(door: TestClient, headers: dict[str, str]) -> None:
    for method, path in (("GET", "queues"), ("POST", f"assignments/{ID}/submit")):
        assert door.request(method, f"/review-api/{path}", headers=headers).status_code == 403


def test_our_own_page_is_let_through(door: TestClient) -> None:
    headers = {**OURS, "origin": "http://localhost:8501", "sec-fetch-site": "same-origin"}
    assert door.post(f"/review-api/assignments/{ID}/submit", headers=headers, json={}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", "queues"),
        ("GET", f"queues/{ID}/export"),
        ("GET", f"queues/{ID}/../../keys"),
        ("GET", "queues/..%2F..%2Fkeys"),
        ("GET", "queues/a%2Fmine"),
        ("PUT", f"queues/{ID}/guideline"),
        ("POST", f"queues/{ID}/import"),
        ("POST", f"assignments/{ID}/draft"),
        ("GET", f"assignments/{ID}/submit"),
        ("GET", "queues/" + "a" * 201),
    ],
)
def test_only_the_works_own_routes_are_there(door: TestClient, method: str, path: str) -> None:
    answer = door.request(method, f"/review-api/{path}", headers=OURS)
    expected = (401,) if path == "queues/a%2Fmine" else (404, 405)
    assert answer.status_code in expected


def test_bodies_are_bounded_and_must_be_objects(door: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_api, "MAX_BODY_BYTES", 1000)
    path = f"/review-api/assignments/{ID}/draft"
    for body, status in (
        (b"{" + b" " * 2000 + b"}", 413),
        (b"[1]", 422),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 900, 400),
    ):
        answer = door.put(path, headers=OURS, content=body)
        assert answer.status_code == status, body[:20]
        assert answer.json()["error"]["message"]


def test_a_server_that_is_away_is_503_so_that_the_page_tries_again(door: TestClient) -> None:
    SESSIONS.configure("http://127.0.0.1:9", local_key="hl_nobody")
    answer = door.get("/review-api/queues", headers=OURS)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unreachable"


def test_a_local_key_serves_no_name_that_only_points_here(door: TestClient) -> None:
    SESSIONS.configure("http://127.0.0.1:9", local_key="hl_nobody")
    for host in ("evil.example:8501", "[", ""):
        rebound = {**OURS, "host": host, "origin": f"http://{host}"}
        assert door.get("/review-api/queues", headers=rebound).status_code == 403


@pytest.mark.parametrize(("person", "status"), [("ana", 503), ("ben", 401), ("", 401)])
def test_a_session_that_a_proxy_opened_needs_the_proxys_word_each_time(
    door: TestClient, monkeypatch: pytest.MonkeyPatch, person: str, status: int
) -> None:
    client = Client("http://127.0.0.1:9", "hl_nobody", timeout_s=1)
    session = Session(
        client, "p", "ana", ("annotate",), "annotator", time.monotonic() + 60, person="ana", via="proxy"
    )
    monkeypatch.setitem(SESSIONS._by_id, "cookie", [session])
    app = door.app

    async def with_person(scope: dict, receive: object, send: object) -> None:
        await app({**scope, PERSON: person}, receive, send)

    behind = TestClient(with_person, base_url="http://localhost:8501", cookies={COOKIE: "cookie"})
    assert behind.get("/review-api/queues", headers=OURS).status_code == status
