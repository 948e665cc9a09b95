"""Processes that fork, end or are told to end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from heedloop import _celery
from heedloop._current import leave_everything
from heedloop._guard import report
from heedloop._options import Options
from heedloop._runtime import state

at_exit: Callable[[], Any] = lambda: None  # noqa: E731  set by _configure
_forks_watched = False


def watch(options: Options) -> None:
    """See to forks from now on, and to SIGTERM where the app asked for it."""
    global _forks_watched
    if not _forks_watched and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
        _forks_watched = True
    _end_with_multiprocessing()
    if options.on_sigterm and threading.current_thread() is threading.main_thread():
        _hook_sigterm()


def _before_fork() -> None:
    if state.runtime is not None:
        state.runtime.outbox.hold_for_fork()


def _in_parent() -> None:
    if state.runtime is not None:
        state.runtime.outbox.release_after_fork()


def _in_child() -> None:
    runtime = state.runtime
    if runtime is None:
        return
    try:
        runtime.after_fork()
        leave_everything()
        _end_with_multiprocessing()
    except Exception as error:  # noqa: BLE001  a fork must succeed whatever we do
        state.runtime = None
        report(error, "starting over after a fork")


class _Child:
    """What `multiprocessing` holds on to while its child lives."""


_child = _Child()


def _end_with_multiprocessing() -> None:
    """A child of `multiprocessing` (or celery's billiard) leaves by `os._exit`, past atexit: use its own list.

    Called when heedloop starts and after each fork. A child empties its list once it has imported the app; one that starts
    heedloop before (a forkserver's) gets the entry by the hook after forks, one that starts it later, in its work, at once.
    """
    for name in ("multiprocessing", "billiard"):
        util, process = sys.modules.get(f"{name}.util"), sys.modules.get(f"{name}.process")
        if util is None or process is None:
            continue
        util.register_after_fork(_child, lambda _obj, util=util: util.Finalize(None, at_exit, exitpriority=0))
        if process.current_process().name != "MainProcess":
            util.Finalize(None, at_exit, exitpriority=0)
    _celery.connect(child_ends=lambda **_: at_exit())


def _hook_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM)
    if getattr(before, "_heedloop", False):
        return

    def deliver_and_go(number: int, frame: FrameType | None) -> None:
        # On a thread of its own: this handler interrupts the main thread wherever it is, perhaps holding our locks.
        closing = threading.Thread(target=at_exit, daemon=True)
        timeout_s = state.runtime.options.exit_timeout_s if state.runtime is not None else 0.0
        closing.start()
        closing.join(timeout_s + 0.2)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    deliver_and_go._heedloop = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, deliver_and_go)
