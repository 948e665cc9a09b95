"""Typed client of the server's REST API: what the dashboard, the trainer and your own scripts read and write with.

One method per route of docs/api.md. Errors are `ApiError`s::

    ApiError
    ├── Unreachable     no answer: wrong address, server down, timed out
    ├── Unauthorized    401: no key, or one that is unknown, expired or revoked
    ├── Forbidden       403: the key lacks a scope
    ├── NotFound        404
    ├── Invalid         400, 409, 413, 422: `field` says which field was wrong
    └── Unavailable     429 or 503 after the retries; `retry_after_s` says when to come back

Reads are tried again (three times, honouring `Retry-After`) on 429, 502, 503, 504 and broken connections; so are feedback posts,
which carry their own ids and are therefore harmless to send twice.

`AsyncClient` runs the same methods in a thread: `await AsyncClient(client).do(Client.trace, trace_id)`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast
from urllib.parse import urlencode

import requests

from heedloop import responses
from heedloop._rest import (
    DEFAULT_URL,
    ApiError,
    Forbidden,
    Invalid,
    Json,
    NotFound,
    Rest,
    Unauthorized,
    Unavailable,
    Unreachable,
    drop_none,
    json_entries,
)
from heedloop.schema import (
    ROW_CLASSES,
    Call,
    DatasetForm,
    Feedback,
    Run,
    Snapshot,
    Split,
    from_json,
    to_json,
)

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "AsyncClient",
    "Client",
    "Forbidden",
    "Invalid",
    "NotFound",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]

ReviewMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ReviewFormat = Literal["jsonl", "label_studio", "argilla"]
P = ParamSpec("P")
T = TypeVar("T")


class Client(Rest):
    """A key's view of one project.

    Safe to share between threads: each thread has its own connection.

    Args:
        url: the server's address; `HEEDLOOP_URL`, else http://127.0.0.1:8321.
        api_key: `HEEDLOOP_API_KEY` where not given.
        timeout_s: seconds to wait for a connection, and between two bytes of an answer.
    """

    # ------------------------------------------------------------------------------------------- who and what

    def me(self) -> Json:
        """`project`, `scopes`, `key_id` and `name` of this key."""
        return self._get("/v1/me")

    def health(self) -> Json:
        """How the server is: versions, tables, and `problems`, a sentence each; for a key with the scope `instance`."""
        return self._get("/v1/health")

    def calls(self, *, limit: int = 50, cursor: str | None = None, **filters: Any) -> Json:
        """One page of call summaries, newest first: `calls` and `next_cursor`. Filters as in docs/api.md."""
        return self._get("/v1/calls", limit=limit, cursor=cursor, **filters)

    def iter_calls(self, **filters: Any) -> Iterator[Json]:
        """All call summaries that match, newest first, fetched 500 at a time."""
        return self._pages("/v1/calls", "calls", filters)

    def export(
        self,
        what: Literal["calls", "feedback"],
        *,
        fmt: Literal["jsonl", "parquet", "arrow"] = "jsonl",
        **filters: Any,
    ) -> Iterator[bytes]:
        """Everything that matches as one file in pieces: whole calls with what was said of them, or feedback.

        Raises:
            Unreachable: the transfer broke; what came so far is no whole file.
        """
        yield from self._pieces(f"/v1/{what}/export", drop_none({"format": fmt, **filters}))

    def _pieces(self, path: str, params: Mapping[str, Any]) -> Iterator[bytes]:
        with self._request("GET", path, params=params, stream=True) as answer:
            try:
                yield from answer.iter_content(1 << 16)
            except requests.RequestException as err:
                raise Unreachable(f"the export from {self.url} broke off: {err}") from err

    def trace(self, trace_id: str) -> Json:
        """One trace: `spans`, `feedback`, and the `snapshots` and `runs` that used it."""
        return self._get(f"/v1/traces/{trace_id}")

    def feedback(self, *, limit: int = 50, cursor: str | None = None, **filters: Any) -> Json:
        """One page of stored feedback, newest first: `feedback` and `next_cursor`."""
        return self._get("/v1/feedback", limit=limit, cursor=cursor, **filters)

    def iter_feedback(self, **filters: Any) -> Iterator[Json]:
        """All stored feedback that matches, newest first, fetched 500 at a time."""
        return self._pages("/v1/feedback", "feedback", filters)

    def feedback_one(self, feedback_id: str) -> Json:
        """One feedback with its `history`, and the `snapshots` and `runs` that used it."""
        return self._get(f"/v1/feedback/{feedback_id}")

    def facets(self, field: str, **filters: Any) -> list[Json]:
        """The values of one field with their counts, most frequent first."""
        return cast(list[Json], self._get("/v1/facets", field=field, **filters)["values"])

    # ------------------------------------------------------------------------------------------------- quality

    def quality_summary(self, **filters: Any) -> Json:
        """Counts, thumbs-up rate and coverage of the period, and of the one before it."""
        return self._get("/v1/quality/summary", **filters)

    def quality_trend(self, *, interval: str = "day", **filters: Any) -> Json:
        """The rate per `hour`, `day` or `week`: `points` and `releases`."""
        return self._get("/v1/quality/trend", interval=interval, **filters)

    def quality_by(self, field: str, *, field2: str | None = None, **filters: Any) -> list[Json]:
        """The rate per value of one field, or per pair of values of two."""
        return cast(list[Json], self._get("/v1/quality/by", field=field, field2=field2, **filters)["groups"])

    def quality_compare(self, field: str, a: str, b: str, **filters: Any) -> Json:
        """Two values of one field side by side: difference, interval, decision."""
        return self._get("/v1/quality/compare", field=field, a=a, b=b, **filters)

    def quality_reasons(self, **filters: Any) -> Json:
        """What people flagged, by category."""
        return self._get("/v1/quality/reasons", **filters)

    def quality(self, what: str, **params: Any) -> Json:
        """Any other quality view by its name, such as `finding`, `heatmap` or `overrepresented`."""
        return self._get(f"/v1/quality/{what}", **params)

    def quality_versions(self, field: str, *, baseline: str | None = None, **filters: Any) -> Json:
        """Every value of a field against one of them, decided over all together."""
        return self._get("/v1/quality/versions", field=field, baseline=baseline, **filters)

    def quality_releases(self, *, days: int = 7, **filters: Any) -> list[Json]:
        """What came up in the period, newest first, each with its `before`, `after` and `change`."""
        return cast(list[Json], self._get("/v1/quality/releases", days=days, **filters)["releases"])

    def quality_clusters(self, *, of: str = "answers", **filters: Any) -> Json:
        """What low-rated `answers`, their `questions`, or the `comments` on them have in common."""
        return self._get("/v1/quality/clusters", of=of, **filters)

    def quality_league(self, field: str = "model", **filters: Any) -> Json:
        """Who wins pairwise comparisons: `standings`, `pairs`, and what length has to do with it."""
        return self._get("/v1/quality/league", field=field, **filters)

    def quality_similar(self, trace_id: str, span_id: str, *, limit: int = 5) -> list[Json]:
        """Liked answers to questions like that of a call, the most alike first."""
        found = self._get("/v1/quality/similar", trace_id=trace_id, span_id=span_id, limit=limit)
        return cast(list[Json], found["calls"])

    # -------------------------------------------------------------------------------------------------- alerts

    def alerts(self) -> list[responses.Alert]:
        """All alerts, the worst state first."""
        return self._read(responses.Alerts, "/v1/alerts").alerts

    def alert(self, alert_id: str) -> responses.Alert:
        """One alert."""
        return self._read(responses.Alert, f"/v1/alerts/{alert_id}")

    def create_alert(self, rule: Mapping[str, Any]) -> responses.NewAlert:
        """A new rule; `secret`, which signs its webhook, is shown this once."""
        return self._write(responses.NewAlert, "POST", "/v1/alerts", dict(rule))

    def update_alert(self, alert_id: str, **changes: Any) -> responses.Alert:
        """Change some of a rule's fields; changing what is measured starts its state anew."""
        return self._write(responses.Alert, "PATCH", f"/v1/alerts/{alert_id}", changes)

    def delete_alert(self, alert_id: str) -> None:
        """Delete a rule and its history."""
        self._send("DELETE", f"/v1/alerts/{alert_id}", None)

    def alert_history(self, alert_id: str, *, limit: int = 50) -> list[responses.HistoryChange]:
        """The changes of an alert's state, newest first."""
        return self._read(responses.History, f"/v1/alerts/{alert_id}/history", limit=limit).history

    def acknowledge_alert(self, alert_id: str, by: str, *, comment: str = "") -> responses.Alert:
        """Acknowledge an alarm: no more reminders until its state changes."""
        body = {"by": by, "comment": comment}
        return self._write(responses.Alert, "POST", f"/v1/alerts/{alert_id}/acknowledge", body)

    def test_alert(self, alert_id: str) -> responses.WebhookTest:
        """Send a test message to the alert's webhook now; tells whether it was delivered."""
        return self._write(responses.WebhookTest, "POST", f"/v1/alerts/{alert_id}/test")

    def ledger(self) -> Json:
        """received = stored + rejected + duplicate + pending, for spans and for feedback."""
        return self._get("/v1/ledger")

    # ------------------------------------------------------------------------------------------------ feedback

    def send_feedback(self, feedback: Iterable[Feedback]) -> Json:
        """Store a batch; answers `results` in the order sent, and counts.

        Raises:
            Invalid: every entry was wrong; `body["results"]` says how.
        """
        rows = [to_json(f) for f in feedback]
        if not rows:
            return {"results": [], "stored": 0, "replaced": 0, "duplicate": 0, "rejected": 0}
        return self._send("POST", "/v1/feedback", {"feedback": rows})

    def import_feedback(self, feedback: Iterable[Feedback]) -> Iterator[Json]:
        """Store as many as there are, sent as they come; then what became of each (`line`, `id`, `status`), one by one.

        What breaks off half-way may be sent again: what was stored already is a `duplicate`. Not tried again by itself,
        because what was given may be readable only once.
        """
        lines = ((json.dumps(to_json(f)) + "\n").encode() for f in feedback)
        headers = {"Content-Type": "application/x-ndjson"}
        with self._request("POST", "/v1/feedback", data=lines, headers=headers, stream=True) as answer:
            for line in answer.iter_lines():
                result = json.loads(line)
                if "line" in result:
                    yield result

    def send_otlp(self, body: bytes, *, signal: str = "traces") -> None:
        """Post one OTLP protobuf request (`traces` or `logs`) as it is."""
        headers = {"Content-Type": "application/x-protobuf"}
        self._request("POST", f"/v1/{signal}", data=body, headers=headers)

    def send_calls(self, calls: Iterable[Call]) -> None:
        """Store calls that were made elsewhere, such as a model's answers that people shall judge."""
        from heedloop._call_spans import otlp_request

        self.send_otlp(otlp_request(calls))

    # --------------------------------------------------------------------------------------- datasets and runs

    def create_snapshot(
        self,
        name: str,
        *,
        filters: Mapping[str, Any] | None = None,
        rules: Mapping[str, Any] | None = None,
        as_of: str | None = None,
    ) -> Snapshot:
        """Freeze a dataset; the same query over the same feedback gives the snapshot that exists."""
        body = {"name": name, "filters": dict(filters or {}), "rules": dict(rules or {})}
        if as_of is not None:
            body["as_of"] = as_of
        return _record(Snapshot, self._send("POST", "/v1/snapshots", body))

    def snapshots(self) -> list[Json]:
        """All snapshots, newest first."""
        return cast(list[Json], self._get("/v1/snapshots")["snapshots"])

    def snapshot(self, snapshot_id: str) -> Json:
        """One snapshot with its `report`."""
        return self._get(f"/v1/snapshots/{snapshot_id}")

    def snapshot_rows(self, snapshot_id: str, form: DatasetForm, split: Split | None = None) -> Iterator[Any]:
        """The rows of one form as records of `heedloop.schema`, streamed in a fixed order."""
        params = drop_none({"form": form, "split": split})
        path = f"/v1/snapshots/{snapshot_id}/rows"
        with self._request("GET", path, params=params, stream=True) as answer:
            for line in answer.iter_lines():
                if line:
                    yield from_json(ROW_CLASSES[form], json.loads(line))

    def create_run(self, run: Run) -> Json:
        """Register a run."""
        return self._send("POST", "/v1/runs", to_json(run))

    def update_run(self, run_id: str, **changes: Any) -> Json:
        """Change a run's status, metrics, evaluation, finished_at, checkpoint, model_name or error."""
        return self._send("PATCH", f"/v1/runs/{run_id}", changes)

    def add_run_history(self, run_id: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Append live metrics: each row has `step` and numbers."""
        self._send("POST", f"/v1/runs/{run_id}/history", {"rows": [dict(r) for r in rows]})

    def runs(self) -> list[Json]:
        """All runs, newest first."""
        return cast(list[Json], self._get("/v1/runs")["runs"])

    def run(self, run_id: str) -> Json:
        """One run."""
        return self._get(f"/v1/runs/{run_id}")

    def run_history(self, run_id: str) -> list[Json]:
        """The metrics of one run by step."""
        return cast(list[Json], self._get(f"/v1/runs/{run_id}/history")["rows"])

    # -------------------------------------------------------------------------------------------------- review

    def review(self, method: ReviewMethod, path: str, body: Any = None, **params: Any) -> Json:
        """Any review route by its path behind `/v1/review/`, such as `queues/ID/next`; docs/api.md lists them."""
        if method == "GET":
            return self._get(f"/v1/review/{path}", **params)
        return self._send(method, f"/v1/review/{path}", body)

    def review_queues(self) -> list[Json]:
        """The review queues that this key may work in; all of them for reviewers and admins."""
        return cast(list[Json], self._get("/v1/review/queues")["queues"])

    def review_queue(self, queue_id: str) -> Json:
        """One review queue with its questions, its guideline and this key's own progress."""
        return self._get(f"/v1/review/queues/{queue_id}")

    def create_review_queue(self, name: str, questions: Sequence[Mapping[str, Any]], **settings: Any) -> Json:
        """A new review queue; the settings are those of a Queue in docs/api.md."""
        body = {"name": name, "questions": [dict(q) for q in questions], **settings}
        return self._send("POST", "/v1/review/queues", body)

    def change_review_queue(self, queue_id: str, **settings: Any) -> Json:
        """Change settings of a review queue."""
        return self._send("PATCH", f"/v1/review/queues/{queue_id}", settings)

    def export_review(
        self,
        queue_id: str,
        *,
        fmt: ReviewFormat = "jsonl",
        pseudonyms: bool = False,
        users: Mapping[str, str] | None = None,
        as_predictions: bool = False,
    ) -> Iterator[bytes]:
        """A queue's items with everybody's judgements as one file in pieces, in this tool's format.

        Args:
            users: the tool's users by annotator: e-mails in Label Studio, UUIDs in Argilla.
            as_predictions: judgements as predictions or suggestions, where annotators are no users of the tool.

        Raises:
            Unreachable: the transfer broke; what came so far is no whole file.
        """
        params = {
            "format": fmt,
            "pseudonyms": str(pseudonyms).lower(),
            "as_predictions": str(as_predictions).lower(),
            **({"users": json.dumps(dict(users))} if users else {}),
        }
        yield from self._pieces(f"/v1/review/queues/{queue_id}/export", params)

    def review_settings(self, queue_id: str, *, fmt: Literal["label_studio", "argilla"]) -> bytes:
        """What a project of the tool needs for a queue's export: a labelling config, or Argilla's `settings.json`."""
        return b"".join(self._pieces(f"/v1/review/queues/{queue_id}/export/settings", {"format": fmt}))

    def import_review(
        self,
        queue_id: str,
        file: bytes,
        *,
        fmt: ReviewFormat = "jsonl",
        users: Mapping[str, str] | None = None,
    ) -> Json:
        """Judgements made elsewhere, a file of that tool: `results`, one per judgement, and how many of each `status`.

        Sent 500 entries at a time; the same file again is safe, since what was stored already is a `duplicate`.

        Raises:
            ValueError: the file is neither a JSON array nor an object a line.
        """
        entries = json_entries(file)
        query = urlencode({"format": fmt, **({"users": json.dumps(dict(users))} if users else {})})
        whole: Json = {"results": [], "stored": 0, "duplicate": 0, "rejected": 0}
        for first in range(0, len(entries), 500):
            part = self._send(
                "POST", f"/v1/review/queues/{queue_id}/import?{query}", entries[first : first + 500]
            )
            for result in part["results"]:
                if result.get("error"):  # the server counts within what it was sent
                    number, _, rest = result["error"]["field"][1:].partition("]")
                    result["error"]["field"] = f"[{int(number) + first}]{rest}"
            whole["results"] += part["results"]
            for status in ("stored", "duplicate", "rejected"):
                whole[status] += part[status]
        return whole

    def set_guideline(
        self, queue_id: str, text: str, *, examples: Sequence[Mapping[str, str]] = (), send_back: bool = False
    ) -> Json:
        """A new version of a queue's guideline; `send_back` asks again for what was judged under older ones."""
        body = {"text": text, "examples": [dict(e) for e in examples], "send_back": send_back}
        return self._send("PUT", f"/v1/review/queues/{queue_id}/guideline", body)

    def guidelines(self, queue_id: str) -> list[Json]:
        """Every version of a queue's guideline, newest first."""
        return cast(list[Json], self._get(f"/v1/review/queues/{queue_id}/guidelines")["guidelines"])

    def fill_review_queue(self, queue_id: str, source: str, **how: Any) -> Json:
        """Add items from a source of docs/api.md, such as `filter` or `sample`: `added`, `known`, `matching`, `missing`."""
        return self._send("POST", f"/v1/review/queues/{queue_id}/items", {"source": source, **how})

    def add_gold(self, queue_id: str, items: Sequence[Mapping[str, Any]]) -> Json:
        """Add items whose right answers are known: `targets`, `answers`, `training`, `why`."""
        return self._send("POST", f"/v1/review/queues/{queue_id}/gold", {"items": [dict(i) for i in items]})

    def next_assignments(self, queue_id: str, *, count: int = 1, holding: Sequence[str] = ()) -> Json:
        """What this key's annotator should judge next: `assignments` and `progress`."""
        body = {"count": count, "holding": list(holding)}
        return self._send("POST", f"/v1/review/queues/{queue_id}/next", body)

    def save_draft(self, assignment_id: str, answers: Mapping[str, Any]) -> Json:
        """Keep unfinished answers; the lease begins anew."""
        return self._send("PUT", f"/v1/review/assignments/{assignment_id}/draft", {"answers": dict(answers)})

    def submit_judgement(self, assignment_id: str, answers: Mapping[str, Any], **more: Any) -> Json:
        """Store a judgement; `more`: duration_ms, next, holding, guideline_version, answer_hashes."""
        body = {"answers": dict(answers), **more}
        return self._send("POST", f"/v1/review/assignments/{assignment_id}/submit", body)

    def skip_assignment(self, assignment_id: str, reason: str = "", **more: Any) -> Json:
        """Leave an item to others; `more`: next, holding."""
        return self._send("POST", f"/v1/review/assignments/{assignment_id}/skip", {"reason": reason, **more})

    def reopen_assignment(self, assignment_id: str) -> Json:
        """Take a judgement or a skip back: the Assignment with the old answers as draft."""
        return self._send("POST", f"/v1/review/assignments/{assignment_id}/reopen", None)

    def my_assignments(self, queue_id: str, *, limit: int = 20, cursor: str | None = None) -> Json:
        """One page of this key's own assignments that are done or skipped, newest first."""
        return self._get(f"/v1/review/queues/{queue_id}/mine", limit=limit, cursor=cursor)

    # ---------------------------------------------------------------------------------------- keys and erasure

    def keys(self) -> list[Json]:
        """The project's keys, without their secrets."""
        return cast(list[Json], self._get("/v1/keys")["keys"])

    def create_key(
        self,
        name: str,
        scopes: Sequence[str] | None = None,
        *,
        role: str | None = None,
        author_id: str | None = None,
        expires_at: str | None = None,
    ) -> Json:
        """A new key; `key` holds the secret, which is shown this once. It has the scopes given or those of `role`.

        With `author_id` it is a person's: what is said with it is recorded as said by them.
        """
        given = None if scopes is None else list(scopes)
        body = {"name": name, "scopes": given, "role": role, "author_id": author_id, "expires_at": expires_at}
        return self._send("POST", "/v1/keys", drop_none(body))

    def audit(self, *, limit: int = 50, cursor: str | None = None, **filters: Any) -> Json:
        """What was changed in the project and by which key, newest first; filters `action`, `since`, `until`."""
        return self._get("/v1/audit", limit=limit, cursor=cursor, **filters)

    def delete_key(self, key_id: str) -> None:
        """Revoke a key at once."""
        self._send("DELETE", f"/v1/keys/{key_id}", None)

    def projects(self) -> list[str]:
        """The names of all projects."""
        return cast(list[str], self._get("/v1/projects")["projects"])

    def create_project(self, name: str) -> Json:
        """A new project; `key` is its first admin key, shown this once."""
        return self._send("POST", "/v1/projects", {"name": name})

    def project(self) -> Json:
        """This key's project and what holds for it: `retention_days`, and in `chosen` what it chose itself."""
        return self._get("/v1/project")

    def update_project(self, **changes: Any) -> Json:
        """Change the project's settings: `retention_days` (0 keeps everything, None follows the server)."""
        return self._send("PATCH", "/v1/project", changes)

    def erase(
        self, *, user_id: str | None = None, session_id: str | None = None, trace_id: str | None = None
    ) -> Json:
        """Erase a user, a session or a trace; the answer is the receipt."""
        body = drop_none({"user_id": user_id, "session_id": session_id, "trace_id": trace_id})
        return self._send("POST", "/v1/erasures", body)

    def erasure(self, erasure_id: str) -> Json:
        """What is left of an erasure now: rows by table, replaced parts on the store's disk, and `done`."""
        return self._get(f"/v1/erasures/{erasure_id}")


class AsyncClient:
    """A `Client` for coroutines: each call runs in a thread and is awaited.

    `await AsyncClient(client).do(Client.trace, trace_id)` has the types of `Client.trace`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def do(self, method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one method of `Client` without blocking the event loop."""
        return await asyncio.to_thread(method, self._client, *args, **kwargs)


def _record(cls: type[T], data: Mapping[str, Any]) -> T:
    known = set(cast(Any, cls).__dataclass_fields__)
    return from_json(cls, {k: v for k, v in data.items() if k in known})
