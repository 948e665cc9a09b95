"""A retry decorator above `@heedloop.trace` makes one answer: the attempts that failed are parts of it.

When an attempt fails, nobody can tell whether another follows. So a failed call is held where a decorator called it; the
next call out of the very same place of that decorator with the same arguments makes it a part of that answer. Where none
comes it is sent as the failed answer that it is: with the thread's next call or the task's end, after a minute at the latest.

A thread only walks its own stack. Frames of threads that run meanwhile must not be walked: CPython 3.11 can crash at it.
"""

from __future__ import annotations

import inspect
import sys
import threading
import time
from types import FrameType
from typing import Any, NamedTuple

from heedloop import attributes as names
from heedloop._spans import CallSpan

__all__ = ["Attempts", "Failed", "make_part"]

_MAX_AGE_S = 60.0
_MAX_HELD = 1_000
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Failed(NamedTuple):
    """A call that failed inside a decorator's `frame`, at `place`; `thread` and asyncio `task` are those that ran it."""

    span: CallSpan
    frame: FrameType
    place: int
    arguments: tuple[Any, ...]
    thread: int
    task: Any
    end_time: int
    held_at: float


class Attempts:
    """The failed calls of this process that may be tried again."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all of them, as a forked child does."""
        self._lock = threading.Lock()
        self.held: dict[int, Failed] = {}

    def hold(
        self, span: CallSpan, frame: FrameType, function: Any, arguments: tuple[Any, ...], now_ns: int
    ) -> bool:
        """Keep a failed answer; False where no decorator called it, or too many are held already."""
        if span.answer is not span or span.upstream or len(self.held) >= _MAX_HELD:
            return False
        if not _is_decorator(frame, function):
            return False
        failed = Failed(
            span,
            frame,
            frame.f_lasti,
            arguments,
            threading.get_ident(),
            _current_task(),
            now_ns,
            time.monotonic(),
        )
        with self._lock:
            earlier = self.held.get(id(frame))
            self.held[id(frame)] = failed  # the frame lives as long, so that its id is no other's
        if earlier is not None:  # of other arguments, or another place: it was not tried again
            earlier.span.end(earlier.end_time)
        return True

    def resume(self, frame: FrameType, arguments: tuple[Any, ...]) -> Failed | None:
        """The failed attempt that a call out of `frame` tries again; it is the caller's now."""
        failed = self.held.get(id(frame))
        again = (
            failed is not None and failed.place == frame.f_lasti and _are_same(failed.arguments, arguments)
        )
        if again:
            with self._lock:
                failed = self.held.pop(id(frame), None)
        self.release(own=_own_frames(frame))
        return failed if again else None

    def release(self, *, everything: bool = False, own: frozenset[int] | None = None) -> None:
        """End those that are not tried again.

        Args:
            own: the ids of the frames on this thread's stack, where the caller has them: what failed in another frame of this
                thread is over.
        """
        if not self.held:
            return
        oldest, thread = time.monotonic() - _MAX_AGE_S, threading.get_ident()

        def is_over(failed: Failed) -> bool:
            if everything or failed.held_at < oldest:
                return True
            if failed.frame.f_code.co_flags & inspect.CO_COROUTINE:  # one that only waits is on no stack
                return failed.task is not None and failed.task.done()
            return own is not None and failed.thread == thread and id(failed.frame) not in own

        with self._lock:
            over = [f for f in self.held.values() if is_over(f)]
            for failed in over:
                del self.held[id(failed.frame)]
        for failed in over:
            failed.span.end(failed.end_time)


def make_part(failed: Failed) -> None:
    """End an attempt that is tried again: it is no answer of its own."""
    failed.span.attributes[names.ANSWER] = False
    failed.span.end(failed.end_time)


def _is_decorator(frame: FrameType, function: Any) -> bool:
    """True where `frame` runs a decorator's wrapper: it was handed `function`, and has not made it itself."""
    if frame.f_code.co_flags & _GENERATOR:  # nobody can tell whether one that waits will go on
        return False
    if frame.f_locals is frame.f_globals or frame.f_globals.get("__name__", "").startswith("heedloop."):
        return False
    name = getattr(function, "__qualname__", "")
    if name.startswith(f"{frame.f_code.co_qualname}.<locals>."):
        return False
    return any(value is function for value in list(frame.f_locals.values()))


def _are_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


def _current_task() -> Any:
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return None


def _own_frames(frame: FrameType) -> frozenset[int]:
    """The ids of a frame of this thread and of those that called it."""
    ids: set[int] = set()
    caller: FrameType | None = frame
    while caller is not None:
        ids.add(id(caller))
        caller = caller.f_back
    return frozenset(ids)
