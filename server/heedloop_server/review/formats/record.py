"""What is exchanged: an item of a queue with its judgements, and a judgement made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from heedloop.schema import SchemaError, parse_time
from heedloop_server.review.control.labels import Judged

__all__ = ["External", "Reviewed", "listed", "member", "number_of", "time_of", "whole_of"]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An item with what was said about it.

    Attributes:
        targets: `trace_id`, `span_id` of its answers, in the item's own order.
        messages: the prompt, `role` and `text` of each message.
        answers: the answers' texts.
        facts: per answer what is known of its call, such as `model`.
        judgements: with pseudonyms for annotators where those were asked for.
    """

    item_id: str
    targets: Sequence[Mapping[str, str]]
    messages: Sequence[Mapping[str, str]]
    answers: Sequence[str]
    facts: Sequence[Mapping[str, str]]
    judgements: Sequence[Judged]
    sampling_probability: float | None = None
    expected: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class External:
    """A judgement made in another tool; `answers` in the item's own order, to be checked like any other."""

    item_id: str
    annotator: str
    answers: Mapping[str, Any]
    submitted_at: datetime | None = None
    duration_ms: int | None = None
    guideline_version: int | None = None


def member(entry: Mapping[str, Any], name: str, where: str, kind: type) -> Any:
    """`entry[name]` of a JSON type; raises `SchemaError` that names the place."""
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "a text", list: "a list", dict: "an object"}.get(kind, kind.__name__)
        raise SchemaError(f"{where}{name}", f"must be {words}, not {str(value)[:80]!r}")
    return value


def listed(entry: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    """A list of objects; an absent one is empty."""
    found = member(entry, name, where, list) if entry.get(name) is not None else []
    for i, one in enumerate(cast(list[Any], found)):
        if not isinstance(one, Mapping):
            raise SchemaError(f"{where}{name}[{i}]", f"must be an object, not {str(one)[:80]!r}")
    return cast(list[Mapping[str, Any]], found)


def time_of(entry: Mapping[str, Any], name: str, where: str) -> datetime | None:
    """A time in RFC 3339, None where absent."""
    value = entry.get(name)
    return None if value is None else parse_time(value, field=f"{where}{name}")


def number_of(entry: Mapping[str, Any], name: str, where: str) -> float | None:
    """A number of 0 or more, None where absent."""
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise SchemaError(f"{where}{name}", f"{str(value)[:80]!r} is not a number of 0 or more")
    return value


def whole_of(entry: Mapping[str, Any], name: str, where: str) -> int | None:
    """A whole number of 0 or more, None where absent."""
    value = number_of(entry, name, where)
    if value is not None and value != int(value):
        raise SchemaError(f"{where}{name}", f"{value!r} is not a whole number")
    return None if value is None else int(value)
