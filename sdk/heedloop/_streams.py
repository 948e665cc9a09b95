"""Answers that come in pieces: the span ends when the stream does, and no context stays attached across a yield.

Between two pieces the consumer runs, and must not find itself inside the producer's span; so the span's context is
attached for each step and put aside after it. `send`, `throw`, `close` and an early break reach the producer as they
would without us.
"""

from __future__ import annotations

import contextlib
import io
import weakref
from collections.abc import AsyncGenerator, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, cast

from heedloop import _content, _current
from heedloop import attributes as names
from heedloop._around import here, leave
from heedloop._content import Pieces
from heedloop._guard import guarded, tolerant
from heedloop._responses import Reading, client_of, read_numbers, read_stream
from heedloop._runtime import Runtime
from heedloop._spans import CallSpan

_PLAIN = frozenset({str, dict, list, tuple, int, float, bool, bytes, type(None)})
_MAX_ORIGINALS = 20_000
"""The most chunks of an LLM client's stream that are kept until it ends."""


class Recording:
    """One streamed call: its context from step to step, and the pieces so far."""

    def __init__(self, runtime: Runtime, span: CallSpan, capture: bool, producer: Any = None) -> None:
        self._runtime = runtime
        self._span = span
        self._inside = _current.inside(span)
        self._token: Any = None
        self._pieces = Pieces(runtime.options.max_value_chars) if capture and runtime.capture else None
        self._originals: list[Any] = []
        self._first_at: int | None = None
        # Kept, so that the variables of a producer that is over can still be read.
        self._frame = getattr(producer, "gi_frame", None) or getattr(producer, "ag_frame", None)
        span.attributes[names.REQUEST_STREAM] = True

    def __enter__(self) -> None:
        """The producer goes on."""
        self._token = self._inside.enter()

    def __exit__(self, *_error: object) -> None:
        """The producer rests; what it attached itself waits for its next step."""
        self._inside = here()
        leave(self._token)

    @contextlib.contextmanager
    def step(self) -> Generator[None]:
        """One step of a stream that nothing drives: an exception that leaves it, also the one of its end, ends the call."""
        try:
            with self:
                yield
        except BaseException as error:
            self.end(None if isinstance(error, (StopIteration, StopAsyncIteration)) else error)
            raise

    @guarded("recording a piece of a stream", None)
    def take(self, piece: Any) -> None:
        """Keep one piece."""
        if self._first_at is None:
            self._first_at = self._runtime.now_ns()
        if self._pieces is None:
            return
        if type(piece) is not str and client_of(piece) is not None:
            if len(self._originals) < _MAX_ORIGINALS:
                self._originals.append(piece)
            return
        self._pieces.add(piece)

    @guarded("recording the end of a stream", None)
    def end(self, error: BaseException | None = None) -> None:
        """The stream is over: exhausted, closed early (`error` None) or failed."""
        span = self._span
        frame, self._frame = self._frame, None
        if span.end_time is not None:
            return
        if self._first_at is not None:
            span.attributes[names.TIME_TO_FIRST_CHUNK] = max(self._first_at - span.start_time, 0) / 1e9
        if error is not None:
            span.fail(error)
        reading = read_stream(self._originals) if self._originals else None
        if reading is not None and (self._pieces is None or self._pieces.num_chars == 0):
            _content.keep_reading(self._runtime, span, reading)
        else:
            self._keep_pieces(reading or _numbers_in(frame))
        _current.end(self._runtime, span)

    def _keep_pieces(self, reading: Reading | None) -> None:
        if self._pieces is None:
            return
        if reading is not None:
            _content.keep_numbers(self._span, reading)
        else:
            for original in self._originals:
                self._pieces.add(original)
        _content.keep_stream(self._span, self._pieces)


def _numbers_in(frame: Any) -> Reading | None:
    """Model, usage and response id of the provider's chunks that a generator of texts went through.

    The last chunk, which has them, is still among the variables of the generator when it is over.
    """
    if frame is None:
        return None
    chunks = [v for v in list(frame.f_locals.values()) if client_of(v) is not None]
    return read_numbers(chunks) if chunks else None


def drive(runtime: Runtime, span: CallSpan, producer: Any, capture: bool) -> Generator[Any, Any, Any]:
    """`yield from producer`, recorded."""
    recording = Recording(runtime, span, capture, producer)
    step: Any = producer.send
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            with recording:
                piece = step(value)
            recording.take(piece)
            try:
                value = yield piece
                step = producer.send
            except GeneratorExit:
                with recording:
                    producer.close()
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
    recording = Recording(runtime, span, capture, producer)
    step: Any = producer.asend
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            with recording:
                piece = await step(value)
            recording.take(piece)
            try:
                value = yield piece
                step = producer.asend
            except GeneratorExit:
                with recording:
                    await producer.aclose()
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


def driven_by(driver: Any, runtime: Runtime, span: CallSpan, producer: Any, capture: bool) -> Any:
    """`driver(…)`, a generator; the call is recorded even if its first piece is never read, because its handle may be out."""
    driven = driver(runtime, span, producer, capture)
    weakref.finalize(driven, _end_unread, runtime, span).atexit = False
    return driven


@guarded("recording a stream that was never read", None)
def _end_unread(runtime: Runtime, span: CallSpan) -> None:
    if span.end_time is None and names.REQUEST_STREAM not in span.attributes:  # set with the first piece
        _current.end(runtime, span)


@tolerant(False)
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
        return driven_by(drive, runtime, span, stream, capture)
    if isinstance(stream, AsyncGeneratorType):
        return driven_by(drive_async, runtime, span, stream, capture)
    return StreamStandIn(stream, Recording(runtime, span, capture))


class StandIn:
    """Stands in for a third-party object: everything is the object's own, but what a subclass records.

    `_heedloop_later` is the call that the object belongs to.
    """

    def __init__(self, stood_for: Any, later: Any) -> None:
        self.__dict__["_heedloop_object"] = stood_for
        self.__dict__["_heedloop_later"] = later

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_heedloop_object"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_heedloop_object"], name, value)

    @property
    def __class__(self) -> Any:  # pyright: ignore  # isinstance() says what it would have said
        return type(self.__dict__["_heedloop_object"])


class StreamStandIn(StandIn):
    """Stands in for an LLM client's stream object: its pieces are recorded."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        with self._heedloop_later.step():
            piece = next(self._heedloop_object)
        self._heedloop_later.take(piece)
        return piece

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        with self._heedloop_later.step():
            piece = await self._heedloop_object.__anext__()
        self._heedloop_later.take(piece)
        return piece

    def __enter__(self) -> Any:
        self._heedloop_object.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:
        self._heedloop_later.end(exc[1])
        return self._heedloop_object.__exit__(*exc)

    async def __aenter__(self) -> Any:
        await self._heedloop_object.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        self._heedloop_later.end(exc[1])
        return await self._heedloop_object.__aexit__(*exc)

    def close(self) -> Any:
        """Close the stream; the call ends here."""
        self._heedloop_later.end()
        return self._heedloop_object.close()

    async def aclose(self) -> Any:
        """Close the stream; the call ends here."""
        self._heedloop_later.end()
        return await self._heedloop_object.aclose()

    def __del__(self) -> None:
        recording = cast("Recording | None", self.__dict__.get("_heedloop_later"))
        if recording is not None:
            recording.end()
