"""Records to JSON-ready dictionaries and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import date, datetime
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from heedloop.schema._checks import SchemaError, format_time, parse_time, show
from heedloop.schema._feedback import Feedback, Target

R = TypeVar("R")


def to_json(record: Any) -> dict[str, Any]:
    """A record as a JSON-ready dictionary; fields that are None or empty are left out."""
    out: dict[str, Any] = {}
    for name in _names(type(record)):
        value = getattr(record, name)
        if type(value) not in _AS_IT_IS:
            value = _plain(value)
            if not value and isinstance(value, (list, dict)):
                continue
        if value is not None:
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
    if hasattr(value, "__dataclass_fields__"):
        return to_json(value)
    if type(value) is dict or isinstance(value, Mapping):  # the second is slow
        return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
    return value


def from_json(cls: type[R], data: object, *, field: str = "", strict: bool = True) -> R:
    """A record of class `cls` from parsed JSON.

    Args:
        field: where the JSON stood, for errors.
        strict: refuse unknown fields; otherwise they are ignored and missing ones that may be None are, because a server
            may be newer or older than who reads its response.

    Raises:
        SchemaError: a required field is missing, a field is unknown, or a value is wrong; it names the field.
    """
    where = field or cls.__name__.lower()
    if type(data) is not dict and not isinstance(data, Mapping):  # the second is slow
        raise SchemaError(where, f"must be a JSON object, not {show(data)}")
    given = cast(Mapping[str, Any], data)
    known = _fields(cls)
    values: dict[str, Any] = {} if strict else {n: None for n, f in known.items() if f.none_if_missing}
    for name, value in given.items():
        described = known.get(name)
        if described is None:
            if strict:
                inner = f"{field}.{name}" if field else str(name)
                raise SchemaError(
                    inner, f"is not a field of {cls.__name__}; it has {', '.join(sorted(known))}"
                )
        elif value is None:
            if described.none_if_missing:
                values[name] = None
        elif described.read:
            values[name] = described.read(value, f"{field}.{name}" if field else name, strict)
        else:
            values[name] = value
    try:
        return cls(**values)
    except TypeError as err:
        missing = re.findall(r"'(\w+)'", str(err))
        if "missing" in str(err) and missing:
            name = missing[0]
            raise SchemaError(f"{field}.{name}" if field else name, "is required and missing") from None
        raise SchemaError(where, str(err)) from None


Reader = Callable[[Any, str, bool], Any]
"""(JSON, where it stood, strict) -> value."""


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field is read: `read` is None where JSON has its value already."""

    read: Reader | None
    none_if_missing: bool


@cache
def _fields(cls: type[Any]) -> dict[str, _Field]:
    hints = get_type_hints(cls)
    return {
        f.name: _Field(
            _reader(hints[f.name]),
            none_if_missing=f.default is MISSING
            and f.default_factory is MISSING
            and type(None) in get_args(hints[f.name]),
        )
        for f in fields(cls)
    }


def _reader(hint: Any) -> Reader | None:
    """What reads a value of this type; None where JSON has it already."""
    if hint is datetime:
        return lambda value, where, _: parse_time(value, field=where)
    if hint is date:
        return lambda value, *_: date.fromisoformat(value)
    if is_dataclass(hint):
        record = cast(type[Any], hint)
        return lambda value, where, strict: from_json(record, value, field=where, strict=strict)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return next((r for r in map(_reader, parts) if r is not None), None)
    if origin in (tuple, list, Sequence):
        return _list_reader(tuple if origin is tuple else list, _reader(parts[0]))
    if origin in (dict, Mapping):
        return _mapping_reader(_reader(parts[1]))
    return None


def _list_reader(make: type[Any], read: Reader | None) -> Reader | None:
    if read is None:
        return None if make is list else lambda value, *_: tuple(value) if isinstance(value, list) else value

    def read_all(value: Any, where: str, strict: bool) -> Any:
        if not isinstance(value, list):
            raise SchemaError(where, f"must be a list, not {show(value)}")
        return make(read(v, f"{where}[{i}]", strict) for i, v in enumerate(cast(list[Any], value)))

    return read_all


def _mapping_reader(read: Reader | None) -> Reader | None:
    if read is None:
        return None
    return lambda value, where, strict: {
        k: None if v is None else read(v, f"{where}.{k}", strict) for k, v in value.items()
    }


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


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, for hashing."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
