"""A span, decoded once from OTLP protobuf into Python values: what every convention's reader works on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from heedloop_server.normalise.shape import Shape, shape_of
from heedloop_server.normalise.values import as_text, decode

_ID_BYTES = 8
STATUS_OK = 1
STATUS_ERROR = 2
_NUM_EXCEPTION_FIELDS = ("exception.type", "exception.message", "exception.stacktrace")


@dataclass(slots=True)
class ResourceView:
    """A resource and scope, decoded once for all their spans.

    Attributes:
        attrs: the resource's attributes.
        texts: the same as text under `resource.`, with the scope's name and version: what goes into every call.
        scope: the instrumentation scope's name.
        service, environment: what the resource says they are; empty where it does not.
    """

    attrs: dict[str, Any]
    texts: dict[str, str]
    scope: str
    service: str
    environment: str


@dataclass(slots=True)
class EventView:
    """A span event: its name, its time in nanoseconds since 1970 and its attributes."""

    name: str
    time_ns: int
    attrs: dict[str, Any]


@dataclass(slots=True)
class LinkView:
    """A span link: the ids (hex) of the span it points at."""

    trace_id: str
    span_id: str


@dataclass(slots=True)
class SpanView:
    """One span. Ids are lower-case hex; times are nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status_code: int
    status_message: str
    resource: ResourceView
    attrs: dict[str, Any]
    shape: Shape
    events: list[EventView] = field(default_factory=list)
    links: list[LinkView] = field(default_factory=list)
    trace_state: str = ""

    @property
    def scope(self) -> str:
        return self.resource.scope

    @property
    def roots(self) -> frozenset[str]:
        """The first words of the attributes' names."""
        return self.shape.roots

    def exception(self) -> dict[str, Any]:
        """The attributes of the first exception event; empty where there is none."""
        for event in self.events:
            if event.name == "exception" or "exception.message" in event.attrs:
                return event.attrs
        return {}

    def texts(self) -> dict[str, str]:
        """Everything that was sent, as text: attributes, resource, scope, exception, other events and links."""
        texts = {k: v if v.__class__ is str else as_text(v) for k, v in self.attrs.items()}
        texts.update(self.resource.texts)
        if self.events:
            self._add_events(texts)
        if self.links:
            texts["otel.links"] = json.dumps([[link.trace_id, link.span_id] for link in self.links])
        if self.trace_state:
            texts["otel.trace_state"] = self.trace_state
        return texts

    def _add_events(self, texts: dict[str, str]) -> None:
        exception = self.exception()
        for key in _NUM_EXCEPTION_FIELDS:
            if key in exception:
                texts.setdefault(key, as_text(exception[key]))
        others = [e for e in self.events if e.attrs is not exception]
        if others:
            texts["otel.events"] = as_text(list(_collapsed(others)))


def _collapsed(events: list[EventView]) -> Iterator[dict[str, Any]]:
    """Events as JSON-ready objects; runs of bare events (one per streamed chunk) become one with a count."""
    i = 0
    while i < len(events):
        event, end = events[i], i + 1
        while (
            not event.attrs and end < len(events) and not events[end].attrs and events[end].name == event.name
        ):
            end += 1
        entry: dict[str, Any] = {"name": event.name, "time_ns": event.time_ns}
        if event.attrs:
            entry["attributes"] = event.attrs
        if end - i > 1:
            entry |= {"count": end - i, "last_time_ns": events[end - 1].time_ns}
        yield entry
        i = end


def span_views(request: Any) -> Iterator[SpanView]:
    """Every span of an `ExportTraceServiceRequest`, decoded, in the order sent."""
    for resource_spans in request.resource_spans:
        resource = decode_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            view = resource_view(resource, scope_spans.scope)
            for span in scope_spans.spans:
                yield span_view(span, view)


def resource_view(resource: dict[str, Any], scope: Any) -> ResourceView:
    """The view of one resource and one instrumentation scope."""
    texts = {"resource." + k: as_text(v) for k, v in resource.items()}
    if scope.name:
        texts["otel.scope.name"] = scope.name
    if scope.version:
        texts["otel.scope.version"] = scope.version
    named = resource.get("deployment.environment.name") or resource.get("deployment.environment")
    return ResourceView(resource, texts, scope.name, as_text(resource.get("service.name")), as_text(named))


def span_view(span: Any, resource: ResourceView) -> SpanView:
    """One protobuf span, decoded."""
    attrs = decode_attributes(span.attributes)
    parent = span.parent_span_id
    status = span.status
    view = SpanView(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=parent.hex() if len(parent) == _ID_BYTES and any(parent) else None,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status_code=status.code,
        status_message=status.message,
        resource=resource,
        attrs=attrs,
        shape=shape_of(attrs),
        trace_state=span.trace_state,
    )
    if span.events:
        view.events = [
            EventView(e.name, e.time_unix_nano, decode_attributes(e.attributes)) for e in span.events
        ]
    if span.links:
        view.links = [LinkView(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
    return view


def decode_attributes(attributes: Any) -> dict[str, Any]:
    """A repeated `KeyValue` as a dict; of a key that comes twice the last value counts."""
    out: dict[str, Any] = {}
    for kv in attributes:
        value = kv.value
        text = value.string_value
        if text:  # most values are text, and asking for it costs less than asking what they are
            out[kv.key] = text
            continue
        which = value.WhichOneof("value")
        out[kv.key] = value.int_value if which == "int_value" else decode(value)
    return out
