"""The review routes of the REST API; `heedloop.client.Client` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode

from heedloop import responses
from heedloop._rest import Json, Rest, json_entries

ReviewMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ReviewFormat = Literal["jsonl", "label_studio", "argilla"]


class ReviewClient(Rest):
    """What reviewers and annotators read and write; docs/review.md has the concepts."""

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

    def review_pools(self, queue_id: str) -> responses.QueuePools:
        """The groups of the team held against each other."""
        return self._read(responses.QueuePools, f"/v1/review/queues/{queue_id}/pools")

    def review_coverage(self, queue_id: str, by: str, **filters: Any) -> responses.QueueCoverage:
        """Of the answers that the filters take: how many of each value of a field are in the queue, and judged in it."""
        path = f"/v1/review/queues/{queue_id}/coverage"
        return self._read(responses.QueueCoverage, path, by=by, **filters)

    def review_annotators(self, queue_id: str) -> responses.QueueAnnotators:
        """How each annotator of a queue works."""
        return self._read(responses.QueueAnnotators, f"/v1/review/queues/{queue_id}/annotators")

    def review_confusion(
        self, queue_id: str, against: str, *, by: str | None = None
    ) -> responses.QueueConfusion:
        """The annotators' consensus compared with a judge model's ratings, the users' thumbs, or the model's own labels (`judge`, `user`, `model`)."""
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
        """Keep unfinished answers; the lease starts again."""
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


def _counted_from(result: responses.ImportResult, first: int) -> responses.ImportResult:
    """The result with its entry's number in the whole file: the server counts within what it was sent."""
    if result.error is None:
        return result
    number, _, rest = (result.error.field or "")[1:].partition("]")
    return replace(result, error=replace(result.error, field=f"[{int(number) + first}]{rest}"))
