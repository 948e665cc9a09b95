"""What /metrics tells, to whom; request ids in answers, errors and log lines; the board and the alert rules name only what is told."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from temporary_stores import temporary_store

from heedloop_server.alerts.webhooks import post
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.http.log_lines import JsonLines, PlainLines
from heedloop_server.settings import Settings
from heedloop_server.store.admin.keys import insert_project
from heedloop_server.store.connection import StoreError, StoreOverloaded

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[3]
BOARD = json.loads((ROOT / "deploy/grafana/heedloop.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
SECRET = "a-user-whom-no-log-names"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    settings = Settings(data=tmp_path_factory.mktemp("metrics"), access_log=True)
    with temporary_store() as store:
        for project in ("mine", "theirs"):
            insert_project(store, project)
        app = create_app(settings, store=store)

        @app.get("/test/unforeseen")
        def unforeseen() -> None:
            raise RuntimeError(SECRET)

        @app.get("/test/refused")
        def refused() -> None:
            store.command(f"SELECT {SECRET!r} FROM nowhere")

        keys = {
            scope: make_key(store, "mine", name=scope, scopes=[scope])[0]
            for scope in ("instance", "admin", "read")
        }
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client, keys


def scrape(server: tuple[TestClient, dict[str, str]], scope: str = "instance") -> Samples:
    client, keys = server
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {keys[scope]}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


REQUESTS = "heedloop_http_request_duration_seconds_count"


def test_requests_are_counted_by_the_template_of_their_route_and_their_status(server) -> None:
    client, keys = server
    before = scrape(server)
    for path, expected in (("/healthz", 200), ("/v1/traces/" + "ab" * 16, 404), (f"/{SECRET}", 404)):
        answer = client.get(path, headers={"Authorization": f"Bearer {keys['read']}"})
        assert answer.status_code == expected, answer.text
    client.request("BREW", "/healthz")
    after = scrape(server)
    for labels in (
        {"method": "GET", "route": "/healthz", "status": "200"},
        {"method": "GET", "route": "/v1/traces/{trace_id}", "status": "404"},
        {"method": "GET", "route": "unknown", "status": "404"},
        {"method": "GET", "route": "/metrics", "status": "200"},
    ):
        assert value(after, REQUESTS, **labels) == value(before, REQUESTS, **labels) + 1, labels
    methods = {dict(labels)["method"] for name, labels in after if name == REQUESTS}
    assert "BREW" not in methods and "other" in methods
    assert SECRET not in str(after)


def test_the_store_process_disk_queue_and_webhooks_are_told(server) -> None:
    before = scrape(server)
    refused = post("http://127.0.0.1:9/", "secret", {"id": "1"})
    failed = post("http://127.0.0.1:9/", "secret", {"id": "1"}, loopback=True)
    assert refused.error.startswith("refused: ") and failed.error
    client, _ = server
    assert client.get("/test/refused").status_code == 500
    after = scrape(server)
    for name, labels in (
        ("heedloop_webhook_duration_seconds_count", {"outcome": "refused"}),
        ("heedloop_webhook_duration_seconds_count", {"outcome": "failed"}),
        ("heedloop_store_errors_total", {"kind": "refused"}),
    ):
        assert value(after, name, **labels) == value(before, name, **labels) + 1, name
    reads = "heedloop_store_duration_seconds_count"
    assert value(after, reads, kind="read") > value(before, reads, kind="read")
    assert value(after, "heedloop_store_up") == 1
    assert value(after, "heedloop_table_rows", table="keys") >= 1
    assert value(after, "process_resident_memory_bytes") > 1e7
    assert value(after, "process_cpu_seconds_total") > 0
    assert value(after, "process_open_fds") > 3
    assert 0 < value(after, "heedloop_disk_free_bytes") < value(after, "heedloop_disk_size_bytes")
    assert value(after, "heedloop_log_backlog_limit_bytes") == 1 << 30
    assert value(after, "heedloop_quarantine_records") == 0
    builds = [dict(labels) for name, labels in after if name == "heedloop_build_info"]
    assert [b["version"] for b in builds] == [client.app.version]


def test_an_admin_key_sees_its_own_project_and_nothing_of_the_machine(server) -> None:
    client, keys = server
    whole, own = scrape(server), scrape(server, "admin")
    projects = {
        scope: {dict(k)["project"] for n, k in s if n == "heedloop_stored_total"}
        for scope, s in (("whole", whole), ("own", own))
    }
    assert projects == {"whole": {"mine", "theirs"}, "own": {"mine"}}
    assert not [
        n for n, _ in own if n.startswith(("process_", "heedloop_http", "heedloop_store_d", "heedloop_disk"))
    ]
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {keys['read']}"}, 403)):
        assert client.get("/metrics", headers=headers).status_code == status


def test_a_request_id_is_repeated_by_the_answer_and_by_errors(server) -> None:
    client, _ = server
    for path, status in (
        ("/healthz", 200),
        ("/nowhere", 404),
        ("/v1/me", 401),
        ("/test/unforeseen", 500),
        ("/test/refused", 500),
    ):
        answer = client.get(path, headers={"X-Request-Id": "from.the-app_1"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "from.the-app_1")
        assert status == 200 or answer.json()["error"]["request_id"] == "from.the-app_1"
        assert SECRET not in answer.text
    made = {
        client.get("/healthz", headers={"X-Request-Id": bad}).headers["x-request-id"]
        for bad in ("", "a b", "x" * 129, "<script>")
    }
    assert len(made) == 4 and all(re.fullmatch(r"[0-9a-f]{32}", m) for m in made)
    too_large = client.post("/v1/feedback", headers={"Content-Length": str(1 << 40)}, content=b"{}")
    assert too_large.json()["error"]["request_id"] == too_large.headers["x-request-id"]


def test_the_access_log_has_a_line_for_each_request_and_names_no_person(
    server, caplog: pytest.LogCaptureFixture
) -> None:
    client, keys = server
    lines: list[dict] = []
    with caplog.at_level(logging.INFO, "heedloop.access"):
        caplog.handler.setFormatter(JsonLines())
        client.get(
            f"/v1/calls?user_id={SECRET}",
            headers={"Authorization": f"Bearer {keys['read']}", "X-Request-Id": "one"},
        )
        client.get(f"/{SECRET}%0A")
        client.get("/healthz")
        lines = [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "heedloop.access"]
    assert [(x["method"], x["route"], x["status"]) for x in lines] == [
        ("GET", "/v1/calls", 200),
        ("GET", "unknown", 404),
    ]
    assert lines[0]["key_id"] and lines[0]["key_id"] in keys["read"] and lines[0]["duration_ms"] > 0
    assert keys["read"] not in str(lines) and SECRET not in str(lines)


def test_lines_that_are_written_for_a_request_have_its_id(server) -> None:
    client, _ = server
    written: dict[type, list[str]] = {JsonLines: [], PlainLines: []}

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for form, lines in written.items():
                lines.append(form().format(record))

    handler = Kept()
    logging.getLogger("heedloop.http").addHandler(handler)
    try:
        client.get("/test/refused", headers={"X-Request-Id": "traced"})
    finally:
        logging.getLogger("heedloop.http").removeHandler(handler)
    (line,) = written[JsonLines]
    assert json.loads(line)["request_id"] == "traced"
    assert written[PlainLines][0].splitlines()[0].endswith("a statement failed [traced]")


def test_the_engines_own_words_reach_no_caller() -> None:
    with temporary_store() as store:
        with pytest.raises(StoreOverloaded) as caught:  # a limit on memory, as a busy engine has one
            store.rows("SELECT groupArray(number) FROM numbers(10000000)", max_memory_usage=1_000_000)
        assert "it has no memory left for this (ClickHouse error 241)" in caught.value.message
        assert "DB::Exception" not in caught.value.message and "groupArray" not in caught.value.message
        with pytest.raises(StoreError):
            store.rows("SELECT 1 FROM nowhere")


# ------------------------------------------------------------------------------------------ the board and the rules

_WORDS = {"by", "without", "on", "ignoring", "and", "or", "unless", "bool", "le", "group_left"}


def expressions() -> list[str]:
    """Every PromQL expression of the board and of the rules, with the board's variables filled in."""
    panels = [t["expr"] for p in BOARD["panels"] for t in p.get("targets", [])]
    variables = [v["query"]["query"] for v in BOARD["templating"]["list"] if v["type"] == "query"]
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    return [e.replace("$__rate_interval", "5m") for e in panels + variables + rules]


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that an expression names."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    for inside in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression):
        labels |= set(re.findall(r"\w+", inside))
    bare = re.sub(
        r"\b(?:by|without|on)\s*\([^)]*\)|\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b\d[\w.]*", " ", expression
    )
    for name, label in re.findall(r"label_values\((\w+)\s*,\s*(\w+)\)", expression):
        return {name}, {label}
    names = set(re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()\b(?!\s*\()", bare)) - _WORDS
    return names, labels


def test_the_board_and_the_rules_name_only_metrics_and_labels_that_exist(server) -> None:
    client, _ = server
    client.get("/healthz")
    post("http://127.0.0.1:9/", "secret", {"id": "1"})
    samples = scrape(server)
    text = client.get("/metrics", headers={"Authorization": f"Bearer {server[1]['instance']}"}).text
    names = {n for n, _ in samples} | {
        f"{n}_total" if k == "counter" and not n.endswith("_total") else n
        for n, k in re.findall(r"# TYPE (\w+) (\w+)", text)
    }
    labels = {k for _, pairs in samples for k, _ in pairs} | {"job", "instance", "reason"}
    assert len(expressions()) > 25
    for expression in expressions():
        found, by = names_in(expression)
        assert found, expression
        assert found <= names | {"up"}, (expression, found - names)
        assert by <= labels, (expression, by - labels)


def test_names_in_an_expression_are_found() -> None:
    expression = 'histogram_quantile(0.99, sum by (le, route) (rate(a_bucket{status!~"5.."}[5m]))) > 2 * b and on (instance) c_total offset 5m'
    assert names_in(expression)[0] - {"offset"} == {"a_bucket", "b", "c_total"}
    assert names_in(expression)[1] == {"le", "route", "status", "instance"}


def test_a_rule_says_what_is_wrong_and_where_to_read_on() -> None:
    names = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]
    assert len(names) == len(set(names)) > 8
    described = (ROOT / "docs/metrics.md").read_text()
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
            assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]
            assert f"`{rule['alert']}`" in described, rule["alert"]


def test_the_board_is_whole() -> None:
    ids = [p["id"] for p in BOARD["panels"]]
    assert len(ids) == len(set(ids)) and BOARD["uid"] == "heedloop"
    boxes = [p["gridPos"] for p in BOARD["panels"]]
    cells = [
        (x, y) for b in boxes for x in range(b["x"], b["x"] + b["w"]) for y in range(b["y"], b["y"] + b["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    for panel in BOARD["panels"]:
        assert panel["type"] == "row" or (
            panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        ), panel["title"]


def test_every_metric_is_described(server) -> None:
    client, keys = server
    text = client.get("/metrics", headers={"Authorization": f"Bearer {keys['instance']}"}).text
    names = re.findall(r"^# TYPE (heedloop_\w+)", text, re.M)
    assert len(names) > 20
    described = (ROOT / "docs/metrics.md").read_text()
    assert [n for n in names if f"`{n}`" not in described] == []
