"""One of everything that has an id, made through the API of a running server: for walks over all routes."""

import secrets
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from heedloop.schema import Author, Call, Feedback, Message, Target, to_json, utc_now
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.spans import insert_calls


class Sender(Protocol):
    """What sends requests: a TestClient or a requests session with an address."""

    def request(self, method: str, path: str, **kwargs: Any) -> Any: ...


def furnish(project: ProjectStore, client: Sender, key: str, text: str) -> dict[str, str]:
    """Fill a project with things that all have `text` in them; returns path parameter -> the id of one of them.

    A route with a path parameter that is not among these is not covered by the walks: add what it names here.
    """
    auth = {"Authorization": f"Bearer {key}"}
    ids = {"trace_id": uuid.uuid4().hex, "span_id": uuid.uuid4().hex[:16]}
    insert_calls(project, [_call(text, ids)])
    said = [
        Feedback(kind="rating", value=1, comment=text, **_said(text, ids)),
        Feedback(kind="correction", correction=text, **_said(text, ids)),
        Feedback(kind="flag", category=text, **_said(text, ids)),
    ]
    posted = _send(client, auth, "POST", "/v1/feedback", {"feedback": [to_json(f) for f in said]})
    snapshot = _send(client, auth, "POST", "/v1/snapshots", {"name": text})
    run = {"id": f"run-{uuid.uuid4().hex}", "method": "sft", "name": text, "snapshot_id": snapshot["id"]}
    _send(client, auth, "POST", "/v1/runs", run)
    made = _send(client, auth, "POST", "/v1/keys", {"name": text, "scopes": ["read"]})
    erased = _send(client, auth, "POST", "/v1/erasures", {"trace_id": uuid.uuid4().hex})
    moved = {"id": secrets.token_hex(8), "source": text, "names": [text], "status": "finished"}
    _send(client, auth, "POST", "/v1/imports", {**moved, "started_at": "2026-10-03T08:00:00Z"})
    return {
        "import_id": moved["id"],
        "erasure_id": erased["erasure_id"],
        "trace_id": ids["trace_id"],
        "span_id": ids["span_id"],
        "feedback_id": posted["results"][0]["feedback_id"],
        "snapshot_id": snapshot["id"],
        "job_id": client.request("GET", "/v1/jobs", headers=auth).json()["jobs"][0]["id"],
        "run_id": run["id"],
        "key_id": made["key_id"],
        "prompt_name": _prompt(client, auth, text),
        "label": "production",
        "judge_id": _judge(client, auth, text),
        **_evaluation(client, auth, text),
        "experiment": _experiment(client, auth, text),
        **_review(client, auth, text, ids),
        **_alert(client, auth, text),
    }


def _call(text: str, ids: Mapping[str, str]) -> Call:
    return Call(
        **ids,
        start_time=utc_now(),
        model_answered=text,
        prompt_name=text,
        service=text,
        user_id=text,
        session_id=text,
        tags=(text,),
        input_messages=(Message("user", text),),
        output_messages=(Message("assistant", text),),
    )


def _said(text: str, ids: Mapping[str, str]) -> dict[str, Any]:
    return {"target": Target(**ids), "author": Author("end_user", text)}


def _review(client: Sender, auth: Mapping[str, str], text: str, ids: Mapping[str, str]) -> dict[str, str]:
    questions = [{"name": "thumb", "kind": "thumb", "title": text}]
    queue = _send(client, auth, "POST", "/v1/review/queues", {"name": text, "questions": questions})
    path = f"/v1/review/queues/{queue['queue_id']}"
    _send(client, auth, "POST", f"{path}/items", {"source": "targets", "items": [[dict(ids)]]})
    held = _send(client, auth, "POST", f"{path}/next", {"count": 1})["assignments"][0]
    return {n: str((queue | held)[n]) for n in ("queue_id", "item_id", "assignment_id")}


def _judge(client: Sender, auth: Mapping[str, str], text: str) -> str:
    verdicts = {"YES": 1.0, "NO": 0.0}
    spec = {
        "name": "j",
        "form": "pointwise",
        "backend": "endpoint",
        "model": "m",
        "prompt": text,
        "verdicts": verdicts,
    }
    return str(_send(client, auth, "POST", "/v1/judges", spec)["id"])


def _evaluation(client: Sender, auth: Mapping[str, str], text: str) -> dict[str, str]:
    name = f"e{uuid.uuid4().hex}"
    one = {"name": name, "target": text, "source": text, "status": "running"}
    _send(client, auth, "POST", "/v1/evaluations", {**one, "created_at": "2026-10-03T08:00:00Z"})
    _send(client, auth, "POST", f"/v1/evaluations/{name}/rows", {"rows": [{"case_id": text}]})
    _send(client, auth, "POST", "/v1/cases", {"name": name})
    return {"evaluation": name, "case_set": name}


def _prompt(client: Sender, auth: Mapping[str, str], text: str) -> str:
    made = _send(client, auth, "POST", "/v1/prompts", {"name": "support", "text": text, "note": text})
    _send(client, auth, "PUT", "/v1/prompts/support/labels/production", {"version": 1})
    return str(made["prompt"]["name"])


def _experiment(client: Sender, auth: Mapping[str, str], text: str) -> str:
    arms = [{"name": "old"}, {"name": "new", "parameters": {"prompt": text}}]
    spec = {"name": f"x{uuid.uuid4().hex}", "arms": arms}
    return str(_send(client, auth, "POST", "/v1/experiments", spec)["experiment"]["name"])


def _alert(client: Sender, auth: Mapping[str, str], text: str) -> dict[str, str]:
    rule = {"name": text, "metric": "rate", "kind": "threshold", "threshold": 0.5}
    answer = client.request("POST", "/v1/alerts", json=rule, headers=dict(auth))
    return {} if answer.status_code == 404 else {"alert_id": answer.json()["id"]}


def _send(client: Sender, auth: Mapping[str, str], method: str, path: str, body: object) -> Any:
    answer = client.request(method, path, json=body, headers=dict(auth))
    assert answer.status_code in (200, 201), (path, answer.text)
    return answer.json()
