"""heedloop: tie what people say about an LLM application to the very call they judge.

import heedloop

heedloop.configure(service="support-bot")        # HEEDLOOP_URL, HEEDLOOP_API_KEY


@heedloop.trace
def answer(question: str) -> str: ...


text, handle = answer.with_handle("How do I return a lamp?")   # the handle goes out with the answer
heedloop.thumbs_up(handle, author="user-17")                   # and comes back from the person
"""

from __future__ import annotations

from heedloop._configure import configure, delivery, flush, shutdown
from heedloop._current import collect_handles, context, handle, span
from heedloop._current import set_values as set
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
from heedloop._options import Options
from heedloop._redact import Redactor
from heedloop._runtime import Counts, Delivery
from heedloop._tracing import trace, with_handle
from heedloop.schema import Author, Feedback, Scale, Target, Usage

__all__ = [
    "Author",
    "Counts",
    "Delivery",
    "Feedback",
    "Options",
    "Redactor",
    "Scale",
    "Target",
    "Usage",
    "collect_handles",
    "comment",
    "compare",
    "configure",
    "context",
    "correct",
    "delivery",
    "feedback_token",
    "flag",
    "flush",
    "handle",
    "keep",
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
