"""Threads that are started inside an answer, or inside a `collect_handles` block, stay inside it.

Python's threads begin with an empty context. The patched `Thread.start` and `ThreadPoolExecutor.submit` hand the current
OpenTelemetry context on, where it collects handles or where the app asked for it (`Options(threads=True)`); anywhere
else they do what they did.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry import context as context_api

__all__ = ["COLLECT_KEY", "carry_into_threads"]

COLLECT_KEY = context_api.create_key("heedloop-collect")

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


def _is_carried(context: context_api.Context) -> bool:
    return bool(context) and (_always or COLLECT_KEY in context)


def _in(context: context_api.Context, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        token = context_api.attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            context_api.detach(token)

    return call


def _patch_start() -> None:
    start = threading.Thread.start

    @functools.wraps(start)
    def start_inside(self: threading.Thread) -> None:
        context = context_api.get_current()
        if _is_carried(context) and not _is_worker(self):
            self.run = _in(context, self.run)
        start(self)

    threading.Thread.start = start_inside


def _is_worker(thread: threading.Thread) -> bool:
    # A pool's own threads serve whoever comes next; what is submitted brings its context itself.
    return getattr(getattr(thread, "_target", None), "__module__", "") == "concurrent.futures.thread"


def _patch_submit() -> None:
    submit = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def submit_inside(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        context = context_api.get_current()
        return submit(self, _in(context, fn) if _is_carried(context) else fn, *args, **kwargs)

    ThreadPoolExecutor.submit = submit_inside
