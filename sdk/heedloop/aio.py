"""The feedback calls, and `examples`, for coroutines: `from heedloop import aio`, then `await aio.thumbs_up(handle)`.

Each is the function of the same name in `heedloop`, run in a thread: what it returns and raises is the same, the context (the call
that is going on) goes along, and the synced write to disk does not hold up the event loop.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from heedloop import _configure, _examples, _feedback

__all__ = [
    "comment",
    "compare",
    "correct",
    "examples",
    "flag",
    "flush",
    "rate",
    "record",
    "retract",
    "thumbs_down",
    "thumbs_up",
]

P = ParamSpec("P")
R = TypeVar("R")


def _in_thread(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(function, *args, **kwargs)

    return call


comment = _in_thread(_feedback.comment)
compare = _in_thread(_feedback.compare)
correct = _in_thread(_feedback.correct)
examples = _in_thread(_examples.examples)
flag = _in_thread(_feedback.flag)
flush = _in_thread(_configure.flush)
rate = _in_thread(_feedback.rate)
record = _in_thread(_feedback.record)
retract = _in_thread(_feedback.retract)
thumbs_down = _in_thread(_feedback.thumbs_down)
thumbs_up = _in_thread(_feedback.thumbs_up)
