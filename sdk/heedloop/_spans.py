"""The span of one decorated call or step.

Where heedloop made the only OpenTelemetry set-up, a `CallSpan` is the span: it has what the API asks of one and skips
what the SDK's own would do on the caller's thread. Where the app has a set-up of its own, every `CallSpan` writes
through to a span of that set-up (`delegate`), so that all of its processors see the same thing.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from opentelemetry import trace as trace_api
from opentelemetry.trace.status import Status, StatusCode

from heedloop import attributes as names
from heedloop._capture import Clean, render_json

if TYPE_CHECKING:
    from collections.abc import Callable

_UNSET = Status(StatusCode.UNSET)
_MAX_STACK_CHARS = 8_000
_MAX_EVENTS = 128
_MAX_ATTRIBUTES = 256


class Captured(NamedTuple):
    """Content that waits to be written: `render(value, clean)` gives the attribute's text."""

    attribute: str
    render: Callable[[Any, Clean | None], str]
    value: Any


class Event(NamedTuple):
    """A span event in the form the encoder reads."""

    name: str
    timestamp: int
    attributes: Mapping[str, Any]


class Link(NamedTuple):
    """A span link in the form the encoder reads."""

    context: trace_api.SpanContext
    attributes: Mapping[str, Any] | None


class CallSpan(trace_api.Span):
    """One call or step. `answer` is the outermost decorated call around it in this process, itself where it is that.

    `upstream` is the handle of the answer in another service that this call is a part of; None where there is none.

    What most spans never change is on the class: setting it for each one costs the host's thread time.
    """

    kind = trace_api.SpanKind.INTERNAL
    status: Status = _UNSET
    events: Sequence[Event] = ()
    links: Sequence[Link] = ()
    truncated: list[str] | None = None
    num_chars: int = 0
    output_given: bool = False
    failed: bool = False
    upstream: str | None = None
    end_time: int | None = None
    token: Any = None
    assigned: Mapping[str, str] | None = None
    """Of an answer: the experiments' arms that it was assigned to, for the calls inside it."""

    def __init__(
        self,
        name: str,
        context: trace_api.SpanContext,
        parent: trace_api.SpanContext | None,
        *,
        answer: CallSpan | None,
        delegate: trace_api.Span | None = None,
        sink: Callable[[CallSpan], None],
        now: Callable[[], int],
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent
        self._around = answer  # not the span itself, which would then wait for the garbage collector with all its content
        self.delegate = delegate
        self.attributes: dict[str, Any] = {}
        self.captured: list[Captured] = []
        self.sink = sink
        self._now = now
        self.start_time: int = now()

    # What the OpenTelemetry API asks of a span.

    def get_span_context(self) -> trace_api.SpanContext:
        """The ids; see the OpenTelemetry API."""
        return self.context

    def is_recording(self) -> bool:
        """True until the span ended."""
        return self.end_time is None

    def set_attribute(self, key: str, value: Any) -> None:
        """See the OpenTelemetry API; names beyond the first 256 are left out and counted as truncated."""
        if self.end_time is None:
            if len(self.attributes) >= _MAX_ATTRIBUTES and key not in self.attributes:
                self.mark_truncated("(attributes)")
                return
            self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """See the OpenTelemetry API."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """See the OpenTelemetry API; at most 128 events are kept."""
        if self.end_time is None and len(self.events) < _MAX_EVENTS:
            self.events = [*self.events, Event(name, timestamp or self._now(), dict(attributes or {}))]

    def add_link(self, context: trace_api.SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """See the OpenTelemetry API."""
        if self.end_time is None and len(self.links) < _MAX_EVENTS:
            self.links = [*self.links, Link(context, attributes)]

    def update_name(self, name: str) -> None:
        """See the OpenTelemetry API."""
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """See the OpenTelemetry API."""
        self.status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add the convention's `exception` event, its stack cut to the last 8,000 characters."""
        kind = type(exception)
        stack = "".join(traceback.format_exception(exception, limit=-30))[-_MAX_STACK_CHARS:]
        self.add_event(
            "exception",
            {
                "exception.type": _type_name(kind),
                "exception.message": _message(exception),
                "exception.stacktrace": stack,
                "exception.escaped": str(escaped),
                **(attributes or {}),
            },
            timestamp,
        )

    def end(self, end_time: int | None = None) -> None:
        """End the span and hand it on; a second call does nothing."""
        if self.end_time is None:
            ended = end_time or self._now()
            self.end_time = (
                ended if ended > self.start_time else self.start_time
            )  # the clock may have been set back
            self.sink(self)

    # What heedloop adds.

    @property
    def answer(self) -> CallSpan:
        """The outermost decorated call around this one, or this one."""
        return self if self._around is None else self._around

    @property
    def handle(self) -> str:
        """The call's W3C traceparent."""
        return handle_of(self.context)

    @property
    def answer_handle(self) -> str:
        """The handle of the answer that this call is, or is a part of; it may be that of a service in front."""
        return self.answer.upstream or self.answer.handle

    @property
    def sampled(self) -> bool:
        """True where head sampling chose this trace."""
        return bool(self.context.trace_flags & 1)

    def fail(self, error: BaseException) -> None:
        """Record an exception that leaves the call. One that is no fault of the model or the app is only an event."""
        self.failed = True
        if is_no_fault(error):
            # Not in the names of the exception convention: every reader of it would count the call as failed.
            self.add_event(
                "stopped", {"stopped.by": _type_name(type(error)), "stopped.message": _message(error)}
            )
            return
        self.record_exception(error, escaped=True)
        kind = _type_name(type(error))
        self.set_attribute(names.ERROR_TYPE, kind)
        self.status = Status(StatusCode.ERROR, f"{kind}: {_message(error)}")

    def mark_truncated(self, attribute: str) -> None:
        """Say on the span that `attribute` does not hold everything."""
        if self.truncated is None:
            self.truncated = []
        if attribute not in self.truncated:
            self.truncated.append(attribute)

    def discard(self, *attributes: str) -> None:
        """Forget content that was captured for these attributes."""
        self.captured = [c for c in self.captured if c.attribute not in attributes]

    def written(self, clean: Clean | None) -> dict[str, Any]:
        """All attributes with the captured content written out; what the app set itself comes last and wins."""
        attributes: dict[str, Any] = {}
        for captured in self.captured:
            attributes[captured.attribute] = captured.render(captured.value, clean)
        attributes.update(self.attributes if clean is None else cleaned(self.attributes, clean))
        if self.truncated:
            attributes[names.TRUNCATED] = list(self.truncated)
        return attributes


def handle_of(context: trace_api.SpanContext) -> str:
    """The handle of any span. Of the flags it has the sampled one only, so that one call has one handle."""
    trace_id = context.trace_id.to_bytes(16, "big").hex()  # a third of what format() with its width costs
    return f"00-{trace_id}-{context.span_id.to_bytes(8, 'big').hex()}-{'01' if context.trace_flags & 1 else '00'}"


def cleaned(attributes: Mapping[str, Any], clean: Clean) -> dict[str, Any]:
    """The attributes with every text cleaned that is not an identifier."""
    return {
        key: value if names.is_identifier(key) else _clean_value(value, clean)
        for key, value in attributes.items()
    }


def _clean_value(value: Any, clean: Clean) -> Any:
    if isinstance(value, str):
        return _clean_json(value, clean) if value[:1] in ("[", "{") else clean(value)
    if isinstance(value, (list, tuple)):
        return [_clean_value(v, clean) for v in cast(list[Any], value)]
    return value


def _clean_json(text: str, clean: Clean) -> str:
    # Cleaned as one text, an escape such as \n before a name would be torn and the JSON be none any more.
    try:
        value = json.loads(text)
    except ValueError:
        return clean(text)
    return render_json(value, clean)


_WEB_FRAMEWORKS = frozenset(
    {
        "aiohttp",
        "bottle",
        "django",
        "falcon",
        "fastapi",
        "flask",
        "litestar",
        "quart",
        "rest_framework",
        "sanic",
        "starlette",
    }
    | {"werkzeug", "robyn", "tornado", "webob"}
)
_ALSO_CLIENTS = frozenset({"aiohttp", "tornado"})


def is_of_web_framework(kind: type) -> bool:
    """True for a class that a web framework defines."""
    package, _, inner = kind.__module__.partition(".")
    return package in _WEB_FRAMEWORKS and (package not in _ALSO_CLIENTS or inner.startswith("web"))


def is_no_fault(error: BaseException) -> bool:
    """True where the user went away (cancelled, interrupted, the process told to end), or the app refused the request with an HTTP 4xx.

    An LLM client's own 4xx is a fault of the call.
    """
    kind = type(error)
    if kind.__name__ in ("CancelledError", "KeyboardInterrupt", "SystemExit", "ClientDisconnect"):
        return True
    for base in kind.__mro__:
        if is_of_web_framework(base):
            for name in ("status_code", "code", "status"):
                status = getattr(error, name, None)
                if isinstance(status, int):
                    return 300 <= status < 500
            return base.__name__ in ("Http404", "PermissionDenied", "BadRequest", "SuspiciousOperation")
    return False


def _type_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as inner:  # noqa: BLE001  the host's own class; its __str__ may do anything
        return f"<{type(inner).__name__} in its __str__>"
    return text[:4_000]
