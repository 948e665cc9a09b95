"""What an app says about a call, as span attributes.

These values come from requests, forms and providers, so a wrong one never raises into the request: it is converted, or
dropped with a warning (`_guard.dropped`). Only what is wrong in the code itself raises: an unknown name, one text given
as `tags`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from pathlib import PurePath
from typing import Any, TypedDict, cast
from uuid import UUID

from heedloop import attributes as names
from heedloop._guard import dropped, shown
from heedloop._secrets import MASK, is_secret
from heedloop._usage import token_counts
from heedloop.schema import Usage, parse_time

__all__ = [
    "CallValues",
    "ContextValues",
    "as_text",
    "as_time",
    "attributes_of",
    "check_names",
    "plain_value",
    "present_attributes",
    "text_entries",
    "text_of_entry",
]

Scalar = str | int | float | bool


class ContextValues(TypedDict, total=False):
    """What `heedloop.context` takes; see there."""

    user_id: str
    session_id: str
    tags: Iterable[str]
    metadata: Mapping[str, Any]
    external_id: str
    user: str
    session: str


class CallValues(TypedDict, total=False):
    """What `heedloop.set` takes; see there."""

    model: str
    response_model: str
    provider: str
    operation: str
    usage: Usage | Mapping[str, Any]
    cost: float
    user_id: str
    session_id: str
    tags: Iterable[str]
    metadata: Mapping[str, Any]
    prompt_name: str
    prompt_version: str
    prompt_variables: Mapping[str, Any]
    parameters: Mapping[str, Any]
    response_id: str
    finish_reasons: Iterable[str]
    input: Any
    output: Any
    user: str
    session: str


_TEXTS = {
    "model": names.REQUEST_MODEL,
    "response_model": names.RESPONSE_MODEL,
    "provider": names.PROVIDER_NAME,
    "operation": names.OPERATION_NAME,
    "user": names.USER_ID,
    "user_id": names.USER_ID,
    "session": names.CONVERSATION_ID,
    "session_id": names.CONVERSATION_ID,
    "prompt_name": names.PROMPT_NAME,
    "prompt_version": names.PROMPT_VERSION,
    "response_id": names.RESPONSE_ID,
}
_LISTS = {"tags": names.TAGS, "finish_reasons": names.FINISH_REASONS}
_MAPPINGS = {
    "metadata": names.METADATA_PREFIX,
    "prompt_variables": names.PROMPT_VARIABLE_PREFIX,
    "parameters": names.REQUEST_PREFIX,
}
_MEANT = {"conversation_id": "session_id", "chat_id": "session_id", "thread_id": "session_id"}


def check_names(where: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise `TypeError` where `values` has a name that `known` has not, with the nearest that it has."""
    choices = list(known)
    for name in values:
        if name not in choices:
            near = _nearest(name, choices)
            hint = f"did you mean {near}? " if near else ""
            raise TypeError(f"{where}() has no argument {name}; {hint}it takes {', '.join(choices)}")


def _nearest(name: str, choices: Sequence[str]) -> str:
    """The choice that `name` was meant to be; empty where none is near."""
    if _MEANT.get(name) in choices:
        return _MEANT[name]
    import difflib

    return next(iter(difflib.get_close_matches(name, choices, 1)), "")


def present_attributes(**values: Any) -> dict[str, Any]:
    """Span attributes of those values that are not None."""
    return attributes_of({k: v for k, v in values.items() if v is not None})


def attributes_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Span attributes of what an app said; None and empty texts are nothing said."""
    attributes: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == "":
            continue
        if name in _TEXTS:
            text = as_text(name, value)
            if text:
                attributes[_TEXTS[name]] = text
        elif name in _LISTS:
            texts = _texts(name, value)
            if texts:
                attributes[_LISTS[name]] = texts
        elif name == "usage":
            attributes.update(token_counts(value))
        elif name == "cost":
            attributes.update(_cost(value))
        elif name in _MAPPINGS:
            prefix = _MAPPINGS[name]
            keep = _parameter if name == "parameters" else None
            attributes.update({prefix + k: v for k, v in text_entries(name, value, keep).items()})
    return attributes


def plain_value(value: Any) -> Scalar | None:
    """A value that means one number or text, as that: enum members, numpy scalars, times, paths, ids; else None."""
    if isinstance(value, (str, bool, int, float)):
        return _base_of(value)
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


def as_text(name: str, value: Any) -> str:
    """`value` as text; empty where it is None or was dropped because it is no text, number or id."""
    if type(value) is str or value is None:
        return value or ""
    plain = None if isinstance(value, bool) else plain_value(value)
    if plain is None:
        dropped(name, f"must be text, not {shown(value)}")
        return ""
    return str(plain)


def as_time(name: str, value: Any) -> datetime | None:
    """An aware time of a `datetime` (a naive one is local time, as in Python), ISO text or seconds since 1970."""
    try:
        if isinstance(value, datetime):
            return value if value.tzinfo is not None else value.astimezone()
        if isinstance(value, str) and value:
            return parse_time(value, field=name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        dropped(name, str(error).removeprefix(f"{name}: "))
        return None
    if value is not None and value != "":
        dropped(name, f"must be a time, not {shown(value)}")
    return None


def text_entries(name: str, value: Any, keep: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A mapping's entries as texts; entries that are None are nothing said, secrets by their name are masked."""
    if not isinstance(value, Mapping):
        if value is not None:
            dropped(name, f"must be a mapping, not {shown(value)}")
        return {}
    texts: dict[str, Any] = {}
    for key, entry in cast(Mapping[Any, Any], value).items():
        if entry is None:
            continue
        if is_secret(str(key)):
            texts[str(key)] = MASK
            continue
        text = text_of_entry(entry) if keep is None else keep(entry)
        if text is not None:
            texts[str(key)] = text
    return texts


def text_of_entry(value: Any) -> str:
    """A value of a mapping as text; what its own class raises while it is written is named in its place."""
    plain = plain_value(value)
    if plain is not None:
        return str(plain)
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  the host's own class; its __str__ may do anything
        return f"<{type(value).__name__}: {type(error).__name__} in its __str__>"


def _parameter(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    plain = plain_value(value)
    if plain is not None:
        return plain
    if isinstance(value, (list, tuple)):
        texts = [plain_value(v) for v in cast(list[Any], value)]
        return [str(t) for t in texts if t is not None]
    return None


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{name}: must be a list of texts, not {value!r}; write {name}=[{value!r}]")
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        dropped(name, f"must be a list of texts, not {shown(value)}")
        return []
    return [t for t in (as_text(name, v) for v in cast(Iterable[Any], value)) if t]


def _cost(value: Any) -> dict[str, float]:
    plain = None if isinstance(value, bool) else plain_value(value)
    try:
        cost = float(plain) if plain is not None else math.nan
    except ValueError:
        cost = math.nan
    if not math.isfinite(cost) or cost < 0:
        dropped("cost", f"must be US dollars of 0 or more, not {shown(value)}")
        return {}
    return {names.COST: cost}
