"""Reading vendors' APIs: a local server speaks their routes, with pages, limits, keys and faults."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from heedloop_cli.importers import BadLine, network, read
from heedloop_cli.importers.network import Refused, fetch

TRACE, SPAN, UUID = "0a" * 16, "1b" * 8, "0199c000-7777-7abc-8123-0000000000{:02x}"
KEYS = {k: "secret" for v in network.VENDORS.values() for k in v.keys} | {"WEAVE_PROJECT": "acme/garden"}


class Api:
    """A vendor's server: `routes` gives the response of a request; faults come first, one a request."""

    def __init__(self, routes) -> None:
        self.routes = routes
        self.requests: list[tuple[str, dict, dict | None, dict]] = []
        self.faults: list[tuple[int, dict]] = []
        self.gaps: list[bool] = []

    def answer(self, path: str, query: dict, body: dict | None, headers: dict) -> tuple[int, object, dict]:
        self.requests.append((path, query, body, headers))
        if self.faults:
            status, extra = self.faults.pop(0)
            return status, {"error": "later"}, extra
        if (
            "secret" not in str(headers)
            and "c2VjcmV0" not in str(headers)
            and "OnNlY3JldA" not in str(headers)
        ):
            return 401, {"error": "no key"}, {}
        found = self.routes(path, query, body)
        return (404, {}, {}) if found is None else (200, found, {})


@pytest.fixture
def serve(monkeypatch) -> Iterator:
    """Starts such a server, with the vendors' keys in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    servers = []

    def start(routes) -> tuple[Api, str]:
        api = Api(routes)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                parts = urlsplit(self.path)
                status, found, extra = api.answer(parts.path, parse_qs(parts.query), body, dict(self.headers))
                content = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return api, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def cut(rows: list, start: int, size: int) -> list:
    return rows[start : start + size]


def by_cursor(rows, query, key="limit", most=2):
    start = int((query.get("cursor") or query.get("page_token") or ["0"])[0])
    following = start + most if start + most < len(rows) else None
    return cut(rows, start, most), None if following is None else str(following)


def langfuse(path, query, body):
    fields = {"source": "API", "timestamp": "2026-05-01T10:00:00Z", "subject": {"kind": "trace", "id": TRACE}}
    scores = [{"id": f"s{n}", "name": "ok", "dataType": "BOOLEAN", "value": True, **fields} for n in range(5)]
    one = {
        "id": SPAN,
        "traceId": TRACE,
        "type": "GENERATION",
        "startTime": "2026-05-01T09:00:00Z",
        "output": "A",
    }
    if path == "/api/public/score-configs":
        page = int(query.get("page", ["1"])[0])
        configs = [
            {"id": f"c{n}", "name": f"n{n}", "dataType": "NUMERIC", "isArchived": False} for n in range(3)
        ]
        return {"data": cut(configs, (page - 1) * 2, 2), "meta": {"page": page, "totalPages": 2}}
    rows = {"/api/public/v3/scores": scores, "/api/public/v2/observations": [one]}.get(path)
    if rows is None:
        return None
    found, following = by_cursor(rows, query)
    return {"data": found, "meta": {"cursor": following} if following else {}}


def langsmith(path, query, body):
    projects = [{"id": "p1"}, {"id": "p2"}]
    if path == "/api/v1/sessions":
        return cut(projects, int(query.get("offset", ["0"])[0]), 100)
    if path == "/api/v1/runs/query":
        run = {
            "run_type": "llm",
            "start_time": "2026-10-02T11:19:50",
            "trace_id": UUID.format(9),
            "outputs": {"output": "A"},
        }
        rows = [{"id": UUID.format(n), "session_id": p, **run} for p in body["session"] for n in (1, 2, 3)]
        found, following = by_cursor(rows, {"cursor": [body.get("cursor") or "0"]})
        return {"runs": found, "cursors": {"next": following}}
    if path == "/api/v1/feedback":
        row = {
            "run_id": UUID.format(1),
            "trace_id": UUID.format(9),
            "key": "user_score",
            "score": 1,
            "session_id": query["session"][0],
        }
        rows = [
            {"id": f"{query['session'][0]}-{n}", "created_at": "2026-10-02T11:20:05", **row}
            for n in range(103)
        ]
        return cut(rows, int(query.get("offset", ["0"])[0]), int(query["limit"][0]))
    return None


def phoenix(path, query, body):
    if path == "/v1/projects":
        return {"data": [{"id": "UHJvamVjdDox", "name": "garden"}], "next_cursor": None}
    if path == "/v1/projects/UHJvamVjdDox/spans":
        rows = [
            {"context": {"trace_id": TRACE, "span_id": f"{n:016x}"}, "span_kind": "LLM", "attributes": {}}
            for n in range(1, 6)
        ]
        found, following = by_cursor(rows, query)
        return {"data": found, "next_cursor": following}
    if path == "/v1/projects/UHJvamVjdDox/span_annotations":
        is_note = query.get("include_annotation_names") == ["note"]
        row = {
            "annotator_kind": "HUMAN",
            "source": "API",
            "identifier": "u1",
            "name": "note" if is_note else "thumbs up",
        }
        result = {"explanation": "why"} if is_note else {"label": "thumbs-up", "score": 1}
        rows = [{"id": f"{is_note}{s}", "span_id": s, "result": result, **row} for s in query["span_ids"]]
        return {"data": rows, "next_cursor": None}
    return None


def opik(path, query, body):
    page, size = int(query.get("page", ["1"])[0]), int(query["size"][0])
    score = {
        "name": "user_feedback",
        "value": 1.0,
        "source": "sdk",
        "created_by": "a",
        "last_updated_by": "a",
    }
    trace = {"project_id": "p1", "start_time": "2026-10-03 08:14:55+00:00", "comments": None}
    rows = {
        "/v1/private/projects": [{"id": "p1"}],
        "/v1/private/traces": [
            {"id": UUID.format(n), "feedback_scores": [score], **trace} for n in range(1, 103)
        ],
        "/v1/private/spans": [
            {
                "id": UUID.format(200),
                "trace_id": UUID.format(1),
                "type": "llm",
                "feedback_scores": [],
                **trace,
            }
        ],
    }.get(path)
    return None if rows is None else {"content": cut(rows, (page - 1) * size, size), "total": len(rows)}


def mlflow(path, query, body):
    if path == "/api/2.0/mlflow/experiments/search":
        return {"experiments": [{"experiment_id": "1"}]}
    if path == "/api/3.0/mlflow/traces/search":
        assert body["locations"][0]["mlflow_experiment"]["experiment_id"] == "1"
        found, following = by_cursor(
            [{"trace_id": f"tr-{n:032x}"} for n in range(1, 4)],
            {"page_token": [body.get("page_token") or "0"]},
        )
        return {"traces": found, "next_page_token": following}
    if path == "/api/3.0/mlflow/traces/get":
        one = {
            "assessment_id": "a",
            "assessment_name": "ok",
            "source": {"source_type": "HUMAN", "source_id": "u"},
        }
        one |= {"create_time": "2026-10-03T09:00:00Z", "feedback": {"value": True}}
        head = {
            "trace_id": query["trace_id"][0],
            "request_time": "2026-10-03T08:00:00Z",
            "assessments": [one],
        }
        return {"trace": {"trace_info": head, "spans": []}}
    return None


def weave(path, query, body):
    if path != "/calls/stream_query" or not body["include_feedback"] or body["project_id"] != "acme/garden":
        return None
    thumb = {
        "feedback_type": "wandb.reaction.1",
        "payload": {"emoji": "👍"},
        "wb_user_id": "ada",
        "created_at": "2026-10-03T08:15:00Z",
    }
    rows = [
        {"id": UUID.format(n), "op_name": "weave:///a/b/op/chat:1", "trace_id": UUID.format(255), "started_at": "2026-10-03T08:14:55Z",
         "inputs": {"messages": [{"role": "user", "content": "Q"}]}, "output": "A",
         "summary": {"weave": {"feedback": [{"id": f"f{n}", "weave_ref": f"weave:///a/b/call/{UUID.format(n)}", **thumb}]}}}
        for n in range(103)
    ]  # fmt: skip
    return "".join(
        json.dumps(r, ensure_ascii=False) + "\n" for r in cut(rows, body.get("offset") or 0, body["limit"])
    )


def helicone(path, query, body):
    rows = [
        {
            "request_id": UUID.format(n),
            "request_created_at": "2026-10-03T08:14:55Z",
            "feedback_rating": True,
            "request_body": {},
        }
        for n in range(103)
    ]
    if path != "/v1/request/query-clickhouse":
        return None
    return {"data": cut(rows, body.get("offset") or 0, body["limit"]), "error": None}


VENDORS = {
    "langfuse": (langfuse, 1, 5),
    "langsmith": (langsmith, 6, 206),
    "phoenix": (phoenix, 5, 10),
    "opik": (opik, 102, 102),
    "mlflow": (mlflow, 3, 3),
    "weave": (weave, 103, 103),
    "helicone": (helicone, 103, 103),
}


def balance(files) -> tuple[int, int]:
    found = list(read(files, pseudonym_key="k"))
    assert not [x for x in found if isinstance(x, BadLine)], found
    assert sum((Counter(x.left_out) for x in found), Counter()) == {}
    calls = {(c.trace_id, c.span_id) for x in found for c in x.calls}
    return len(calls), len({f.id for x in found for f in x.feedback})


@pytest.mark.parametrize("name", VENDORS)
def test_every_page_of_every_route_is_read_through_faults(serve, tmp_path, name):
    routes, num_calls, num_feedback = VENDORS[name]
    api, url = serve(routes)
    api.faults = [
        (429, {"Retry-After": "0"}),
        (503, {"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT"}),
        (429, {"retry-after-ms": "1"}),
    ]
    files = fetch(name, url + "/", tmp_path)
    assert balance(files) == (num_calls, num_feedback)
    num_requests = len(api.requests)
    assert fetch(name, url, tmp_path) == files
    assert len(api.requests) == num_requests


@pytest.mark.parametrize("name", VENDORS)
def test_a_break_at_any_page_goes_on_after_it(serve, tmp_path, name):
    routes, num_calls, num_feedback = VENDORS[name]
    api, url = serve(routes)
    whole, runs = [], 0
    while not whole:
        seen = len(api.requests)
        api.routes = lambda path, query, body, seen=seen: (
            routes(path, query, body) if len(api.requests) <= seen + 1 else None
        )
        try:
            whole = fetch(name, url, tmp_path)
        except Refused as err:
            assert "no such route" in str(err)
        runs += 1
        assert runs < 200
    assert runs > 1
    assert balance(whole) == (num_calls, num_feedback)
    asked = [json.dumps(r[:3], sort_keys=True) for r in api.requests]
    assert len(asked) - len(set(asked)) == runs - 1


def test_what_another_try_would_not_change_is_one_sentence(serve, tmp_path, monkeypatch):
    api, url = serve(lambda *_: "<html>sign in</html>")
    with pytest.raises(Refused, match="no JSON but '<html>"):
        fetch("helicone", url, tmp_path)
    monkeypatch.setenv("HELICONE_API_KEY", "wrong")
    with pytest.raises(Refused, match="knows no such key: look at HELICONE_API_KEY"):
        fetch("helicone", url, tmp_path)
    api.faults = [(403, {})]
    with pytest.raises(Refused, match="does not let this key read"):
        fetch("helicone", url, tmp_path)
    monkeypatch.delenv("HELICONE_API_KEY")
    with pytest.raises(Refused, match="set HELICONE_API_KEY"):
        fetch("helicone", url, tmp_path)
    monkeypatch.setattr(network, "PATIENCE_S", 0.0)
    monkeypatch.setenv("HELICONE_API_KEY", "secret")
    api.faults = [(503, {"Retry-After": "0"})] * 20
    with pytest.raises(OSError, match="gave nothing for an hour"):
        fetch("helicone", url, tmp_path)
