"""OpenTelemetry's side: our provider where the app has none, our processor where it has one.

Spans that other instrumentations make come through the processor. It marks those made inside a decorated call
(`heedloop.answer` false), gives them the call's user and session, and tells the call which model answered.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, SamplingResult
from opentelemetry.sdk.trace.sampling import Sampler as OtelSampler

from heedloop import attributes as names
from heedloop._around import around
from heedloop._current import CALL_KEY, is_overruled, upstream_handle
from heedloop._guard import guarded, warn
from heedloop._options import Options
from heedloop._runtime import SCOPE, ForeignSpan, Runtime, state
from heedloop._spans import CallSpan, cleaned

_INHERITED = (names.USER_ID, names.CONVERSATION_ID)
_MAX_OPEN = 10_000


def connect(runtime: Runtime) -> None:
    """Make `runtime` receive all spans of this process, and set `runtime.tracer` where the set-up is shared."""
    runtime.foreign = _foreign_span
    provider = trace_api.get_tracer_provider()
    if isinstance(provider, trace_api.ProxyTracerProvider):
        provider = OwnProvider()
        trace_api.set_tracer_provider(provider)
        logging.getLogger(trace_api.__name__).addFilter(_note_second_set_up)
    if isinstance(provider, OwnProvider):
        runtime.tracer = provider.shared_tracer()
        return
    if callable(getattr(provider, "add_span_processor", None)):  # the SDK's, or logfire's proxy of it
        provider = cast(TracerProvider, provider)
        if runtime.options.export_spans and not getattr(provider, "_heedloop_connected", False):
            provider.add_span_processor(Receiver())
            cast(Any, provider)._heedloop_connected = True
        runtime.tracer = provider.get_tracer(*runtime.scope)
    # Anything else (a no-op provider, another vendor's): our own spans go our own way.


def _note_second_set_up(record: logging.LogRecord) -> bool:
    """Say what it means where OpenTelemetry logs that a second provider was refused; the line itself stays."""
    if "TracerProvider" in record.getMessage() and state.runtime is not None:
        warn(
            "second provider",
            "another library set up OpenTelemetry after heedloop.configure(): it keeps its spans and heedloop its own, in "
            "the same traces; call heedloop.configure() after it, and both see all of them",
        )
    return True


class OwnProvider(TracerProvider):
    """The global provider where the app has none. A processor that is added makes it a shared one."""

    def __init__(self) -> None:
        super().__init__(
            sampler=ParentBased(
                root=_RuntimeSampler(),
                local_parent_not_sampled=_RuntimeSampler(),
                remote_parent_not_sampled=_RuntimeSampler(),
            ),
            resource=Resource({}),  # ours is put on every span when it is written; looking one up costs 20 ms
            shutdown_on_exit=False,
        )
        self._shared = False
        super().add_span_processor(Receiver())

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """See OpenTelemetry; from now on heedloop's own spans are made by this provider, so that all see them."""
        super().add_span_processor(span_processor)
        self._shared = True
        if state.runtime is not None:
            state.runtime.tracer = self.shared_tracer()

    def shared_tracer(self) -> trace_api.Tracer | None:
        """The tracer for heedloop's own spans, where others listen too."""
        return self.get_tracer("heedloop") if self._shared else None


class _RuntimeSampler(OtelSampler):
    """The runtime's decision, with unsampled spans recorded all the same, for the tail buffer."""

    def should_sample(
        self,
        parent_context: context_api.Context | None,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """See OpenTelemetry."""
        del name, kind, links, trace_state
        runtime = state.runtime
        if runtime is None:
            return SamplingResult(Decision.DROP)
        parent = trace_api.get_current_span(parent_context).get_span_context()
        under = context_api.get_current() if parent_context is None else parent_context
        if parent.is_valid and not (parent.is_remote and is_overruled(runtime, parent, under)):
            return SamplingResult(Decision.RECORD_ONLY, attributes, parent.trace_state)
        if runtime.sampler.chooses(trace_id):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, runtime.sampler.trace_state)
        return SamplingResult(Decision.RECORD_ONLY, attributes)

    def get_description(self) -> str:
        """See OpenTelemetry."""
        return "heedloop"


class Receiver(SpanProcessor):
    """Hands every span of the provider to the runtime of the moment."""

    def __init__(self) -> None:
        self._calls: dict[int, CallSpan] = {}

    def on_start(self, span: Span, parent_context: context_api.Context | None = None) -> None:
        """See OpenTelemetry."""
        _mark(self._calls, span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """See OpenTelemetry."""
        _take(self._calls, span)

    def shutdown(self) -> None:
        """Deliver; the app is shutting its set-up down."""
        if state.runtime is not None:
            state.runtime.flush(state.runtime.options.exit_timeout_s)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See OpenTelemetry."""
        return state.runtime is None or state.runtime.flush(timeout_millis / 1000).complete


@guarded("noting the start of a span", None)
def _mark(calls: dict[int, CallSpan], span: Span, parent_context: context_api.Context | None) -> None:
    if state.runtime is None or _is_ours(span):
        return
    for key, value in around().values.items():
        span.set_attribute(key, value)
    call = context_api.get_value(CALL_KEY, parent_context)
    if not isinstance(call, CallSpan):
        context = context_api.get_current() if parent_context is None else parent_context
        if upstream_handle(context, span.get_span_context().trace_id) is not None:
            span.set_attribute(names.ANSWER, False)
        return
    span.set_attribute(names.ANSWER, False)
    for key in _INHERITED:
        if key in call.attributes:
            span.set_attribute(key, call.attributes[key])
    if len(calls) < _MAX_OPEN:
        calls[span.get_span_context().span_id] = call


@guarded("taking a span", None)
def _take(calls: dict[int, CallSpan], span: ReadableSpan) -> None:
    context = span.context
    runtime = state.runtime
    if context is None or runtime is None or not runtime.options.export_spans:
        return
    call = calls.pop(context.span_id, None)
    if call is not None:
        _tell_answer(call.answer, span.attributes or {})
    elif not (runtime.options.all_spans or _is_ours(span) or _is_about_llms(span)):
        return
    num_chars = sum(len(v) for v in (span.attributes or {}).values() if isinstance(v, str))
    runtime.take(span, context, num_chars, failed=span.status.status_code.value == 2)


_ABOUT_LLMS = (
    "gen_ai.",
    "llm.",
    "openinference.",
    "traceloop.",
    "ai.",
    "heedloop.",
    "langfuse.",
    "logfire.agent",
    "mlflow.",
)
_SCOPES_ABOUT_LLMS = (
    "openinference",
    "gen_ai",
    "genai",
    "llm",
    "openai",
    "anthropic",
    "langchain",
    "agent",
    "heedloop",
    "ai",
)


def _is_about_llms(span: ReadableSpan) -> bool:
    """True for a span of an LLM client or framework, by its attributes or the name of its instrumentation."""
    if any(key.startswith(_ABOUT_LLMS) for key in span.attributes or {}):
        return True
    scope = span.instrumentation_scope
    words = re.split(r"[^a-z_]+", scope.name.lower()) if scope is not None else []
    return any(word in _SCOPES_ABOUT_LLMS for word in words)


def _is_ours(span: ReadableSpan) -> bool:
    """True for a span that a CallSpan writes through to."""
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == SCOPE


def _tell_answer(answer: CallSpan, attributes: Mapping[str, Any]) -> None:
    """The answer's model is that of the LLM call inside it, where the app did not say it itself."""
    if attributes.get(names.OPERATION_NAME, "chat") not in names.GENERATING:
        return
    for key, known_as in names.MODEL_ATTRIBUTES.items():
        if key not in answer.attributes:
            value = next((attributes[name] for name in known_as if name in attributes), None)
            if value is not None:
                answer.set_attribute(key, value)


def _foreign_span(span: Any, runtime: Runtime) -> ForeignSpan:
    scope = span.instrumentation_scope
    return ForeignSpan(
        attributes=_foreign_attributes(span, runtime.options),
        resource=_foreign_resource(span, runtime),
        scope=("", "") if scope is None else (scope.name, scope.version or ""),
    )


def _foreign_attributes(span: Any, options: Options) -> dict[str, Any]:
    """The attributes of a span that another instrumentation made, redacted and within limits."""
    attributes: dict[str, Any] = dict(span.attributes or {})
    if _is_ours(span):
        return attributes
    truncated: list[str] = []
    for key, value in attributes.items():
        if isinstance(value, str) and len(value) > options.max_value_chars:
            attributes[key] = value[: options.max_value_chars]
            truncated.append(key)
    if options.redact is not None:
        attributes = {
            key: value
            if key.endswith((".id", ".model", ".name"))
            else cleaned({key: value}, options.redact)[key]
            for key, value in attributes.items()
        }
    if truncated:
        attributes[names.TRUNCATED] = truncated
    return attributes


def _foreign_resource(span: Any, runtime: Runtime) -> Mapping[str, Any]:
    """Ours, or the app's own resource with what `configure()` was given on top."""
    if isinstance(trace_api.get_tracer_provider(), OwnProvider):
        return runtime.resource
    return runtime.merged_resource(span.resource)
