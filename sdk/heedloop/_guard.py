"""The one guard between this SDK and the app it runs in.

After `configure()` nothing of ours raises into the host: what goes wrong is logged once a minute with a count. Under
pytest it is raised, so that a fault is seen where it can be mended. Data that cannot be used is `dropped` in the same
way. What is wrong in the host's code (an unknown keyword, a handle that is none) always raises, outside the guard.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

logger = logging.getLogger("heedloop")
_QUIET_S = 60.0
_last_said: dict[str, float] = {}
_num_unsaid: dict[str, int] = {}


def warn(topic: str, message: str) -> None:
    """Log `message` at WARNING, at most once a minute per topic, with the number of times it was held back."""
    now = time.monotonic()
    if now - _last_said.get(topic, -_QUIET_S) < _QUIET_S:
        _num_unsaid[topic] = _num_unsaid.get(topic, 0) + 1
        return
    _last_said[topic] = now
    held_back = _num_unsaid.pop(topic, 0)
    logger.warning("heedloop: %s%s", message, f" ({held_back} more like it)" if held_back else "")


class DroppedValue(ValueError):
    """Under pytest, in place of the warning that a value was left out."""


def dropped(name: str, reason: str) -> None:
    """A value from a request was left out: say so once a minute. Under pytest it raises, to be seen there."""
    if "PYTEST_VERSION" in os.environ:
        raise DroppedValue(f"{name}: {reason}")
    warn(f"dropped {name}", f"{name} was left out: it {reason}")


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def shown(value: object) -> str:
    """A host's value for a message: the beginning of its repr, whatever its class does."""
    try:
        text = _ADDRESS.sub("", repr(value))
    except Exception:  # noqa: BLE001  the host's own class; its __repr__ may do anything
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def report(error: Exception, doing: str) -> None:
    """Note a fault of ours without raising; for our own threads, where it could not be caught."""
    warn(f"{doing}:{type(error).__name__}", f"{doing} failed: {type(error).__name__}: {error}")
    logger.debug("heedloop: %s", doing, exc_info=error)


def fault(error: Exception, doing: str) -> None:
    """A fault of ours inside a host's call: noted; raised under pytest."""
    if "PYTEST_VERSION" in os.environ:
        raise error
    report(error, doing)


def guarded(doing: str, default: D) -> Callable[[Callable[P, R]], Callable[P, R | D]]:
    """Decorate a function of ours that runs inside a host's call: `default` is returned where it fails."""

    def decorate(fn: Callable[P, R]) -> Callable[P, R | D]:
        @functools.wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R | D:
            try:
                return fn(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  this is the guard
                fault(error, doing)
                return default

        return call

    return decorate


def tolerant(default: D) -> Callable[[Callable[P, R]], Callable[P, R | D]]:
    """Decorate a function that reads a host's value, whose class may do anything: `default` where it raises."""

    def decorate(fn: Callable[P, R]) -> Callable[P, R | D]:
        @functools.wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R | D:
            try:
                return fn(*args, **kwargs)
            except Exception:  # noqa: BLE001  it is not ours
                return default

        return call

    return decorate


def start_thread(run: Callable[[], None], name: str) -> threading.Thread | None:
    """A running daemon thread; None where the interpreter is ending and starts no more threads."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        report(error, f"starting {name}")
        return None
    return thread
