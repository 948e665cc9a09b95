"""Chat messages among arguments and results: role/content dictionaries, LangChain's and pydantic's objects, pairs.

What a message is, is told by its shape; nothing of those libraries is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from heedloop._guard import tolerant

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "tool"}
"""LangChain's types of message -> role."""
_STREAMED = "MessageChunk"
_PAIR_ROLES = frozenset({*_ROLES, "user", "assistant", "developer"})

AT_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": (
        "messages",
        "question",
        "prompt",
        "query",
        "message",
        "text",
        "input",
        "content",
        "user_input",
    ),
    "answer": (
        "answer",
        "text",
        "output_text",
        "final_output",
        "reply",
        "response",
        "content",
        "output",
        "completion",
        "result",
        "message",
    ),
}
"""Fields of a request body that hold the prompt, and of a result that hold the answer; the first that is there."""


@tolerant(False)
def is_message(value: Any) -> bool:
    """True for one chat message of any of the known shapes."""
    if isinstance(value, dict):
        entries = cast(dict[str, Any], value)
        return isinstance(entries.get("role"), str) and (
            "content" in entries or "parts" in entries or "tool_calls" in entries
        )
    if isinstance(value, (str, bytes, int, float, type(None))):
        return False
    if isinstance(value, tuple):
        pair = cast(tuple[Any, ...], value)
        return (
            len(pair) == 2
            and isinstance(pair[1], str)
            and isinstance(pair[0], str)
            and pair[0] in _PAIR_ROLES
        )
    return _role_of(value) is not None


@tolerant(False)
def is_conversation(value: Any) -> bool:
    """True for a list of messages that is not empty."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(is_message(m) for m in cast(list[Any], value))


def as_message(value: Any) -> Any:
    """A message object as a role/content dictionary; a dictionary as it is."""
    if isinstance(value, dict):
        return cast(Any, value)
    if isinstance(value, tuple):
        role, text = cast(tuple[str, str], value)
        return {"role": _ROLES.get(role, role), "content": text}
    message: dict[str, Any] = {"role": _role_of(value), "content": getattr(value, "content", None)}
    if getattr(value, "tool_calls", None):
        message["tool_calls"] = [_tool_call(c) for c in value.tool_calls]
    if getattr(value, "tool_call_id", None):
        message["tool_call_id"] = value.tool_call_id
    return message


def _role_of(value: Any) -> str | None:
    role = getattr(value, "role", None)
    role = getattr(role, "value", role)  # an enum member's text
    if not isinstance(role, str):
        kind = getattr(value, "type", None)
        if not isinstance(kind, str):
            return None
        role = _ROLES.get(kind.removesuffix(_STREAMED).lower() if kind.endswith(_STREAMED) else kind)
    # looked for last: the content of a client's response that was not read yet raises
    return str(role) if role is not None and hasattr(value, "content") else None


def _tool_call(call: Any) -> Any:
    if isinstance(call, dict) and "args" in call:  # LangChain's
        entries = cast(dict[str, Any], call)
        return {"id": entries.get("id"), "name": entries.get("name"), "arguments": entries["args"]}
    return call


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """The fields of a dictionary, dataclass, pydantic model or attrs class by name; None for anything else."""
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value)
    kind = type(value)
    for marker in ("__dataclass_fields__", "model_fields", "__fields__", "__attrs_attrs__"):
        declared = getattr(kind, marker, None)
        if declared is not None and not isinstance(value, type):
            return {n: getattr(value, n, None) for n in (getattr(f, "name", f) for f in declared)}
    return None


@tolerant(None)
def named_text(value: Any, what: str) -> Any:
    """The text or conversation in a request body or result, by the usual names of fields; None where there is none."""
    fields = fields_of(value)
    if not fields:
        return None
    for name in AT_NAMES[what]:
        value_at = fields.get(name)
        if (isinstance(value_at, str) and value_at) or is_conversation(value_at):
            return value_at
    return None


@tolerant(None)
def follow(value: Any, path: tuple[str, ...]) -> Any:
    """What `path` (field, key or index names) leads to in `value`; None where it leads nowhere."""
    for name in path:
        if isinstance(value, Mapping):
            value = cast(Mapping[str, Any], value).get(name)
        elif isinstance(value, (list, tuple)) and name.lstrip("-").isdigit():
            entries, index = cast(list[Any], value), int(name)
            value = entries[index] if -len(entries) <= index < len(entries) else None
        else:
            value = getattr(value, name, None)
    return value
