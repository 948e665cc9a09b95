"""Contexts: what the model saw besides the conversation, which is its instructions (system messages) and its tools.

Instructions hold customers' data and retrieved documents. Two answers are compared only where both were written under the same
ones: the row's prompt is one answer's, and must not carry one person's data over to another's answer.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date, timedelta
from functools import lru_cache
from typing import Protocol

from heedloop.schema import Call, canonical_json
from heedloop_server.curate.near_copies import similarity
from heedloop_server.curate.rules import Rules

_FORMATS = (
    "{y}-{m:02}-{d:02}",
    "{y}/{m:02}/{d:02}",
    "{d:02}.{m:02}.{y}",
    "{d}.{m}.{y}",
    "{m:02}/{d:02}/{y}",
    "{m}/{d}/{y}",
    "{d:02}/{m:02}/{y}",
    "{y}年{m}月{d}日",
    "{month} {d}, {y}",
    "{month} {d:02}, {y}",
    "{d} {month} {y}",
    "{d:02} {month} {y}",
    "{short} {d}, {y}",
    "{d} {short} {y}",
)
_TIME = r"(?:\s*(?:T|,|at|um|à)?\s*\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*(?:Z|UTC|GMT|AM|PM|[+-]\d{2}:?\d{2}))?)?"
_WEEKDAY = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?\s+)?"


def instructions_of(call: Call) -> str:
    """The system messages of a call, a paragraph per message, without the date and time at which it was made."""
    texts = [m.text for m in call.input_messages if m.is_instruction]
    if not texts:
        return ""
    text = "\n\n".join(" ".join(t.split()) for t in texts)
    return _moments(call.start_time.date()).sub("<now>", text)


def context_of(call: Call) -> str:
    """Hash of what the model saw besides the conversation: equal for equal instructions and equal tools."""
    if not call.tool_definitions and not any(m.is_instruction for m in call.input_messages):
        return _NO_CONTEXT
    tools = sorted([t.type, t.name, t.description, t.parameters] for t in call.tool_definitions)
    return hashlib.sha256(
        canonical_json([instructions_of(call), tools]).encode("utf-8", "replace")
    ).hexdigest()


_NO_CONTEXT = hashlib.sha256(canonical_json(["", []]).encode()).hexdigest()


class InContext(Protocol):
    """What `compatible` needs of an answer."""

    @property
    def context(self) -> str:
        """Hash of instructions and tools; see `context_of`."""
        ...

    @property
    def written(self) -> Call:
        """The call whose words the answer's row holds."""
        ...


def compatible(a: InContext, b: InContext, rules: Rules) -> bool:
    """True where the rules let two answers to one question be compared."""
    if rules.context == "any" or a.context == b.context:
        return True
    one, other = a.written, b.written
    if rules.context == "same" or one.tool_definitions != other.tool_definitions:
        return False
    strangers = one.user_id != other.user_id and bool(one.user_id or other.user_id)
    return not strangers and similarity(instructions_of(one), instructions_of(other)) >= rules.near_duplicate


@lru_cache(512)
def _moments(day: date) -> re.Pattern[str]:
    """Matches the date of a day, of the one before and of the one after (time zones), with a time of day where one follows.

    Other dates, such as of birth or of an order, are data and stay.
    """
    dates = [_written(day + timedelta(days=k)) for k in (-1, 0, 1)]
    alternatives = sorted({re.escape(d) for of_day in dates for d in of_day}, key=len, reverse=True)
    return re.compile(f"{_WEEKDAY}(?<!\\d)(?:{'|'.join(alternatives)}){_TIME}(?!\\d)")


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def _written(day: date) -> list[str]:
    month = _MONTHS[day.month - 1]
    parts = {"y": day.year, "m": day.month, "d": day.day, "month": month, "short": month[:3]}
    return [f.format(**parts) for f in _FORMATS]
