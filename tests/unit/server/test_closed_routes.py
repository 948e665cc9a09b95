"""Every route is closed: no key, a wrong key, a wrong scope and another project's key are tried on all of them, found by walking the app."""

import re
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from server_world import furnish
from temporary_stores import temporary_store

import heedloop_server.app as app_module
from heedloop_server.app import all_routes, create_app, scopes_of
from heedloop_server.http.auth import PROJECT_SCOPES, SCOPES, make_key
from heedloop_server.settings import Settings

OPEN = {"/healthz", "/readyz", "/openapi.json", "/static/feedback.js"}
BY_ITSELF = {
    "/v1/traces": {"ingest"},
    "/v1/logs": {"ingest"},
    "/v1/metrics": {"ingest"},
    "/v1/me": set(),
    "/metrics": {"instance", "admin"},
}
"""Routes that check their caller themselves -> the scopes of which they need one (none: any key)."""

SECRET = "the-other-projects-secret"


def _routes() -> list[tuple[str, str, frozenset[str]]]:
    """(method, path, scopes) of every route of the app."""
    app = create_app(Settings())
    found = []
    for route in all_routes(app.routes):
        scopes = scopes_of(route) or frozenset(BY_ITSELF.get(route.path, ()))
        found += [(m, route.path, scopes) for m in sorted(route.methods - {"HEAD"})]
    return found


ROUTES = _routes()
CLOSED = [r for r in ROUTES if r[1] not in OPEN]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    """A server with two projects; `theirs` holds a call, feedback on it, a snapshot and a run, all with a secret in them."""
    folder = tmp_path_factory.mktemp("closed")
    with temporary_store() as store, TestClient(create_app(Settings(data=folder), store=store)) as client:
        keys = {s: make_key(store, "mine", name=s, scopes=[s])[0] for s in SCOPES}
        keys["all"] = make_key(store, "mine", name="all", scopes=PROJECT_SCOPES)[0]
        theirs = make_key(store, "theirs", name="all", scopes=PROJECT_SCOPES)[0]
        known = furnish(store.project("theirs"), client, theirs, SECRET)
        # the scheduler writes when it looked at an enabled alert: their state is to change by requests alone
        quiet = client.patch(
            f"/v1/alerts/{known['alert_id']}",
            json={"enabled": False},
            headers={"Authorization": f"Bearer {theirs}"},
        )
        assert quiet.status_code == 200, quiet.text
        yield client, keys, known, theirs


def _fill(path: str, known: dict[str, str]) -> str:
    """The path with ids of the other project; one that nobody made is a gap in the walk, so that it fails."""
    return re.sub(r"\{(\w+)[^}]*\}", lambda m: known[m[1]], path)


def test_the_walk_sees_the_app() -> None:
    paths = {p for _, p, _ in ROUTES}
    assert {
        "/v1/feedback",
        "/v1/traces/{trace_id}",
        "/v1/calls",
        "/v1/keys/{key_id}",
        "/v1/erasures",
        "/v1/snapshots",
        "/v1/runs",
    } <= paths
    assert len(CLOSED) > 20


@pytest.mark.parametrize(("method", "path", "scopes"), CLOSED)
def test_no_key_and_wrong_keys_get_401(world, method: str, path: str, scopes: frozenset[str]) -> None:
    client, keys, known, _ = world
    good = keys["all"]
    flipped = good[:-1] + ("A" if good[-1] != "A" else "B")
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {flipped}"},
        {"Authorization": "Bearer hl_000000000000_" + "a" * 43},
        {"Authorization": f"Basic {good}"},
        {"x-heedloop-key": "nonsense"},
    ):
        answer = client.request(method, _fill(path, known), headers=headers)
        assert answer.status_code == 401, (headers, answer.text)
        assert SECRET not in answer.text


@pytest.mark.parametrize(("method", "path", "scopes"), [r for r in CLOSED if r[2]])
def test_a_key_without_the_scope_gets_403(world, method: str, path: str, scopes: frozenset[str]) -> None:
    client, keys, known, _ = world
    for scope in set(SCOPES) - scopes:
        headers = {"Authorization": f"Bearer {keys[scope]}", "Content-Type": "application/json"}
        answer = client.request(method, _fill(path, known), headers=headers, content=b"{}")
        assert answer.status_code == 403, (scope, answer.text)


QUERIES = {
    "/v1/facets": ["?field=model", "?field=tag", "?field=flag", "?field=service&answers_only=false"],
    "/v1/quality/by": ["?field=model", "?field=user_id", "?field=tag"],
    "/v1/quality/compare": [f"?field=model&a={SECRET}&b=x"],
    "/v1/snapshots/{snapshot_id}/rows": [
        f"?form={f}" for f in ("demonstrations", "comparisons", "unpaired", "prompts", "rated")
    ],
    "/v1/calls": ["", f"?user_id={SECRET}", f"?text={SECRET}", "?rating=any", "?answers_only=false"],
}


@pytest.mark.parametrize(("method", "path", "scopes"), [r for r in CLOSED if r[0] == "GET"])
def test_another_projects_key_reads_nothing_of_it(
    world, method: str, path: str, scopes: frozenset[str]
) -> None:
    client, keys, known, theirs = world
    for query in QUERIES.get(path, [""]):
        mine = client.get(_fill(path, known) + query, headers={"Authorization": f"Bearer {keys['all']}"})
        own_words = mine.text.replace(query.partition("=")[2].partition("&")[0], "")
        assert SECRET not in mine.text or SECRET in query, (query, mine.text[:500])
        assert known["trace_id"] not in own_words or mine.status_code == 404
        if "{" in path and "/quality/" not in path:
            assert mine.status_code in (404, 422), mine.text[:300]
        # the same request with their own key does see something: the test would notice an empty world
        if path in ("/v1/calls", "/v1/feedback", "/v1/traces/{trace_id}", "/v1/snapshots", "/v1/runs"):
            other = client.get(_fill(path, known) + query, headers={"Authorization": f"Bearer {theirs}"})
            assert SECRET in other.text or known["trace_id"] in other.text, (path, query, other.text[:300])


WRITES = [r for r in CLOSED if r[0] != "GET"]
CHANGES_BY_ITSELF = (
    "/metrics",
    "/v1/ledger",
    "/v1/quality/",
    "/v1/facets",
    "/v1/review/queues/{queue_id}/agreement",
)
"""Reads that say what time it is, or need parameters: no part of the state that is compared."""


def _state(client: TestClient, key: str, known: dict[str, str]) -> dict[str, str]:
    """Path -> what is read there: everything that a project's own key sees of its project."""
    found = {}
    for method, path, _ in CLOSED:
        if method == "GET" and not path.startswith(CHANGES_BY_ITSELF):
            answer = client.get(_fill(path, known), headers={"Authorization": f"Bearer {key}"})
            found[path] = re.sub(
                r'"(last_used_at|expires_at|lag_s|request_id)":\s*("[^"]*"|[\d.]+|null)', "", answer.text
            )
    return found


def _body(schema: dict, spec: dict, known: dict[str, str], name: str = "") -> object:
    """A body that the description allows, which names their things wherever it can name something."""
    if "$ref" in schema:
        return _body(spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], spec, known, name)
    for kind in ("anyOf", "oneOf", "allOf"):
        if kind in schema:
            return _body(schema[kind][0], spec, known, name)
    if "enum" in schema or "const" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    match schema.get("type"):
        case "object":
            inner = schema.get("properties", {})
            wanted = [
                n for n in inner if n in schema.get("required", ()) or n in known or n.rstrip("s") in NAMES
            ]
            return {n: _body(inner[n], spec, known, n) for n in wanted}
        case "array":
            return [_body(schema.get("items", {}), spec, known, name)]
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
    return known.get(name, "x")


NAMES = ("target", "trace", "snapshot", "answer", "item", "user", "session", "parent", "filter")


def test_the_other_projects_things_are_named_and_nothing_of_them_changes_or_shows(world) -> None:
    client, keys, known, theirs = world
    spec = client.get("/openapi.json").json()
    before = _state(client, theirs, known)
    assert sum(SECRET in text for text in before.values()) > 8, (
        "the other project is empty: the test would see nothing"
    )
    mine = {"Authorization": f"Bearer {keys['all']}"}
    for method, path, _ in WRITES:
        content = spec["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        body = None if schema is None else _body(schema, spec, known)
        for sent in [body, {}] if isinstance(body, dict) else [body]:
            answer = client.request(method, _fill(path, known), headers=mine, json=sent)
            assert answer.status_code < 500, (method, path, sent, answer.text)
            assert SECRET not in answer.text, (method, path, sent, answer.text)
            if "{" in path:
                assert answer.status_code in (400, 404, 409, 415, 422), (method, path, sent, answer.text)
    after = _state(client, theirs, known)
    changed = [p for p in before if before[p] != after[p]]
    assert not changed, [(p, before[p][:300], after[p][:300]) for p in changed]


def test_what_a_query_of_mine_names_of_theirs_shows_nothing_of_it(tmp_path: Path) -> None:
    """Such as my evaluation against theirs, my judge beside theirs, or answers like theirs."""
    with temporary_store() as store, TestClient(create_app(Settings(data=tmp_path), store=store)) as client:
        mine = make_key(store, "mine", name="all", scopes=PROJECT_SCOPES)[0]
        theirs = make_key(store, "theirs", name="all", scopes=PROJECT_SCOPES)[0]
        own = furnish(store.project("mine"), client, mine, "my-own-words")
        known = furnish(store.project("theirs"), client, theirs, SECRET)
        spec = client.get("/openapi.json").json()["paths"]
        tried = 0
        for method, path, _ in CLOSED:
            named = [
                p["name"] for p in spec[path][method.lower()].get("parameters", ()) if p["in"] == "query"
            ]
            if method != "GET" or not named:
                continue
            values = sorted({SECRET, *known.values()} - set(own.values()))
            for value in values:
                query = {n: value for n in named if n in REFERENCES} | (
                    {"field": "model"} if "field" in named else {}
                )
                if not query.keys() & REFERENCES:
                    continue
                tried += 1
                answer = client.get(
                    _fill(path, own), params=query, headers={"Authorization": f"Bearer {mine}"}
                )
                words = answer.text.replace(value, "")
                assert answer.status_code < 500, (path, query, answer.text[:300])
                assert SECRET not in words and known["trace_id"] not in words, (
                    path,
                    query,
                    answer.text[:500],
                )
    assert tried > 100


REFERENCES = {
    *(
        "against",
        "other",
        "a",
        "b",
        "baseline",
        "judge",
        "comparison",
        "queue",
        "trace_id",
        "span_id",
        "trace",
    ),
    *(
        "user",
        "cluster",
        "of_key",
        "session_id",
        "user_id",
        "author_id",
        "round",
        "value",
        "cursor",
        "after",
        "q",
    ),
}
"""Query parameters that name something that a project has."""


def test_erasing_in_my_project_leaves_theirs(world) -> None:
    client, keys, known, theirs = world
    receipt = client.post(
        "/v1/erasures", json={"user_id": SECRET}, headers={"Authorization": f"Bearer {keys['admin']}"}
    ).json()
    assert (receipt["num_traces"], receipt["num_feedback"]) == (0, 0)
    assert (
        client.get(
            f"/v1/traces/{known['trace_id']}", headers={"Authorization": f"Bearer {theirs}"}
        ).status_code
        == 200
    )


def test_a_project_admin_cannot_make_an_instance_key(world) -> None:
    client, keys, _, _ = world
    answer = client.post(
        "/v1/keys",
        json={"name": "x", "scopes": ["instance"]},
        headers={"Authorization": f"Bearer {keys['admin']}"},
    )
    assert answer.status_code == 403


def _forgetful() -> str:
    return "open to everybody"


def test_a_route_that_forgets_to_name_a_scope_stops_the_app(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    router = APIRouter()
    router.add_api_route("/v1/forgotten", _forgetful)
    monkeypatch.setattr(
        app_module.importlib.import_module("heedloop_server.routes.operations"), "router", router
    )
    with pytest.raises(RuntimeError, match="/v1/forgotten"):
        create_app(Settings(data=tmp_path))
