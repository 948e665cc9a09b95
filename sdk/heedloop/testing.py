"""Tools for the tests of apps that use heedloop: everything works as in production, but nothing leaves the process.

from heedloop import testing

def test_a_thumb_reaches_its_answer():
    with testing.recording() as recorded:
        text, handle = answer.with_handle("How do I return a lamp?")
        heedloop.thumbs_up(handle, author="user-17")
    assert recorded.answers[0].output_text == text
    recorded.assert_feedback("rating", about=recorded.answers[0].handle, value=1)
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from heedloop import attributes as names
from heedloop._configure import shutdown, start
from heedloop._options import Options
from heedloop._outbox import Outbox
from heedloop._runtime import Runtime, state
from heedloop._transport import Response
from heedloop.schema import Feedback, FeedbackKind, from_json
from heedloop.testing_cases import CheckedCase as CheckedCase
from heedloop.testing_cases import cases as cases

TEST_KEY = "hl_000000000000_" + "t" * 43
"""An API key that opens nothing."""


@dataclass(frozen=True, slots=True)
class SentSpan:
    """A span as it would have arrived at the server."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    scope: str
    status: int = 0
    status_message: str = ""
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    links: tuple[str, ...] = ()

    @property
    def handle(self) -> str:
        """The span's handle."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    @property
    def is_answer(self) -> bool:
        """True for the outermost decorated call."""
        return self.attributes.get(names.ANSWER) is True

    @property
    def input_text(self) -> str:
        """The texts of the input messages, joined by newlines."""
        return _texts(self.attributes.get(names.INPUT_MESSAGES, "[]"))

    @property
    def output_text(self) -> str:
        """The texts of the output messages, joined by newlines."""
        return _texts(self.attributes.get(names.OUTPUT_MESSAGES, "[]"))


def _texts(messages: str) -> str:
    parts = [part for message in json.loads(messages) for part in message["parts"]]
    return "\n".join(part["content"] for part in parts if part.get("type") == "text")


class MemoryTransport:
    """A server that keeps what it is sent. `responses` are given first, one per request, to play one that is ill.

    `documents` are what its routes return, by their paths.
    """

    def __init__(self) -> None:
        self.spans: list[SentSpan] = []
        self.span_bodies: list[bytes] = []
        self.feedback: list[Feedback] = []
        self.counts: list[dict[str, Any]] = []
        self.responses: list[Response] = []
        self.documents: dict[str, Any] = {}

    def post(self, path: str, body: bytes, *, content_type: str, timeout_s: float | None = None) -> Response:
        """See `Transport`."""
        del content_type, timeout_s
        if self.responses:
            return self.responses.pop(0)
        if path in self.documents:
            return Response("accepted", 200, body=self.documents[path])
        if path == "/v1/traces":
            self.span_bodies.append(body)
            self.spans.extend(decode(body))
            return Response("accepted", 200)
        if path == "/v1/feedback":
            received = [from_json(Feedback, f) for f in json.loads(body)["feedback"]]
            self.feedback.extend(received)
            return Response(
                "accepted", 200, body={"results": [{"id": f.id, "status": "stored"} for f in received]}
            )
        self.counts.append(json.loads(body))
        return Response("accepted", 200)

    def get(self, path: str, *, etag: str = "") -> Response:
        """See `Transport`; no document has a version."""
        del etag
        return Response("accepted", 200, body=self.documents.get(path, {"path": path}))

    def close(self) -> None:
        """See `Transport`."""


@dataclass
class Recorded:
    """What was recorded; looking waits until everything that was said before has arrived."""

    transport: MemoryTransport
    runtime: Runtime
    _closed: bool = field(default=False, init=False)

    @property
    def spans(self) -> list[SentSpan]:
        """All spans, by start time."""
        self._wait_until_exported()
        return sorted(self.transport.spans, key=lambda s: s.start_ns)

    @property
    def answers(self) -> list[SentSpan]:
        """The outermost decorated calls."""
        return [s for s in self.spans if s.is_answer]

    @property
    def feedback(self) -> list[Feedback]:
        """All feedback, in the order in which it was given."""
        self._wait_until_exported()
        return list(self.transport.feedback)

    def span(self, name: str) -> SentSpan:
        """The one span of that name; fails where there is none or more than one."""
        matches = [s for s in self.spans if s.name == name]
        if len(matches) != 1:
            raise AssertionError(
                f"{len(matches)} spans are named {name!r}; there are {[s.name for s in self.spans]}"
            )
        return matches[0]

    def assert_feedback(self, kind: FeedbackKind, *, about: str | None = None, **values: Any) -> Feedback:
        """The first feedback of that kind about that handle whose fields have those values; fails where there is none.

        `author="user-17"` compares the author's id.
        """
        for feedback in self.feedback:
            if feedback.kind == kind and _matches(feedback, about, values):
                return feedback
        all_feedback = "\n  ".join(str(f) for f in self.feedback) or "none"
        raise AssertionError(
            f"no {kind} with {values or 'any values'} about {about or 'anything'}; given was:\n  {all_feedback}"
        )

    def _wait_until_exported(self) -> None:
        if not self._closed:
            self.runtime.flush(5.0)


def _matches(feedback: Feedback, about: str | None, values: Mapping[str, Any]) -> bool:
    if about is not None and about.split("-")[1:3] != [feedback.target.trace_id, feedback.target.span_id]:
        return False
    return all(
        (feedback.author.id if name == "author" and isinstance(value, str) else getattr(feedback, name))
        == value
        for name, value in values.items()
    )


class SteppingClock:
    """A clock that goes on by `step_ns` each time it is read."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000, step_ns: int = 1_000_000) -> None:
        self._times = itertools.count(start_ns, step_ns)

    def __call__(self) -> int:
        return next(self._times)


class CountingIds:
    """Ids 1, 2, 3 … in place of random ones."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def __call__(self, _num_bits: int) -> int:
        return next(self._ids)


def use_clock(now_ns: Callable[[], int]) -> None:
    """Let spans that start from now on take their times from `now_ns`, nanoseconds since 1970.

    For simulations and for replaying recorded traffic; heedloop has to be configured.
    """
    if state.runtime is None:
        raise RuntimeError("use_clock: call heedloop.configure() first")
    state.runtime.now_ns = now_ns


@contextlib.contextmanager
def recording(
    *,
    sample_rate: float = 1.0,
    capture: bool = True,
    options: Options | None = None,
    clock: SteppingClock | None = None,
    ids: CountingIds | None = None,
) -> Generator[Recorded]:
    """Switch heedloop on, with everything kept in memory, for as long as the block runs."""
    transport = MemoryTransport()
    runtime = start(
        transport,
        Outbox(None),
        options or Options(),
        resource={names.SERVICE_NAME: "test", names.ENVIRONMENT: "test"},
        api_key=TEST_KEY,
        sample_rate=sample_rate,
        capture=capture,
    )
    if clock is not None:
        runtime.now_ns = clock
    if ids is not None:
        runtime.random_bits = cast(Any, ids)
    recorded = Recorded(transport, runtime)
    try:
        yield recorded
    finally:
        recorded._wait_until_exported()
        recorded._closed = True
        if state.runtime is runtime:
            shutdown()


def decode(body: bytes) -> list[SentSpan]:
    """The spans of an ExportTraceServiceRequest."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    spans: list[SentSpan] = []
    for group in request.resource_spans:
        resource = _values(group.resource.attributes)
        for scope_spans in group.scope_spans:
            spans.extend(_span(s, resource, scope_spans.scope.name) for s in scope_spans.spans)
    return spans


def _span(span: Any, resource: Mapping[str, Any], scope: str) -> SentSpan:
    return SentSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        resource=resource,
        scope=scope,
        status=span.status.code,
        status_message=span.status.message,
        events=tuple((e.name, _values(e.attributes)) for e in span.events),
        links=tuple(f"00-{link.trace_id.hex()}-{link.span_id.hex()}-01" for link in span.links),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: _value(a.value) for a in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        return _values(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
