"""An evaluation's answers, and what is said of them, change no number of production: every reading route says the same with them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from review_people import World, call, review_server

from heedloop.schema import (
    Author,
    Feedback,
    Ranking,
    Scale,
    Target,
    format_time,
    parse_time,
    to_json,
    utc_now,
)
from heedloop_server.alerts.evaluate import evaluate
from heedloop_server.store.admin.alerts import list_alerts
from heedloop_server.store.quality.rollup import roll_up_project
from heedloop_server.store.spans import insert_calls

NUM = 30
ABOUT_THE_SERVER = {
    "/v1/ledger",
    "/v1/health",
    "/v1/audit",
    "/v1/backups",
    "/v1/alerts",
    "/v1/review/queues",
    "/v1/keys",
    "/v1/jobs",
}
NEEDS = {
    "/v1/facets": {"field": "environment"},
    "/v1/quality/groups": {"by": "model"},
    "/v1/search": {"q": "Question"},
    "/v1/conversation": {"session_id": "s1"},
    "/v1/user": {"user_id": "u1"},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("evaluation")) as new_world:
        yield new_world()


def said(call, n: int, who: str) -> list[Feedback]:
    """A word of every kind on an answer, by a user, an annotator who drew it, and a model."""
    target, at = Target(trace_id=call.trace_id, span_id=call.span_id), call.start_time
    user, drawn = Author("end_user", f"{who}{n}"), Author("annotator", who)
    return [
        Feedback("rating", target, value=float(n % 3 > 0), scale=Scale(0, 1), author=user, created_at=at),
        Feedback("flag", target, category="inaccurate", author=user, created_at=at),
        Feedback("correction", target, correction=f"It is {n}.", comment="wrong", author=user, created_at=at),
        Feedback("rating", target, name="tone", value=3, scale=Scale(1, 5), author=drawn, sampling_probability=0.01, created_at=at),
        Feedback("rating", target, value=1, scale=Scale(0, 1), author=Author("model", "judge@1"), created_at=at),
    ]  # fmt: skip


def send(world: World, feedback: list[Feedback]) -> None:
    world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in feedback]})


def compared(first, second, n: int) -> Feedback:
    answers = tuple(Target(trace_id=c.trace_id, span_id=c.span_id) for c in (first, second))
    return Feedback("comparison", answers[0], ranking=Ranking(answers, (1, 2)), author=Author("annotator", f"a{n}"))  # fmt: skip


def everything(world: World, period: dict[str, str]) -> dict[str, object]:
    """What every route that reads without an id answers, and what a snapshot, a queue and an alert come to."""
    admin, out = world.admin, {}
    for path, methods in world.app.openapi()["paths"].items():
        if "get" not in methods or "{" in path or path in ABOUT_THE_SERVER or not path.startswith("/v1/"):
            continue
        names = {p["name"] for p in methods["get"].get("parameters", ())}
        chosen = {k: v for k, v in period.items() if k in names} | NEEDS.get(path, {})
        response = world.client.get(path, params=chosen, headers=admin._headers)
        kind = response.headers["content-type"]
        if response.status_code == 200 and "json" in kind:
            out[path] = response.text if "ndjson" in kind else response.json()
    snapshot = admin.ask(
        "POST", "/snapshots", {"name": "all"}
    )  # 200: the same rows, so the one that is there
    out["snapshot"] = snapshot["id"], snapshot["num_rows"]
    queue = admin.ask(
        "POST",
        "/review/queues",
        {"name": "q", "questions": [{"name": "thumb", "kind": "thumb"}]},
        status=201,
    )
    for source in ("filter", "same_prompt", "low_confidence", "disagreement"):
        response = world.client.post(
            f"/v1/review/queues/{queue['queue_id']}/items",
            json={"source": source, "filters": period},
            headers=admin._headers,
        )
        out[f"queue {source}"] = (
            response.json().get("added") if response.status_code == 200 else response.status_code
        )
    world.client.delete(f"/v1/review/queues/{queue['queue_id']}", headers=admin._headers)
    stored = next(iter(list_alerts(world.project)))
    out["alert"] = evaluate(world.project, stored, parse_time(period["until"])).state
    return out


def _first_difference(a: object, b: object, where: str = "") -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        return next((_first_difference(a[k], b.get(k), f"{where}.{k}") for k in a if a[k] != b.get(k)), where)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next(
            _first_difference(x, y, f"{where}[{i}]")
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            if x != y
        )
    return f"{where}: {a!r:.90} became {b!r:.90}"


def test_no_number_of_production_changes(world) -> None:
    rule = {
        "name": "r", "metric": "rate", "kind": "threshold", "threshold": 0.99, "min_count": 5
    }  # fmt: skip
    calls = [
        call(
            f"Question {n % 9}?",
            f"Answer {n}.",
            at_s=9000 + 100 * n,
            session_id=f"s{n % 4}",
            user_id=f"u{n % 5}",
        )
        for n in range(NUM)
    ]
    insert_calls(world.project, calls)
    send(world, [f for n, c in enumerate(calls) for f in said(c, n, "u")])
    send(world, [compared(calls[n], calls[n + 9], n) for n in range(9)])
    world.client.post("/v1/alerts", json=rule, headers=world.admin._headers).raise_for_status()
    roll_up_project(world.project)
    now = utc_now()
    period = {"since": format_time(now - timedelta(days=2)), "until": format_time(now)}
    world.admin.ask("POST", "/snapshots", {"name": "all"}, status=201)
    before = everything(world, period)
    planted = [
        replace(
            c,
            trace_id=c.trace_id[::-1],
            span_id=c.span_id[::-1],
            environment="evaluation:night",
            session_id=None,
            user_id=None,
            status="error" if n % 7 == 0 else "ok",
        )
        for n, c in enumerate(calls)
    ]
    insert_calls(world.project, planted)
    send(world, [f for n, c in enumerate(planted) for f in said(c, n, "w")])
    send(world, [compared(planted[n], calls[n], n) for n in range(NUM)])
    for rolled_up in (False, True):
        after = everything(world, period)
        differing = {
            k: _first_difference(before[k], after.get(k)) for k in before if before[k] != after.get(k)
        }
        assert not differing, (rolled_up, differing)
        roll_up_project(world.project)
    own = world.admin.ask("GET", "/calls", environment="evaluation:night", limit=500)
    assert len(own["calls"]) == NUM
