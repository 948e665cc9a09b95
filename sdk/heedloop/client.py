"""Typed client of the server's REST API: what the dashboard, the trainer and your own scripts read and write with.

One method per route of `/openapi.json`; docs/api.md has the concepts. Errors are `ApiError`s::

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
from dataclasses import replace
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
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
    pages,
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

    def me(self) -> responses.Me:
        """Whose key this is, and what it may do."""
        return self._read(responses.Me, "/v1/me")

    def health(self) -> responses.Condition:
        """How the server is: versions, tables, and `problems`, a sentence each; for a key with the scope `instance`."""
        return self._read(responses.Condition, "/v1/health")

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

    def _pieces(self, path: str, params: Mapping[str, Any]) -> Iterator[bytes]:
        with self._request("GET", path, params=params, stream=True) as answer:
            try:
                yield from answer.iter_content(1 << 16)
            except requests.RequestException as err:
                raise Unreachable(f"the export from {self.url} broke off: {err}") from err

    def trace(self, trace_id: str) -> responses.Trace:
        """One trace with the feedback on it, and the snapshots and runs that used it."""
        return self._read(responses.Trace, f"/v1/traces/{trace_id}")

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

    # ------------------------------------------------------------------------------------------------- quality

    def quality_summary(self, **filters: Any) -> responses.Summary:
        """Counts, thumbs-up rate and coverage of the period, and of the one before it."""
        return self._read(responses.Summary, "/v1/quality/summary", **filters)

    def quality_overview(
        self, *, interval: str = "day", segment: str = "tag", **filters: Any
    ) -> responses.Overview:
        """A page's worth at once: summary, trend, groups, flags, finding and over-represented groups."""
        return self._read(
            responses.Overview, "/v1/quality/overview", interval=interval, segment=segment, **filters
        )

    def quality_trend(self, *, interval: str = "day", **filters: Any) -> responses.Trend:
        """The rate per `hour`, `day` or `week`: `points` and `releases`."""
        return self._read(responses.Trend, "/v1/quality/trend", interval=interval, **filters)

    def quality_by(self, field: str, *, field2: str | None = None, **filters: Any) -> list[responses.Group]:
        """The rate per value of one field, or per pair of values of two."""
        path = "/v1/quality/by"
        return self._read(responses.Groups, path, field=field, field2=field2, **filters).groups

    def quality_heatmap(self, field: str, field2: str, **filters: Any) -> responses.Heatmap:
        """Two fields against each other: a cell per pair of values."""
        return self._read(responses.Heatmap, "/v1/quality/heatmap", field=field, field2=field2, **filters)

    def quality_compare(self, field: str, a: str, b: str, **filters: Any) -> responses.ComparedValues:
        """Two values of one field side by side: difference, interval, decision."""
        path = "/v1/quality/compare"
        return self._read(responses.ComparedValues, path, field=field, a=a, b=b, **filters)

    def quality_reasons(self, **filters: Any) -> responses.Flags:
        """Flagged answers by category."""
        return self._read(responses.Flags, "/v1/quality/reasons", **filters)

    def quality_overrepresented(self, **filters: Any) -> responses.Overrepresented:
        """Groups that are more common among thumbs-down than among rated answers."""
        return self._read(responses.Overrepresented, "/v1/quality/overrepresented", **filters)

    def quality_finding(self, **filters: Any) -> responses.Finding | None:
        """The one finding to see first; None where nothing is significant."""
        return self._read_optional(responses.Finding, "/v1/quality/finding", **filters)

    def quality_raters(self, *, field: Sequence[str] | None = None, **filters: Any) -> responses.Raters:
        """Who rates: coverage of new and returning users, and by each field."""
        fields = None if field is None else list(field)
        return self._read(responses.Raters, "/v1/quality/raters", field=fields, **filters)

    def quality_drift(
        self, *, metric: str = "rate", interval: str = "day", **filters: Any
    ) -> responses.Drift | None:
        """Whether a metric became worse than in the period before; None where that has nothing to compare with."""
        path = "/v1/quality/drift"
        return self._read_optional(responses.Drift, path, metric=metric, interval=interval, **filters)

    def quality_sample(self, **filters: Any) -> responses.Sample:
        """The ratings that users chose to give next to those of a random sample."""
        return self._read(responses.Sample, "/v1/quality/sample", **filters)

    def named_ratings(
        self, *, by: str | None = None, interval: str | None = None, **filters: Any
    ) -> responses.NamedRatings:
        """Every named rating: whole, by a field, and over time."""
        return self._read(responses.NamedRatings, "/v1/quality/ratings", by=by, interval=interval, **filters)

    def quality_marks(self, *, by: str | None = None, **filters: Any) -> responses.Marks:
        """Flags and marked ranges on answers that were judged, by a field and by length."""
        return self._read(responses.Marks, "/v1/quality/marks", by=by, **filters)

    def quality_versions(
        self, field: str, *, baseline: str | None = None, **filters: Any
    ) -> responses.Versions:
        """Every value of a field against one of them, decided over all together."""
        path = "/v1/quality/versions"
        return self._read(responses.Versions, path, field=field, baseline=baseline, **filters)

    def quality_releases(self, *, days: int = 7, **filters: Any) -> responses.Releases:
        """The releases of the period, newest first, each with its `before`, `after` and `change`."""
        return self._read(responses.Releases, "/v1/quality/releases", days=days, **filters)

    def quality_clusters(self, *, of: str = "answers", **filters: Any) -> responses.Clusters:
        """What low-rated `answers`, their `questions`, or the `comments` on them have in common."""
        return self._read(responses.Clusters, "/v1/quality/clusters", of=of, **filters)

    def quality_league(self, field: str = "model", **filters: Any) -> responses.LeagueTable:
        """Who wins pairwise comparisons: `standings`, `pairs`, and what length has to do with it."""
        return self._read(responses.LeagueTable, "/v1/quality/league", field=field, **filters)

    def quality_similar(self, trace_id: str, span_id: str, *, limit: int = 5) -> list[responses.SimilarCall]:
        """Liked answers to questions like that of a call, the most alike first."""
        path = "/v1/quality/similar"
        return self._read(responses.SimilarCalls, path, trace_id=trace_id, span_id=span_id, limit=limit).calls

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

    def ledger(self) -> responses.Ledger:
        """received = stored + rejected + duplicate + pending, for spans and for feedback."""
        return self._read(responses.Ledger, "/v1/ledger")

    # ------------------------------------------------------------------------------------------------ feedback

    def send_feedback(self, feedback: Iterable[Feedback]) -> responses.FeedbackResults:
        """Store a batch; says what became of each, in the order sent.

        Raises:
            Invalid: every entry was wrong; `body["results"]` says how.
        """
        rows = [to_json(f) for f in feedback]
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
        with self._request("POST", "/v1/feedback", data=lines, headers=headers, stream=True) as answer:
            for line in answer.iter_lines():
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
        with self._request("GET", path, params=params, stream=True) as answer:
            for line in answer.iter_lines():
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

    # -------------------------------------------------------------------------------------------------- review

    def review(self, method: ReviewMethod, path: str, body: Any = None, **params: Any) -> Json:
        """Any review route by its path behind `/v1/review/`, such as `queues/ID/next`; `/openapi.json` lists them."""
        if method == "GET":
            return self._get(f"/v1/review/{path}", **params)
        return self._send(method, f"/v1/review/{path}", body)

    def review_queues(self, *, archived: bool | None = None) -> list[responses.Queue]:
        """The review queues that this key may work in; all of them for reviewers and admins."""
        return self._read(responses.QueueList, "/v1/review/queues", archived=archived).queues

    def review_queue(self, queue_id: str) -> responses.Queue:
        """One review queue with its questions, its guideline and this key's own progress."""
        return self._read(responses.Queue, f"/v1/review/queues/{queue_id}")

    def create_review_queue(
        self, name: str, questions: Sequence[Mapping[str, Any]], **settings: Any
    ) -> responses.Queue:
        """A new review queue; the settings are those of `NewQueue` in `/openapi.json`."""
        body = {"name": name, "questions": [dict(q) for q in questions], **settings}
        return self._write(responses.Queue, "POST", "/v1/review/queues", body)

    def change_review_queue(self, queue_id: str, **settings: Any) -> responses.Queue:
        """Change settings of a review queue."""
        return self._write(responses.Queue, "PATCH", f"/v1/review/queues/{queue_id}", settings)

    def delete_review_queue(self, queue_id: str) -> None:
        """Take a review queue away; the judgements made in it are feedback and stay."""
        self._send("DELETE", f"/v1/review/queues/{queue_id}", None)

    def release_leases(self, queue_id: str, annotator: str = "") -> int:
        """End an annotator's leases, or everybody's, and return how many there were; drafts are kept."""
        body = {"annotator": annotator}
        path = f"/v1/review/queues/{queue_id}/release"
        return self._write(responses.ReleasedLeases, "POST", path, body).released

    def review_items(
        self, queue_id: str, *, limit: int = 50, cursor: str | None = None, state: str | None = None
    ) -> responses.ItemPage:
        """One page of a queue's items with everybody's judgements, in the queue's order."""
        path = f"/v1/review/queues/{queue_id}/items"
        return self._read(responses.ItemPage, path, limit=limit, cursor=cursor, state=state)

    def review_agreement(self, queue_id: str, *, by: str | None = None) -> responses.QueueAgreement:
        """How far annotators agree, per question; with `by` also per slice."""
        return self._read(responses.QueueAgreement, f"/v1/review/queues/{queue_id}/agreement", by=by)

    def review_annotators(self, queue_id: str) -> responses.QueueAnnotators:
        """How each annotator of a queue works."""
        return self._read(responses.QueueAnnotators, f"/v1/review/queues/{queue_id}/annotators")

    def review_confusion(
        self, queue_id: str, against: str, *, by: str | None = None
    ) -> responses.QueueConfusion:
        """People's consensus beside a judge model's ratings, the users' thumbs, or the model's own labels (`judge`, `user`, `model`)."""
        path = f"/v1/review/queues/{queue_id}/confusion"
        return self._read(responses.QueueConfusion, path, against=against, by=by)

    def review_compared(
        self, queue_id: str, against: str, question: str, **chosen: Any
    ) -> responses.ComparedAnswers:
        """The answers behind a confusion; `chosen`: people, other, left_out, limit, cursor."""
        path = f"/v1/review/queues/{queue_id}/confusion/answers"
        return self._read(responses.ComparedAnswers, path, against=against, question=question, **chosen)

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
    ) -> responses.ImportedJudgements:
        """Judgements made elsewhere, a file of that tool: what became of each, and how many of each status.

        Sent 500 entries at a time; the same file again is safe, since what was stored already is a `duplicate`.

        Raises:
            ValueError: the file is neither a JSON array nor an object a line.
        """
        entries = json_entries(file)
        query = urlencode({"format": fmt, **({"users": json.dumps(dict(users))} if users else {})})
        parts: list[responses.ImportedJudgements] = []
        results: list[responses.ImportResult] = []
        path = f"/v1/review/queues/{queue_id}/import?{query}"
        for first in range(0, len(entries), 500):
            part = self._write(responses.ImportedJudgements, "POST", path, entries[first : first + 500])
            parts.append(part)
            results += [_counted_from(r, first) for r in part.results]
        return responses.ImportedJudgements(
            results=results,
            stored=sum(p.stored for p in parts),
            duplicate=sum(p.duplicate for p in parts),
            rejected=sum(p.rejected for p in parts),
        )

    def set_guideline(
        self, queue_id: str, text: str, *, examples: Sequence[Mapping[str, str]] = (), send_back: bool = False
    ) -> responses.Queue:
        """A new version of a queue's guideline; `send_back` asks again for what was judged under older ones."""
        body = {"text": text, "examples": [dict(e) for e in examples], "send_back": send_back}
        return self._write(responses.Queue, "PUT", f"/v1/review/queues/{queue_id}/guideline", body)

    def guidelines(self, queue_id: str) -> list[responses.Guideline]:
        """Every version of a queue's guideline, newest first."""
        return self._read(responses.GuidelineList, f"/v1/review/queues/{queue_id}/guidelines").guidelines

    def fill_review_queue(self, queue_id: str, source: str, **how: Any) -> responses.FilledQueue:
        """Add items from a source of docs/review.md, such as `filter` or `sample`."""
        body = {"source": source, **how}
        return self._write(responses.FilledQueue, "POST", f"/v1/review/queues/{queue_id}/items", body)

    def add_gold(self, queue_id: str, items: Sequence[Mapping[str, Any]]) -> responses.FilledQueue:
        """Add items whose right answers are known: `targets`, `answers`, `training`, `why`."""
        body = {"items": [dict(i) for i in items]}
        return self._write(responses.FilledQueue, "POST", f"/v1/review/queues/{queue_id}/gold", body)

    def next_assignments(
        self, queue_id: str, *, count: int = 1, holding: Sequence[str] = ()
    ) -> responses.AssignmentsAhead:
        """What this key's annotator should judge next."""
        body = {"count": count, "holding": list(holding)}
        return self._write(responses.AssignmentsAhead, "POST", f"/v1/review/queues/{queue_id}/next", body)

    def save_draft(self, assignment_id: str, answers: Mapping[str, Any]) -> responses.StoredDraft:
        """Keep unfinished answers; the lease begins anew."""
        path = f"/v1/review/assignments/{assignment_id}/draft"
        return self._write(responses.StoredDraft, "PUT", path, {"answers": dict(answers)})

    def submit_judgement(
        self, assignment_id: str, answers: Mapping[str, Any], **more: Any
    ) -> responses.JudgedAssignment:
        """Store a judgement; `more`: duration_ms, next, holding, guideline_version, answer_hashes."""
        path = f"/v1/review/assignments/{assignment_id}/submit"
        return self._write(responses.JudgedAssignment, "POST", path, {"answers": dict(answers), **more})

    def skip_assignment(
        self, assignment_id: str, reason: str = "", **more: Any
    ) -> responses.JudgedAssignment:
        """Leave an item to others; `more`: next, holding."""
        path = f"/v1/review/assignments/{assignment_id}/skip"
        return self._write(responses.JudgedAssignment, "POST", path, {"reason": reason, **more})

    def reopen_assignment(self, assignment_id: str) -> responses.ReopenedAssignment:
        """Take a judgement or a skip back: the assignment with the old answers as draft."""
        path = f"/v1/review/assignments/{assignment_id}/reopen"
        return self._write(responses.ReopenedAssignment, "POST", path)

    def my_assignments(
        self, queue_id: str, *, limit: int = 20, cursor: str | None = None
    ) -> responses.AssignmentPage:
        """One page of this key's own assignments that are done or skipped, newest first."""
        path = f"/v1/review/queues/{queue_id}/mine"
        return self._read(responses.AssignmentPage, path, limit=limit, cursor=cursor)

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
        """Change the project's settings: `retention_days` (0 keeps everything, None follows the server)."""
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


def _counted_from(result: responses.ImportResult, first: int) -> responses.ImportResult:
    """The result with its entry's number in the whole file: the server counts within what it was sent."""
    if result.error is None:
        return result
    number, _, rest = (result.error.field or "")[1:].partition("]")
    return replace(result, error=replace(result.error, field=f"[{int(number) + first}]{rest}"))
