"""The one thing that is running between `configure()` and `shutdown()`."""

from __future__ import annotations

import functools
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from opentelemetry import trace as trace_api
from opentelemetry.trace.status import Status

from heedloop import _otlp
from heedloop import attributes as names
from heedloop._delivery import Courier
from heedloop._export import EncodedSpan, SpanQueue
from heedloop._options import Options
from heedloop._outbox import Outbox
from heedloop._remote_settings import RemoteSettings
from heedloop._retries import Attempts
from heedloop._sampling import Sampler, TailBuffer
from heedloop._spans import CallSpan, cleaned
from heedloop._transport import Transport

if TYPE_CHECKING:
    from heedloop._example_cache import ExampleCache

SCOPE = "heedloop"


class ForeignSpan(NamedTuple):
    """What is sent of a span that another instrumentation made."""

    attributes: dict[str, Any]
    resource: Mapping[str, Any]
    scope: tuple[str, str]


@functools.cache
def sdk_version() -> str:
    """The installed distribution's version."""
    try:
        return version("heedloop")
    except PackageNotFoundError:  # run from a source tree without installation
        return "0"


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of one kind of record.

    Attributes:
        sent: acknowledged by the server.
        waiting: in memory or in the outbox.
        dropped: reason -> how many; empty in a healthy app.
    """

    sent: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Delivery:
    """How delivery stands. Spans that this process sent, and all feedback that ever went through this outbox.

    Attributes:
        num_not_sampled: spans that sampling left out and that have left the tail buffer.
        complete: nothing waits.
        outbox: the outbox's file, or `memory`.
        other_outboxes: files of other keys next to it -> the records in them, which this key may not deliver; see
            `heedloop outbox`.
    """

    spans: Counts = Counts()
    feedback: Counts = Counts()
    num_not_sampled: int = 0
    complete: bool = True
    last_error: str | None = None
    outbox: str = "memory"
    other_outboxes: Mapping[str, int] = field(default_factory=dict[str, int])


class Runtime:
    """Everything that `configure()` set up. Nothing in it blocks or raises on a host's thread."""

    def __init__(
        self,
        *,
        transport: Transport,
        outbox: Outbox,
        options: Options,
        resource: Mapping[str, str],
        api_key: str,
        sample_rate: float,
        capture: bool,
    ) -> None:
        self.options = options
        self.capture = capture
        self.api_key = api_key
        self.resource: dict[str, Any] = {**default_resource(), **resource}
        self.named = frozenset(resource)
        self.scope = (SCOPE, sdk_version())
        self.sampler = Sampler(sample_rate)
        self.tail = TailBuffer(options.tail_max_bytes, options.tail_max_age_s)
        self.attempts = Attempts()
        self.outbox = outbox
        self.transport = transport
        self.settings = RemoteSettings(
            transport, None if outbox.path is None else outbox.path.parent, api_key
        )
        self.examples: ExampleCache | None = None
        self.queue = SpanQueue(self._encode, transport, outbox)
        self.courier = Courier(
            outbox,
            transport,
            on_response=self.queue.healthy,
            on_tick=self._tick,
            report_counts=self._report_counts,
        )
        self.tracer: trace_api.Tracer | None = None
        """The tracer of an OpenTelemetry set-up that is not ours alone; None where CallSpans are the spans."""
        self.foreign: Callable[[Any, Runtime], ForeignSpan] | None = None
        """Reads a span of another instrumentation: its attributes, resource and scope. Set with `tracer`."""
        self.now_ns = time.time_ns
        self.random_bits = random.getrandbits
        self.instance = uuid.uuid4().hex
        self._wanted_seq = 0
        self.sink = self.span_ended
        """What calls end by. Another object after a fork, by which the child knows its parent's calls."""
        self._merged: dict[int, tuple[Any, dict[str, Any]]] = {}

    # ---------------------------------------------------------------------------------------------- spans

    def span_ended(self, span: CallSpan) -> None:
        """Where every CallSpan goes when it ends."""
        if span.sink is not self.sink:  # begun before a fork: the parent process sends it
            return
        if span.delegate is not None and span.delegate.is_recording():
            self._end_delegate(span, span.delegate)
        elif span.delegate is None or (self.options.export_spans and not self.options.follow_sampling):
            self.take(span, span.context, span.num_chars, failed=span.status.status_code.value == 2)

    def take(self, span: Any, context: trace_api.SpanContext, num_chars: int, *, failed: bool) -> None:
        """Queue a sampled span; keep an unsampled one in the tail buffer, or bring its trace back."""
        if context.trace_flags & 1:
            self.queue.push(span, num_chars)
            return
        if not self.courier.started:  # it is the one that hears of traces wanted by other processes
            self.courier.wake()
        self._push_all(self.tail.add(context.trace_id, span, num_chars))
        if failed:
            self.keep_trace(context.trace_id, "error")

    def keep_trace(self, trace_id: int, reason: str) -> None:
        """Bring the trace's spans back from the tail buffer, those of now and those to come."""
        self._push_all(self.tail.keep(trace_id, reason))

    def _push_all(self, spans: list[tuple[Any, int]]) -> None:
        for span, num_chars in spans:
            self.queue.push(span, num_chars)

    def _end_delegate(self, span: CallSpan, delegate: trace_api.Span) -> None:
        for link in span.links:
            delegate.add_link(link.context, link.attributes)
        clean = self.options.redact
        for event in span.events:
            values = event.attributes if clean is None else cleaned(event.attributes, clean)
            delegate.add_event(event.name, values, event.timestamp)
        delegate.set_attributes(span.written(clean))
        words = span.status.description
        delegate.set_status(
            span.status if clean is None or not words else Status(span.status.status_code, clean(words))
        )
        delegate.end(span.end_time)

    def _encode(self, span: Any) -> EncodedSpan | None:
        if isinstance(span, CallSpan):
            attributes = span.written(self.options.redact)
            self._note_sampling(span.context, attributes)
            return EncodedSpan(
                _otlp.encode_span(span, attributes, self.options.redact), self.resource, self.scope
            )
        if self.foreign is None:  # such spans come from the processor that `connect` installs
            return None
        attributes, resource, scope = self.foreign(span, self)
        self._note_sampling(span.context, attributes)
        return EncodedSpan(_otlp.encode_span(span, attributes, self.options.redact), resource, scope)

    def _note_sampling(self, context: trace_api.SpanContext, attributes: dict[str, Any]) -> None:
        if not context.trace_flags & 1:
            attributes[names.SAMPLING_PROBABILITY] = 1.0
            attributes[names.SAMPLING_KEPT] = self.tail.reason(context.trace_id)
        elif context.trace_state or self.sampler.rate < 1:
            stated = names.probability_of(
                context.trace_state.get("ot") or ""
            )  # by the service that began the trace
            probability = self.sampler.rate if stated is None else stated
            if probability < 1:
                attributes[names.SAMPLING_PROBABILITY] = probability

    def merged_resource(self, resource: Any) -> Mapping[str, Any]:
        """The app's own OpenTelemetry resource, with what `configure()` was given on top."""
        merged = self._merged.get(id(resource))
        if merged is None:
            ours = {k: self.resource[k] for k in self.named}
            version = {names.SDK_VERSION: self.scope[1]}
            merged = (resource, {**dict(resource.attributes), **version, **ours})
            self._merged[id(resource)] = merged
        return merged[1]

    # -------------------------------------------------------------------------------------------- delivery

    def flush(self, timeout_s: float) -> Delivery:
        """Deliver what waits, at most for `timeout_s`; says how it stands then."""
        deadline = time.monotonic() + timeout_s
        self.attempts.release(everything=True)
        self.queue.flush(deadline)
        self.courier.flush(deadline)
        return self.delivery()

    def delivery(self) -> Delivery:
        """How delivery stands now."""
        counts = self.outbox.counts()
        num_feedback, num_spans = self.outbox.num_waiting()
        spans = self.queue.counts
        waiting = self.queue.num_waiting + num_spans + len(self.attempts.held)
        dropped = _dropped(counts, "spans.dropped.")
        for reason, n in _dropped(spans, "dropped.").items():
            dropped[reason] = dropped.get(reason, 0) + n
        return Delivery(
            spans=Counts(spans["sent"] + counts.get("spans.sent", 0), waiting, dropped),
            num_not_sampled=self.tail.num_expired,
            feedback=Counts(
                counts.get("feedback.sent", 0), num_feedback, _dropped(counts, "feedback.dropped.")
            ),
            complete=waiting == 0 and num_feedback == 0,
            last_error=self.courier.last_error or self.queue.last_error,
            outbox=str(self.outbox.path or "memory"),
            other_outboxes=dict(self.outbox.left_behind),
        )

    def close(self, timeout_s: float) -> Delivery:
        """Deliver or keep everything, then stop; takes `timeout_s` at most."""
        deadline = time.monotonic() + timeout_s
        self.attempts.release(everything=True)
        self.queue.close(time.monotonic() + timeout_s * 0.75)
        if self.outbox.num_waiting() != (0, 0):
            self.courier.flush(deadline, give_up_on_failure=True)
        if not self.queue.is_backing_off:
            self.courier.report_counts(deadline)
        how = self.delivery()
        self.settings.close()
        self.courier.close(deadline)
        return how

    def after_fork(self) -> None:
        """Make a forked child whole: no threads, no connections, an empty queue."""
        self.outbox.reopen_in_child()
        self.queue.reset()
        self.courier.reset()
        self.tail.clear()
        self.attempts.reset()
        self.settings.reset()
        self.examples = None
        self.instance = uuid.uuid4().hex
        self.sink = self.span_ended

    def _tick(self) -> None:
        if self.sampler.rate < 1:
            for seq, trace_id in self.outbox.wanted_since(self._wanted_seq):
                self._wanted_seq = seq
                self.keep_trace(int(trace_id, 16), "feedback")
        self.tail.expire()
        self.attempts.release()

    def _report_counts(self) -> dict[str, Any]:
        """This process's own counts, so that the server can add up those of processes that share an outbox."""
        own = self.outbox.own_counts()
        spans = self.queue.counts
        num_feedback, num_spans = self.outbox.num_waiting() if self.courier.is_deliverer else (0, 0)
        return {
            "sdk_id": self.instance,
            "service": self.resource.get(names.SERVICE_NAME, ""),
            "sdk_version": self.scope[1],
            "spans": {
                "sent": spans["sent"] + own.get("spans.sent", 0),
                "waiting": self.queue.num_waiting + num_spans,
                "dropped": dict(
                    Counter(_dropped(own, "spans.dropped.")) + Counter(_dropped(spans, "dropped."))
                ),
            },
            "feedback": {
                "sent": own.get("feedback.sent", 0),
                "waiting": num_feedback,
                "dropped": _dropped(own, "feedback.dropped."),
            },
        }


def _dropped(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name[len(prefix) :]: n for name, n in counts.items() if name.startswith(prefix)}


def default_resource() -> dict[str, Any]:
    """The default resource attributes."""
    named = _resource_of_environment()
    return {
        **named,
        names.SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME")
        or named.get(names.SERVICE_NAME)
        or _program(),
        "telemetry.sdk.name": "heedloop",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk_version(),
        "process.runtime.version": ".".join(map(str, sys.version_info[:3])),
        names.SDK_VERSION: sdk_version(),
    }


def _resource_of_environment() -> dict[str, str]:
    """`OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs with commas between them, values percent-encoded."""
    pairs = (p.partition("=") for p in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return {
        key.strip(): unquote(value.strip()) for key, separator, value in pairs if separator and key.strip()
    }


def _program() -> str:
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"  # noqa: PTH119


class State:
    """Holds the runtime. A class with one attribute, so that the hot path reads it with one look-up."""

    __slots__ = ("runtime",)

    def __init__(self) -> None:
        self.runtime: Runtime | None = None


state = State()
