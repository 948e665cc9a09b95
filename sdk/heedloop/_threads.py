"""Threads that are started inside an answer, or inside a `collect_handles` block, stay inside it.

Python's threads begin with an empty context. The patched `Thread.start` and `ThreadPoolExecutor.submit` hand the place on
(the current call and the blocks around it), where handles are collected or where the app asked for it (`Options(threads=True)`); anywhere
else they do what they did.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from heedloop._around import Place, here, leave

_patched = False
_always = False


def carry_into_threads(*, always: bool | None = None) -> None:
    """Patch once; `always` True carries every context into every thread, None leaves that as it is."""
    global _always, _patched
    if always is not None:
        _always = always
    if _patched or always is False:
        return
    _patched = True
    _patch_start()
    _patch_submit()


def _is_carried(place: Place) -> bool:
    return place.blocks.collected is not None or (_always and bool(place.context or any(place.blocks)))


def _in(place: Place, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        tokens = place.enter()
        try:
            return function(*args, **kwargs)
        finally:
            leave(tokens)

    return call


def _patch_start() -> None:
    start = threading.Thread.start

    @functools.wraps(start)
    def start_inside(self: threading.Thread) -> None:
        place = here()
        if _is_carried(place) and not _is_worker(self):
            self.run = _in(place, self.run)
        start(self)

    threading.Thread.start = start_inside


def _is_worker(thread: threading.Thread) -> bool:
    # A pool's own threads serve whoever comes next; what is submitted brings its context itself.
    return getattr(getattr(thread, "_target", None), "__module__", "") == "concurrent.futures.thread"


def _patch_submit() -> None:
    submit = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def submit_inside(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        place = here()
        return submit(self, _in(place, fn) if _is_carried(place) else fn, *args, **kwargs)

    ThreadPoolExecutor.submit = submit_inside
