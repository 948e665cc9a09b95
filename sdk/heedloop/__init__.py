"""heedloop: tie feedback on an LLM application to the very call that it judges.

import heedloop

heedloop.configure(service="support-bot")        # HEEDLOOP_URL, HEEDLOOP_API_KEY


@heedloop.trace
def answer(question: str) -> str: ...


text, handle = answer.with_handle("How do I return a lamp?")   # the handle goes out with the answer
heedloop.thumbs_up(handle, author="user-17")                   # and comes back with the feedback
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heedloop._configure import configure, delivery, flush, shutdown
from heedloop._current import collect_handles, context, handle, span
from heedloop._current import set_values as set
from heedloop._options import Options
from heedloop._tracing import trace, with_handle

if TYPE_CHECKING:
    from heedloop import aio as aio
    from heedloop import client as client
    from heedloop import testing as testing
    from heedloop._assignment import Assignment, assign, fetch_settings
    from heedloop._example_cache import Examples
    from heedloop._examples import examples
    from heedloop._feedback import (
        comment,
        compare,
        correct,
        feedback_token,
        flag,
        keep,
        rate,
        record,
        retract,
        target,
        thumbs_down,
        thumbs_up,
    )
    from heedloop._prompts import prompt
    from heedloop._redact import Redactor
    from heedloop._runtime import Counts, Delivery
    from heedloop.schema import Author, Feedback, Prompt, Scale, Target, Usage

__all__ = [
    "Assignment",
    "Author",
    "Counts",
    "Delivery",
    "Examples",
    "Feedback",
    "Options",
    "Prompt",
    "Redactor",
    "Scale",
    "Target",
    "Usage",
    "assign",
    "collect_handles",
    "comment",
    "compare",
    "configure",
    "context",
    "correct",
    "delivery",
    "examples",
    "feedback_token",
    "fetch_settings",
    "flag",
    "flush",
    "handle",
    "keep",
    "prompt",
    "rate",
    "record",
    "retract",
    "set",
    "shutdown",
    "span",
    "target",
    "thumbs_down",
    "thumbs_up",
    "trace",
    "with_handle",
]

_LATE = {
    "_example_cache": "Examples",
    "_examples": "examples",
    "_assignment": "Assignment assign fetch_settings",
    "_feedback": "comment compare correct feedback_token flag keep rate record retract target thumbs_down thumbs_up",
    "_prompts": "prompt",
    "_redact": "Redactor",
    "_runtime": "Counts Delivery",
    "schema": "Author Feedback Prompt Scale Target Usage",
}
_MODULE_OF = {name: module for module, names in _LATE.items() for name in names.split()}
"""What is loaded when it is first used, because an app that only records should start fast."""
_MODULES = ("aio", "client", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
