"""The call that is going on: starting and ending it, `span`, `context`, `set` and `handle`."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Unpack, cast

from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.trace.propagation import set_span_in_context

from heedloop import attributes as names
from heedloop._around import Around, Collected, External, Holder, Place, around, begin, begin_block, finish
from heedloop._content import keep_content
from heedloop._guard import guarded, warn
from heedloop._runtime import Runtime, state
from heedloop._spans import CallSpan, handle_of
from heedloop._threads import carry_into_threads
from heedloop._values import (
    CallValues,
    ContextValues,
    as_text,
    attributes_of,
    check_names,
    metadata_of,
)

CALL_KEY = context_api.create_key("heedloop-call")

_SPAN_KEY = next(iter(set_span_in_context(trace_api.INVALID_SPAN, context_api.Context())))
"""OpenTelemetry's own key, found by its public function: setting it ourselves saves a copy of the context."""

_BAGGAGE_KEY = next(iter(baggage.set_baggage("key", "value", context_api.Context())))
_HANDLE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")

_SAMPLED = trace_api.TraceFlags(1)
_INHERITED = (names.USER_ID, names.CONVERSATION_ID)
_BUBBLING = (
    names.REQUEST_MODEL,
    names.RESPONSE_MODEL,
    names.PROVIDER_NAME,
    names.PROMPT_NAME,
    names.PROMPT_VERSION,
)


# --------------------------------------------------------------------------------------------- starting, ending


def start(
    runtime: Runtime, name: str, *, step: bool = False, under: context_api.Context | None = None
) -> CallSpan:
    """A new span under the current one, or that of `under`. The caller attaches it, ends it and detaches it."""
    current = context_api.get_current() if under is None else under
    enclosing = cast("CallSpan | None", current.get(CALL_KEY))
    if enclosing is not None and enclosing.answer.end_time is not None:
        current, enclosing = _outside(current), None
    blocks = around()
    external = None
    if enclosing is None and blocks.external is not None and not blocks.external.is_over:
        external = blocks.external.trace_id
    if runtime.tracer is not None:
        new = _start_delegate(runtime, runtime.tracer, name, current, enclosing, external)
    else:
        new = _start_own(runtime, name, current, enclosing, external)
    if enclosing is not None:
        for key in _INHERITED:
            if key in enclosing.attributes:
                new.attributes[key] = enclosing.attributes[key]
    if blocks.values:
        new.attributes.update(blocks.values)
    if blocks.once:
        new.attributes.update(blocks.once)
    if enclosing is not None and enclosing.answer.assigned:
        new.attributes.update(enclosing.answer.assigned)
    if step:
        new.attributes[names.STEP] = name
    elif enclosing is not None:
        new.attributes[names.ANSWER] = False
    else:
        new.attributes[names.ANSWER] = True
        if _BAGGAGE_KEY in current:
            new.upstream = upstream_handle(current, new.context.trace_id)
            new.attributes[names.ANSWER] = new.upstream is None
    if blocks.collected is not None and not step:
        blocks.collected.add(new)
    return new


def _outside(current: context_api.Context) -> context_api.Context:
    """`current` without the answer in it, which is over: a task or thread outlived it, and may serve others now.

    What begins there is no part of that answer, and must not be given its handle.
    """
    values: dict[str, Any] = {k: v for k, v in current.items() if k != CALL_KEY}
    around = cast("trace_api.Span | None", values.get(_SPAN_KEY))
    if around is not None and not around.is_recording():
        del values[_SPAN_KEY]
    if _BAGGAGE_KEY in values:
        values[_BAGGAGE_KEY] = {k: v for k, v in values[_BAGGAGE_KEY].items() if k != names.HANDLE_BAGGAGE}
    return context_api.Context(values)


def _start_own(
    runtime: Runtime,
    name: str,
    current: context_api.Context,
    enclosing: CallSpan | None,
    external: int | None,
) -> CallSpan:
    around = cast("trace_api.Span | None", current.get(_SPAN_KEY))
    parent = trace_api.INVALID_SPAN_CONTEXT if around is None else around.get_span_context()
    if parent.is_valid and external is None:
        trace_id, flags, trace_state = parent.trace_id, parent.trace_flags, parent.trace_state
        if parent.is_remote and not flags & 1 and is_overruled(runtime, parent, current):
            flags, trace_state = runtime.sampler.decide(trace_id)
    else:
        trace_id = external or runtime.random_bits(128) or 1
        flags, trace_state = runtime.sampler.decide(trace_id)
    context = trace_api.SpanContext(trace_id, runtime.random_bits(64) or 1, False, flags, trace_state)
    has_parent = parent.is_valid and external is None
    new = CallSpan(
        name,
        context,
        parent if has_parent else None,
        answer=None if enclosing is None else enclosing.answer,
        sink=runtime.sink,
        now=runtime.now_ns,
    )
    if external is not None and parent.is_valid:
        new.add_link(parent)
    return new


def _start_delegate(
    runtime: Runtime,
    tracer: trace_api.Tracer,
    name: str,
    current: context_api.Context,
    enclosing: CallSpan | None,
    external: int | None,
) -> CallSpan:
    under = current
    if external is not None:
        origin = trace_api.SpanContext(external, external & (2**64 - 1) or 1, True, _SAMPLED)
        under = set_span_in_context(trace_api.NonRecordingSpan(origin), current)
    # Marked at birth, so that our own processor knows it for one of ours and leaves it alone.
    delegate = tracer.start_span(name, context=under, attributes={names.SDK_VERSION: runtime.scope[1]})
    context, parent = delegate.get_span_context(), None
    if not delegate.is_recording() and not runtime.options.follow_sampling:
        _warn_overruled("the app's OpenTelemetry sampler leaves out a trace")
        flags, trace_state = runtime.sampler.decide(context.trace_id)
        context = trace_api.SpanContext(context.trace_id, context.span_id, False, flags, trace_state)
        parent = trace_api.get_current_span(under).get_span_context()
    return CallSpan(
        name,
        context,
        parent if parent is not None and parent.is_valid else None,
        answer=None if enclosing is None else enclosing.answer,
        delegate=delegate,
        sink=runtime.sink,
        now=runtime.now_ns,
    )


def is_overruled(runtime: Runtime, parent: trace_api.SpanContext, current: context_api.Context) -> bool:
    """True where a `traceparent` from outside says "not sampled" and `sample_rate` decides all the same.

    With its probability unknown, leaving out what is not rated would make coverage wrong. A heedloop service in front (its
    handle is in the baggage) and one that states its probability are followed.
    """
    if runtime.options.follow_sampling or upstream_handle(current, parent.trace_id) is not None:
        return False
    if names.probability_of(parent.trace_state.get("ot") or "") is not None:
        return False
    _warn_overruled("a traceparent from outside says that a trace is not sampled")
    return True


def _warn_overruled(what: str) -> None:
    warn(
        "overruled",
        f"{what}; its answers are recorded by heedloop's own sample_rate all the same, so that the unrated ones are not "
        "lost; Options(follow_sampling=True) follows it",
    )


def attached(new: CallSpan, *, step: bool = False) -> context_api.Context:
    """The current context with `new` as its span, and as its call unless it is a step."""
    current = context_api.get_current()
    values: dict[str, Any] = {**current, _SPAN_KEY: new if new.delegate is None else new.delegate}
    if not step:
        values[CALL_KEY] = new
        if new.answer is new and new.upstream is None:
            own = {names.HANDLE_BAGGAGE: handle_of(new.context)}
            carried: Any = current.get(_BAGGAGE_KEY)
            values[_BAGGAGE_KEY] = {**carried, **own} if carried else own
    return context_api.Context(values)


def upstream_handle(current: context_api.Context, trace_id: int) -> str | None:
    """The answer in another service that a call in this trace is a part of, as its baggage tells."""
    carried = cast("Mapping[str, object] | None", current.get(_BAGGAGE_KEY))
    outer = carried.get(names.HANDLE_BAGGAGE) if carried else None
    if isinstance(outer, str) and _HANDLE.fullmatch(outer) and outer[3:35] == f"{trace_id:032x}":
        return outer
    return None


def inside(new: CallSpan) -> Place:
    """Where the call `new` runs."""
    return Place(attached(new), around())


def attach(new: CallSpan, *, step: bool = False) -> None:
    """Make `new` the current span."""
    new.token = context_api.attach(attached(new, step=step))


def detach(ended: CallSpan) -> None:
    """Undo `attach`."""
    if ended.token is not None:
        context_api.detach(ended.token)
        ended.token = None


def end(runtime: Runtime, call: CallSpan) -> None:
    """End a call; what it knows about model and prompt goes up to the answer that has none of its own."""
    answer = call.answer
    if answer is not call:
        for key in _BUBBLING:
            if key in call.attributes:
                answer.attributes.setdefault(key, call.attributes[key])
    call.end()
    if answer is call:
        if once := around().once:
            once.clear()
        if runtime.options.serverless:
            runtime.flush(runtime.options.serverless_timeout_s)


# ------------------------------------------------------------------------------------------------ for the app


def current_call() -> CallSpan | None:
    """The innermost decorated call that is going on here; None in a task that outlived its answer."""
    call = cast("CallSpan | None", context_api.get_value(CALL_KEY))
    return None if call is None or call.answer.end_time is not None else call


HOW_TO_TAKE_IT = (
    "take it with the answer, `text, handle = answer.with_handle(question)`, or around it, "
    "`with heedloop.collect_handles() as made: …` and then `made.handle`"
)


def handle() -> str:
    """The handle of the answer that is going on here, a W3C `traceparent`: inside a decorated call the outermost one's.

    Anywhere else it is empty, with a warning: after a call returned it is not known which answer is meant. Take the handle
    with the answer (`answer.with_handle(question)`) or around it (`collect_handles`). In a service behind the one that
    answers it is the answer's too, where OpenTelemetry's baggage is propagated (by default it is).
    """
    call = current_call()
    if call is not None:
        return call.answer_handle
    if state.runtime is not None:
        warn(
            "handle",
            f"handle() was asked for where no decorated call is going on, and is empty; {HOW_TO_TAKE_IT}",
        )
    return ""


@contextlib.contextmanager
def collecting(again: Collected | None = None, holder: Holder | None = None) -> Generator[Collected]:
    """Note the calls that begin inside the block, and in tasks that are started there; `again` goes on with an earlier one."""
    blocks = around()
    collected = Collected(blocks.collected, holder) if again is None else again
    extent = begin_block(blocks._replace(collected=collected))
    try:
        yield collected
    finally:
        collected.is_over = True
        finish(extent, collected)


@contextlib.contextmanager
def collect_handles() -> Generator[Collected]:
    """Collect the handles of the answers made inside the block, also in tasks and threads that are started there.

    `with heedloop.collect_handles() as made: text = chain(question)`, then `made.handle`.
    """
    carry_into_threads()
    with collecting(holder=Holder.here()) as collected:
        yield collected


@contextlib.contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Generator[trace_api.Span]:
    """A step inside a call: `with heedloop.span("retrieve", k=5) as step:`. Keywords become `heedloop.metadata.*`."""
    runtime = state.runtime
    new = _start_step(runtime, name, attributes) if runtime is not None else None
    if new is None:
        yield trace_api.INVALID_SPAN
        return
    try:
        yield new
    except BaseException as error:
        if not isinstance(error, GeneratorExit):
            new.fail(error)
        raise
    finally:
        detach(new)
        new.end()


@guarded("starting a step", None)
def _start_step(runtime: Runtime, name: str, attributes: Mapping[str, Any]) -> CallSpan | None:
    new = start(runtime, name, step=True)
    new.attributes.update(metadata_of(attributes))
    attach(new, step=True)
    return new


def context(**values: Unpack[ContextValues]) -> AbstractContextManager[None]:
    """Name the user and session that are served, for every call inside: decorated ones and those of other instrumentations.

    Args:
        user_id, session_id: the end user and the conversation (`user` and `session` are other names for them).
        tags: a list of texts.
        metadata: a mapping of texts.
        external_id: the app's own id of the answer, such as its message id. Calls inside get a trace id made from it,
            so that `target(external="…")` finds them without a stored handle.

    None and empty values are nothing said. Raises `TypeError` for a name that is not one of these.
    """
    check_names("context", values, ContextValues.__annotations__)
    remaining = dict(values)
    external_id = as_text("external_id", remaining.pop("external_id", None))
    blocks = around()
    blocks = blocks._replace(values={**blocks.values, **(blocks.once or {}), **attributes_of(remaining)})
    external = External(external_trace_id(external_id)) if external_id else None
    return _inside(blocks if external is None else blocks._replace(external=external), external)


@contextlib.contextmanager
def _inside(blocks: Around, external: External | None) -> Generator[None]:
    extent = begin_block(blocks)
    try:
        yield
    finally:
        if external is not None:
            external.is_over = True
        finish(extent)


def leave_everything() -> None:
    """Begin outside of every call and block, as a forked child does: its parent's are not its own, and it may serve others."""
    begin(Around())
    if CALL_KEY in context_api.get_current():
        context_api.attach(context_api.Context())


def external_trace_id(external_id: str) -> int:
    """The trace id that belongs to an app's own id: the first 128 bits of its SHA-256."""
    if not external_id:
        raise ValueError("external id: must not be empty")
    digest = hashlib.sha256(b"heedloop external id\x00" + external_id.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:16], "big") or 1


def set_values(**values: Unpack[CallValues]) -> None:
    """Say what is known about the call that is going on; outside of a call it does nothing.

    `user_id`, `session_id` (also `user`, `session`) and `tags` go to the answer around it too. `usage` is a `heedloop.Usage`,
    a mapping of its fields (`{"input": 12, "output": 80}`) or what the provider gave; `input` and `output` replace what was
    captured. A value that cannot be used is left out with a warning. Raises `TypeError` for a name that is not in
    `CallValues`, `ValueError` for one text in place of a list.
    """
    check_names("set", values, CallValues.__annotations__)
    attributes = attributes_of(values)
    runtime, call = state.runtime, current_call()
    if runtime is None or call is None:
        return
    call.set_attributes(attributes)
    for key in (names.USER_ID, names.CONVERSATION_ID, names.TAGS):
        if key in attributes:
            call.answer.set_attribute(key, attributes[key])
    _set_content(runtime, call, values)


@guarded("keeping content", None)
def _set_content(runtime: Runtime, call: CallSpan, values: Mapping[str, Any]) -> None:
    if "input" in values:
        call.discard(names.INPUT_MESSAGES, names.INPUT)
        keep_content(runtime, call, names.INPUT_MESSAGES, values["input"])
    if "output" in values:
        call.output_given = True
        call.discard(names.OUTPUT_MESSAGES, names.OUTPUT)
        keep_content(runtime, call, names.OUTPUT_MESSAGES, values["output"])
