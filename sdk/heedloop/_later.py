"""Results that are only there later: awaitables and futures, clients' stream managers and raw responses, web responses
whose body is a stream. The call's span ends when they do, and what they hold is recorded then.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import CancelledError
from types import CoroutineType
from typing import Any

from heedloop import _content, _current
from heedloop._around import Place, leave
from heedloop._guard import guarded, tolerant
from heedloop._responses import client_of, read_response
from heedloop._runtime import Runtime
from heedloop._spans import CallSpan, is_of_web_framework
from heedloop._streams import StandIn, drive, drive_async, driven_by, is_stream, wrap_stream

_AT_ONCE = frozenset({str, dict, list, tuple, int, float, bool, bytes, type(None)})
_BODIES = ("body_iterator", "streaming_content", "response")
"""Where starlette (FastAPI), Django and werkzeug (Flask) keep the iterator of a streamed body."""


@tolerant(False)
def is_later(result: Any) -> bool:
    """True where the answer is not in `result` yet."""
    kind = type(result)
    if kind in _AT_ONCE:
        return False
    return (
        kind is CoroutineType
        or inspect.isawaitable(result)
        or _is_future(result)
        or _is_stream_context(result)
        or _is_raw(result)
        or _body_of(result) is not None
    )


def record_later(
    runtime: Runtime,
    span: CallSpan,
    inside: Place,
    result: Any,
    capture: bool,
    answer: tuple[str, ...],
) -> Any:
    """`result`, or what stands in for it, which ends `span` when the answer is there."""
    later = Later(runtime, span, inside, capture, answer)
    if _is_future(result):
        result.add_done_callback(later.take_future)
        return result
    body = _body_of(result)
    if body is not None:
        return later.web_response(result, body)
    if _is_raw(result) and not _is_raw_stream(result):
        return later.raw(result)
    if inspect.iscoroutine(result):
        stands_in = later.wait_for(result)
    elif _is_stream_context(result):
        stands_in = StreamContext(result, later)
    else:
        stands_in = RawResponse(result, later) if _is_raw(result) else Awaitable(result, later)
    weakref.finalize(stands_in, later.end_unused).atexit = False
    return stands_in


class Later:
    """A call that returned before its answer was there."""

    def __init__(
        self,
        runtime: Runtime,
        span: CallSpan,
        inside: Place,
        capture: bool,
        answer: tuple[str, ...],
    ) -> None:
        self.runtime = runtime
        self.span = span
        self.capture = capture
        self._inside = inside
        self._answer = answer
        self._is_used = False

    @contextlib.contextmanager
    def inside(self) -> Generator[None]:
        """The call goes on; an exception that leaves the block ends it."""
        self._is_used = True
        tokens = self._inside.enter()
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            with contextlib.suppress(ValueError):  # thrown away in another context
                leave(tokens)

    async def wait_for(self, awaitable: Any) -> Any:
        """Await it inside the call."""
        with self.inside():
            result = await awaitable
        return self.finish(result)

    def finish(self, result: Any) -> Any:
        """The answer is there; a stream or another awaitable goes on being recorded."""
        self._is_used = True
        if self.span.end_time is not None:
            return result
        if is_stream(result):
            return wrap_stream(self.runtime, self.span, result, self.capture)
        if is_later(result):
            return record_later(self.runtime, self.span, self._inside, result, self.capture, self._answer)
        self.end(result)
        return result

    @guarded("recording a result", None)
    def end(self, result: Any) -> None:
        """End the call with this result; None where nothing is known of it."""
        if self.span.end_time is not None:
            return
        try:
            if self.capture and result is not None:
                _content.keep_result(self.runtime, self.span, result, self._answer)
        finally:
            _current.end(self.runtime, self.span)

    def end_unused(self) -> None:
        """End a call whose result was thrown away before anything was asked of it, as an empty answer."""
        if not self._is_used:
            self.end(None)

    @guarded("recording an exception", None)
    def fail(self, error: BaseException) -> None:
        """End the call with an exception."""
        if self.span.end_time is not None:
            return
        if isinstance(error, GeneratorExit):
            self.span.failed = True
        else:
            self.span.fail(error)
        _current.end(self.runtime, self.span)

    def take_future(self, future: Any) -> None:
        """A future is done: its result or exception is the call's."""
        if future.cancelled():
            self.fail(CancelledError())
        elif future.exception() is not None:
            self.fail(future.exception())
        else:
            self.end(future.result())

    def raw(self, response: Any) -> Any:
        """A client's raw response: what it parses to is read now."""
        parsed: Any = None
        with contextlib.suppress(Exception):  # a body that is not of the expected form is the app's to find
            parsed = response.parse()
        self.end(parsed)
        return response

    def web_response(self, response: Any, body: tuple[str, Any]) -> Any:
        """A web response whose body is a stream: the body is recorded as it is sent."""
        name, iterator = body
        driver = drive_async if hasattr(iterator, "__anext__") or hasattr(iterator, "__aiter__") else drive
        producer = _async_steps(iterator) if driver is drive_async else _steps(iterator)
        setattr(response, name, driven_by(driver, self.runtime, self.span, producer, self.capture))
        return response


async def _async_steps(iterator: Any) -> AsyncIterator[Any]:
    try:
        async for piece in iterator:
            yield piece
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _steps(iterator: Any) -> Iterator[Any]:
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


class Awaitable(StandIn):
    """Stands in for an awaitable object; awaited again, it gives what the object gives."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._heedloop_later.wait_for(self._heedloop_object).__await__()


class StreamContext(StandIn):
    """Stands in for a client's `with client.messages.stream(…) as stream`, and for its `with_streaming_response`."""

    def __enter__(self) -> Any:
        with self._heedloop_later.inside():
            return self._opened(self._heedloop_object.__enter__())

    async def __aenter__(self) -> Any:
        with self._heedloop_later.inside():
            return self._opened(await self._heedloop_object.__aenter__())

    def __exit__(self, *exc: Any) -> Any:
        self._close(exc[1])
        return self._heedloop_object.__exit__(*exc)

    async def __aexit__(self, *exc: Any) -> Any:
        self._close(exc[1])
        return await self._heedloop_object.__aexit__(*exc)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._heedloop_later.wait_for(self._heedloop_object).__await__()

    def _opened(self, stream: Any) -> Any:
        self.__dict__["_heedloop_stream"] = stream
        return stream

    def _close(self, error: BaseException | None) -> None:
        if error is not None:
            self._heedloop_later.fail(error)
        else:
            self._heedloop_later.end(_final_of(self.__dict__.get("_heedloop_stream")))


class RawResponse(StandIn):
    """Stands in for a raw response that parses to a stream, or by a coroutine."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """What the response holds; see the client's documentation."""
        parsed = self._heedloop_object.parse(*args, **kwargs)
        if inspect.isawaitable(parsed):
            return self._heedloop_later.wait_for(parsed)
        return self._heedloop_later.finish(parsed)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: Any) -> Any:
        return None


def _final_of(stream: Any) -> Any:
    """The whole answer that a client's stream helper has put together; None where it has none."""
    for name in ("current_message_snapshot", "current_completion_snapshot", "_heedloop_final"):
        with contextlib.suppress(
            Exception
        ):  # a property of the client's; before the first event it has nothing
            final = getattr(stream, name)
            if read_response(final) is not None:
                return final
    for name in ("_state", "_raw_stream"):
        state = getattr(stream, name, None)
        with contextlib.suppress(Exception):
            final = getattr(state, "current_completion_snapshot", None) or getattr(
                state, "_completed_response", None
            )
            if final is not None and read_response(final) is not None:
                return final
    if getattr(stream, "_is_sse_stream", False) is False and hasattr(stream, "parse"):
        with contextlib.suppress(Exception):
            return (
                None if inspect.iscoroutinefunction(stream.parse) or not stream.is_closed else stream.parse()
            )
    return None


def _is_future(result: Any) -> bool:
    return hasattr(type(result), "add_done_callback") and hasattr(type(result), "cancelled")


def _is_stream_context(result: Any) -> bool:
    kind = type(result)
    return (
        client_of(result) is not None
        and (hasattr(kind, "__enter__") or hasattr(kind, "__aenter__"))
        and not hasattr(kind, "__next__")
        and not hasattr(kind, "__anext__")
        and not hasattr(kind, "parse")
    )


def _is_raw(result: Any) -> bool:
    return (
        client_of(result) is not None and hasattr(type(result), "parse") and hasattr(result, "http_response")
    )


def _is_raw_stream(response: Any) -> bool:
    return bool(getattr(response, "_stream", False)) or inspect.iscoroutinefunction(response.parse)


def _body_of(result: Any) -> tuple[str, Any] | None:
    if not any(is_of_web_framework(base) for base in type(result).__mro__):
        return None
    for name in _BODIES:
        body = getattr(result, name, None)
        if body is None or type(body) in _AT_ONCE or isinstance(body, io.IOBase):
            continue
        if hasattr(result, "headers") and (
            hasattr(body, "__next__") or hasattr(body, "__anext__") or hasattr(body, "__aiter__")
        ):
            return name, body
    return None
