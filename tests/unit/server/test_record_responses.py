"""Records as responses: written once, in our forms, by routes that return them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest
import requests
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from heedloop.client import ApiError, Client
from heedloop.responses import Interval, WebhookTest
from heedloop.schema import Run, SchemaError, from_json
from heedloop_server.http.openapi import describe, responds
from heedloop_server.http.responses import Router, json_response, json_value

AT = datetime(2026, 11, 21, 15, 4, 3, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page."""

    at: datetime | None
    rate: Interval | None
    runs: list[Run]
    shares: dict[str, Interval | None]
    filters: dict[str, Any]
    next_cursor: str | None = None
    note: str = ""


PAGE = Page(
    at=AT,
    rate=Interval(0.5, 0.4, 0.6, 10, "wilson"),
    runs=[Run("r", "sft", started_at=AT, metrics={"loss": 0.5})],
    shares={"a": None, "b": Interval(1, 1, 1, 1, "wilson")},
    filters={"tag": ["x"]},
)


def _written(record: Any, result: Any) -> Any:
    return json.loads(bytes(json_response(record, result).body))


def test_a_record_is_written_in_our_forms() -> None:
    written = _written(Page, PAGE)
    assert written["at"] == "2026-11-21T15:04:03.000000Z"  # six digits, also where they are zero
    assert written["rate"] == {
        "estimate": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 10,
        "method": "wilson",
        "level": 0.95,
    }
    assert (written["shares"]["a"], written["filters"], written["note"]) == (None, {"tag": ["x"]}, "")
    # fields of the records of heedloop.schema are left out where they are empty, as in every file that holds them
    assert written["runs"][0] == {
        "id": "r", "method": "sft", "name": "", "status": "running", "model_name": "", "checkpoint": "", "seed": 0,
        "code_version": "", "started_at": "2026-11-21T15:04:03.000000Z", "metrics": {"loss": 0.5},
    }  # fmt: skip
    assert json_value(PAGE) == written


def test_only_a_field_whose_default_is_none_is_left_out() -> None:
    written = _written(Page, Page(at=None, rate=None, runs=[], shares={}, filters={}))
    assert written == {"at": None, "rate": None, "runs": [], "shares": {}, "filters": {}, "note": ""}
    assert _written(Page | None, None) is None


def test_what_is_written_is_read_again() -> None:
    assert from_json(Page, _written(Page, PAGE), strict=False) == PAGE


def test_a_reader_bears_a_newer_and_an_older_server() -> None:
    newer = _written(Page, PAGE) | {"invented": {"later": 1}}
    newer["runs"][0]["invented"] = 1
    assert from_json(Page, newer, strict=False) == PAGE
    with pytest.raises(SchemaError, match="invented"):
        from_json(Page, newer)
    older = from_json(Page, {"runs": [], "shares": {}, "filters": {}}, strict=False)
    assert (older.at, older.rate, older.note) == (None, None, "")
    with pytest.raises(SchemaError, match="filters: is required"):
        from_json(Page, {"runs": [], "shares": {}}, strict=False)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    router = Router()

    @router.get("/now", status_code=201)
    def now() -> Page:
        return PAGE

    @router.get("/later")
    async def later() -> Page | None:
        return None

    @router.get("/either")
    @responds(also=[304])
    def either() -> Page | Response:
        return Response(status_code=304)

    app = FastAPI()
    app.include_router(router)
    describe(app, [r for r in router.routes if hasattr(r, "path_format")], lambda _: frozenset())  # type: ignore[arg-type]
    return app


def test_routes_return_records_or_their_own_response(app: FastAPI) -> None:
    with TestClient(app) as client:
        now = client.get("/now")
        assert (now.status_code, now.headers["content-type"], now.json()) == (
            201,
            "application/json",
            _written(Page, PAGE),
        )
        assert client.get("/later").content == b"null"
        assert client.get("/either").status_code == 304


def test_the_description_is_made_of_the_annotation(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    page = {"$ref": "#/components/schemas/Page"}
    assert paths["/now"]["get"]["responses"]["201"]["content"]["application/json"]["schema"] == page
    later = paths["/later"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert later["anyOf"] == [page, {"type": "null"}]
    assert "304" in paths["/either"]["get"]["responses"]


def test_the_description_requires_what_is_always_written(app: FastAPI) -> None:
    interval = app.openapi()["components"]["schemas"]["Interval"]
    assert interval["required"] == ["estimate", "low", "high", "n", "method", "level"]


def test_a_response_of_another_service_is_an_error_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("http://127.0.0.1:9", "key")
    response = requests.Response()
    response.status_code, response._content = 200, b'{"html": "hello"}'
    monkeypatch.setattr(client, "_send_for_response", lambda *_: response)
    with pytest.raises(ApiError, match="delivered"):
        client._write(WebhookTest, "POST", "/v1/alerts/a/test")
