"""Records to JSON-ready dictionaries and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

from heedloop.schema._call import Message, ToolCall, ToolDefinition, Usage
from heedloop.schema._checks import SchemaError, format_time, parse_time, show
from heedloop.schema._dataset import ROW_CLASSES
from heedloop.schema._feedback import Author, CharRange, Feedback, Ranking, Scale, Target

R = TypeVar("R")

_NESTED: dict[tuple[str, str], tuple[type[Any], bool]] = {
    ("Feedback", "target"): (Target, False),
    ("Feedback", "author"): (Author, False),
    ("Feedback", "scale"): (Scale, False),
    ("Feedback", "ranking"): (Ranking, False),
    ("Ranking", "answers"): (Target, True),
    ("Target", "range"): (CharRange, False),
    ("Message", "tool_calls"): (ToolCall, True),
    ("Call", "input_messages"): (Message, True),
    ("Call", "output_messages"): (Message, True),
    ("Call", "tool_definitions"): (ToolDefinition, True),
    ("Call", "usage"): (Usage, False),
    **{
        (cls.__name__, name): (Message, True)
        for cls in ROW_CLASSES.values()
        for name in ("prompt", "completion_messages", "chosen_messages", "rejected_messages")
    },
    **{(cls.__name__, "tools"): (ToolDefinition, True) for cls in ROW_CLASSES.values()},
}
"""(record, field) -> (record inside, many of them?)"""


def to_json(record: Any) -> dict[str, Any]:
    """A record as a JSON-ready dictionary; fields that are None or empty are left out."""
    out: dict[str, Any] = {}
    for name in _names(type(record)):
        value = _plain(getattr(record, name))
        if value is None or value == [] or value == {}:
            continue
        out[name] = value
    return out


@cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


_AS_IT_IS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in cast(Sequence[Any], value)]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if hasattr(value, "__dataclass_fields__"):
        return to_json(value)
    return value


def from_json(cls: type[R], data: object, *, field: str = "") -> R:
    """A record of class `cls` from parsed JSON.

    Raises:
        SchemaError: a required field is missing, a field is unknown, or a value is wrong; it names the field.
    """
    where = field or cls.__name__.lower()
    if not isinstance(data, Mapping):
        raise SchemaError(where, f"must be a JSON object, not {show(data)}")
    given = cast(Mapping[str, Any], data)
    known = {f.name for f in fields(cast(Any, cls))}
    for name in given:
        if name not in known:
            raise SchemaError(
                f"{field}.{name}" if field else str(name),
                f"is not a field of {cls.__name__}; it has {', '.join(sorted(known))}",
            )
    values = {
        n: _revive(cls.__name__, n, v, f"{field}.{n}" if field else n)
        for n, v in given.items()
        if v is not None
    }
    try:
        return cls(**values)
    except TypeError as err:
        missing = re.findall(r"'(\w+)'", str(err))
        if "missing" in str(err) and missing:
            name = missing[0]
            raise SchemaError(f"{field}.{name}" if field else name, "is required and missing") from None
        raise SchemaError(where, str(err)) from None


def feedback_from_json(data: object, *, field: str = "") -> Feedback:
    """A `Feedback` from parsed JSON, whose answer may be named by its `handle` in place of a `target`.

    A comparison's answers may be handles too; its target is then the first of them.

    Raises:
        SchemaError: as `from_json`.
    """
    if not isinstance(data, Mapping):
        return from_json(Feedback, data, field=field)
    entry = dict(cast(Mapping[str, Any], data))
    prefix = f"{field}." if field else ""
    ranking = entry.get("ranking")
    answers = cast(Mapping[str, Any], ranking).get("answers") if isinstance(ranking, Mapping) else None
    if isinstance(answers, list) and any(isinstance(a, str) for a in cast(list[Any], answers)):
        named = [
            _target_json(a, f"{prefix}ranking.answers[{i}]") for i, a in enumerate(cast(list[Any], answers))
        ]
        entry["ranking"] = {**cast(Mapping[str, Any], ranking), "answers": named}
        entry.setdefault("target", named[0])
    handle = entry.pop("handle", None)
    if handle is not None:
        if entry.get("target") is not None:
            raise SchemaError(f"{prefix}handle", "and target are both there; give one of them")
        entry["target"] = _target_json(handle, f"{prefix}handle")
    return from_json(Feedback, entry, field=field)


def _target_json(handle: Any, field: str) -> Any:
    if isinstance(handle, Mapping):
        return cast(Any, handle)
    try:
        return to_json(Target.from_handle(handle))
    except SchemaError as error:
        raise SchemaError(field, error.reason) from None


def _revive(owner: str, name: str, value: Any, where: str) -> Any:
    nested = _NESTED.get((owner, name))
    if nested is not None:
        cls, many = nested
        if many:
            if not isinstance(value, list):
                raise SchemaError(where, f"must be a list, not {show(value)}")
            return tuple(
                from_json(cls, v, field=f"{where}[{i}]") for i, v in enumerate(cast(list[Any], value))
            )
        return from_json(cls, value, field=where)
    if name.endswith("_at") or name in ("start_time", "as_of"):
        return parse_time(value, field=where)
    if isinstance(value, list):
        return tuple(cast(list[Any], value))
    return value


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
