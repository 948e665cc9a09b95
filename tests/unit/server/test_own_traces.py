"""The server's own traces and log lines: nothing of a person in them, and never in a circle."""

import json
import logging
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporary_stores import temporary_store

import heedloop_server.app as app_module
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.http.log_lines import JsonLines
from heedloop_server.http.own_traces import check_endpoint, make_provider
from heedloop_server.settings import Settings

PARENT = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def test_a_span_per_request_names_the_route_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = InMemorySpanExporter()
    monkeypatch.setattr(
        app_module,
        "make_provider",
        lambda endpoint, version: make_provider(endpoint, version=version, exporter=kept),
    )
    settings = Settings(data=tmp_path, otlp_endpoint="http://collector:4318")
    with temporary_store() as store, TestClient(app_module.create_app(settings, store=store)) as client:
        key, _ = make_key(store, "mine", name="all", scopes=SCOPES)
        auth = {"Authorization": f"Bearer {key}", "traceparent": PARENT}
        assert client.get("/v1/calls", params={"user_id": "ada@example.org"}, headers=auth).status_code == 200
        assert client.get("/v1/traces/" + "12" * 16, headers=auth).status_code == 404
        protobuf = auth | {"Content-Type": "application/x-protobuf"}
        assert client.post("/v1/traces", content=b"", headers=protobuf).status_code == 200
        client.app.state.tracing.force_flush()  # type: ignore[union-attr]
        spans = {s.name: s for s in kept.get_finished_spans()}
    assert set(spans) == {"GET /v1/calls", "GET /v1/traces/{trace_id}"}  # not the telemetry that came in
    assert spans["GET /v1/traces/{trace_id}"].attributes["http.response.status_code"] == 404
    assert f"{spans['GET /v1/calls'].context.trace_id:032x}" == "ab" * 16
    assert "ada" not in "".join(s.to_json() for s in spans.values())


def test_without_an_endpoint_there_is_no_tracing(tmp_path: Path) -> None:
    app = app_module.create_app(Settings(data=tmp_path))
    assert app.state.tracing is None


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8321", "http://localhost:8321/", "collector:4318", "ftp://x"]
)
def test_the_server_is_never_its_own_receiver(endpoint: str) -> None:
    with pytest.raises(ValueError, match="HEEDLOOP_OTLP_ENDPOINT"):
        check_endpoint(endpoint, host="127.0.0.1", port=8321)
    check_endpoint("http://127.0.0.1:4318", host="127.0.0.1", port=8321)
    check_endpoint("https://otel.example.org", host="0.0.0.0", port=8321)


def test_json_lines_are_one_object_each() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        record = logging.getLogger("heedloop.x").makeRecord(
            "heedloop.x",
            logging.WARNING,
            "f",
            1,
            "took %s",
            ("long",),
            __import__("sys").exc_info(),
            extra={"project": "p"},
        )
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["level"], line["logger"], line["message"], line["project"]) == (
        "warning",
        "heedloop.x",
        "took long",
        "p",
    )
    assert "ValueError" in line["exception"]
