"""What an app says about a call, checked, and as span attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from heedloop import attributes as names
from heedloop.schema import Usage

__all__ = ["CallValues", "attributes_of", "given_attributes"]


class CallValues(TypedDict, total=False):
    """What `heedloop.set` takes; see there."""

    model: str
    response_model: str
    provider: str
    operation: str
    usage: Usage | Mapping[str, int]
    cost: float
    user: str
    session: str
    tags: Sequence[str]
    metadata: Mapping[str, str]
    prompt_name: str
    prompt_version: str
    prompt_variables: Mapping[str, str]
    parameters: Mapping[str, Any]
    response_id: str
    finish_reasons: Sequence[str]
    input: Any
    output: Any


_TEXTS = {
    "model": names.REQUEST_MODEL,
    "response_model": names.RESPONSE_MODEL,
    "provider": names.PROVIDER_NAME,
    "operation": names.OPERATION_NAME,
    "user": names.USER_ID,
    "session": names.CONVERSATION_ID,
    "prompt_name": names.PROMPT_NAME,
    "prompt_version": names.PROMPT_VERSION,
    "response_id": names.RESPONSE_ID,
}


def given_attributes(**values: Any) -> dict[str, Any]:
    """Span attributes of those values that are not None."""
    return attributes_of({k: v for k, v in values.items() if v is not None})


def attributes_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Span attributes of what an app said; raises `ValueError` where a value is of the wrong kind."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in _TEXTS:
            found[_TEXTS[name]] = _text(name, value)
        elif name == "usage":
            found.update(_usage(value))
        elif name == "cost":
            found[names.COST] = _cost(value)
        elif name in ("tags", "finish_reasons"):
            found[names.TAGS if name == "tags" else names.FINISH_REASONS] = _texts(name, value)
        elif name in _MAPPINGS:
            found.update(_mapping(name, value))
    return found


_MAPPINGS = {
    "metadata": names.METADATA_PREFIX,
    "prompt_variables": names.PROMPT_VARIABLE_PREFIX,
    "parameters": names.REQUEST_PREFIX,
}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
        raise ValueError(f"{name}: must be text that is not empty, not {value!r}")
    return str(value)


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name}: must be a list of texts, not {value!r}")
    return [_text(name, v) for v in cast(Sequence[Any], value)]


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: must be a mapping, not {value!r}")
    entries = cast(Mapping[Any, Any], value)
    prefix = _MAPPINGS[name]
    if name == "parameters":
        return {prefix + str(k): v for k, v in entries.items() if isinstance(v, (str, int, float, bool))}
    return {prefix + str(k): v if isinstance(v, str) else str(v) for k, v in entries.items()}


def _usage(value: Any) -> dict[str, int]:
    if isinstance(value, Usage):
        entries: dict[str, Any] = {k: getattr(value, k) for k in names.USAGE_ATTRIBUTES}
    elif isinstance(value, Mapping):
        entries = dict(cast(Mapping[str, Any], value))
    else:
        raise ValueError(f"usage: must be a heedloop.Usage or a mapping, not {value!r}")
    found: dict[str, int] = {}
    for name, count in entries.items():
        if count is None:
            continue
        if name not in names.USAGE_ATTRIBUTES:
            raise ValueError(f"usage.{name}: is not one of {', '.join(names.USAGE_ATTRIBUTES)}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"usage.{name}: must be a whole number of tokens, not {count!r}")
        found[names.USAGE_ATTRIBUTES[name]] = count
    return found


def _cost(value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value < 0
    ):
        raise ValueError(f"cost: must be US dollars of 0 or more, not {value!r}")
    return float(value)
