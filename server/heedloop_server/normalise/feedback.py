"""Judgements that come over OTLP -> `heedloop.schema.Feedback`.

Three forms: the standard's `gen_ai.evaluation.result` event (log record or span event), OpenInference's annotations
(`annotations.N.annotation.*` on the judged span, or on a carrier span with one link to it) and Logfire's annotation
spans. None of them states a score's scale, so the smallest usual one that holds the score is assumed and marked so in
the feedback's metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop.schema import THUMB, Author, AuthorKind, Feedback, Scale, SchemaError, Target
from heedloop_server.normalise.indexed import unflatten
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.values import as_name, as_number, as_text, read_object

EVALUATION_RESULT = "gen_ai.evaluation.result"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SCALES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 10.0), (0.0, 100.0))
_THUMB_NAMES = {"thumb", "thumbs", "feedback", "user_feedback", "user-feedback", "user_thumb", "userfeedback"}
_UP = {"up", "thumbs_up", "thumbs-up", "thumb_up", "thumbs up", "👍", "like", "liked", "positive", "good"}
_DOWN = {
    "down",
    "thumbs_down",
    "thumbs-down",
    "thumb_down",
    "thumbs down",
    "👎",
    "dislike",
    "disliked",
    "negative",
    "bad",
}
_KINDS: dict[str, AuthorKind] = {
    "human": "end_user",
    "user": "end_user",
    "end_user": "end_user",
    "annotator": "annotator",
    "llm": "model",
    "llm_judge": "model",
    "model": "model",
    "code": "code",
    "deterministic": "code",
    "custom": "code",
}


def annotations_of(span: SpanView) -> list[Feedback]:
    """The feedback that one span carries: in annotations, in evaluation events, or by being an annotation itself."""
    found: list[Feedback | None] = []
    if span.attrs.get("logfire.span_type") == "annotation":
        found.append(_logfire(span))
    if span.shape.judgements:
        found.extend(_openinference(span))
    for event in span.events:
        if event.name == EVALUATION_RESULT:
            ids = {"trace_id": span.trace_id, "span_id": span.span_id}
            found.append(evaluation(event.attrs, **ids, time_ns=event.time_ns or span.end_ns))
    return [f for f in found if f is not None]


# ---------------------------------------------------------------------------------------------------- the forms


def evaluation(attrs: Mapping[str, Any], *, trace_id: str, span_id: str, time_ns: int) -> Feedback | None:
    """A `gen_ai.evaluation.result` event as feedback on its span, or on the response it names; None where neither."""
    target = _target(trace_id, span_id) or _response_target(attrs.get("gen_ai.response.id"))
    name = as_name(attrs.get("gen_ai.evaluation.name"))
    kind = as_name(attrs.get("gen_ai.evaluation.evaluator.type") or attrs.get("gen_ai.evaluator.type"))
    identifier = (
        attrs.get("gen_ai.evaluation.evaluator.id")
        or attrs.get("gen_ai.evaluator.id")
        or attrs.get("user.id")
    )
    return _feedback(
        target,
        name,
        score=attrs.get("gen_ai.evaluation.score.value"),
        label=as_name(attrs.get("gen_ai.evaluation.score.label")),
        comment=as_name(attrs.get("gen_ai.evaluation.explanation")),
        author=_author(kind, identifier, name),
        time_ns=time_ns,
    )


def _logfire(span: SpanView) -> Feedback | None:
    """An annotation span: a child of what it judges, the value under the feedback's own name."""
    attrs = span.attrs
    name = as_name(attrs.get("logfire.feedback.name"))
    value = attrs.get(name) if name else None
    number = as_number(value)
    return _feedback(
        _target(span.trace_id, span.parent_span_id or ""),
        name,
        score=value if isinstance(value, bool) else number,
        label=None if number is not None or isinstance(value, bool) else as_name(value),
        comment=as_name(attrs.get("logfire.feedback.comment")),
        author=_author("human", attrs.get("user_id") or attrs.get("user.id"), name),
        time_ns=span.start_ns,
    )


def _openinference(span: SpanView) -> list[Feedback | None]:
    """Annotations and evaluations of the span (or the one it links to), of its trace and of its session."""
    linked = span.links[0] if len(span.links) == 1 else None
    trace_id = linked.trace_id if linked else span.trace_id
    span_id = linked.span_id if linked else span.span_id
    session = as_name(span.attrs.get("session.id"))
    targets = {
        "trace": _target(trace_id, ""),
        "session": Target(session_id=session[:256]) if session else None,
    }
    found: list[Feedback | None] = []
    for prefix in span.shape.judgements:
        target = targets.get(prefix.partition(".")[0], _target(trace_id, span_id))
        singular = "annotation" if "annotations" in prefix else "evaluation"
        for entry in unflatten(span.attrs, prefix):
            inner = entry.get(singular) if isinstance(entry, dict) else None
            if isinstance(inner, dict):
                found.append(_annotation(inner, target, span))
    return found


def _annotation(entry: dict[str, Any], target: Target | None, span: SpanView) -> Feedback | None:
    name = as_name(entry.get("name"))
    metadata = {str(k): as_text(v) for k, v in read_object(entry.get("metadata")).items()}
    return _feedback(
        target,
        name,
        score=entry.get("score"),
        label=as_name(entry.get("label")),
        comment=as_name(entry.get("explanation")),
        author=_author(as_name(entry.get("annotator_kind")), entry.get("identifier"), name),
        time_ns=span.start_ns,
        metadata=metadata,
    )


# ------------------------------------------------------------------------------------------------- what they share


def _target(trace_id: str, span_id: str) -> Target | None:
    try:
        return Target(trace_id=trace_id or None, span_id=span_id or None) if trace_id else None
    except SchemaError:
        return None


def _response_target(response_id: Any) -> Target | None:
    name = as_name(response_id)
    return Target(response_id=name[:256]) if name else None


def _author(kind: str | None, identifier: Any, name: str | None) -> Author:
    """Who judged; where nobody says, a judgement named after the user is the user's and any other is code's."""
    by_name: AuthorKind = (
        "end_user" if name and (name.lower() in _THUMB_NAMES or "user" in name.lower()) else "code"
    )
    known = _KINDS.get(kind.lower(), "code") if kind else by_name
    own = as_name(identifier)
    return Author(kind=known, id=own[:256] if own else None)


def _feedback(
    target: Target | None,
    name: str | None,
    *,
    score: Any,
    label: str | None,
    comment: str | None,
    author: Author,
    time_ns: int,
    metadata: Mapping[str, str] | None = None,
) -> Feedback | None:
    """The feedback of one judgement; None where it has no target, no name or says nothing."""
    judgement = _value_and_scale(name, score, label)
    if target is None or name is None or (not judgement and comment is None):
        return None
    extra = {k[:256]: v[:4096] for k, v in list((metadata or {}).items())[:60] if k}
    if label is not None:
        extra["label"] = label[:4096]
    if judgement.get("name") not in (None, name):
        extra["sent_name"] = name[:4096]
    if isinstance(judgement.get("scale"), Scale) and judgement["scale"] != THUMB:
        extra["scale"] = "assumed"
    fields: dict[str, Any] = {
        "kind": "rating" if "value" in judgement else "comment",
        "name": name[:256],
        **judgement,
    }
    try:
        return Feedback(
            target=target,
            comment=comment[:1_000_000] if comment else None,
            author=author,
            created_at=_EPOCH + timedelta(microseconds=time_ns // 1000),
            id=_id(target, name, author, score, label, comment, time_ns),
            metadata=extra,
            **fields,
        )
    except SchemaError:
        return None


def _value_and_scale(name: str | None, score: Any, label: str | None) -> dict[str, Any]:
    """Value and scale of a judgement, and the name `thumb` where it is one; empty where there is no value."""
    thumb = _thumb(name, score, label)
    if thumb is not None:
        return {"name": "thumb", "value": float(thumb), "scale": THUMB}
    if isinstance(score, bool):
        return {"value": float(score), "scale": THUMB}
    number = as_number(score)
    if number is not None:
        scale = next((s for s in _SCALES if s[0] <= number <= s[1]), None)
        low, high = scale or (min(0.0, float(number)), max(1.0, float(number)))
        return {"value": float(number), "scale": Scale(low, high)}
    if label is not None:
        return {"value": label[:256], "scale": Scale(categories=(label[:256],))}
    return {}


def _thumb(name: str | None, score: Any, label: str | None) -> int | None:
    """1 or 0 for a thumb: a yes or no under a name for thumbs, or a label that says it; None for anything else."""
    word = (label or "").lower()
    named = bool(name) and str(name).lower() in _THUMB_NAMES
    number = int(score) if isinstance(score, bool) else as_number(score)
    if word in _UP or word in _DOWN:
        up = int(word in _UP)
        return up if number in (None, up) and (named or "thumb" in word) else None
    return int(number) if named and not word and number in (0, 1) else None


def _id(target: Target, *parts: object) -> str:
    """An id made of the judgement itself, so that a resend is the same feedback."""
    return hashlib.sha256(repr((target.key, parts)).encode("utf-8", "replace")).hexdigest()[:32]
