"""Each project keeps calls as long as it chose; feedback extends its trace's life."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Ranking, Target, to_json, utc_now
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.admin.retention import drop_old_calls
from heedloop_server.store.spans import insert_calls, trace_calls


@pytest.fixture
def client(tmp_path) -> Iterator[TestClient]:
    """A server that keeps calls for 100 days, and a key of the project `mine`."""
    with temporary_store() as store:
        app = create_app(Settings(data=tmp_path, retention_days=100), store=store)
        with TestClient(app) as client:
            key, _ = make_key(store, "mine", name="all", scopes=SCOPES)
            client.headers["Authorization"] = f"Bearer {key}"
            yield client


def _id(days: int) -> str:
    return f"{days:032x}"


def _insert(store, project: str, *ages: int) -> None:
    calls = [Call(trace_id=_id(d), span_id="cd" * 8, start_time=utc_now() - timedelta(days=d)) for d in ages]
    insert_calls(store.project(project), calls)


def _left(store, project: str, *ages: int) -> list[int]:
    return [d for d in ages if trace_calls(store.project(project), _id(d))]


def test_projects_choose_for_themselves(client: TestClient) -> None:
    store = client.app.state.store
    for project in ("mine", "other"):
        _insert(store, project, 5, 15, 120)
    assert client.get("/v1/project").json()["retention_days"] == 100
    changed = client.patch("/v1/project", json={"retention_days": 10}).json()
    assert (changed["retention_days"], changed["chosen"]) == (10, {"retention_days": 10})
    assert drop_old_calls(store, 100) == 3
    assert _left(store, "mine", 5, 15, 120) == [5]
    assert _left(store, "other", 5, 15, 120) == [5, 15]
    assert drop_old_calls(store, 100) == 0


def test_zero_keeps_and_null_follows_the_server(client: TestClient) -> None:
    store = client.app.state.store
    _insert(store, "mine", 500)
    client.patch("/v1/project", json={"retention_days": 0})
    assert drop_old_calls(store, 100) == 0
    followed = client.patch("/v1/project", json={"retention_days": None}).json()
    assert (followed["retention_days"], followed["chosen"]) == (100, {"retention_days": None})
    assert drop_old_calls(store, 0) == 0
    assert drop_old_calls(store, 100) == 1


def test_what_was_judged_or_compared_is_kept_until_it_is_taken_back(client: TestClient) -> None:
    store = client.app.state.store
    _insert(store, "mine", 200, 201, 202, 203)
    targets = [Target(trace_id=_id(d), span_id="cd" * 8) for d in (201, 202)]
    thumb = Feedback(
        kind="rating", target=Target(trace_id=_id(200)), value=1, author=Author("end_user", "ada")
    )
    ranking = Feedback(kind="comparison", target=targets[0], ranking=Ranking(tuple(targets), (1, 2)))
    posted = client.post("/v1/feedback", json={"feedback": [to_json(thumb), to_json(ranking)]})
    assert posted.json()["stored"] == 2
    assert client.app.state.intake.wait_until_stored()
    assert drop_old_calls(store, 100) == 1
    assert _left(store, "mine", 200, 201, 202, 203) == [200, 201, 202]
    retractions = Feedback(kind="rating", target=thumb.target, author=thumb.author, retracted=True)
    client.post("/v1/feedback", json=to_json(retractions))
    assert client.app.state.intake.wait_until_stored()
    assert drop_old_calls(store, 100) == 1
    assert _left(store, "mine", 200, 201, 202) == [201, 202]


@pytest.mark.parametrize("value", [-1, 36_501, "ten", 1.5, True])
def test_a_wrong_number_of_days_is_refused(client: TestClient, value: object) -> None:
    answer = client.patch("/v1/project", json={"retention_days": value})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "retention_days")
    assert client.patch("/v1/project", json={"retention": 3}).status_code == 422
