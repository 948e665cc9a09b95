"""Values of a host's own kinds as plain numbers and texts, and long texts as their head and tail."""

from __future__ import annotations

import enum
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from heedloop._guard import tolerant

Scalar = str | int | float | bool
MAX_INT_BITS = 1_024


@tolerant(None)
def plain_value(value: Any) -> Scalar | None:
    """A value that means one number or text, as that: enum members, numpy scalars, times, paths, ids; else None."""
    if isinstance(value, (str, bool, int, float)):
        plain = _base_of(value)
        return None if isinstance(plain, int) and plain.bit_length() > MAX_INT_BITS else plain
    if isinstance(value, enum.Enum):
        return plain_value(value.value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, PurePath)):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a scalar of numpy, torch or jax
        return plain_value(value.item())
    return None


def _base_of(value: Scalar) -> Scalar:
    if isinstance(value, enum.Enum):
        return _base_of(value.value)
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str.__str__(value)


def shortened(text: str, chars: int) -> str:
    """Head and tail of `text`, together `chars` characters, and between them how many are missing."""
    if len(text) <= chars:
        return text
    head = (chars + 1) // 2
    tail = chars - head
    left_out = f"… [truncated: {len(text) - chars:,} of {len(text):,} characters left out] …"
    return text[:head] + left_out + (text[-tail:] if tail else "")


@tolerant(False)
def is_text(value: Any) -> bool:
    """True for text."""
    return isinstance(value, str)
