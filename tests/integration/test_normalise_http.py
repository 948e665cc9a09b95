"""Every captured client through the HTTP door: what the server answers is what the provider served.

The captures and their scorer are shared data (`HEEDLOOP_SHARED/otlp`). All clients send to one project, as they may in life.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.ingest.otlp import decompress, encoding_of, parse_traces
from heedloop_server.settings import Settings

pytestmark = [pytest.mark.shared, pytest.mark.slow]

PERIOD = {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z", "limit": "500"}
ROUTES = {"traces": "/v1/traces", "logs": "/v1/logs"}


@dataclass
class Scenario:
    name: str
    expected: dict[str, Any]
    bodies: list[tuple[str, dict[str, str], bytes]]

    def traces(self) -> set[str]:
        """The ids of the traces in the bodies."""
        found: set[str] = set()
        for signal, headers, body in self.bodies:
            if signal == "traces":
                plain = decompress(body, headers.get("content-encoding", ""), limit=1 << 28)
                request = parse_traces(plain, encoding_of(headers["content-type"]))
                found |= {
                    s.trace_id.hex() for r in request.resource_spans for ss in r.scope_spans for s in ss.spans
                }
        return found


def load_scenarios(folder: Path) -> Iterator[Scenario]:
    for path in sorted(folder.glob("*/expected.json")):
        files = {f["file"]: f for f in json.loads((path.parent / "meta.json").read_text())["files"]}
        for name, expected in json.loads(path.read_text())["scenarios"].items():
            bodies = [
                (
                    files[f]["signal"],
                    {k.lower(): v for k, v in files[f]["headers"]},
                    (path.parent / f).read_bytes(),
                )
                for f in expected["files"]
            ]
            yield Scenario(f"{path.parent.name}/{name}", expected, bodies)


class Door:
    """The server, with a key for every project; reads a project once, because nothing changes after the posts."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.keys: dict[str, str] = {}

    def headers(self, project: str) -> dict[str, str]:
        if project not in self.keys:
            store = self.client.app.state.store  # type: ignore[attr-defined]
            self.keys[project], _ = make_key(store, project, name="test", scopes=SCOPES)
        return {"Authorization": f"Bearer {self.keys[project]}"}

    def post(self, project: str, signal: str, headers: dict[str, str], body: bytes) -> None:
        kept = {k: v for k, v in headers.items() if k in ("content-type", "content-encoding")}
        answer = self.client.post(ROUTES[signal], content=body, headers=kept | self.headers(project))
        assert answer.status_code == 200, answer.content
        assert answer.content in (b"", b"{}"), answer.content

    def get(self, project: str, path: str, **query: str) -> dict[str, Any]:
        answer = self.client.get(path, params=query, headers=self.headers(project))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_until_stored(self) -> None:
        """Waits until every acknowledged request is in the store."""
        deadline = time.monotonic() + 120
        intake = self.client.app.state.intake  # type: ignore[attr-defined]
        while intake.lag_s() > 0:
            assert time.monotonic() < deadline, "the log was not loaded in two minutes"
            time.sleep(0.05)

    def listed(self, project: str, *, answers_only: bool) -> list[dict[str, Any]]:
        """Every summary of a project, page by page."""
        query = {**PERIOD, "answers_only": str(answers_only).lower()}
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(project, "/v1/calls", **query)
            found += page["calls"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    def calls(self, project: str, traces: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
        """The LLM and embedding calls of some traces (all, where none are named), as `GET /v1/traces/{id}` gives them."""
        wanted = set(traces) or {c["trace_id"] for c in self.listed(project, answers_only=False)}
        whole = {t: self.get(project, f"/v1/traces/{t}")["spans"] for t in wanted}
        return {t: [s for s in spans if s.get("operation")] for t, spans in whole.items()}


@pytest.fixture(scope="module")
def score(shared: Path) -> ModuleType:
    """The captures' own scorer, for its comparison of one field."""
    spec = importlib.util.spec_from_file_location("captures_score", shared / "otlp" / "score.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scenarios(shared: Path) -> list[Scenario]:
    return list(load_scenarios(shared / "otlp"))


@dataclass
class Taken:
    """What the server answers about one project, sorted back to the scenarios by trace."""

    calls: dict[str, list[dict[str, Any]]]
    answers: list[dict[str, Any]]

    def of(self, scenario: Scenario) -> list[dict[str, Any]]:
        return [c for t in scenario.traces() for c in self.calls.get(t, ())]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, scenarios: list[Scenario]) -> Iterator[Door]:
    """A server that got every capture twice: as it was sent, and with the logs first and all else turned round."""
    with temporary_store() as store:
        settings = Settings(data=tmp_path_factory.mktemp("data"), seal_after_s=0.2)  # type: ignore[call-arg]
        with TestClient(create_app(settings, store=store)) as client:
            made = Door(client)
            post_all(made, scenarios, "sent", 1)
            # each signal in segments of its own: nothing may need to meet in one request
            post_all(made, scenarios, "turned", -1, only="logs")
            made.wait_until_stored()
            post_all(made, scenarios, "turned", -1, only="traces")
            made.wait_until_stored()
            yield made


def post_all(door: Door, scenarios: list[Scenario], project: str, step: int, only: str | None = None) -> None:
    for scenario in scenarios[::step]:
        for signal, headers, body in scenario.bodies[::step]:
            if signal in ROUTES and only in (None, signal):
                door.post(project, signal, headers, body)


@pytest.fixture(scope="module", params=["sent", "turned"])
def project(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def taken(door: Door, project: str) -> Taken:
    return Taken(door.calls(project), door.listed(project, answers_only=True))


def _calls_expected(scenario: Scenario) -> list[dict[str, Any]]:
    calls = scenario.expected.get("calls", [])
    picked = scenario.expected.get("match_calls", range(len(calls)))
    return [calls[i] for i in picked] if scenario.expected.get("n_records") else []


def _missed(score: ModuleType, scenario: Scenario, found: list[dict[str, Any]]) -> list[str]:
    """The demanded fields that none of the found calls answers, each found call standing for one expected call."""
    left, missed = list(found), []
    for expected in _calls_expected(scenario):
        demanded = [k for k, sent in expected["sent"].items() if sent]
        if not left:
            return [*missed, f"{scenario.name}: no call left"]
        by_id = [
            c for c in left if expected.get("response_id") and c.get("response_id") == expected["response_id"]
        ]
        best = (by_id or [max(left, key=lambda c: sum(score.field_ok(k, expected, c) for k in demanded))])[0]
        left.remove(best)
        missed += [f"{scenario.name}: {k}" for k in demanded if not score.field_ok(k, expected, best)]
    return missed


def test_the_door_gives_every_demanded_field(
    taken: Taken, scenarios: list[Scenario], score: ModuleType
) -> None:
    missed: list[str] = []
    for scenario in scenarios:
        if "feedback" in scenario.expected:
            continue
        found = taken.of(scenario)
        low, high = scenario.expected["n_records"], scenario.expected["n_records_max"]
        if not low <= len(found) <= high:
            missed.append(f"{scenario.name}: {len(found)} calls, not {low} to {high}")
        missed += _missed(score, scenario, found)
    assert not missed


def test_one_provider_call_is_one_answer_and_its_tokens_count_once(
    taken: Taken, scenarios: list[Scenario]
) -> None:
    chats = [c for calls in taken.calls.values() for c in calls if c["operation"] != "embeddings"]
    assert {(a["trace_id"], a["span_id"]) for a in taken.answers} == {
        (c["trace_id"], c["span_id"]) for c in chats
    }
    wrong: list[str] = []
    for scenario in scenarios:
        served = [e.get("usage") or {} for e in _calls_expected(scenario)]
        tokens = sum(a["usage"].get("output", 0) for a in taken.answers if a["trace_id"] in scenario.traces())
        # some clients count one token wrong, or count where the provider did not
        if tokens > sum(u.get("output") or 0 for u in served) + 2 * len(served):
            wrong.append(f"{scenario.name}: {tokens} output tokens")
    assert not wrong


def test_feedback_that_comes_as_spans_and_logs_is_there(
    door: Door, project: str, scenarios: list[Scenario]
) -> None:
    """Logfire's annotations, OpenInference's and gen_ai.evaluation.result; REST bodies of other tools are not ours to take."""
    by_name = {s.name: s for s in scenarios}
    expected = [
        f for n in ("logfire", "otelevent", "oispec") for f in by_name[f"feedback/{n}"].expected["feedback"]
    ]
    stored = door.get(project, "/v1/feedback", limit="500")["feedback"]
    assert len(stored) == len(expected)
    for judgement in expected:
        assert any(_is(judgement, found) for found in stored), judgement


def _is(expected: dict[str, Any], found: dict[str, Any]) -> bool:
    """True where the stored feedback says all that the expected one does."""
    metadata = found.get("metadata", {})
    kinds = {"HUMAN": "end_user", "LLM": "model", "CODE": "code"}
    return all(
        (
            expected["name"] in (found["name"], metadata.get("sent_name")),
            all(
                found["target"].get(n) == expected.get(n)
                for n in ("trace_id", "span_id", "session_id", "response_id")
            ),
            "value" not in expected or found["value"] == expected["value"],
            "label" not in expected or expected["label"] in (found["value"], metadata.get("label")),
            found.get("comment") == expected.get("comment"),
            found["author"].get("id") == expected.get("identifier", found["author"].get("id")),
            found["author"]["kind"] == kinds.get(expected.get("annotator_kind", ""), found["author"]["kind"]),
        )
    )


def test_the_same_again_changes_nothing(door: Door, scenarios: list[Scenario]) -> None:
    picked = [s for s in scenarios if s.name in ("traceloop-anthropic/chat", "otel-genai-openai-event/tools")]
    traces = {t for s in picked for t in s.traces()}
    before = door.calls("sent", traces)
    for _ in range(2):
        post_all(door, picked, "sent", 1)
        door.wait_until_stored()
    assert door.calls("sent", traces) == before
