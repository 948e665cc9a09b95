"""Health, conversations, users, search and alerts on amounts over REST: planted numbers come back."""

import statistics
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Message, Target, Usage, format_time
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.settings import Settings
from heedloop_server.store.spans import insert_calls

NOW = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
SINCE = NOW - timedelta(days=4)
PERIOD = {"since": format_time(SINCE), "until": format_time(NOW)}
CHUNK = "gen_ai.response.time_to_first_chunk"
QUESTIONS = (
    "Wo bleibt meine R\u00fcckerstattung?",
    "Can I return a lamp?",
    "\u8fd4\u91d1\u306f\u3044\u3064\u3067\u3059\u304b",
)


def _call(i, **more):
    given = {
        "trace_id": f"{i // 2 + 1:032x}",
        "span_id": f"{i + 1:016x}",
        "start_time": SINCE + timedelta(minutes=37 * i),
        "duration_ns": (i + 1) * 10_000_000,
        "model_requested": "large" if i % 2 else "small",
        "prompt_version": "v2" if i >= 50 else "v1",
        "user_id": f"u{i % 7}",
        "session_id": f"s/{i // 4}",
        "usage": Usage(1000, 100, 400),
        "input_messages": (Message("user", QUESTIONS[i % 3]),),
        "output_messages": (Message("assistant", f"Answer {i}."),),
        "attributes": {CHUNK: "0.25"} if i % 2 else {"ttft_ms": "750"},
    }
    return Call(**{**given, **more})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    calls = [
        _call(i, status="error" if i % 10 == 9 else "ok", error_message="ConnectTimeout: gateway" if i % 10 == 9 else None,
              cost=0.5 if i % 4 == 0 else None)
        for i in range(100)
    ]  # fmt: skip
    inner = _call(
        100, trace_id=f"{1:032x}", is_answer=False, start_time=SINCE, session_id=None, user_id=None, cost=2.0
    )
    tool = _call(101, trace_id=f"{1:032x}", is_answer=False, operation="", start_time=SINCE, cost=99.0)
    with temporary_store() as store:
        project = store.project("p")
        insert_calls(project, [*calls, inner, tool], received_at=NOW)
        writer = FeedbackWriter(store)
        writer.start()
        said = [
            Feedback("rating", Target(trace_id=c.trace_id, span_id=c.span_id), value=float(i % 3 > 0),
                     author=Author("end_user", f"u{i % 7}"), created_at=c.start_time + timedelta(minutes=1),
                     comment="La r\u00e9ponse \u00e9tait fausse" if i == 8 else None)
            for i, c in enumerate(calls) if i % 2 == 0
        ]  # fmt: skip
        said.append(
            Feedback("correction", Target(trace_id=calls[5].trace_id, span_id=calls[5].span_id), correction="Keep the receipt.",
                     author=Author("annotator", "ana"), created_at=NOW - timedelta(hours=1))
        )  # fmt: skip
        writer.submit("p", said).result()
        writer.stop()
        app = create_app(
            Settings(data=tmp_path_factory.mktemp("data"), public_url="https://q.example"), store=store
        )
        key = make_key(store, "p", name="k", scopes=("read", "admin"))[0]
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
            yield client, calls


def _get(client, path, **params):
    found = client.get(path, params=params)
    assert found.status_code == 200, found.text
    return found.json()


def test_errors_latency_tokens_and_cost_are_those_of_the_calls(place):
    client, calls = place
    health = _get(client, "/v1/quality/health", by="model", interval="day", **PERIOD)
    total = health["total"]
    assert (total["num_answers"], total["num_errors"], total["num_calls"]) == (100, 10, 101)
    assert total["error_share"]["estimate"] == pytest.approx(0.1)
    took = sorted(c.duration_ns / 1e6 for c in calls)
    assert total["p50_ms"] == pytest.approx(statistics.median(took), rel=0.02)
    assert total["p95_ms"] == pytest.approx(took[94], rel=0.02)
    assert total["first_token_p95_ms"] == pytest.approx(750, rel=0.01)
    assert (total["input_tokens"], total["output_tokens"]) == (101_000, 10_100)
    # a tool span's cost is no provider call's; 25 answers and the inner call say what they cost
    assert total["cost"] == pytest.approx(25 * 0.5 + 2.0)
    assert total["num_unpriced"] == 75
    assert sum(p["num_answers"] for p in health["points"]) == 100
    assert {g["value"]: g["num_errors"] for g in health["groups"]} == {"large": 10, "small": 0}
    assert [(r["field"], r["value"]) for r in health["releases"]] == [("prompt_version", "v2")]
    for field in ("prompt_version", "user_id"):
        groups = _get(client, "/v1/quality/health", by=field, **PERIOD)["groups"]
        assert sum(g["num_answers"] for g in groups) == 100


def test_a_price_table_prices_only_what_brings_no_cost(place):
    client, _ = place
    prices = {
        "large": {"input": 10.0, "output": 20.0, "cached_input": 1.0},
        "unused": {"input": 1.0, "output": 1.0},
    }
    assert client.patch("/v1/project", json={"prices": prices}).json()["prices"] == prices
    total = _get(client, "/v1/quality/health", **PERIOD)["total"]
    each = (600 * 10 + 400 * 1 + 100 * 20) / 1e6  # cached tokens are a part of the input
    assert total["cost"] == pytest.approx(25 * 0.5 + 2.0 + 50 * each)
    assert total["num_unpriced"] == 25
    refused = client.patch("/v1/project", json={"prices": {"large": {"input": -1.0, "output": 0.0}}})
    assert refused.status_code == 422
    assert client.patch("/v1/project", json={"prices": None}).json()["prices"] == {}


def test_views_are_saved_for_the_team_and_name_nobody(place):
    client, _ = place
    views = {"Refunds, thumbs-down": "traces?rating=down&tag=refunds", "Start": ""}
    assert client.patch("/v1/project", json={"views": views}).json()["views"] == views
    for link in ("https://evil.example/", "//evil.example", "traces?user_id=ana", "Traces"):
        assert client.patch("/v1/project", json={"views": {"x": link}}).status_code == 422
    assert client.get("/v1/project").json()["views"] == views
    assert client.patch("/v1/project", json={"views": None}).json()["views"] == {}


def test_a_conversation_has_its_turns_in_order_with_cost_and_feedback(place):
    client, calls = place
    found = _get(client, "/v1/conversation", session_id="s/0")
    assert [t["call"]["span_id"] for t in found["turns"]] == [c.span_id for c in calls[:4]]
    assert [t["question"] for t in found["turns"]] == [QUESTIONS[i % 3] for i in range(4)]
    assert found["turns"][0]["cost"] == pytest.approx(2.5)  # with the call inside of its trace
    assert found["cost"] == pytest.approx(2.5)
    assert sum(t["cost"] for t in found["turns"]) == pytest.approx(found["cost"])
    assert [len(t["feedback"]) for t in found["turns"]] == [1, 0, 1, 0]
    assert found["user_ids"] == ["u0", "u1", "u2", "u3"]
    assert client.get("/v1/conversation", params={"session_id": "none"}).status_code == 404


def test_a_user_has_sessions_and_a_rate(place):
    client, calls = place
    mine = [i for i in range(100) if i % 7 == 3]
    found = _get(client, "/v1/user", user_id="u3")
    rated = [i for i in mine if i % 2 == 0]
    assert (found["num_answers"], found["num_rated"]) == (len(mine), len(rated))
    assert found["rate"]["estimate"] == pytest.approx(sum(i % 3 > 0 for i in rated) / len(rated))
    assert {s["session_id"] for s in found["sessions"]} == {f"s/{i // 4}" for i in mine}
    assert found["sessions"][0]["last_at"] == format_time(calls[mine[-1]].start_time)


@pytest.mark.parametrize(
    ("q", "found_in", "marked"),
    [
        ("ruckerstatt", "question", "R\u00fcckerstatt"),
        ("lamp return", "question", "return"),
        ("\u8fd4\u91d1", "question", "\u8fd4\u91d1"),
        ("Answer 42", "answer", "Answer"),
        ("connecttime", "error", "ConnectTime"),
        ("fausse reponse", "comment", "r\u00e9ponse"),
        ("receipt", "correction", "receipt"),
    ],
)
def test_words_and_prefixes_are_found_and_marked(place, q, found_in, marked):
    found = _get(place[0], "/v1/search", q=q, limit=100)
    hits = [h for h in found["hits"] if h["found_in"] == found_in]
    assert hits
    for hit in hits:
        assert marked in [hit["excerpt"][a:b] for a, b in hit["marks"]]
    assert found["searched"] == ["question", "answer", "error", "comment", "correction"]


def test_ids_open_at_once(place):
    client, calls = place
    call = calls[5]

    def ids(q):
        return [(i["kind"], i["id"]) for i in _get(client, "/v1/search", q=q)["ids"]]

    assert ids(call.trace_id) == [("trace", call.trace_id)]
    assert ids(call.traceparent) == [("trace", call.trace_id)]
    assert ids(call.span_id) == [("trace", call.trace_id)]
    assert ids("s/3") == [("session", "s/3")]
    assert ids("u3") == [("user", "u3")]
    feedback = _get(client, "/v1/feedback", kind="correction")["feedback"][0]["feedback_id"]
    assert ids(feedback) == [("feedback", feedback)]
    assert ids("f" * 32) == []


def test_feedback_is_filtered_by_what_was_said_and_by_whom(place):
    client = place[0]

    def num(**filters):
        return len(_get(client, "/v1/feedback", limit=100, **filters)["feedback"])

    assert num(text="reponse") == 1
    assert num(text="nothing of this") == 0
    assert num(kind="rating", rating="down") == 17
    assert num(user_id="u3", kind="rating") == 7
    assert num(has_comment=True) == 1
    assert num(model="large", kind="correction") == 1


@pytest.mark.parametrize(
    ("rule", "alarms"),
    [
        ({"metric": "cost", "threshold": 1000.0}, 0),
        ({"metric": "calls", "threshold": 10, "min_count": 1}, 1),
        ({"metric": "tokens", "threshold": 10_000, "min_count": 1}, 1),
        ({"metric": "latency", "threshold": 200, "min_count": 10}, 1),
        ({"metric": "latency", "threshold": 5_000, "min_count": 10}, 0),
        ({"metric": "first_token", "threshold": 500, "min_count": 10}, 1),
        ({"metric": "errors", "threshold": 0.5, "min_count": 10}, 0),
    ],
)
def test_a_preview_says_how_often_a_rule_would_have_fired(place, rule, alarms):
    client = place[0]
    body = {"name": "x", "kind": "threshold", **rule}
    found = client.post("/v1/alerts/preview", json=body)
    assert found.status_code == 200, found.text
    assert found.json()["num_alarms"] == alarms, found.json()
    assert _get(client, "/v1/alerts")["alerts"] == []


@pytest.mark.parametrize("metric", ["latency", "first_token", "calls", "tokens", "cost"])
def test_what_is_no_share_has_no_drift(place, metric):
    refused = place[0].post("/v1/alerts", json={"name": "x", "metric": metric})
    assert refused.status_code == 422
    assert "threshold" in refused.text
