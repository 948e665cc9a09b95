"""`@heedloop.trace`: one decorated call becomes one span, with what went in and what came out."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from operator import attrgetter
from types import FrameType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.status import StatusCode

from heedloop import _celery, _content, _current
from heedloop import attributes as names
from heedloop._arguments import Function, TraceOptions, by_name, function_of, prompt_of
from heedloop._around import Collected
from heedloop._guard import fault, guarded
from heedloop._handled import Handled
from heedloop._later import is_later, record_later
from heedloop._retries import make_part
from heedloop._runtime import Runtime, state
from heedloop._spans import CallSpan
from heedloop._streams import drive, drive_async, driven_by, is_stream, wrap_stream
from heedloop._threads import carry_into_threads
from heedloop._values import check_names, present_attributes

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
_FIRST, _ONLY = attrgetter("first"), attrgetter("handle")
"""Which of the answers that were made inside is the decorated function's own, and that of one with other decorators around it."""


class Traced(Protocol[P, R]):
    """A decorated function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def with_handle(
        self: Traced[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Handled[T]]: ...
    @overload
    def with_handle(self, *args: P.args, **kwargs: P.kwargs) -> Handled[R]: ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Traced[P, R]: ...
    @overload
    def __get__(self: Traced[Concatenate[S, Q], T], instance: S, owner: type, /) -> Callable[Q, T]: ...


@overload
def trace(function: Callable[P, R], /) -> Traced[P, R]: ...
@overload
def trace(**options: Unpack[TraceOptions]) -> Callable[[Callable[P, R]], Traced[P, R]]: ...
def trace(function: Callable[..., Any] | None = None, /, **options: Unpack[TraceOptions]) -> Any:
    """Record every call of a function, coroutine, generator or async generator, or method.

    The prompt is the argument named `messages`, a conversation whatever its name, or the first text; the answer is the text,
    message or client's response that is returned, alone, first in a tuple, or in a result's field such as `text`. Other
    arguments and results are kept as JSON, secrets by their name (`api_key`, `password` …) masked. Streams and awaitables
    are recorded when they end. Exceptions pass through unchanged.

    `answer.with_handle(question)` calls the function and gives its result and the answer's handle.

    Args:
        name: the span's name; the function's own where not given.
        prompt: the argument that is the prompt, or the path to it, such as `"body.question"`.
        answer: the path to the answer in the result, such as `"text"` or `"0"`.
        prompt_name: which prompt the function uses, for quality by prompt; `prompt_version` likewise.
        model: the model that is asked, where it is always the same; else `heedloop.set(model=…)`. `provider` likewise.
        tags: a list of texts.
        capture: False keeps neither arguments nor results, `"input"` and `"output"` keep one of them.
    """
    check_names("trace", options, TraceOptions.__annotations__)
    capture = options.get("capture", True)
    if not isinstance(capture, bool) and capture not in ("input", "output"):
        raise ValueError(f"capture: {capture!r} is not True, False, 'input' or 'output'")
    static = present_attributes(
        **{
            k: v
            for k, v in options.items()
            if k in ("prompt_name", "prompt_version", "model", "provider", "tags")
        }
    )

    def decorate(fn: Any) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            kind = cast(Any, type(fn))
            return kind(decorate(cast(Any, fn).__func__))
        if isinstance(fn, type):
            raise ValueError(
                f"trace: decorates functions and methods, not the class {fn.__name__}; "
                "decorate the method that answers, such as __call__"
            )
        if not callable(fn):
            raise ValueError(f"trace: decorates functions and methods, not {fn!r}")
        return _wrap(fn, function_of(fn, options, static))

    return decorate if function is None else decorate(function)


def with_handle(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handled[R]:
    """Call a decorated function or method: `text, handle = heedloop.with_handle(bot.answer, question)`.

    As `answer.with_handle(question)`, for methods too; await it where the function is a coroutine's.
    """
    if isinstance(function, functools.partial):
        partial = cast("functools.partial[Any]", function)
        return with_handle(partial.func, *partial.args, *args, **{**partial.keywords, **kwargs})
    if not hasattr(function, "with_handle") and hasattr(type(function).__call__, "with_handle"):
        return with_handle(type(function).__call__, function, *args, **kwargs)
    bound = getattr(function, "__self__", None)
    plain: Any = getattr(function, "__func__", function)
    decorated = getattr(plain, "with_handle", None)
    if decorated is None:
        raise TypeError(
            f"with_handle: {function!r} is not decorated with @heedloop.trace; use collect_handles()"
        )
    if not isinstance(
        getattr(plain, "__dict__", None), _Attributes
    ):  # another decorator is around it, such as a retry
        carry_into_threads()
        return _call_with_handle(function, _ONLY)(*args, **kwargs)
    if bound is not None:
        return decorated(bound, *args, **kwargs)
    return decorated(*args, **kwargs)


def _wrap(fn: Any, function: Function) -> Any:
    if inspect.isasyncgenfunction(fn):
        call, handled = _async_generator(fn, function), _stream_with_handle(fn, function, drive_async)
    elif inspect.isgeneratorfunction(fn):
        call, handled = _generator(fn, function), _stream_with_handle(fn, function, drive)
    elif inspect.iscoroutinefunction(fn):
        call = _coroutine(fn, function)
        handled = _call_with_handle(call, _FIRST)
    else:
        call = _function(fn, function)
        handled = _call_with_handle(call, _FIRST)
    wrapped: Any = functools.wraps(fn)(call)
    wrapped.with_handle = _of_instance(wrapped, handled, function) if function.num_skipped else handled
    wrapped.__dict__ = _Attributes(wrapped.__dict__)
    return wrapped


class _Attributes(dict[str, Any]):
    """A decorated function's attributes. `functools.wraps` copies them to a decorator around it, whose `with_handle` would
    call past that decorator (a retry, a cache); it copies by these two methods, and gets one that says so.
    """

    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def __getitem__(self, name: str) -> Any:
        return _refuse_with_handle if name == "with_handle" else super().__getitem__(name)


def _refuse_with_handle(*_args: Any, **_kwargs: Any) -> Any:
    raise TypeError(
        "with_handle: another decorator is around the one of heedloop; write heedloop.with_handle(answer, …), "
        "where `answer` is the function that you call"
    )


def _function(fn: Any, function: Function) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        runtime = state.runtime
        if runtime is None:
            return fn(*args, **kwargs)
        under = _after_attempt(runtime, sys._getframe(1), args, kwargs) if runtime.attempts.held else None
        span = _begin(runtime, function, args, kwargs, under)
        if span is None:
            return fn(*args, **kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            _fail(runtime, span, error, call, sys._getframe(1), args, kwargs)
            raise
        return _finish(runtime, span, function, result)

    return call


def _coroutine(fn: Any, function: Function) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        runtime = state.runtime
        if runtime is None:
            return await fn(*args, **kwargs)
        under = _after_attempt(runtime, sys._getframe(1), args, kwargs) if runtime.attempts.held else None
        span = _begin(runtime, function, args, kwargs, under)
        if span is None:
            return await fn(*args, **kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            _fail(runtime, span, error, call, sys._getframe(1), args, kwargs)
            raise
        return _finish(runtime, span, function, result)

    return call


def _generator(fn: Any, function: Function) -> Any:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        runtime = state.runtime
        span = None if runtime is None else _open(runtime, function, args, kwargs)
        if runtime is None or span is None:
            return (yield from fn(*args, **kwargs))
        return (yield from drive(runtime, span, fn(*args, **kwargs), function.capture_output))

    return call


def _async_generator(fn: Any, function: Function) -> Any:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        runtime = state.runtime
        span = None if runtime is None else _open(runtime, function, args, kwargs)
        inner = fn(*args, **kwargs)
        driven = (
            inner
            if runtime is None or span is None
            else drive_async(runtime, span, inner, function.capture_output)
        )
        # An async generator has no `yield from`; this loop is what it would do.
        step: Any = driven.asend
        value: Any = None
        while True:
            try:
                piece = await step(value)
            except StopAsyncIteration:
                return
            try:
                value = yield piece
                step = driven.asend
            except GeneratorExit:
                await driven.aclose()
                raise
            except BaseException as error:  # noqa: BLE001  it is the producer's to answer
                step, value = driven.athrow, error

    return call


# ------------------------------------------------------------------------------------------ with the handle


def _call_with_handle(function: Any, choose: Callable[[Collected], str]) -> Any:
    """`with_handle` of a function or coroutine function; `choose` names the answer among those that were made inside."""
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, **kwargs: Any) -> Handled[Any]:
            with _current.collecting() as collected:
                result = await function(*args, **kwargs)
            return Handled(result, choose(collected))

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        with _current.collecting() as collected:
            result = function(*args, **kwargs)
        if choose is _ONLY and inspect.isawaitable(result) and collected.is_empty:
            # A cache or retry of coroutines is around it: the answer begins once it is awaited.
            collected.is_over = False
            return _once_awaited(collected, result, choose)
        return Handled(result, choose(collected))

    return call


async def _once_awaited(
    collected: Collected, result: Awaitable[Any], choose: Callable[[Collected], str]
) -> Handled[Any]:
    with _current.collecting(collected):
        awaited = await result
    return Handled(awaited, choose(collected))


def _stream_with_handle(fn: Any, function: Function, drive_it: Any) -> Any:
    def with_handle(*args: Any, **kwargs: Any) -> Handled[Any]:
        runtime = state.runtime
        span = None if runtime is None else _open(runtime, function, args, kwargs)
        stream = fn(*args, **kwargs)
        if runtime is None or span is None:
            return Handled(stream, "")
        driven = driven_by(drive_it, runtime, span, stream, function.capture_output)
        return Handled(driven, span.answer_handle)

    return with_handle


def _of_instance(wrapped: Any, handled: Any, function: Function) -> Any:
    """`with_handle` of a method, which Python gives no instance: refuse rather than take the question for it."""

    @functools.wraps(handled)
    def with_handle(*args: Any, **kwargs: Any) -> Any:
        owner = args[0] if args else None
        classes = (owner if isinstance(owner, type) else type(owner)).__mro__
        functions = [getattr(v, "__func__", v) for c in classes for v in vars(c).values()]
        if not any(v is wrapped for v in functions):
            name = function.name.rpartition(".")[2]
            raise TypeError(
                f"{name} is a method: write heedloop.with_handle(it.{name}, …), where `it` is what it belongs to"
            )
        return handled(*args, **kwargs)

    return with_handle


# ------------------------------------------------------------------------------------------ around the call


def _opened(
    runtime: Runtime,
    function: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    under: context_api.Context | None = None,
) -> CallSpan:
    span = _current.start(runtime, function.name, under=under)
    span.attributes.update(function.attributes)
    if function.capture_input and runtime.capture and (args or kwargs or function.defaults):
        try:
            _take_arguments(runtime, span, function, args, kwargs)
        except Exception as error:  # noqa: BLE001  the host's own classes run here; the call is recorded without them
            fault(error, "taking arguments")
    return span


_open = guarded("recording a call", None)(_opened)


@guarded("recording a call", None)
def _begin(
    runtime: Runtime,
    function: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    under: context_api.Context | None,
) -> CallSpan:
    span = _opened(runtime, function, args, kwargs, under)
    _current.attach(span)
    return span


@guarded("recording an exception", None)
def _fail(
    runtime: Runtime,
    span: CallSpan,
    error: BaseException,
    function: Any,
    frame: FrameType,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    if isinstance(error, GeneratorExit):  # a coroutine that was thrown away; its context may be another's
        span.token = None
        span.failed = True
    else:
        span.fail(error)
    _current.detach(span)
    may_be_retried = span.status.status_code is StatusCode.ERROR and not runtime.options.serverless
    arguments = (*args, *kwargs.values())
    if may_be_retried and runtime.attempts.hold(span, error, frame, function, arguments, runtime.now_ns()):
        _celery.connect()  # it may have been imported after configure()
        runtime.courier.wake()  # whose thread sends it where nothing follows
    else:
        _current.end(runtime, span)


@guarded("recording a call", None)
def _after_attempt(
    runtime: Runtime, frame: FrameType, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> context_api.Context | None:
    """The context of a call that tries a failed one again, which becomes a part of its trace; None for any other."""
    failed = runtime.attempts.resume(frame, (*args, *kwargs.values()))
    if failed is None:
        return None
    make_part(failed)
    current = context_api.get_current()
    if trace_api.get_current_span(current).get_span_context().is_valid:
        return current
    return set_span_in_context(trace_api.NonRecordingSpan(failed.span.context), current)


def _finish(runtime: Runtime, span: CallSpan, function: Function, result: Any) -> Any:
    if type(result) is not str:
        if is_stream(result):
            _current.detach(span)
            return wrap_stream(runtime, span, result, function.capture_output)
        if is_later(result):
            inside = _current.inside(span)
            _current.detach(span)
            return record_later(runtime, span, inside, result, function.capture_output, function.answer)
    _close(runtime, span, function, result)
    return result


@guarded("recording a result", None)
def _close(runtime: Runtime, span: CallSpan, function: Function, result: Any) -> None:
    _current.detach(span)
    try:
        if function.capture_output and result is not None:
            _content.keep_result(runtime, span, result, function.answer)
    finally:
        _current.end(runtime, span)


def _take_arguments(
    runtime: Runtime, span: CallSpan, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    arguments = by_name(function, args, kwargs)
    prompt, value = prompt_of(function, arguments)
    if value is not None:
        _content.keep_content(runtime, span, names.INPUT_MESSAGES, value)
        if prompt is not None:
            del arguments[prompt]
    if arguments:
        _content.keep_content(runtime, span, names.INPUT, arguments)
