"""A retry decorator above `@heedloop.trace` makes one answer: the attempts that failed are parts of it.

When an attempt fails, nobody can tell whether another follows. So a failed call is held where a decorator called it; the
next call out of the very same place of that decorator with the same arguments makes it a part of that answer. Where none
comes, because the decorator has ended or after two minutes, it is sent as the failed answer that it is.
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

_MAX_AGE_S = 120.0
_MAX_HELD = 1_000


class Failed(NamedTuple):
    """A call that failed inside a decorator's `frame`, at `place`; `task` is the asyncio task that runs it."""

    span: CallSpan
    frame: FrameType
    place: int
    arguments: tuple[Any, ...]
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
        failed = Failed(span, frame, frame.f_lasti, arguments, _current_task(), now_ns, time.monotonic())
        with self._lock:
            earlier = self.held.get(id(frame))
            self.held[id(frame)] = failed  # the frame lives as long, so that its id is no other's
        if earlier is not None:  # of other arguments, or another place: it was not tried again
            earlier.span.end(earlier.end_time)
        return True

    def resume(self, frame: FrameType, arguments: tuple[Any, ...]) -> Failed | None:
        """The failed attempt that a call out of `frame` tries again; it is the caller's now."""
        failed = self.held.get(id(frame))
        if failed is None or failed.place != frame.f_lasti or not _are_same(failed.arguments, arguments):
            return None
        with self._lock:
            return self.held.pop(id(frame), None)

    def release(self, *, everything: bool = False) -> None:
        """End those that are not tried again."""
        if not self.held:
            return
        oldest, running = time.monotonic() - _MAX_AGE_S, _running_frames()
        with self._lock:
            over = [f for f in self.held.values() if everything or f.held_at < oldest or _is_over(f, running)]
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


def _running_frames() -> set[int]:
    """The ids of all frames on the stacks of all threads."""
    running: set[int] = set()
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            running.add(id(frame))
            frame = frame.f_back
    return running


def _is_over(failed: Failed, running: set[int]) -> bool:
    """True where the decorator has certainly ended; a coroutine that only waits is on no stack."""
    if failed.frame.f_code.co_flags & inspect.CO_COROUTINE:
        return failed.task is not None and failed.task.done()
    return id(failed.frame) not in running
