"""Messages, tools and token counts in the forms that sources use, as heedloop has them.

Read are: text; OpenAI's messages, choices and content parts; Anthropic's and TensorZero's blocks; Gemini's `parts`; LangChain's
serialised messages and generations; ShareGPT's `from` and `value`; objects with one text field; and each of them as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from heedloop.schema import Message, ToolCall, ToolDefinition, Usage
from heedloop_cli.importers.documents import mapping, parsed

ROLES = {
    **dict.fromkeys(("human", "user", "prompter", "humanmessage", "humanmessagechunk"), "user"),
    **dict.fromkeys(("ai", "gpt", "assistant", "bot", "model", "aimessage", "aimessagechunk"), "assistant"),
    **dict.fromkeys(("tool", "function", "toolmessage", "functionmessage"), "tool"),
    **dict.fromkeys(("system", "developer", "systemmessage"), "system"),
}
_TEXT_FIELDS = (
    "output", "input", "question", "answer", "query", "prompt", "response", "completion", "result", "text", "content",
    "value", "message",
)  # fmt: skip
_MEDIA = {"image": "image", "audio": "audio", "file": "file", "document": "file", "video": "video"}


def messages(value: object, role: str = "user") -> tuple[Message, ...]:
    """The messages that a value holds; `role` is that of plain text. Empty where there are none."""
    value = parsed(value)
    if value is None or value == "":
        return ()
    if isinstance(value, list):
        entries = cast(list[Any], value)
        if entries and not any(_has_role(e) for e in entries):
            if all(isinstance(e, list) for e in entries):
                return messages(entries[0], role)  # LangChain sends batches: [[message, ...]]
            return _joined(entries, role)
        return tuple(m for e in entries for m in _of_object(cast(Mapping[str, Any], e), role))
    if isinstance(value, Mapping):
        return _of_object(cast(Mapping[str, Any], value), role)
    return (Message(role, str(value)),)


def _has_role(value: object) -> bool:
    return isinstance(value, Mapping) and bool({"role", "from", "kwargs", "messages"} & value.keys())


def _joined(entries: Sequence[Any], role: str) -> tuple[Message, ...]:
    """A list of parts without roles: one message, or JSON text where they are no parts."""
    if all(isinstance(e, str) or (isinstance(e, Mapping) and "type" in e) for e in entries):
        return _message(role, list(entries))
    return (Message(role, _json(entries)),) if entries else ()


def _of_object(value: Mapping[str, Any], role: str) -> tuple[Message, ...]:
    system = value.get("system") or value.get("system_prompt")
    for name in ("messages", "choices", "generations"):
        inner = parsed(value.get(name))
        if isinstance(inner, list) and inner:
            entries = cast(list[Any], inner)
            if name == "messages":
                head = messages(system, "system") if isinstance(system, (str, list)) else ()
                return (*head, *messages(entries, role))
            first: Any = entries[0]
            while isinstance(first, list) and first:
                first = first[0]
            choice = mapping(first)
            return messages(choice.get("message") or choice.get("text"), "assistant")
    if "kwargs" in value:  # LangChain's constructor form
        own = mapping(value["kwargs"])
        kind = str(own.get("type") or cast(list[Any], value.get("id") or [role])[-1])
        return _of_message({"role": kind, **own}, role)
    if "role" in value or "from" in value or ("type" in value and "content" in value):
        return _of_message(value, role)
    for name in _TEXT_FIELDS:
        if value.get(name) not in (None, "", []):
            head = messages(system, "system") if isinstance(system, str) else ()
            return (*head, *messages(value[name], role))
    return (Message(role, _json(value)),) if value else ()


def _of_message(value: Mapping[str, Any], default: str) -> tuple[Message, ...]:
    said = str(value.get("role") or value.get("from") or value.get("type") or default)
    role = ROLES.get(said.lower(), said)
    content = next((value[n] for n in ("content", "parts", "text", "value") if value.get(n) is not None), "")
    found = _message(role, content, value.get("tool_call_id"))
    calls = (*_tool_calls(value.get("tool_calls")), *_tool_calls(_function_call(value)))
    reasoning = value.get("reasoning_content") or value.get("reasoning")
    if calls or isinstance(reasoning, str):
        last = found[-1] if found else Message(role)
        text = reasoning if isinstance(reasoning, str) and reasoning else last.reasoning
        found = (*found[:-1], replace(last, tool_calls=last.tool_calls or calls, reasoning=text))
    return found or (Message(role),)


def _function_call(value: Mapping[str, Any]) -> list[Any] | None:
    own = value.get("function_call")
    return [{"function": own}] if isinstance(own, Mapping) else None


def _message(role: str, content: object, tool_call_id: object = None) -> tuple[Message, ...]:
    """One message of text or parts; a tool's results among the parts are messages of their own."""
    parts = cast(list[Any], content if isinstance(content, list) else [content])
    texts: list[str] = []
    thoughts: list[str] = []
    media: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for part in parts:
        if not isinstance(part, Mapping):
            texts.append("" if part is None else str(part))
            continue
        block = cast(Mapping[str, Any], part)
        kind = str(block.get("type") or "text")
        kind_of_media = next((m for w, m in _MEDIA.items() if w in kind), None)
        if kind in ("tool_use", "tool_call", "function_call"):
            calls += _tool_calls([block])
        elif kind in ("tool_result", "tool_call_response", "function_call_output"):
            results.append(_result(block))
        elif kind in ("thinking", "reasoning", "thought"):
            thoughts.append(str(block.get("thinking") or block.get("text") or block.get("content") or ""))
        elif kind_of_media is not None and not isinstance(block.get("text"), str):
            media.append(str(block.get("mime_type") or block.get("media_type") or kind_of_media))
        else:
            texts.append(_text(block))
    text = "\n".join(t for t in texts if t)
    own_id = str(tool_call_id) if tool_call_id else None
    thought = "\n".join(t for t in thoughts if t) or None
    own = Message(role, text, thought, tuple(calls), own_id, tuple(media))
    is_empty = not (text or thought or calls or media)
    return tuple(results) if results and is_empty else (*results, own)


def _text(block: Mapping[str, Any]) -> str:
    value: Any = next((block[n] for n in ("text", "content", "value", "arguments") if n in block), None)
    if isinstance(value, Mapping):
        value = cast(Mapping[str, Any], value).get("value", _json(value))
    return _json(block) if value is None else value if isinstance(value, str) else _json(value)


def _result(block: Mapping[str, Any]) -> Message:
    identity = block.get("tool_use_id") or block.get("call_id") or block.get("id")
    content: Any = next((block[n] for n in ("content", "result", "response", "output") if n in block), "")
    (message, *_) = _message("tool", content if isinstance(content, (str, list)) else _json(content))
    return replace(message, tool_call_id=str(identity) if identity else None)


def _tool_calls(value: object) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for entry in cast(Iterable[Any], value if isinstance(value, list) else ()):
        call = mapping(entry)
        own = mapping(call.get("function")) or call
        named = own.get("name") or own.get("raw_name")
        arguments: Any = next(
            (own[n] for n in ("arguments", "args", "input", "raw_arguments") if own.get(n) is not None), ""
        )
        if named:
            identity = call.get("id") or call.get("call_id")
            text = arguments if isinstance(arguments, str) else _json(arguments)
            calls.append(ToolCall(str(named), text, str(identity) if identity else None))
    return calls


def tool_definitions(value: object) -> tuple[ToolDefinition, ...]:
    """The tools that a request offered: OpenAI's, Anthropic's, or LangChain's."""
    found: list[ToolDefinition] = []
    for entry in cast(Iterable[Any], value if isinstance(value, list) else ()):
        tool = mapping(entry)
        own = mapping(tool.get("function")) or tool
        if own.get("name"):
            schema = own.get("parameters") or own.get("input_schema")
            kind = str(tool.get("type") or "function")
            text = _json(schema) if schema else ""
            found.append(ToolDefinition(str(own["name"]), str(own.get("description") or ""), text, kind))
    return tuple(found)


def usage(value: object) -> Usage:
    """Token counts under OpenAI's, Anthropic's or Langfuse's names."""
    counts = mapping(value)
    details = mapping(counts.get("prompt_tokens_details") or counts.get("input_tokens_details"))
    thought = mapping(counts.get("completion_tokens_details") or counts.get("output_tokens_details"))

    def first(source: Mapping[str, Any], *names: str) -> int | None:
        found = (source.get(n) for n in names)
        return next((int(v) for v in found if isinstance(v, (int, float)) and v >= 0), None)

    return Usage(
        first(counts, "prompt_tokens", "input_tokens", "input", "inputTokens", "promptTokens"),
        first(counts, "completion_tokens", "output_tokens", "output", "outputTokens", "completionTokens"),
        first({**counts, **details}, "cache_read_input_tokens", "cached_tokens", "cached", "cache_read"),
        first(counts, "cache_creation_input_tokens", "cache_write_input_tokens", "input_cache_creation"),
        first({**counts, **thought}, "reasoning_tokens", "output_reasoning_tokens"),
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
