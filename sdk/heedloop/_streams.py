"""Answers that come in pieces: the span ends when the stream does, and no context stays attached across a yield.

Between two pieces the consumer runs, and must not find itself inside the producer's span; so the span's context is
attached for each step and put aside after it. `send`, `throw`, `close` and an early break reach the producer as they
would without us.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, cast

from opentelemetry import context as context_api

from heedloop import _content, _current
from heedloop import attributes as names
from heedloop._capture import Budget, snapshot
from heedloop._guard import guarded
from heedloop._responses import client_of, read_stream
from heedloop._runtime import Runtime
from heedloop._spans import CallSpan

__all__ = ["drive", "drive_async", "is_stream", "wrap_stream"]

_PLAIN = frozenset({str, dict, list, tuple, int, float, bool, bytes, type(None)})
_MAX_ORIGINALS = 20_000
"""The most chunks of an LLM client's stream that are kept until it ends."""


class Recording:
    """One streamed call: its context from step to step, and the pieces so far."""

    def __init__(self, runtime: Runtime, span: CallSpan, capture: bool) -> None:
        self._runtime = runtime
        self._span = span
        self._inside = _current.attached(span)
        self._token: Any = None
        self._budget = Budget(runtime.options.max_value_chars) if capture and runtime.capture else None
        self._pieces: list[Any] = []
        self._is_text = True
        self._originals: list[Any] | None = [] if self._budget is not None else None
        self._first_at: int | None = None
        span.attributes[names.REQUEST_STREAM] = True

    def enter(self) -> None:
        """The producer goes on."""
        self._token = context_api.attach(self._inside)

    def leave(self) -> None:
        """The producer rests; what it attached itself waits for its next step."""
        self._inside = context_api.get_current()
        context_api.detach(self._token)

    @guarded("recording a piece of a stream", None)
    def take(self, piece: Any) -> None:
        """Keep one piece, as far as the budget goes."""
        if self._first_at is None:
            self._first_at = self._runtime.now_ns()
        budget = self._budget
        if budget is None:
            return
        if budget.chars <= 0 or budget.nodes <= 0:
            budget.cut = True
            return
        if self._originals is not None and client_of(piece) is not None:
            if len(self._originals) < _MAX_ORIGINALS:
                self._originals.append(piece)
            return
        if isinstance(piece, bytes):  # a web server's stream of text
            piece = piece.decode("utf-8", "replace")
        self._is_text = self._is_text and isinstance(piece, str)
        self._pieces.append(snapshot(piece, budget))

    @guarded("recording the end of a stream", None)
    def end(self, error: BaseException | None = None) -> None:
        """The stream is over: exhausted, closed early (`error` None) or failed."""
        span = self._span
        if span.end_time is not None:
            return
        if self._first_at is not None:
            span.attributes[names.TIME_TO_FIRST_CHUNK] = (self._first_at - span.start_time) / 1e9
        if error is not None:
            span.fail(error)
        reading = read_stream(self._originals) if self._originals else None
        if reading is not None:
            _content.keep_reading(self._runtime, span, reading)
        else:
            self._keep_pieces()
        _current.end(self._runtime, span)

    def _keep_pieces(self) -> None:
        for original in self._originals or ():
            self._is_text = False
            if self._budget is not None and self._budget.chars > 0:
                self._pieces.append(snapshot(original, self._budget))
        if self._pieces:
            _content.keep_stream(self._span, self._pieces, self._budget, is_text=self._is_text)


def drive(runtime: Runtime, span: CallSpan, producer: Any, capture: bool) -> Generator[Any, Any, Any]:
    """`yield from producer`, recorded."""
    recording = Recording(runtime, span, capture)
    step: Any = producer.send
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            recording.enter()
            try:
                piece = step(value)
            finally:
                recording.leave()
            recording.take(piece)
            try:
                value = yield piece
                step = producer.send
            except GeneratorExit:
                recording.enter()
                try:
                    producer.close()
                finally:
                    recording.leave()
                raise
            except BaseException as thrown:  # noqa: BLE001  it is the producer's to answer
                step, value = producer.throw, thrown
    except StopIteration as stop:
        return stop.value
    except GeneratorExit:
        raise
    except BaseException as failure:
        error = failure
        raise
    finally:
        recording.end(error)


async def drive_async(
    runtime: Runtime, span: CallSpan, producer: Any, capture: bool
) -> AsyncGenerator[Any, Any]:
    """The same for an async generator."""
    recording = Recording(runtime, span, capture)
    step: Any = producer.asend
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            recording.enter()
            try:
                piece = await step(value)
            finally:
                recording.leave()
            recording.take(piece)
            try:
                value = yield piece
                step = producer.asend
            except GeneratorExit:
                recording.enter()
                try:
                    await producer.aclose()
                finally:
                    recording.leave()
                raise
            except BaseException as thrown:  # noqa: BLE001  it is the producer's to answer
                step, value = producer.athrow, thrown
    except StopAsyncIteration:
        return
    except GeneratorExit:
        raise
    except BaseException as failure:
        error = failure
        raise
    finally:
        recording.end(error)


def is_stream(result: Any) -> bool:
    """True for a generator, or an iterator that can be closed (such as an LLM client's stream), but not for a file."""
    kind = type(result)
    if kind in _PLAIN:
        return False
    if isinstance(result, (GeneratorType, AsyncGeneratorType)):
        return True
    if isinstance(result, io.IOBase) or not (hasattr(kind, "close") or hasattr(kind, "aclose")):
        return False
    return hasattr(kind, "__anext__") or hasattr(kind, "__next__")


def wrap_stream(runtime: Runtime, span: CallSpan, stream: Any, capture: bool) -> Any:
    """`stream`, recorded: a generator becomes one that drives it, another iterator a stand-in with its attributes."""
    if isinstance(stream, GeneratorType):
        return drive(runtime, span, stream, capture)
    if isinstance(stream, AsyncGeneratorType):
        return drive_async(runtime, span, stream, capture)
    return StreamStandIn(stream, Recording(runtime, span, capture))


class StreamStandIn:
    """Stands in for an LLM client's stream object: everything is the stream's own, and its pieces are recorded."""

    def __init__(self, stream: Any, recording: Recording) -> None:
        self._heedloop_stream = stream
        self._heedloop_recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heedloop_stream, name)

    @property
    def __class__(self) -> Any:  # pyright: ignore  # isinstance() says what it would have said
        return type(self._heedloop_stream)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._step(lambda: next(self._heedloop_stream))

    def _step(self, step: Any) -> Any:
        recording = self._heedloop_recording
        recording.enter()
        try:
            piece = step()
        except StopIteration:
            recording.leave()
            recording.end()
            raise
        except BaseException as error:
            recording.leave()
            recording.end(error)
            raise
        recording.leave()
        recording.take(piece)
        return piece

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        recording = self._heedloop_recording
        recording.enter()
        try:
            piece = await self._heedloop_stream.__anext__()
        except StopAsyncIteration:
            recording.leave()
            recording.end()
            raise
        except BaseException as error:
            recording.leave()
            recording.end(error)
            raise
        recording.leave()
        recording.take(piece)
        return piece

    def __enter__(self) -> Any:
        self._heedloop_stream.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:
        self._heedloop_recording.end(exc[1])
        return self._heedloop_stream.__exit__(*exc)

    async def __aenter__(self) -> Any:
        await self._heedloop_stream.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        self._heedloop_recording.end(exc[1])
        return await self._heedloop_stream.__aexit__(*exc)

    def close(self) -> Any:
        """Close the stream; the call ends here."""
        self._heedloop_recording.end()
        return self._heedloop_stream.close()

    async def aclose(self) -> Any:
        """Close the stream; the call ends here."""
        self._heedloop_recording.end()
        return await self._heedloop_stream.aclose()

    def __del__(self) -> None:
        recording = cast("Recording | None", self.__dict__.get("_heedloop_recording"))
        if recording is not None:
            recording.end()
