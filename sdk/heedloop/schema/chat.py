"""Messages and tools in OpenAI's form, which chat templates and trainers read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from heedloop.schema._call import Message, ToolCall, ToolDefinition

Json = dict[str, Any]


def chat_messages(messages: Sequence[Message], *, parse: bool = True, parts: bool = False) -> list[Json]:
    """The messages as JSON; a tool's result names the tool that was called.

    Args:
        parse: give the arguments of tool calls as objects, which most templates want; as text otherwise.
        parts: give the content as a list of parts.
    """
    names = {c.id: c.name for m in messages for c in m.tool_calls if c.id}
    return [_message(m, names, parse, parts) for m in messages]


def _message(message: Message, names: dict[str, str], parse: bool, parts: bool) -> Json:
    content: Any = [{"type": "text", "text": message.text}] if parts else message.text
    chat: Json = {"role": message.role, "content": content}
    if message.reasoning:
        chat["reasoning_content"] = message.reasoning
    if message.tool_calls:
        chat["tool_calls"] = [_tool_call(c, parse) for c in message.tool_calls]
    if message.tool_call_id:
        chat["tool_call_id"] = message.tool_call_id
        if message.tool_call_id in names:
            chat["name"] = names[message.tool_call_id]
    return chat


def _tool_call(call: ToolCall, parse: bool) -> Json:
    arguments = _parsed(call.arguments) if parse else call.arguments
    made = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **made} if call.id else made


def chat_tools(tools: Iterable[ToolDefinition]) -> list[Json]:
    """The tool definitions of a request as JSON."""
    return [{"type": t.type, "function": _function(t)} for t in tools]


def _function(tool: ToolDefinition) -> Json:
    schema = _parsed(tool.parameters) or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": schema}


def _parsed(text: str) -> Any:
    """What a JSON text holds; a model may have written something else."""
    try:
        return json.loads(text) if text else {}
    except json.JSONDecodeError:
        return text
