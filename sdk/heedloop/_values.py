"""What an app says about a call, as span attributes.

These values come from requests, forms and providers, so a wrong one never raises into the request: it is converted, or
dropped with a warning (`_guard.dropped`). Only what is wrong in the code itself raises: an unknown name, one text given
as `tags`.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from heedloop import attributes as names
from heedloop._capture import Budget, snapshot
from heedloop._guard import DroppedValue, dropped, shown
from heedloop._plain import Scalar, plain_value, shortened
from heedloop._secrets import MASK, is_secret
from heedloop._usage import token_counts
from heedloop.schema import parse_time

if TYPE_CHECKING:
    from heedloop.schema import Usage

T = TypeVar("T")
_MAX_NAME_CHARS = 1_024
"""Longest name, id or tag; beyond it head and tail are kept."""
_MAX_ENTRY_CHARS = 65_536
"""The same for an entry of metadata, prompt variables or parameters."""
_MAX_TIME_CHARS = 64


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
        if value is None or (type(value) is str and not value):
            continue
        if name in _LISTS and type(value) in (str, bytes):
            raise ValueError(
                f"{name}: must be a list of texts, not {shown(value)}; write {name}=[{shown(value)}]"
            )
        attributes.update(readable(name, value, _attributes_of_value, {}))
    return attributes


def _attributes_of_value(name: str, value: Any) -> dict[str, Any]:
    if name in _TEXTS:
        text = as_text(name, value)
        return {_TEXTS[name]: shortened(text, _MAX_NAME_CHARS)} if text else {}
    if name in _LISTS:
        texts = _texts(name, value)
        return {_LISTS[name]: texts} if texts else {}
    if name == "usage":
        return dict(token_counts(value))
    if name == "cost":
        return dict(_cost(value))
    if name in _MAPPINGS:
        entries = text_entries(name, value, _parameter if name == "parameters" else None)
        return _named_within(_MAPPINGS[name], entries)
    return {}


def metadata_of(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Span attributes of a step's keywords, numbers as numbers."""
    return _named_within(names.METADATA_PREFIX, text_entries("span", entries, entry_of))


def _named_within(prefix: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    return {
        prefix + k[:_MAX_NAME_CHARS]: shortened(v, _MAX_ENTRY_CHARS) if isinstance(v, str) else v
        for k, v in entries.items()
    }


def readable(name: str, value: Any, read: Callable[[str, Any], T], default: T) -> T:
    """`read(name, value)`; `default`, and the value is dropped, where its own class raises.

    Proxies outside of their request and records without their database session do so on every attribute.
    """
    try:
        return read(name, value)
    except DroppedValue:
        raise
    except Exception as error:  # noqa: BLE001  the host's own class runs here, and may do anything
        dropped(name, f"cannot be read, its class raises {type(error).__name__}: {error}")
        return default


def as_text(name: str, value: Any) -> str:
    """`value` as text; empty where it is None or was dropped because it is no text, number or id."""
    if type(value) is str or value is None:
        return value or ""
    plain = plain_value(value)
    if plain is None or isinstance(plain, bool):
        dropped(name, f"must be text, not {shown(value)}")
        return ""
    return str(plain)


def as_time(name: str, value: Any) -> datetime | None:
    """An aware time of a `datetime` (a naive one is local time, as in Python), ISO text or seconds since 1970."""
    if value is None or (type(value) is str and not value):
        return None
    try:
        if isinstance(value, datetime):
            return value if value.tzinfo is not None else value.astimezone()
        if isinstance(value, str) and len(value) <= _MAX_TIME_CHARS:
            return parse_time(value, field=name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, timezone.utc)
        reason = f"must be a time, not {shown(value)}"
    except Exception as error:  # noqa: BLE001  also of the host's own class
        reason = str(error).removeprefix(f"{name}: ")
    dropped(name, reason)
    return None


def text_entries(name: str, value: Any, keep: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A mapping's entries as texts; entries that are None are nothing said, secrets by their name are masked."""
    return readable(name, value, functools.partial(_text_entries, keep), {})


def _text_entries(keep: Callable[[Any], Any] | None, name: str, value: Any) -> dict[str, Any]:
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
        text = str(entry_of(entry)) if keep is None else keep(entry)
        if text is not None:
            texts[str(key)] = text
    return texts


def entry_of(value: Any) -> Scalar:
    """A value of a mapping as a number or text: what it holds as JSON, without its secrets, as arguments are taken.

    What its own class raises while it is written is named in its place.
    """
    plain = plain_value(value)
    if plain is not None:
        return plain
    copied = snapshot(value, Budget(_MAX_ENTRY_CHARS))
    if not isinstance(copied, str) or copied == MASK:
        return copied if isinstance(copied, str) else json.dumps(copied, ensure_ascii=False)
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
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        dropped(name, f"must be a list of texts, not {shown(value)}")
        return []
    texts = (shortened(as_text(name, v), _MAX_NAME_CHARS) for v in cast(Iterable[Any], value))
    return list(filter(None, texts))


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
