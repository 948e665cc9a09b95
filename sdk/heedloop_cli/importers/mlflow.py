"""MLflow: traces with assessments, as `Trace.to_json` writes them (schema 2 and 3) and as the REST API gives them.

Attributes are JSON inside texts; span ids are base64 in schema 3 and hexadecimal before. An assessment that another
one overrides (`valid` is false) is another author's word, and both are stored.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from heedloop.schema import Author, Target
from heedloop_cli.importers.documents import mapping, parsed
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.record import number
from heedloop_cli.importers.system import LeftOut, Record, System, plain

_CALLS = ("CHAT_MODEL", "LLM", "chat_model")
_CORRECTIONS = frozenset(
    [
        "expected_response",
        "expected_output",
        "expected_answer",
        "ground_truth",
        "correction",
        "corrected_response",
    ]
)


class Mlflow(System):
    """One trace a row; assessments name a span or mean the trace."""

    name = "mlflow"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        info = _head_of(row)
        return bool(info) and bool({"trace_id", "request_id", "trace_location"} & info.keys())

    def learn(self, row: Mapping[str, Any]) -> None:
        for own in _head_of(row).get("assessments") or ():
            name, value = (
                own.get("assessment_name") or own.get("name"),
                mapping(own.get("feedback")).get("value"),
            )
            for one in cast(list[Any], value) if isinstance(value, list) else [value]:
                self.note_value(name, one)

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        info = _head_of(row)
        place = mapping(mapping(info.get("trace_location")).get("mlflow_experiment"))
        self.project = str(place.get("experiment_id") or info.get("experiment_id") or self.source.project)
        trace = info.get("trace_id") or info.get("request_id")
        row = mapping(row.get("trace")) or row
        spans = [mapping(s) for s in mapping(row.get("data")).get("spans") or row.get("spans") or ()]
        kinds = [_attributes(s).get("mlflow.spanType") for s in spans]
        has_calls = any(k in _CALLS for k in kinds)
        for span, kind in zip(spans, kinds, strict=True):
            is_root = not (span.get("parent_span_id") or span.get("parent_id"))
            yield self._span(span, info, trace, is_call=kind in _CALLS or (is_root and not has_calls))
        if not spans:
            yield self._preview(info, trace)
        yield from self.each(
            [(trace, info, mapping(a)) for a in info.get("assessments") or ()], self._assessment
        )

    def _shared(self, info: Mapping[str, Any]) -> dict[str, Any]:
        metadata = mapping(info.get("trace_metadata") or info.get("request_metadata"))
        tags = mapping(info.get("tags"))
        return {
            "session_id": metadata.get("mlflow.trace.session"),
            "user_id": metadata.get("mlflow.trace.user"),
            "tags": tuple(f"{k}:{v}" for k, v in tags.items() if not k.startswith("mlflow.")),
        }

    def _span(
        self, span: Mapping[str, Any], info: Mapping[str, Any], trace: object, *, is_call: bool
    ) -> Record:
        attributes, context = _attributes(span), mapping(span.get("context"))
        own_id = span.get("span_id") or context.get("span_id")
        parent = span.get("parent_span_id") or span.get("parent_id")
        inputs, outputs = attributes.get("mlflow.spanInputs"), attributes.get("mlflow.spanOutputs")
        counts = mapping(attributes.get("mlflow.chat.tokenUsage")) or mapping(mapping(outputs).get("usage"))
        status = span.get("status") or span.get("status_code")
        code = str(mapping(status).get("code") or status)
        shared = self._shared(info)
        return self.call(
            own_id,
            trace,
            _hex(own_id),
            start=span.get("start_time_unix_nano") or span.get("start_time") or info.get("request_time"),
            end=span.get("end_time_unix_nano") or span.get("end_time"),
            parent_span_id=self.span_id(_hex(parent)) if parent else None,
            name=span.get("name"),
            is_call=is_call,
            model_requested=attributes.get("mlflow.llm.model") or mapping(inputs).get("model"),
            provider=attributes.get("mlflow.llm.provider"),
            input_messages=messages(inputs),
            output_messages=messages(outputs, "assistant"),
            tool_definitions=tool_definitions(parsed(attributes.get("mlflow.chat.tools"))),
            usage=usage(counts),
            cost=number(mapping(attributes.get("mlflow.llm.cost")).get("total_cost")),
            error="ERROR" in code.upper(),
            response_id=mapping(outputs).get("id"),
            **shared,
        )

    def _preview(self, info: Mapping[str, Any], trace: object) -> Record:
        """The call of a trace that came without spans, from the preview of its request and response."""
        took = number(info.get("execution_duration_ms") or info.get("execution_time_ms")) or 0
        return self.call(
            trace,
            trace,
            f"{trace}/root",
            start=info.get("request_time") or info.get("timestamp_ms"),
            duration_s=took / 1000,
            name=mapping(info.get("tags")).get("mlflow.traceName"),
            input_messages=messages(info.get("request_preview") or info.get("request")),
            output_messages=messages(info.get("response_preview") or info.get("response"), "assistant"),
            **self._shared(info),
        )

    def _assessment(self, entry: tuple[object, Mapping[str, Any], Mapping[str, Any]]) -> Iterator[Record]:
        trace, info, own = entry
        if (whole := self.whole(own.get("metadata"))) is not None:
            yield whole
            return
        span = own.get("span_id")
        target = Target(self.trace_id(trace), self.span_id(_hex(span)) if span else None)
        name = str(own.get("assessment_name") or own.get("name") or "assessment")
        identity = f"{trace}/{own.get('assessment_id') or (name, own.get('create_time'))}"
        why = own.get("rationale")
        fields: dict[str, Any] = {
            "author": self._author(own, info),
            "time": own.get("create_time") or own.get("create_time_ms"),
            "metadata": {**mapping(own.get("metadata")), "overrides": own.get("overrides")},
        }
        feedback = mapping(own.get("feedback"))
        if own.get("expectation") is not None:
            yield from self._expectation(own, target, name, identity, fields)
            return
        if feedback.get("error") or own.get("error"):
            yield LeftOut("an assessment that failed: an error is no value")
            return
        value = feedback.get("value")
        if isinstance(value, list):
            for category in cast(list[Any], value):
                yield self.flag(target, identity, category, name=name, comment=why, **fields)
        elif isinstance(value, Mapping):
            yield LeftOut("a value that is an object")
        elif value is None and why:
            yield self.feedback("comment", target, identity, name=name, comment=why, **fields)
        elif value is None:
            yield LeftOut("an assessment without a value")
        else:
            yield self.rating(target, identity, name, value, comment=why, **fields)

    def _expectation(
        self, own: Mapping[str, Any], target: Target, name: str, identity: object, fields: Mapping[str, Any]
    ) -> Iterator[Record]:
        expectation = mapping(own["expectation"])
        serialized = mapping(expectation.get("serialized_value"))
        value = expectation.get("value")
        if value is None and serialized.get("value") is not None:
            value = json.loads(serialized["value"])
        if plain(name) in _CORRECTIONS and isinstance(value, str):
            why = own.get("rationale")
            yield self.feedback("correction", target, identity, correction=value, comment=why, **fields)
        else:
            yield LeftOut("an expectation that is no answer's text")

    def _author(self, own: Mapping[str, Any], info: Mapping[str, Any]) -> Author:
        source = mapping(own.get("source"))
        kind, author = str(source.get("source_type")).upper(), source.get("source_id")
        if kind != "HUMAN":
            return self.author("code" if kind == "CODE" else "model", author)
        # the person who was answered judges as a user; whoever else opens the trace judges it for others
        is_user = author in (None, "", "default", self._shared(info)["user_id"])
        return self.author("end_user" if is_user else "annotator", author)


def _head_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    row = mapping(row.get("trace")) or row
    return mapping(row.get("info")) or mapping(row.get("trace_info"))


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes; of the REST API, a list of key and value."""
    attributes = span.get("attributes")
    if isinstance(attributes, list):
        pairs = [mapping(a) for a in cast(list[Any], attributes)]
        attributes = {a["key"]: _any_value(a["value"]) for a in pairs}
    return {k: _plain_json(v) for k, v in mapping(attributes).items()}


def _any_value(value: Any) -> Any:
    """What an OTLP `AnyValue` in JSON holds."""
    kind, inner = next(iter(mapping(value).items()), ("", None))
    if kind in ("array_value", "arrayValue"):
        return [_any_value(v) for v in mapping(inner).get("values") or ()]
    if kind in ("kvlist_value", "kvlistValue"):
        return {e["key"]: _any_value(e["value"]) for e in mapping(inner).get("values") or ()}
    return int(inner) if kind in ("int_value", "intValue") and inner is not None else inner


def _plain_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _hex(value: object) -> str:
    """A span id in hexadecimal, from base64 or `0x` and digits."""
    text = str(value).removeprefix("0x")
    if len(text) == 12 and text.endswith("="):
        try:
            return base64.b64decode(text, validate=True).hex()
        except binascii.Error:
            return text
    return text
