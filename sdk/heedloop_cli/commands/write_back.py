"""Feedback in other systems' forms: the requests that store it there, or OpenTelemetry's events.

Each request is what the system's own reader (`heedloop_cli.importers`) reads back as the same judgement; what a system has no
place for is left out by name. Sources: Langfuse `scores`, Phoenix `span_annotations`, MLflow `assessments` (their API
descriptions); OpenTelemetry's event `gen_ai.evaluation.result`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any

from heedloop.responses import StoredFeedback
from heedloop.schema import Feedback, format_time, to_json
from heedloop_cli.importers.system import WHOLE

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SOURCES = {"annotator": "HUMAN", "end_user": "HUMAN", "model": "LLM_JUDGE", "code": "CODE"}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that stores a judgement: a path behind the system's address, and its body."""

    path: str
    body: Json


class NoPlace(Exception):
    """Why a system cannot hold a judgement."""


def requests_of(feedback: Iterable[StoredFeedback], to: str, left_out: Counter[str]) -> Iterator[Request]:
    """The requests in a system's form; why judgements are left out is counted in `left_out`."""
    for one in feedback:
        try:
            yield WRITERS[to](one)
        except NoPlace as err:
            left_out[str(err)] += 1


def _metadata(one: StoredFeedback) -> Json:
    """The judgement's own metadata, and the judgement itself, so that it comes back as it was."""
    names = {f.name for f in fields(Feedback)}
    own = {k: v for k, v in to_json(one).items() if k in names}
    author = {"user_id": one.author.id} if one.author.id else {}
    return {**one.metadata, **author, WHOLE: json.dumps(own, ensure_ascii=False)}


def _ids(one: StoredFeedback) -> tuple[str, str | None]:
    """Trace and span: those that the sender named, else of the call that was found."""
    trace = one.target.trace_id or one.call_trace_id
    if trace is None:
        raise NoPlace("about a session or a response: no trace is named")
    return trace, one.target.span_id or (one.call_span_id if one.target.trace_id is None else None)


def _value(one: StoredFeedback) -> tuple[str, Any]:
    """(Langfuse's data type, value)."""
    if one.kind == "comparison":
        raise NoPlace("a comparison of several answers")
    if one.kind == "flag":
        return "CATEGORICAL", one.category
    if one.kind == "comment":
        return "TEXT", one.comment
    if one.kind == "correction":
        return "CORRECTION", one.correction
    if one.is_thumb:
        return "BOOLEAN", int(one.value or 0)
    return ("CATEGORICAL" if isinstance(one.value, str) else "NUMERIC"), one.value


def _langfuse(one: StoredFeedback) -> Request:
    data_type, value = _value(one)
    place: Json = {"sessionId": one.target.session_id}
    if one.target.session_id is None:
        trace, span = _ids(one)
        place = {"traceId": trace, "observationId": span}
    body = {
        "id": one.id,
        "name": one.name,
        "value": value,
        "dataType": data_type,
        "metadata": _metadata(one),
        **place,
    }
    comment = one.comment if one.kind != "comment" else None
    return Request(
        "/api/public/scores", {k: v for k, v in {**body, "comment": comment}.items() if v is not None}
    )


def _phoenix(one: StoredFeedback) -> Request:
    _, span = _ids(one)
    if span is None:
        raise NoPlace("about a whole trace")
    if one.kind == "correction":
        raise NoPlace("a correction")
    kind = {"model": "LLM", "code": "CODE"}.get(one.author.kind, "HUMAN")
    _, value = _value(one)
    is_text = isinstance(value, str)
    label = ("thumbs-up" if value else "thumbs-down") if one.is_thumb else value if is_text else None
    result: Json = {
        "label": None if one.kind == "comment" else label,
        "score": None if is_text else float(value or 0),
    }
    result["explanation"] = one.comment
    entry = {"span_id": span, "name": one.name, "annotator_kind": kind, "identifier": one.author.id or one.id}
    entry |= {"result": {k: v for k, v in result.items() if v is not None}, "metadata": _metadata(one)}
    return Request("/v1/span_annotations?sync=true", {"data": [entry]})


def _mlflow(one: StoredFeedback) -> Request:
    trace, span = _ids(one)
    _, value = _value(one)
    value = bool(value) if one.is_thumb else value
    source = {"source_type": _SOURCES[one.author.kind], "source_id": one.author.id or one.author.kind}
    at = format_time(one.created_at)
    said: Json = {"feedback": {"value": [value] if one.kind == "flag" else value}}
    if one.kind == "correction":
        said = {"expectation": {"value": value}}
    name = "expected_response" if one.kind == "correction" else one.name
    body = {"assessment_name": name, "trace_id": f"tr-{trace}", "source": source, "create_time": at, **said}
    body |= {"last_update_time": at, "metadata": {k: str(v) for k, v in _metadata(one).items()}}
    body |= {"rationale": one.comment} if one.comment and one.kind != "comment" else {}
    body |= {"span_id": span} if span else {}
    return Request(f"/api/3.0/mlflow/traces/tr-{trace}/assessments", {"assessment": body})


def _otel(one: StoredFeedback) -> Request:
    """One OTLP/JSON request with the event `gen_ai.evaluation.result`."""
    trace, span = _ids(one)
    _, value = _value(one)
    texts = {
        "gen_ai.evaluation.name": one.name,
        "gen_ai.evaluation.score.label": value if isinstance(value, str) else None,
        "gen_ai.evaluation.explanation": one.comment,
        "heedloop.feedback.kind": one.kind,
        "heedloop.author.kind": one.author.kind,
        "user.id": one.author.id,
    }
    attributes: list[Json] = [
        {"key": k, "value": {"stringValue": v}} for k, v in texts.items() if v is not None
    ]
    if isinstance(value, (int, float)):
        attributes.append({"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": float(value)}})
    at = one.created_at - _EPOCH
    nanoseconds = (at.days * 86_400 + at.seconds) * 10**9 + at.microseconds * 1000
    event = {"timeUnixNano": str(nanoseconds), "eventName": "gen_ai.evaluation.result", "traceId": trace}
    event |= {"spanId": span} if span else {}
    scope = {"scope": {"name": "heedloop"}, "logRecords": [{**event, "attributes": attributes}]}
    return Request("/v1/logs", {"resourceLogs": [{"resource": {}, "scopeLogs": [scope]}]})


WRITERS: Mapping[str, Callable[[StoredFeedback], Request]] = {
    "langfuse": _langfuse,
    "phoenix": _phoenix,
    "mlflow": _mlflow,
    "otel": _otel,
}


def line_of(request: Request) -> str:
    """One request as a line of the file."""
    return json.dumps({"path": request.path, "body": request.body}, ensure_ascii=False) + "\n"
