"""Which call of a trace its user saw: what feedback on the whole trace is about. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from heedloop.schema import Call

ASKS_FOR_TOOLS = frozenset({"tool_calls", "tool_call", "tool_use", "function_call", "tool-calls"})
"""Finish reasons of a call that asked for a tool and is not the answer."""


def seen_rank(
    *,
    is_answer: bool,
    answered: bool,
    has_text: bool,
    asks_for_tools: bool,
    start_time: datetime,
    span_id: str,
) -> tuple[bool, int, bool, bool, datetime, str]:
    """Sorts the calls of a trace: the greatest is the one whose answer the user saw.

    The outermost answer (a decorated call, an agent) where it has content, of several the last one that says something to the
    user: a text without a tool call, before a text with one, before a tool call alone. `answered`: an output was recorded.
    """
    content = 2 * has_text + (has_text and not asks_for_tools)
    return (
        is_answer and answered,
        content,
        is_answer,
        not asks_for_tools,
        start_time,
        span_id,
    )


def seen_call(calls: Sequence[Call]) -> Call:
    """The one of a trace's calls whose answer the user saw; there must be one call."""
    return max(calls, key=_rank)


def _rank(call: Call) -> tuple[bool, int, bool, bool, datetime, str]:
    asks = any(m.tool_calls for m in call.output_messages[-1:]) or not ASKS_FOR_TOOLS.isdisjoint(
        call.finish_reasons
    )
    return seen_rank(
        is_answer=call.is_answer,
        answered=bool(call.output_messages),
        has_text=bool(call.output_text.strip()),
        asks_for_tools=asks,
        start_time=call.start_time,
        span_id=call.span_id,
    )
