"""Typed client of the server's REST API: what the dashboard, the trainer and your own scripts read and write with.

One method per route of `/openapi.json`; docs/api.md has the concepts. Errors are `ApiError`s::

    ApiError
    ├── Unreachable     no response: wrong address, server down, timed out
    ├── Unauthorized    401: no key, or one that is unknown, expired or revoked
    ├── Forbidden       403: the key lacks a scope
    ├── NotFound        404
    ├── Invalid         400, 409, 413, 422: `field` says which field was wrong
    ├── Unavailable     429 or 503 after the retries; `retry_after_s` says when to come back
    └── JobFailed       the work behind the request failed or was cancelled: `job`

Reads are tried again (three times, honouring `Retry-After`) on 429, 502, 503, 504 and broken connections; so are feedback posts,
which carry their own ids and are therefore harmless to send twice.

Snapshots, queue fills, clusters and undone imports may take long: their methods wait for the job that the server answers with, and
tell `client.on_job` how far it is. An interrupt (Ctrl-C) cancels the job.

`AsyncClient` runs the same methods in a thread: `await AsyncClient(client).do(Client.trace, trace_id)`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from heedloop import responses
from heedloop._evaluation_client import EvaluationClient
from heedloop._quality_client import QualityClient
from heedloop._rest import (
    DEFAULT_URL,
    ApiError,
    Forbidden,
    Invalid,
    JobFailed,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
    drop_none,
    pages,
)
from heedloop._review_client import ReviewClient, ReviewFormat
from heedloop.schema import (
    ROW_CLASSES,
    Call,
    DatasetForm,
    Feedback,
    Prompt,
    Run,
    Snapshot,
    Split,
    Target,
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
    "JobFailed",
    "NotFound",
    "ReviewFormat",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]

P = ParamSpec("P")
T = TypeVar("T")


class Client(QualityClient, ReviewClient, EvaluationClient):
    """A key's view of one project.

    Safe to share between threads: each thread has its own connection.

    Args:
        url: the server's address; `HEEDLOOP_URL`, else http://127.0.0.1:8321.
        api_key: `HEEDLOOP_API_KEY` where not given.
        timeout_s: seconds to wait for a connection, and between two bytes of a response.
    """

    # ------------------------------------------------------------------------------------------- who and what

    def me(self) -> responses.Me:
        """Whose key this is, and what it may do."""
        return self._read(responses.Me, "/v1/me")

    def health(self) -> responses.Condition:
        """How the server is: versions, tables, and `problems`, a sentence each; for a key with the scope `instance`."""
        return self._read(responses.Condition, "/v1/health")

    def start_backup(self, name: str) -> responses.Backup:
        """Begin a backup of an embedded store; `backups` tells when it is done. For a key with the scope `instance`."""
        return self._write(responses.Backup, "POST", "/v1/backups", {"name": name})

    def jobs(self) -> list[responses.Job]:
        """The newest jobs of the kinds that this key may start: snapshots, queue fills, clusters, erasures, exports, backups."""
        return self._read(responses.JobList, "/v1/jobs").jobs

    def job(self, job_id: str) -> responses.Job:
        """One job: how far it is, and what it made."""
        return self._read(responses.Job, f"/v1/jobs/{job_id}")

    def cancel_job(self, job_id: str) -> responses.Job:
        """End a job with nothing made, before its next statement."""
        return self._write(responses.Job, "DELETE", f"/v1/jobs/{job_id}")

    def backups(self) -> list[responses.Backup]:
        """The backups of an embedded store, the newest first; for a key with the scope `instance`."""
        return self._read(responses.Backups, "/v1/backups").backups

    def calls(self, *, limit: int = 50, cursor: str | None = None, **filters: Any) -> responses.CallsPage:
        """One page of call summaries, newest first. Filters as in docs/api.md."""
        return self._read(responses.CallsPage, "/v1/calls", limit=limit, cursor=cursor, **filters)

    def iter_calls(self, **filters: Any) -> Iterator[responses.CallSummary]:
        """All call summaries that match, newest first, fetched 500 at a time."""
        return (call for page in pages(self.calls, filters) for call in page.calls)

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

    def trace(self, trace_id: str) -> responses.Trace:
        """One trace with the feedback on it, and the snapshots and runs that used it."""
        return self._read(responses.Trace, f"/v1/traces/{trace_id}")

    def conversation(self, session_id: str) -> responses.Conversation:
        """One session: its turns oldest first, each with its feedback, tokens and cost."""
        return self._read(responses.Conversation, "/v1/conversation", session_id=session_id)

    def user(self, user_id: str) -> responses.User:
        """One user: sessions, ratings and cost."""
        return self._read(responses.User, "/v1/user", user_id=user_id)

    def search(self, q: str, *, limit: int = 30, **period: Any) -> responses.SearchResults:
        """Ids, and words in questions, answers, errors, comments and corrections, newest first."""
        return self._read(responses.SearchResults, "/v1/search", q=q, limit=limit, **period)

    def feedback(
        self, *, limit: int = 50, cursor: str | None = None, **filters: Any
    ) -> responses.FeedbackPage:
        """One page of stored feedback, newest first."""
        return self._read(responses.FeedbackPage, "/v1/feedback", limit=limit, cursor=cursor, **filters)

    def iter_feedback(self, **filters: Any) -> Iterator[responses.StoredFeedback]:
        """All stored feedback that matches, newest first, fetched 500 at a time."""
        return (one for page in pages(self.feedback, filters) for one in page.feedback)

    def feedback_one(self, feedback_id: str) -> responses.FeedbackHistory:
        """One feedback with its history, and the snapshots and runs that used it."""
        return self._read(responses.FeedbackHistory, f"/v1/feedback/{feedback_id}")

    def facets(self, field: str, **filters: Any) -> list[responses.FacetValue]:
        """The values of one field with their counts, most frequent first."""
        return self._read(responses.FacetValues, "/v1/facets", field=field, **filters).values

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

    def preview_alert(self, rule: Mapping[str, Any]) -> responses.AlertPreview:
        """How often a rule would have fired in the last 30 days."""
        return self._write(responses.AlertPreview, "POST", "/v1/alerts/preview", dict(rule))

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

    def ledger(self) -> responses.Ledger:
        """received = stored + rejected + duplicate + pending, for spans and for feedback."""
        return self._read(responses.Ledger, "/v1/ledger")

    def wait_until_stored(self, timeout_s: float = 120.0) -> None:
        """Return when everything that the server has acknowledged is in its tables.

        Raises:
            TimeoutError: it is not after that time.
        """
        deadline = time.monotonic() + timeout_s
        while (ledger := self.ledger()).pending or ledger.feedback.pending:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server still holds unstored records after {timeout_s:g} s: {ledger}")
            time.sleep(0.1)

    # ------------------------------------------------------------------------------------------------ feedback

    def send_feedback(
        self, feedback: Iterable[Feedback], *, metadata: Mapping[str, str] | None = None
    ) -> responses.FeedbackResults:
        """Store a batch, each with `metadata` added to its own; says what became of each, in the order sent.

        Raises:
            Invalid: every entry was wrong; `body["results"]` says how.
        """
        rows = [to_json(f) for f in feedback]
        for row in rows if metadata else ():
            row["metadata"] = {**(row.get("metadata") or {}), **(metadata or {})}
        if not rows:
            return responses.FeedbackResults(results=[], stored=0, replaced=0, duplicate=0, rejected=0)
        return self._write(responses.FeedbackResults, "POST", "/v1/feedback", {"feedback": rows})

    def import_feedback(self, feedback: Iterable[Feedback]) -> Iterator[responses.FeedbackResult]:
        """Store as many as there are, sent as they come; then what became of each, one by one.

        What breaks off half-way may be sent again: what was stored already is a `duplicate`. Not tried again by itself,
        because what was given may be readable only once.
        """
        lines = ((json.dumps(to_json(f)) + "\n").encode() for f in feedback)
        headers = {"Content-Type": "application/x-ndjson"}
        with self._request("POST", "/v1/feedback", data=lines, headers=headers, stream=True) as response:
            for line in response.iter_lines():
                result = json.loads(line)
                if "line" in result:
                    yield from_json(responses.FeedbackResult, result, strict=False)

    def send_otlp(self, body: bytes, *, signal: str = "traces") -> None:
        """Post one OTLP protobuf request (`traces` or `logs`) as it is."""
        headers = {"Content-Type": "application/x-protobuf"}
        self._request("POST", f"/v1/{signal}", data=body, headers=headers)

    def send_calls(self, calls: Iterable[Call]) -> None:
        """Store calls that were made elsewhere, such as a model's answers that people shall judge."""
        from heedloop._call_spans import otlp_request

        self.send_otlp(otlp_request(calls))

    def save_import(self, one: responses.Import) -> responses.Import:
        """Store an import, or its newest state."""
        return self._write(responses.Import, "POST", "/v1/imports", to_json(one))

    def imports(self) -> list[responses.Import]:
        """All imports with their balances, the newest first."""
        return self._read(responses.ImportList, "/v1/imports").imports

    def undo_import(self, import_id: str) -> responses.UndoneImport:
        """Take out what an import stored."""
        return self._write(responses.UndoneImport, "POST", f"/v1/imports/{import_id}/undo")

    def known_calls(self, targets: Sequence[Target]) -> responses.KnownCalls:
        """Which calls are stored; at most 10,000 at once."""
        body = {"calls": [to_json(t) for t in targets]}
        return self._write(responses.KnownCalls, "POST", "/v1/calls/known", body)

    def tag_calls(
        self, calls: Sequence[Target], *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> responses.TaggedCalls:
        """Add tags to calls, or take added ones off; at most 1,000 calls at once. Tags that the app sent stay."""
        named = [{"trace_id": t.trace_id, "span_id": t.span_id} for t in calls]
        body = {"calls": named, "add": list(add), "remove": list(remove)}
        return self._write(responses.TaggedCalls, "POST", "/v1/calls/tags", body)

    # --------------------------------------------------------------------------------------- datasets and runs

    def create_snapshot(
        self,
        name: str,
        *,
        filters: Mapping[str, Any] | None = None,
        rules: Mapping[str, Any] | None = None,
        as_of: str | None = None,
    ) -> responses.ReportedSnapshot:
        """Freeze a dataset; the same query over the same feedback gives the snapshot that exists."""
        body = {"name": name, "filters": dict(filters or {}), "rules": dict(rules or {})}
        if as_of is not None:
            body["as_of"] = as_of
        return self._write(responses.ReportedSnapshot, "POST", "/v1/snapshots", body)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, newest first."""
        return self._read(responses.SnapshotList, "/v1/snapshots").snapshots

    def snapshot(self, snapshot_id: str) -> responses.ReportedSnapshot:
        """One snapshot with its report, and the runs that used it."""
        return self._read(responses.ReportedSnapshot, f"/v1/snapshots/{snapshot_id}")

    def snapshot_rows(self, snapshot_id: str, form: DatasetForm, split: Split | None = None) -> Iterator[Any]:
        """The rows of one form as records of `heedloop.schema`, streamed in a fixed order."""
        params = drop_none({"form": form, "split": split})
        path = f"/v1/snapshots/{snapshot_id}/rows"
        with self._request("GET", path, params=params, stream=True) as response:
            for line in response.iter_lines():
                if line:
                    yield from_json(ROW_CLASSES[form], json.loads(line))

    def create_run(self, run: Run) -> Run:
        """Register a run."""
        return self._write(Run, "POST", "/v1/runs", to_json(run))

    def update_run(self, run_id: str, **changes: Any) -> Run:
        """Change a run's status, metrics, evaluation, finished_at, checkpoint, model_name or error."""
        return self._write(Run, "PATCH", f"/v1/runs/{run_id}", changes)

    def add_run_history(self, run_id: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Append live metrics: each row has `step` and numbers."""
        self._send("POST", f"/v1/runs/{run_id}/history", {"rows": [dict(r) for r in rows]})

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return self._read(responses.RunList, "/v1/runs").runs

    def run(self, run_id: str) -> Run:
        """One run."""
        return self._read(Run, f"/v1/runs/{run_id}")

    def run_history(self, run_id: str) -> list[dict[str, int | float | None]]:
        """The metrics of one run by step."""
        return self._read(responses.HistoryRows, f"/v1/runs/{run_id}/history").rows

    def examples(self, question: str, k: int = 3, **chosen: Any) -> responses.AnswerExamples:
        """Liked and corrected answers to questions like this one; `chosen`: the other fields of docs/examples.md."""
        body = {"question": question, "k": k, **chosen}
        return self._write(responses.AnswerExamples, "POST", "/v1/examples", body)

    # ------------------------------------------------------------------------------------------------- prompts

    def create_prompt(self, prompt: Prompt, *, note: str = "") -> responses.PromptVersion:
        """Store a version of a prompt; the same words again give the version that has them."""
        body = {k: v for k, v in to_json(prompt).items() if k != "version"} | {"note": note}
        return self._write(responses.PromptVersion, "POST", "/v1/prompts", body)

    def prompts(self) -> list[responses.PromptSummary]:
        """All prompts with their labels, by name."""
        return self._read(responses.PromptList, "/v1/prompts").prompts

    def prompt(self, name: str) -> responses.PromptHistory:
        """One prompt: its versions and labels, newest first."""
        return self._read(responses.PromptHistory, f"/v1/prompts/{quote(name, safe='')}")

    def label_prompt(self, name: str, label: str, version: int | None) -> responses.PromptHistory:
        """Let a label name a version; None takes it off."""
        path = f"/v1/prompts/{quote(name, safe='')}/labels/{quote(label, safe='')}"
        return self._write(responses.PromptHistory, "PUT", path, {"version": version})

    # ---------------------------------------------------------------------------------------- keys and erasure

    def keys(self) -> list[responses.Key]:
        """The project's keys, without their secrets."""
        return self._read(responses.KeyList, "/v1/keys").keys

    def create_key(
        self,
        name: str,
        scopes: Sequence[str] | None = None,
        *,
        role: str | None = None,
        author_id: str | None = None,
        expires_at: str | None = None,
    ) -> responses.CreatedKey:
        """A new key; `key` holds the secret, which is shown this once. It has the scopes given or those of `role`.

        With `author_id` it is a person's: what is said with it is recorded as said by them.
        """
        given = None if scopes is None else list(scopes)
        body = {"name": name, "scopes": given, "role": role, "author_id": author_id, "expires_at": expires_at}
        return self._write(responses.CreatedKey, "POST", "/v1/keys", drop_none(body))

    def audit(self, *, limit: int = 50, cursor: str | None = None, **filters: Any) -> responses.AuditPage:
        """What was changed in the project and by which key, newest first; filters `action`, `since`, `until`."""
        return self._read(responses.AuditPage, "/v1/audit", limit=limit, cursor=cursor, **filters)

    def create_link(
        self, author_id: str, *, role: str = "annotator", hours: int = 168
    ) -> responses.SignInLink:
        """A token with which one person makes their own key, once; the dashboard's `/sign-in/link?token=` takes it."""
        body = {"author_id": author_id, "role": role, "hours": hours}
        return self._write(responses.SignInLink, "POST", "/v1/keys/links", body)

    def accept_link(self) -> responses.CreatedKey:
        """Make the key that this client's key, a link's token, stands for; the link is used up."""
        return self._write(responses.CreatedKey, "POST", "/v1/keys/accept", {})

    def review_team(self) -> list[responses.TeamMember]:
        """The groups and languages of those who review."""
        return self._read(responses.ReviewTeam, "/v1/review/team").members

    def set_team_member(
        self, author_id: str, *, groups: Sequence[str] = (), languages: Sequence[str] = ()
    ) -> responses.TeamMember:
        """Say which groups somebody is in and which languages they read."""
        body = {"author_id": author_id, "groups": list(groups), "languages": list(languages)}
        return self._write(responses.TeamMember, "PUT", "/v1/review/team", body)

    def delete_key(self, key_id: str) -> None:
        """Revoke a key at once."""
        self._send("DELETE", f"/v1/keys/{key_id}", None)

    def projects(self) -> list[str]:
        """The names of all projects."""
        return self._read(responses.ProjectList, "/v1/projects").projects

    def create_project(self, name: str) -> responses.CreatedProject:
        """A new project; `key` is its first admin key, shown this once."""
        return self._write(responses.CreatedProject, "POST", "/v1/projects", {"name": name})

    def project(self) -> responses.Project:
        """This key's project and what holds for it."""
        return self._read(responses.Project, "/v1/project")

    def update_project(self, **changes: Any) -> responses.Project:
        """Change the project's settings: `retention_days` (0 keeps everything, None follows the server), `prices`, `views`,
        `feedback_webhook` (`{"url", "imports"}`, None for none)."""
        return self._write(responses.Project, "PATCH", "/v1/project", changes)

    def erase(
        self, *, user_id: str | None = None, session_id: str | None = None, trace_id: str | None = None
    ) -> responses.ErasureReceipt:
        """Erase a user, a session or a trace."""
        body = drop_none({"user_id": user_id, "session_id": session_id, "trace_id": trace_id})
        return self._write(responses.ErasureReceipt, "POST", "/v1/erasures", body)

    def erasure(self, erasure_id: str) -> responses.ErasureCheck:
        """What is left of an erasure now: rows by table, replaced parts on the store's disk, and `done`."""
        return self._read(responses.ErasureCheck, f"/v1/erasures/{erasure_id}")


class AsyncClient:
    """A `Client` for coroutines: each call runs in a thread and is awaited.

    `await AsyncClient(client).do(Client.trace, trace_id)` has the types of `Client.trace`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def do(self, method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one method of `Client` without blocking the event loop."""
        return await asyncio.to_thread(method, self._client, *args, **kwargs)
