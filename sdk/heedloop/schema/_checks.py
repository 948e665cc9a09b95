"""What every record checks its fields with: errors that name the field, times, texts, numbers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from heedloop.schema._kinds import MAX_LABEL_CHARS


class SchemaError(ValueError):
    """A record's field holds a value it must not hold.

    Attributes:
        field: dotted path of the field, such as `target.trace_id`.
        reason: one sentence: what was wrong, the value, what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def utc_now() -> datetime:
    """The present moment as an aware UTC time."""
    return datetime.now(timezone.utc)


def parse_time(text: str, *, field: str = "time") -> datetime:
    """An RFC 3339 string as an aware UTC time; raises `SchemaError` where it has no offset or is no time."""
    try:
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError, TypeError):
        raise SchemaError(
            field, f"{show(text)} is not an RFC 3339 time such as 2026-11-21T09:30:00Z"
        ) from None
    if value.tzinfo is None:
        raise SchemaError(field, f"{show(text)} has no time zone; add Z for UTC")
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise SchemaError(field, f"{show(text)} is outside the years 1 to 9999 in UTC") from None


def format_time(value: datetime) -> str:
    """An aware time as RFC 3339 in UTC with microseconds, such as `2026-11-21T09:30:00.000000Z`."""
    return value.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def answer_hash(text: str) -> str:
    """SHA-256 (hex) of an answer's UTF-8 text; binds a character range to the very text it was marked in."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_text(value: object, field: str, *, limit: int = MAX_LABEL_CHARS, empty: bool = False) -> None:
    """Raise `SchemaError` where `value` is no text, is empty without leave, or is longer than `limit` characters."""
    if not isinstance(value, str):
        raise SchemaError(field, f"must be text, not {show(value)}")
    if not value and not empty:
        raise SchemaError(field, "must not be empty")
    if len(value) > limit:
        raise SchemaError(field, f"is {len(value):,} characters long; at most {limit:,} are accepted")


def check_optional_text(value: object, field: str, *, limit: int = MAX_LABEL_CHARS) -> None:
    if value is not None:
        check_text(value, field, limit=limit)


def check_choice(value: object, choices: Sequence[str], field: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise SchemaError(field, f"{show(value)} is not one of {', '.join(choices)}")


def check_pattern(value: object, pattern: re.Pattern[str], field: str, what: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise SchemaError(field, f"{show(value)} is not {what}")


def check_number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SchemaError(field, f"{show(value)} is not a finite number")
    return float(value)


def check_probability(value: object, field: str) -> None:
    if not 0 < check_number(value, field) <= 1:
        raise SchemaError(field, f"{show(value)} is not a probability above 0 and up to 1")


def check_flag_value(value: object, field: str) -> None:
    if not isinstance(value, bool):
        raise SchemaError(field, f"{show(value)} is not true or false")


def check_tuple(value: object, field: str) -> None:
    if not isinstance(value, tuple):
        raise SchemaError(field, f"must be a list, not {show(value)}")


def check_object(value: object, field: str) -> None:
    if not isinstance(value, Mapping):
        raise SchemaError(field, f"must be an object, not {show(value)}")


def check_record(value: object, cls: type[Any], field: str) -> None:
    if not isinstance(value, cls):
        raise SchemaError(field, f"must be a {cls.__name__}, not {show(value)}")


def check_time(value: object, field: str) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise SchemaError(field, f"{show(value)} is not an aware time; use datetime.now(timezone.utc)")
