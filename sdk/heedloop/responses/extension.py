"""A record with more to it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def extended(cls: type[T], record: Any, **more: Any) -> T:
    """An instance of `cls` with the fields of `record`, all of which `cls` has, and with `more`, which win."""
    return cls(**{f.name: getattr(record, f.name) for f in fields(record)} | more)
