"""What `context` and `collect_handles` blocks say of the calls inside them, in a context variable of heedloop's own.

Not in OpenTelemetry's context: a web framework that traces its own steps (FastAPI its dependencies) puts that back after each
step, and with it would go what a `with` block of the step had said.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar, Token
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType
from typing import Any, NamedTuple, cast

from opentelemetry import context as context_api

from heedloop._guard import warn
from heedloop._retries import running_task
from heedloop._runtime import state
from heedloop._spans import CallSpan


class External:
    """The trace id of an `external_id`, for as long as its block lasts: a task may outlive it and serve others."""

    def __init__(self, trace_id: int) -> None:
        self.trace_id = trace_id
        self.is_over = False


class Holder(NamedTuple):
    """A generator that holds a block open while it yields, and the thread or task that runs it."""

    frame: FrameType
    runner: object

    @classmethod
    def here(cls) -> Holder | None:
        """The generator whose code opens a block now. None elsewhere, and where the block is there for the code between:
        in context managers, in what they provide (dependencies of FastAPI) and in the fixtures of a test."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__") in _OPENERS:
            frame = frame.f_back
        if frame is None or not frame.f_code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
            return None
        driver = "" if frame.f_back is None else str(frame.f_back.f_globals.get("__name__"))
        return None if driver.partition(".")[0] in _PROVIDERS else cls(frame, _runner())

    def is_away(self) -> bool:
        """Whether its thread or task runs other code now: what its consumer does between two items."""
        if _runner() is not self.runner:
            return False
        frame = sys._getframe(1)
        while frame is not None:
            if frame is self.frame:
                return False
            frame = frame.f_back
        return True


_OPENERS = ("contextlib", "heedloop._around", "heedloop._current")
_PROVIDERS = ("contextlib", "_pytest", "pytest_asyncio", "anyio")


def _runner() -> object:
    return running_task() or threading.current_thread()


class Collected:
    """The answers made inside a `collect_handles` block, and with it inside the one around it.

    Args:
        holder: where a generator holds it open; what is made while that one waits is not inside.
    """

    def __init__(self, outer: Collected | None = None, holder: Holder | None = None) -> None:
        self._calls: list[CallSpan] = []
        self._outer = outer
        self._holder = holder
        self.is_over = False
        """True after the block: a task that was started there may go on, and serve others."""

    def add(self, call: CallSpan) -> None:
        """Note a call that begins."""
        if not self.is_over and (self._holder is None or not self._holder.is_away()):
            self._calls.append(call)
        if self._outer is not None:
            self._outer.add(call)

    def leave_to(self, inner: Collected | None) -> None:
        """This block ends while others that began inside it go on, in generators that take turns: their answers are theirs."""
        others: list[Collected] = []
        while inner is not None and inner is not self:
            others.append(inner)
            inner = inner._outer
        if inner is self and others:
            theirs = {id(call) for other in others for call in other._calls}
            self._calls = [call for call in self._calls if id(call) not in theirs]

    @property
    def is_empty(self) -> bool:
        """True where no call has begun."""
        return not self._calls

    @property
    def first(self) -> str:
        """The handle of the call that began first; empty where none did."""
        return self._calls[0].answer_handle if self._calls else ""

    @property
    def handles(self) -> tuple[str, ...]:
        """The handles of all answers, in the order in which they began; not of those that ended in an exception."""
        return tuple(dict.fromkeys(c.answer_handle for c in self._calls if not c.answer.failed))

    @property
    def handle(self) -> str:
        """The handle of the one answer. Empty, with a warning, where there is none or more than one."""
        handles = self.handles
        if len(handles) == 1:
            return handles[0]
        if state.runtime is not None:
            many = f"{len(handles)} answers were" if handles else "no answer was"
            warn("collect", f"{many} made inside collect_handles(), so that `handle` is empty; see `handles`")
        return ""


class Extent:
    """How long a block lasts, and what is around it."""

    def __init__(self, outer: Around) -> None:
        self.outer = outer
        self.token: Token[Around] | None = None
        self.is_over = False


class Around(NamedTuple):
    """The blocks around what runs here: attributes for every span, an external id, and who collects handles.

    `once` are attributes for the next answer alone, which clears them; `extent` is that of the innermost block.
    """

    values: Mapping[str, Any] = {}
    external: External | None = None
    collected: Collected | None = None
    once: dict[str, Any] | None = None
    extent: Extent | None = None


_around: ContextVar[Around] = ContextVar("heedloop-around", default=Around())  # noqa: B039  immutable
around = _around.get


def begin(blocks: Around) -> Token[Around]:
    """From here on `blocks` are around."""
    return _around.set(blocks)


def begin_block(blocks: Around) -> Extent:
    """`blocks` are around what runs from here on, until `finish`."""
    extent = Extent(_around.get())
    extent.token = _around.set(blocks._replace(extent=extent))
    return extent


def finish(extent: Extent, collected: Collected | None = None) -> None:
    """End a block. Blocks in generators that take turns do not end in the order in which they began."""
    extent.is_over = True
    inner = _around.get().collected
    try:
        _around.reset(cast(Token[Around], extent.token))
        if collected is not None:
            collected.leave_to(inner)
        outside = _around.get()
        while outside.extent is not None and outside.extent.is_over:
            outside = outside.extent.outer
        if outside is not _around.get():
            _around.set(outside)
    except ValueError:
        warn(
            "other context",
            "a block of context() or collect_handles() ended in another task or thread than it began in, and was around "
            "nothing; a dependency of FastAPI that yields inside such a block must be an `async def`",
        )


class Place(NamedTuple):
    """Where code runs: OpenTelemetry's context, and the blocks around it."""

    context: context_api.Context
    blocks: Around

    def enter(self) -> tuple[Token[Any], Token[Around]]:
        """Go there; undone by `leave`."""
        return context_api.attach(self.context), _around.set(self.blocks)


def leave(tokens: tuple[Token[Any], Token[Around]]) -> None:
    """Undo `Place.enter`. Raises `ValueError` in another context, where there is nothing to undo."""
    _around.reset(tokens[1])
    context_api.detach(tokens[0])


def here() -> Place:
    """Where this code runs."""
    return Place(context_api.get_current(), _around.get())
