"""Tool calls in any client's form -> `heedloop.schema.ToolCall`s."""

from __future__ import annotations

from typing import Any

from heedloop.schema import ToolCall
from heedloop_server.normalise.values import as_name, as_text, read_json


def read_tool_calls(value: Any) -> list[ToolCall]:
    """Tool calls of any form; entries without a name are left out."""
    parsed = read_json(value)
    if isinstance(parsed, dict):
        parsed = [parsed]
    if not isinstance(parsed, (list, tuple)):
        return []
    calls = (_tool_call(read_json(v)) for v in parsed)
    return [c for c in calls if c is not None]


def _tool_call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("tool_call")
    if isinstance(inner, dict):
        value = inner
    function = value.get("function")
    function = function if isinstance(function, dict) else value
    name = as_name(first_of(function, "name", "toolName", "tool_name")) or as_name(value.get("function"))
    if name is None:
        return None
    arguments = first_of(function, "arguments", "args", "input", "parameters")
    if arguments is None:
        arguments = first_of(value, "arguments", "args", "input", "server_tool_call")
    return ToolCall(
        name, as_text(arguments), as_name(first_of(value, "call_id", "id", "toolCallId", "toolUseId", "ref"))
    )


def each_once(calls: list[ToolCall]) -> tuple[ToolCall, ...]:
    """Tool calls of one message, each once: clients send them as parts and beside them, there without an id as well."""
    ids = {c.id for c in calls if c.id}
    named = {(c.name, c.arguments) for c in calls if c.id}
    first = {c.id: c for c in reversed(calls)}
    return tuple(
        c for c in calls if (first[c.id] is c if c.id in ids else (c.name, c.arguments) not in named)
    )


def first_of(value: dict[str, Any], *keys: str) -> Any:
    """The value of the first key that is there and not None."""
    for key in keys:
        found = value.get(key)
        if found is not None:
            return found
    return None
