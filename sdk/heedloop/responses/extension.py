"""A record with more to it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar, cast

T = TypeVar("T")


def extended(cls: type[T], record: Any, **more: Any) -> T:
    """An instance of `cls` with the fields of `record`, all of which `cls` has, and with `more`, which win."""
    return cls(**{f.name: getattr(record, f.name) for f in fields(record)} | more)


def picked(cls: type[T], record: Any, **more: Any) -> T:
    """An instance of `cls` with those of its fields that `record` has, and with `more`, which win."""
    names = [f.name for f in fields(cast(Any, cls)) if f.name not in more and hasattr(record, f.name)]
    return cls(**{n: getattr(record, n) for n in names}, **more)
