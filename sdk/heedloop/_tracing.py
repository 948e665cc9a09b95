"""`@heedloop.trace`: one decorated call becomes one span, with what went in and what came out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from heedloop import _content, _current
from heedloop import attributes as names
from heedloop._guard import guarded
from heedloop._runtime import Runtime, state
from heedloop._spans import CallSpan
from heedloop._streams import drive, drive_async, is_stream, wrap_stream
from heedloop._values import given_attributes

__all__ = ["trace"]

P = ParamSpec("P")
R = TypeVar("R")

Capture = bool | Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Traced:
    """What is known about a decorated function before it is called."""

    name: str
    parameters: tuple[str, ...]
    named: tuple[str, ...]
    num_skipped: int
    capture_input: bool
    capture_output: bool
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@overload
def trace(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def trace(
    *,
    name: str | None = None,
    prompt_name: str | None = None,
    prompt_version: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    tags: Sequence[str] = (),
    capture: Capture = True,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def trace(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    prompt_name: str | None = None,
    prompt_version: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    tags: Sequence[str] = (),
    capture: Capture = True,
) -> Any:
    """Record every call of a function, coroutine, generator or async generator, or method.

    The first text argument (or the one named `messages`) is the prompt and a text result is the answer; other
    arguments and results are kept as JSON. Streams are recorded when they end. Exceptions pass through unchanged.

    Args:
        name: the span's name; the function's own where not given.
        prompt_name: which prompt the function uses, for quality by prompt; `prompt_version` likewise.
        model: the model that is asked, where it is always the same; else `heedloop.set(model=…)`.
        capture: False keeps neither arguments nor results, `"input"` and `"output"` keep one of them.
    """
    static = given_attributes(
        prompt_name=prompt_name,
        prompt_version=prompt_version,
        model=model,
        provider=provider,
        tags=tuple(tags) or None,
    )

    def decorate(fn: Any) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            kind = cast(Any, type(fn))
            return kind(decorate(cast(Any, fn).__func__))
        if not callable(fn):
            raise ValueError(f"trace: decorates functions and methods, not {fn!r}")
        return _wrap(fn, _traced(fn, name, static, capture))

    return decorate if function is None else decorate(function)


def _traced(fn: Any, name: str | None, static: dict[str, Any], capture: Capture) -> Traced:
    try:
        parameters = tuple(inspect.signature(fn).parameters)
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = ()
    skipped = 1 if parameters[:1] in (("self",), ("cls",)) else 0
    return Traced(
        name=name or getattr(fn, "__qualname__", type(fn).__qualname__).replace("<locals>.", ""),
        parameters=parameters,
        named=parameters[skipped:],
        num_skipped=skipped,
        capture_input=capture is True or capture == "input",
        capture_output=capture is True or capture == "output",
        attributes={names.OPERATION_NAME: "chat", **static},
    )


def _wrap(fn: Any, traced: Traced) -> Any:
    if inspect.isasyncgenfunction(fn):
        return functools.wraps(fn)(_async_generator(fn, traced))
    if inspect.isgeneratorfunction(fn):
        return functools.wraps(fn)(_generator(fn, traced))
    if inspect.iscoroutinefunction(fn):
        return functools.wraps(fn)(_coroutine(fn, traced))
    return functools.wraps(fn)(_function(fn, traced))


def _function(fn: Any, traced: Traced) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        runtime = state.runtime
        if runtime is None:
            return fn(*args, **kwargs)
        span = _begin(runtime, traced, args, kwargs)
        if span is None:
            return fn(*args, **kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            _fail(runtime, span, error)
            raise
        return _finish(runtime, span, traced, result)

    return call


def _coroutine(fn: Any, traced: Traced) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        runtime = state.runtime
        if runtime is None:
            return await fn(*args, **kwargs)
        span = _begin(runtime, traced, args, kwargs)
        if span is None:
            return await fn(*args, **kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            _fail(runtime, span, error)
            raise
        return _finish(runtime, span, traced, result)

    return call


def _generator(fn: Any, traced: Traced) -> Any:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        runtime = state.runtime
        span = None if runtime is None else _open(runtime, traced, args, kwargs)
        if runtime is None or span is None:
            return (yield from fn(*args, **kwargs))
        return (yield from drive(runtime, span, fn(*args, **kwargs), traced.capture_output))

    return call


def _async_generator(fn: Any, traced: Traced) -> Any:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        runtime = state.runtime
        span = None if runtime is None else _open(runtime, traced, args, kwargs)
        inner = fn(*args, **kwargs)
        driven = (
            inner
            if runtime is None or span is None
            else drive_async(runtime, span, inner, traced.capture_output)
        )
        # An async generator has no `yield from`; this loop is what it would do.
        step: Any = driven.asend
        value: Any = None
        while True:
            try:
                given = await step(value)
            except StopAsyncIteration:
                return
            try:
                value = yield given
                step = driven.asend
            except GeneratorExit:
                await driven.aclose()
                raise
            except BaseException as error:  # noqa: BLE001  it is the producer's to answer
                step, value = driven.athrow, error

    return call


# ------------------------------------------------------------------------------------------ around the call


def _opened(runtime: Runtime, traced: Traced, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallSpan:
    span = _current.start(runtime, traced.name)
    span.attributes.update(traced.attributes)
    if traced.capture_input and runtime.capture and (args or kwargs):
        _take_arguments(runtime, span, traced, args, kwargs)
    return span


_open = guarded("recording a call", None)(_opened)


@guarded("recording a call", None)
def _begin(runtime: Runtime, traced: Traced, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallSpan:
    span = _opened(runtime, traced, args, kwargs)
    _current.attach(span)
    return span


@guarded("recording an exception", None)
def _fail(runtime: Runtime, span: CallSpan, error: BaseException) -> None:
    if isinstance(error, GeneratorExit):  # a coroutine that was thrown away; its context may be another's
        span.token = None
    else:
        span.fail(error)
    _current.detach(span)
    _current.end(runtime, span)


def _finish(runtime: Runtime, span: CallSpan, traced: Traced, result: Any) -> Any:
    if is_stream(result):
        _current.detach(span)
        return wrap_stream(runtime, span, result, traced.capture_output)
    _close(runtime, span, traced, result)
    return result


@guarded("recording a result", None)
def _close(runtime: Runtime, span: CallSpan, traced: Traced, result: Any) -> None:
    _current.detach(span)
    if traced.capture_output and result is not None:
        _content.keep_result(runtime, span, result)
    _current.end(runtime, span)


def _take_arguments(
    runtime: Runtime, span: CallSpan, traced: Traced, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    given = _by_name(traced, args, kwargs)
    prompt = _prompt_name(given)
    if prompt is not None:
        _content.keep_content(runtime, span, names.INPUT_MESSAGES, given.pop(prompt))
    if given:
        _content.keep_content(runtime, span, names.INPUT, given)


def _by_name(traced: Traced, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    first = traced.num_skipped
    given: dict[str, Any] = dict(zip(traced.named, args[first:] if first else args))  # noqa: B905  args may be fewer
    if len(args) > len(traced.parameters):
        given["*"] = args[len(traced.parameters) :]
    given.update(kwargs)
    return given


def _prompt_name(given: Mapping[str, Any]) -> str | None:
    if isinstance(given.get("messages"), (list, tuple, str)):
        return "messages"
    for name, value in given.items():
        if isinstance(value, str):
            return name
    return None
