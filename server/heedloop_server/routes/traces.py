"""One trace, whole."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from heedloop.responses.calls import Trace
from heedloop_server.errors import NotFound
from heedloop_server.http.responses import Router
from heedloop_server.http.services import ReadProject
from heedloop_server.seen_answers import seen_call
from heedloop_server.store.datasets.runs import summaries_of_runs
from heedloop_server.store.datasets.snapshots import snapshots_of_traces
from heedloop_server.store.feedback import feedback_of_trace
from heedloop_server.store.spans import trace_calls

router = Router()

TraceId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


@router.get("/v1/traces/{trace_id}")
def get_trace(project: ReadProject, trace_id: TraceId) -> Trace:
    """Every span of a trace by start time, which of them its user saw, the feedback on it, and what was trained on it."""
    spans = trace_calls(project, trace_id)
    feedback = feedback_of_trace(project, trace_id, sorted({s.session_id for s in spans if s.session_id}))
    if not spans and not feedback:
        raise NotFound(f"there is no trace {trace_id} in this project")
    answered = [s for s in spans if s.output_messages]
    snapshots = [s.id for s in snapshots_of_traces(project, [trace_id])]
    return Trace(
        trace_id=trace_id,
        answer_span_id=seen_call(answered).span_id if answered else None,
        spans=spans,
        feedback=[f.response() for f in feedback],
        snapshots=snapshots,
        runs=summaries_of_runs(project, snapshots),
    )
