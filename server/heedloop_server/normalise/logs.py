"""OTLP log records that hold a call's content, and how they join their call: by trace and span, in whatever order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from heedloop.schema import Call, Feedback
from heedloop_server.normalise import context, genai
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.feedback import EVALUATION_RESULT, evaluation
from heedloop_server.normalise.messages import system_messages
from heedloop_server.normalise.shape import shape_of
from heedloop_server.normalise.span import decode_attributes
from heedloop_server.normalise.values import as_name, as_text, decode, read_object

_EXCEPTION = "gen_ai.client.operation.exception"
FROM_LOGS = "heedloop.from_logs"
"""Attribute of a call that log records added to: the fields they filled, and the spans they named, as JSON."""


@dataclass(frozen=True, slots=True)
class LogContent:
    """Content of one call that came as a log record.

    Attributes:
        trace_id: hex; with `span_id` it names the call.
        event: the event's name, such as `gen_ai.choice`.
        time_ns: when it was said, in nanoseconds since 1970; orders the messages of one call.
        index: its place in its request, which orders what was said at one time.
        attributes: the record's attributes, decoded.
        body: the record's body, decoded.
    """

    trace_id: str
    span_id: str
    event: str
    time_ns: int
    index: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None

    @property
    def identity(self) -> str:
        """Equal for the same record sent twice, in whatever request."""
        identity = [self.trace_id, self.span_id, self.event, self.time_ns, self.attributes, self.body]
        return json.dumps(identity, ensure_ascii=False, sort_keys=True, default=as_text)

    def to_json(self) -> str:
        """Text for the store; `from_json` gives an equal record back."""
        return json.dumps(
            {f.name: getattr(self, f.name) for f in fields(self)}, ensure_ascii=False, default=as_text
        )

    @classmethod
    def from_json(cls, text: str) -> LogContent:
        """The record that `to_json` wrote; raises `ValueError` or `TypeError` for anything else."""
        return cls(**json.loads(text))


def normalise_logs(request: Any) -> list[LogContent | Feedback]:
    """What an `ExportLogsServiceRequest` says about calls: their content, and evaluations as feedback.

    Records of other kinds, and content without a trace and span id, which no call could claim, are left out.
    """
    found: list[LogContent | Feedback] = []
    for index, (scope, record) in enumerate(_records(request)):
        attrs = decode_attributes(record.attributes)
        event = record.event_name or as_text(attrs.get("event.name"))
        time_ns = record.time_unix_nano or record.observed_time_unix_nano
        trace_id, span_id = record.trace_id.hex(), record.span_id.hex()
        if event == EVALUATION_RESULT:
            feedback = evaluation(attrs, trace_id=trace_id, span_id=span_id, time_ns=time_ns)
            found.extend([feedback] if feedback is not None else [])
        elif trace_id and span_id and _is_content(event, attrs, scope):
            found.append(LogContent(trace_id, span_id, event, time_ns, index, attrs, decode(record.body)))
    return found


def _records(request: Any) -> Iterator[tuple[str, Any]]:
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield scope_logs.scope.name, record


def _is_content(event: str, attrs: Mapping[str, Any], scope: str) -> bool:
    if genai.is_message_event(event) or event in (genai.OPERATION_DETAILS, _EXCEPTION):
        return True
    return (
        "gen_ai.input.messages" in attrs
        or "gen_ai.output.messages" in attrs
        or (event.startswith("gen_ai.") or (scope == "gcp.vertex.agent" and bool(event)))
    )


def merge(call: Call, contents: Iterable[LogContent]) -> Call:
    """The call with what its log records add; what the span itself said stays.

    Give it all records that are known of the call: what earlier ones added is read anew, so that neither their order nor
    their number of arrivals matters.
    """
    ordered = sorted(
        {c.identity: c for c in contents}.values(), key=lambda c: (c.time_ns, c.index, c.identity)
    )
    if not call.operation or not ordered:
        return call
    span = _without_logs(call)
    draft = _draft_of(span)
    events = [(c.event, _event_body(c)) for c in ordered if genai.is_message_event(c.event)]
    if events:
        genai.read_event_messages(events, draft)
    for content in ordered:
        if not genai.is_message_event(content.event):
            genai.read_attributes({**content.attributes, **read_object(content.body)}, draft)
        context.read(content.attributes, shape_of(content.attributes), draft)
        _read_exception(content, draft)
    return _with(span, draft, {f"{c.trace_id}:{c.span_id}" for c in ordered})


def log_spans(call: Call) -> set[tuple[str, str]]:
    """The spans (trace id, span id) whose log records the call was joined with."""
    spans = read_object(call.attributes.get(FROM_LOGS)).get("spans", ())
    return {(trace, span) for trace, _, span in (str(s).partition(":") for s in spans)}


def _event_body(content: LogContent) -> dict[str, Any]:
    """A message event's fields: its body, or its attributes where the body is empty."""
    body = content.body
    if isinstance(body, str):
        body = read_object(body) or {"content": body}
    if isinstance(body, dict) and body:
        return body
    return {k.removeprefix("gen_ai.event."): v for k, v in content.attributes.items()}


def _read_exception(content: LogContent, draft: Draft) -> None:
    message = as_name(content.attributes.get("exception.message"))
    if message and draft.error_message is None and draft.failed:
        draft.error_message = message


_DRAFTED = tuple(n for n in Draft.__slots__ if n not in ("failed", "duration_ns"))


def _without_logs(call: Call) -> Call:
    """The call as its span alone has it."""
    if FROM_LOGS not in call.attributes:
        return call
    empty = Draft()
    named = read_object(call.attributes[FROM_LOGS]).get("fields", ())
    fields: dict[str, Any] = {n: getattr(empty, n) for n in named if n in _DRAFTED}
    if "input_messages" in fields:  # what the span itself has of them
        fields["input_messages"] = system_messages(call.attributes.get("gen_ai.system_instructions"))
    attributes = {k: v for k, v in call.attributes.items() if k != FROM_LOGS}
    return replace(call, **fields, attributes=attributes)


def _draft_of(call: Call) -> Draft:
    draft = Draft()
    for name in _DRAFTED:
        setattr(draft, name, getattr(call, name))
    draft.params = dict(call.params)
    draft.failed = call.status == "error"
    return draft


def _with(call: Call, draft: Draft, spans: set[str]) -> Call:
    """The span's call with what the draft knows beyond it, and a note of which fields and spans that came from."""
    if call.operation == "embeddings":
        draft.embedding_inputs = draft.embedding_inputs or tuple(
            m.text for m in draft.input_messages if m.text
        )
        draft.input_messages = draft.output_messages = ()
    changed: dict[str, Any] = {
        n: getattr(draft, n) for n in _DRAFTED if getattr(draft, n) != getattr(call, n)
    }
    if not changed:
        return call
    # parameters are a part of the span's own where it had some, and only a whole field can be taken back
    note = {"fields": sorted(n for n in changed if n != "params" or not call.params), "spans": sorted(spans)}
    return replace(call, **changed, attributes={**call.attributes, FROM_LOGS: json.dumps(note)})
