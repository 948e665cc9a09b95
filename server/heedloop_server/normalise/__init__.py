"""What any client sends -> the one `heedloop.schema.Call`. Pure: no I/O, no clock, no state.

One small module per foreign convention; docs/normalise.md says who puts what where, and how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heedloop.schema import Call, Feedback
from heedloop_server.normalise.call import call_of
from heedloop_server.normalise.duplicates import duplicate_key, richness
from heedloop_server.normalise.duplicates import fold as dedupe
from heedloop_server.normalise.family import resolve_family
from heedloop_server.normalise.feedback import annotations_of
from heedloop_server.normalise.logs import LogContent, log_spans, merge, normalise_logs
from heedloop_server.normalise.span import span_views

__all__ = [
    "LogContent",
    "Traces",
    "dedupe",
    "duplicate_key",
    "log_spans",
    "merge",
    "normalise_logs",
    "normalise_request",
    "normalise_traces",
    "richness",
]


@dataclass(frozen=True, slots=True)
class Traces:
    """What a traces request holds: a call per span, in the order sent, and the feedback that its spans carry."""

    calls: list[Call]
    feedback: list[Feedback]


def normalise_traces(request: Any) -> Traces:
    """The calls and the feedback of an `ExportTraceServiceRequest`, its spans decoded once for both."""
    spans = list(span_views(request))
    feedback = [f for span in spans for f in annotations_of(span)]
    return Traces(resolve_family(spans, [call_of(span) for span in spans]), feedback)


def normalise_request(request: Any) -> list[Call]:
    """Every span of an `ExportTraceServiceRequest` as a `Call`, in the order sent.

    Spans that are no LLM or embedding call have an empty `operation`; they carry names, times, context, errors and
    attributes, never messages or tokens, because what a parent says of its children would count twice.
    """
    spans = list(span_views(request))
    return resolve_family(spans, [call_of(span) for span in spans])
