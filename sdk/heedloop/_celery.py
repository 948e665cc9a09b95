"""celery: a task that is tried again (`autoretry_for`, `self.retry`) is one answer with its failed attempts.

Nothing is guessed: celery says by its signals that a task is tried again and for which error. The message of the next attempt
carries the trace of the failed one, so that it goes on there, also in another worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from heedloop._current import current_call
from heedloop._guard import guarded
from heedloop._retries import make_part
from heedloop._runtime import state
from heedloop._spans import CallSpan

_HEADER = "heedloop_attempt"
_SIGNAL_NAME = "heedloop"
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_tokens: dict[str, Any] = {}
"""Id of a task that goes on here -> what detaches the trace of its failed attempt."""


def connect(*, child_ends: Callable[..., None] | None = None) -> None:
    """Listen to celery where it is imported; `child_ends` is called before a child of its pool leaves.

    A child leaves past atexit and billiard's own list; celery says so just before.
    """
    signals = sys.modules.get("celery.signals")
    if signals is None:
        return
    if child_ends is not None:
        signals.worker_process_shutdown.connect(child_ends, weak=False, dispatch_uid=_SIGNAL_NAME)
    for name, receiver in (
        ("before_task_publish", _task_is_sent),
        ("task_prerun", _task_begins),
        ("task_retry", _task_is_tried_again),
        ("task_postrun", _task_is_over),
    ):
        getattr(signals, name).connect(receiver, weak=False, dispatch_uid=_SIGNAL_NAME)


@guarded("noting a task's next attempt", None)
def _task_is_sent(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """A message goes out; where it is the next attempt of the task that goes on here, it carries this attempt's trace."""
    task = sys.modules["celery._state"].get_current_task()
    if headers is None or state.runtime is None or task is None or headers.get("id") != task.request.id:
        return
    call = current_call()  # `raise self.retry()` inside of the answer itself
    if call is None:
        failed = state.runtime.attempts.of_error(sys.exc_info()[1])
        call = None if failed is None else failed.span
    if call is not None:
        headers[_HEADER] = _trace_of(call)


@guarded("going on with a task", None)
def _task_begins(task: Any = None, task_id: str = "", **_: Any) -> None:
    carried = (task.request.headers or {}).get(_HEADER)
    if not isinstance(carried, Mapping) or trace_api.get_current_span().get_span_context().is_valid:
        return
    _tokens[task_id] = context_api.attach(_TRACE_CONTEXT.extract(carried))


@guarded("noting a failed attempt", None)
def _task_is_tried_again(reason: Any = None, **_: Any) -> None:
    attempts = None if state.runtime is None else state.runtime.attempts
    failed = None if attempts is None else attempts.of_error(reason)
    if attempts is None or failed is None:
        return
    attempts.drop(failed)
    make_part(failed)
    if reason.is_eager and reason.sig is not None:  # it is called right away, without a message
        headers = {**(reason.sig.options.get("headers") or {}), _HEADER: _trace_of(failed.span)}
        reason.sig.options["headers"] = headers


@guarded("noting the end of a task", None)
def _task_is_over(task_id: str = "", **_: Any) -> None:
    token = _tokens.pop(task_id, None)
    if token is not None:
        context_api.detach(token)
    if state.runtime is not None:
        state.runtime.attempts.release(job=task_id)


def _trace_of(call: CallSpan) -> dict[str, str]:
    carrier: dict[str, str] = {}
    span = trace_api.NonRecordingSpan(call.answer.context)
    _TRACE_CONTEXT.inject(carrier, trace_api.set_span_in_context(span))
    return carrier
