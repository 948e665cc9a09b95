"""One search over everything: ids lead to their page at once, words to the texts that have all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, get_args
from uuid import UUID

from fastapi import Query

from heedloop.responses.calls import CallSummary
from heedloop.responses.sessions import SearchedId, SearchedIn, SearchHit, SearchResults
from heedloop.words import find_parts
from heedloop_server.filters import CallFilters, Time
from heedloop_server.http.services import ReadProject
from heedloop_server.http.shared_responses import SharedRouter
from heedloop_server.routes.calls import summaries_with_feedback
from heedloop_server.store.admin.alerts import find_alert
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.datasets.runs import find_run
from heedloop_server.store.datasets.snapshots import find_snapshot
from heedloop_server.store.feedback import StoredFeedback, feedback_of_trace, get_feedback
from heedloop_server.store.quality.low_rated import texts_of
from heedloop_server.store.search import failed_calls, feedback_saying, known_as, trace_of_span
from heedloop_server.store.spans import list_calls, trace_calls

router = SharedRouter()

AROUND = 120
"""Characters of an excerpt before and after the first hit."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}.*")
_Cut = tuple[str, list[tuple[int, int]]]


@router.get("/v1/search")
def search(
    project: ReadProject,
    q: Annotated[str, Query(min_length=1, max_length=500)],
    since: Time | None = None,
    until: Time | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 30,
) -> SearchResults:
    """Ids (of a trace, span, session, user, feedback, run, snapshot, alert) in any period; words within the period."""
    filters = CallFilters(since=since, until=until, text=q)
    begin, end = filters.period()
    ids = list(_ids(project, q.strip()))
    hits: list[SearchHit] = []
    if not ids:
        rows = list_calls(project, filters, limit=limit, after=None)
        hits += _answers(project, rows, q)
        hits += _failures(failed_calls(project, q, begin, end, limit=limit), q)
        hits += [_feedback_hit(f, q) for f in feedback_saying(project, q, begin, end, limit=limit)]
    hits.sort(key=lambda h: h.time, reverse=True)
    return SearchResults(
        ids=ids, hits=hits[:limit], searched=list(get_args(SearchedIn)), since=begin, until=end
    )


def _ids(project: ProjectStore, text: str) -> Iterator[SearchedId]:
    """What a text is the id of."""
    low = text.lower()
    parent = _TRACEPARENT.fullmatch(low)
    if parent:
        yield SearchedId(kind="trace", id=parent[1], span_id=parent[2])
    elif re.fullmatch("[0-9a-f]{32}", low) and (trace_calls(project, low) or feedback_of_trace(project, low)):
        yield SearchedId(kind="trace", id=low)
    elif re.fullmatch("[0-9a-f]{16}", low):
        trace = trace_of_span(project, low)
        if trace is not None:
            yield SearchedId(kind="trace", id=trace, span_id=low)
        elif find_alert(project, low) is not None:
            yield SearchedId(kind="alert", id=low)
    elif re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", low):
        now, history = get_feedback(project, UUID(low))
        if now is not None or history:
            yield SearchedId(kind="feedback", id=low)
    if " " in text:
        return
    is_session, is_user = known_as(project, text)
    if is_session:
        yield SearchedId(kind="session", id=text)
    if is_user:
        yield SearchedId(kind="user", id=text)
    if find_run(project, text) is not None:
        yield SearchedId(kind="run", id=text)
    if find_snapshot(project, text) is not None:
        yield SearchedId(kind="snapshot", id=text)


def _answers(project: ProjectStore, rows: Sequence[Row], q: str) -> Iterator[SearchHit]:
    keys = [(r["start_time"], r["trace_id_hex"], r["span_id_hex"]) for r in rows]
    questions, answers = (texts_of(project, keys, c) if keys else {} for c in ("question", "answer"))
    for call in summaries_with_feedback(project, rows):
        key = (call.trace_id, call.span_id)
        asked, said = questions.get(key, ""), answers.get(key, "")
        in_question = len(find_parts(asked, q)) >= len(find_parts(said, q))
        yield _hit("question" if in_question else "answer", call, _cut(asked if in_question else said, q))


def _failures(rows: Sequence[Row], q: str) -> Iterator[SearchHit]:
    for r in rows:
        excerpt, marks = _cut(r["error_message"], q)
        yield SearchHit(
            found_in="error", time=r["start_time"], trace_id=r["trace_id_hex"], span_id=r["span_id_hex"], feedback_id=None,
            excerpt=excerpt, marks=marks, model=r["model"] or None, prompt_version=r["prompt_version"] or None, thumb=None,
        )  # fmt: skip


def _hit(found_in: Literal["question", "answer"], call: CallSummary, cut: _Cut) -> SearchHit:
    return SearchHit(
        found_in=found_in, time=call.start_time, trace_id=call.trace_id, span_id=call.span_id, feedback_id=None,
        excerpt=cut[0], marks=cut[1], model=call.model, prompt_version=call.prompt_version, thumb=call.thumb,
    )  # fmt: skip


def _feedback_hit(stored: StoredFeedback, q: str) -> SearchHit:
    f = stored.response()
    in_comment = not f.correction or len(find_parts(f.comment or "", q)) > 0
    excerpt, marks = _cut((f.comment if in_comment else f.correction) or "", q)
    return SearchHit(
        found_in="comment" if in_comment else "correction", time=f.created_at,
        trace_id=f.call_trace_id or f.target.trace_id, span_id=f.call_span_id or f.target.span_id, feedback_id=f.feedback_id,
        excerpt=excerpt, marks=marks, model=f.model, prompt_version=f.prompt_version,
        thumb=(1 if f.value and float(f.value) > 0.5 else 0) if f.kind == "rating" and isinstance(f.value, (int, float)) else None,
    )  # fmt: skip


def _cut(text: str, q: str) -> _Cut:
    """The text around its first hit, and the hits in it."""
    marks = find_parts(text, q)
    start = max(0, marks[0][0] - AROUND) if marks else 0
    end = min(len(text), (marks[0][1] if marks else 0) + 2 * AROUND)
    lead = "\u2026" if start else ""
    shift = len(lead) - start
    inside = [(a + shift, min(b, end) + shift) for a, b in marks if a < end]
    return lead + text[start:end] + ("\u2026" if end < len(text) else ""), inside
