"""A retry decorator above `@heedloop.trace`, or a celery task that is tried again, makes one answer: the attempts that failed
are parts of it.

When an attempt fails, it is not known whether another follows. So a failed call is held where a decorator called it; the
next call out of the very same place of that decorator with the same arguments makes it a part of that answer. Where none
comes it is sent as the failed answer that it is: with the thread's next call or the task's end, after a minute at the latest.
What failed inside a celery task waits for what celery says of the task (`heedloop._celery`).

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

_MAX_AGE_S = 60.0
_MAX_HELD = 1_000
_MAX_CAUSES = 20
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Failed(NamedTuple):
    """A call that failed with `error`, called from `frame` at `place`; `thread` and asyncio `task` are those that ran it.

    `in_decorator` tells whether the frame is a decorator's, which may try again; `job` is the id of the celery task around it.
    """

    span: CallSpan
    error: BaseException
    in_decorator: bool
    job: str | None
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
        self,
        span: CallSpan,
        error: BaseException,
        frame: FrameType,
        function: Any,
        arguments: tuple[Any, ...],
        now_ns: int,
    ) -> bool:
        """Keep a failed answer; False where neither a decorator nor a celery task runs it, or too many are held already."""
        if span.answer is not span or span.upstream or len(self.held) >= _MAX_HELD:
            return False
        in_decorator, job = _is_decorator(frame, function), _job_id()
        if not in_decorator and job is None:
            return False
        failed = Failed(
            span,
            error,
            in_decorator,
            job,
            frame,
            frame.f_lasti,
            arguments,
            threading.get_ident(),
            running_task(),
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
            failed is not None
            and failed.in_decorator
            and failed.place == frame.f_lasti
            and _are_same(failed.arguments, arguments)
        )
        if again:
            with self._lock:
                failed = self.held.pop(id(frame), None)
        self.release(own=_own_frames(frame))
        return failed if again else None

    def of_error(self, error: BaseException | None) -> Failed | None:
        """The attempt of this thread that failed with `error`, or with one that led to it; the caller may `drop` it."""
        thread, num_steps = threading.get_ident(), 0
        led_to: Any = error
        with self._lock:
            by_error = {id(f.error): f for f in self.held.values() if f.thread == thread}
        while led_to is not None and num_steps < _MAX_CAUSES:
            if id(led_to) in by_error:
                return by_error[id(led_to)]
            inner = getattr(led_to, "exc", None)  # celery's Retry has it
            led_to = inner if isinstance(inner, BaseException) else led_to.__cause__ or led_to.__context__
            num_steps += 1
        return None

    def drop(self, failed: Failed) -> None:
        """Hold it no longer; it is the caller's to end."""
        with self._lock:
            self.held.pop(id(failed.frame), None)

    def release(
        self, *, everything: bool = False, own: frozenset[int] | None = None, job: str | None = None
    ) -> None:
        """End those that are not tried again.

        Args:
            job: the id of a celery task that is over.
            own: the ids of the frames on this thread's stack, where the caller has them: what failed in another frame of this
                thread is over.
        """
        if not self.held:
            return
        oldest, thread = time.monotonic() - _MAX_AGE_S, threading.get_ident()

        def is_over(failed: Failed) -> bool:
            if everything or failed.held_at < oldest or (job is not None and failed.job == job):
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
    """True where `frame` runs a decorator's wrapper: `function` was passed to it, and it has not created it itself."""
    if frame.f_code.co_flags & _GENERATOR:  # one that waits may never go on
        return False
    if frame.f_locals is frame.f_globals or frame.f_globals.get("__name__", "").startswith("heedloop."):
        return False
    name = getattr(function, "__qualname__", "")
    if name.startswith(f"{frame.f_code.co_qualname}.<locals>."):
        return False
    return any(value is function for value in list(frame.f_locals.values()))


def _job_id() -> str | None:
    celery = sys.modules.get("celery._state")
    task = None if celery is None else celery.get_current_task()
    return None if task is None or task.request.called_directly else task.request.id


def _are_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


def running_task() -> Any:
    """The task of asyncio that runs this; None outside of all."""
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
