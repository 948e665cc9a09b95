"""Conversations in any client's form -> `heedloop.schema.Message`s.

One reader for all of them, because they differ in names only, and mix: OpenTelemetry parts, OpenAI chat and Responses
items, Anthropic blocks, Bedrock Converse, Gemini contents, LangChain (plain, serialised, dumped), Vercel AI SDK.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from heedloop.schema import Message, ToolCall
from heedloop_server.normalise.aliases import ROLES, in_snake_case
from heedloop_server.normalise.tool_calls import each_once, first_of, read_tool_calls
from heedloop_server.normalise.values import as_name, as_text, read_json, read_object

_TEXT_TYPES = {"text", "input_text", "output_text", "refusal", "summary_text", "compaction"}
_REASONING_TYPES = {"reasoning", "thinking", "redacted_thinking", "reasoning_content"}
_CALL_TYPES = {
    "tool_call",
    "tool_use",
    "function_call",
    "custom_tool_call",
    "mcp_call",
    "server_tool_call",
    "server_tool_use",
    "function",
}
_RESULT_TYPES = {
    "tool_call_response",
    "tool_result",
    "tool_call_result",
    "tool_call_output",
    "function_call_output",
    "custom_tool_call_output",
    "server_tool_call_response",
    "function_response",
}
_ITEM_TYPES = {
    "function_call",
    "custom_tool_call",
    "mcp_call",
    "reasoning",
    "function_call_output",
    "custom_tool_call_output",
    "computer_call",
    "web_search_call",
}
_PLAIN_ROLES = frozenset({"system", "user", "assistant", "developer"})
_PLAIN_KEYS = frozenset({"role", "parts", "name", "finish_reason"})
_MEDIA_KEYS = ("mime_type", "mimeType", "media_type", "mediaType", "modality", "format", "type")
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-fA-F]+>")
"""What Python prints of an object without words of its own: a stream that nobody looked into."""
_MAX_KIND_CHARS = 64
_HIDDEN_PART = re.compile(
    r'"(?:reasoningContent"|type": ?"(?:thinking|reasoning|tool_use|function_call|tool_call)")'
)
"""What the JSON of a thought or a tool call has in it, where a client wrote it into a text part."""


class _Builder:
    """Collects the parts of one message."""

    __slots__ = ("media", "name", "reasoning", "results", "role", "texts", "tool_call_id", "tool_calls")

    def __init__(self, role: str) -> None:
        self.role = role
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: list[ToolCall] = []
        self.results: list[Message] = []
        self.media: list[str] = []
        self.tool_call_id: str | None = None

    def build(self) -> list[Message]:
        """The message, after the tool results that came in it: each of those is a message of its own."""
        alone = bool(self.results) and not (self.texts or self.tool_calls or self.media or self.reasoning)
        if alone:
            return self.results
        message = Message(
            role=self.role,
            text="\n".join(t for t in self.texts if t),
            reasoning="\n".join(self.reasoning) or None,
            tool_calls=each_once(self.tool_calls) if len(self.tool_calls) > 1 else tuple(self.tool_calls),
            tool_call_id=self.tool_call_id,
            media=tuple(self.media),
        )
        return [*self.results, message]


def read_messages(value: Any, role: str = "user") -> tuple[Message, ...]:
    """The messages that a value holds; none where it holds nothing readable as one.

    Args:
        value: JSON text or parsed JSON: a list of messages, one message, a request with `messages` or `contents`, a list
            of parts, or plain text.
        role: whose words plain text and parts without a role are.
    """
    parsed = read_json(value)
    if isinstance(parsed, str):
        if parsed.startswith("<") and _OBJECT.fullmatch(parsed):
            return ()
        return (Message(role=role, text=parsed),) if parsed else ()
    if isinstance(parsed, dict):
        return tuple(_from_object(parsed, role))
    if isinstance(parsed, (list, tuple)):
        plain = _plain(parsed)
        return tuple(plain if plain is not None else _from_list(parsed, role))
    return ()


def _plain(values: Sequence[Any]) -> list[Message] | None:
    """The standard's messages of nothing but text, which most are, read the short way; None where any is more."""
    out: list[Message] = []
    for value in values:
        if not isinstance(value, dict) or not _PLAIN_KEYS.issuperset(value):
            return None
        role, parts = value.get("role"), value.get("parts")
        if not isinstance(role, str) or role not in _PLAIN_ROLES or not isinstance(parts, list):
            return None
        texts: list[str] = []
        for part in parts:
            if (
                not isinstance(part, dict)
                or part.get("type") != "text"
                or not isinstance(text := part.get("content"), str)
                or (text.startswith("{") and _HIDDEN_PART.search(text))
            ):
                return None
            texts.append(text)
        out.append(Message(role, texts[0] if len(texts) == 1 else "\n".join(t for t in texts if t)))
    return out


def system_messages(value: Any) -> tuple[Message, ...]:
    """System instructions, in whatever form, as one system message; none where empty."""
    messages = read_messages(value, "system")
    text = "\n".join(m.text for m in messages if m.text)
    return (Message(role="system", text=text),) if text else ()


def with_system(instructions: Any, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Messages with the system instructions first, unless they are among them already."""
    system = system_messages(instructions) if instructions else ()
    if system and not any(m.is_instruction and m.text == system[0].text for m in messages):
        return system + messages
    return messages


def _from_object(value: dict[str, Any], role: str) -> list[Message]:
    """Messages of a JSON object: a conversation under a known key, or one message."""
    for key in ("messages", "contents", "input_messages"):
        if key in value and "role" not in value:
            return list(with_system(_instructions(value), read_messages(value[key], role)))
    if "generations" in value:
        return list(read_messages(value["generations"], "assistant"))
    return _from_message(value, role)


def _instructions(value: dict[str, Any]) -> Any:
    for key in ("system", "instructions", "system_instruction", "systemInstruction", "system_prompt"):
        if value.get(key):
            return value[key]
    config = value.get("config")
    return config.get("system_instruction") if isinstance(config, dict) else None


def _from_list(values: Iterable[Any], role: str) -> list[Message]:
    """Messages of a JSON list: of messages, of parts of one message, of Responses items, or of texts."""
    out: list[Message] = []
    parts: _Builder | None = None
    for value in values:
        if isinstance(value, str) and value[:1] == "{":
            value = read_json(value)
        message = value if isinstance(value, dict) and _is_message(value) else None
        whole = isinstance(value, (list, tuple)) or message is not None
        kind = _kind(value) if isinstance(value, dict) else None
        if parts is not None and (whole or (kind in _RESULT_TYPES and parts.tool_calls)):
            out.extend(parts.build())
            parts = None
        if isinstance(value, (list, tuple)):
            out.extend(_from_list(value, role))
        elif message is not None:
            out.extend(_from_message(message, role))
        else:
            # a Responses item has no role: calls and thoughts are the model's
            parts = parts or _Builder("assistant" if kind in _ITEM_TYPES else role)
            _add_part(parts, value)
    return out + parts.build() if parts is not None else out


def one_turn(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The assistant's messages in a row made one: the Responses API answers with several items per turn."""
    if len(messages) < 2 or any(m.role != "assistant" for m in messages):
        return messages
    thoughts = [m.reasoning for m in messages if m.reasoning]
    return (
        Message(
            role="assistant",
            text="\n".join(m.text for m in messages if m.text),
            reasoning="\n".join(thoughts) or None,
            tool_calls=tuple(c for m in messages for c in m.tool_calls),
            media=tuple(x for m in messages for x in m.media),
        ),
    )


def _is_message(value: dict[str, Any]) -> bool:
    """True for a message; False for a part of one (which has a type or a payload, and no role)."""
    if "role" in value or "message" in value or "parts" in value or "kwargs" in value or "messages" in value:
        return True
    kind = _kind(value)
    if kind in ("human", "ai", "system", "tool", "aimessage_chunk", "function", "message", "chat"):
        return kind != "function" or "content" in value
    return "tool_calls" in value or ("content" in value and kind is None)


def _kind(value: dict[str, Any]) -> str | None:
    """What `type` says, where it is text, written one way: `toolCall`, `tool-call` and `TOOL_CALL` are `tool_call`."""
    kind = value.get("type")
    if not isinstance(kind, str):
        return None
    return kind if kind in _TEXT_TYPES else in_snake_case(kind[:_MAX_KIND_CHARS])


def _from_message(value: dict[str, Any], role: str) -> list[Message]:
    """One message object as messages: several where tool results came in it."""
    value = _unwrapped(value)
    own = as_name(value.get("role")) or _role_of_type(value)
    # what some frameworks write for the chunks of a stream; a number of an enum
    if own and (own.lower() == "unknown" or own.isdecimal()):
        own = None
    builder = _Builder(_role(own) if own else role)
    if "parts" in value:
        _add_content(builder, value["parts"])
    for key in ("content", "contents", "text", "refusal"):
        if value.get(key) and (key != "text" or not builder.texts):
            _add_content(builder, value[key])
    if not own and _kind(value) in _ITEM_TYPES:
        _add_part(builder, value)
    _add_tool_calls(builder, value)
    for key in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(value.get(key), str) and value[key]:
            builder.reasoning.append(value[key])
    if builder.role == "tool":
        _set_tool_call_id(builder, value)
    return builder.build()


def _role(name: str) -> str:
    """One of the standard's roles for the names of them, in any case and with an enum's name before; others as they are."""
    return ROLES.get(name.rpartition(".")[2].strip().lower(), name)


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    """The message inside LangChain's constructors and dumps, a choice or an indexed `message.` tree."""
    for _ in range(4):
        inner = value.get("message")
        if isinstance(inner, str):
            inner = read_json(inner)
            inner = inner if isinstance(inner, dict) else {"content": inner, "role": value.get("role")}
        if isinstance(inner, dict):
            value = inner
        elif isinstance(value.get("kwargs"), dict):
            name = value.get("id")
            kwargs = dict(value["kwargs"])
            if isinstance(name, list) and name:
                kwargs.setdefault("type", str(name[-1]))
            value = kwargs
        elif isinstance(value.get("data"), dict) and "content" in value["data"]:
            value = {"type": value.get("type"), **value["data"]}
        else:
            break
    return value


def _role_of_type(value: dict[str, Any]) -> str | None:
    """The role that LangChain's `type` names, else the one a type of item belongs to."""
    kind = str(value.get("type") or "")
    if kind in ("system", "tool") or kind.lower() in ROLES:
        return kind
    return "assistant" if value.get("tool_calls") and not kind else None


def _add_tool_calls(builder: _Builder, value: dict[str, Any]) -> None:
    calls = value.get("tool_calls") or value.get("toolCalls")
    extra = value.get("additional_kwargs")
    if not calls and isinstance(extra, dict):
        calls = extra.get("tool_calls")
        if isinstance(extra.get("reasoning_content"), str):
            builder.reasoning.append(extra["reasoning_content"])
    if not builder.tool_calls:  # LangChain's Anthropic messages hold them in the content as well
        builder.tool_calls.extend(read_tool_calls(calls))
    legacy = value.get("function_call")
    if legacy is None and value.get("function_call_name"):  # OpenInference
        arguments = value.get("function_call_arguments_json")
        legacy = {"name": value["function_call_name"], "arguments": "" if arguments is None else arguments}
    if isinstance(legacy, dict):
        builder.tool_calls.extend(read_tool_calls([legacy]))
    audio = read_object(value.get("audio"))  # OpenAI: the spoken answer stands beside an empty content
    if audio and not builder.texts:
        _add_other(builder, {"type": "audio", "audio": audio})


def _set_tool_call_id(builder: _Builder, value: dict[str, Any]) -> None:
    for key in ("tool_call_id", "toolCallId", "tool_use_id", "id"):
        if value.get(key) and builder.tool_call_id is None:
            builder.tool_call_id = as_name(value[key])


def _add_content(builder: _Builder, content: Any) -> None:
    """A message's content: text, one part or a list of parts, also as JSON text of parts."""
    if isinstance(content, str):
        parsed = read_json(content) if content[:2] in ("[{", "{'", "['") or content[:3] == "[ {" else content
        if isinstance(parsed, list) and all(isinstance(p, dict) and _looks_like_part(p) for p in parsed):
            content = parsed
        else:
            builder.texts.append(content)
            return
    for part in content if isinstance(content, (list, tuple)) else [content]:
        _add_part(builder, part)


_PART_KEYS = {
    "text",
    "toolUse",
    "toolResult",
    "functionCall",
    "functionResponse",
    "function_call",
    "inlineData",
    "image",
}


def _looks_like_part(part: dict[str, Any]) -> bool:
    """True for a part of a message; a model's own JSON answer, which is text, is none."""
    kind = _kind(part)
    if kind in _TEXT_TYPES or kind in _CALL_TYPES or kind in _RESULT_TYPES or kind in _REASONING_TYPES:
        return True
    return (bool(part) and (len(part) == 1 and not _PART_KEYS.isdisjoint(part))) or kind == "image_url"


def _add_part(builder: _Builder, part: Any) -> None:
    if isinstance(part, str):
        builder.texts.append(part)
        return
    if not isinstance(part, dict):
        if part is not None:
            builder.texts.append(as_text(part))
        return
    inner = part.get("message_content")
    if isinstance(inner, dict):
        part = inner
    kind = _kind(part)
    if kind in _TEXT_TYPES:
        text = _part_text(part)
        hidden = read_object(text) if text.startswith("{") and _HIDDEN_PART.search(text) else {}
        if hidden and _is_hidden_part(hidden):
            _add_part(builder, hidden)
        else:
            builder.texts.append(text)
    elif kind in _REASONING_TYPES:
        _add_reasoning(builder, part)
    elif kind in _CALL_TYPES:
        builder.tool_calls.extend(read_tool_calls([part]))
    elif kind in _RESULT_TYPES:
        builder.results.append(_result(part))
    elif kind:
        _add_other(builder, part)
    else:
        _add_untyped(builder, part)


def _is_hidden_part(part: dict[str, Any]) -> bool:
    """True for a thought, or a tool call with its id; a model's own JSON answer, which is text, is neither."""
    kind = _kind(part)
    if kind in _CALL_TYPES:
        return "name" in part and ("id" in part or "call_id" in part)
    return kind in _REASONING_TYPES or set(part) == {"reasoningContent"}


def _part_text(part: dict[str, Any]) -> str:
    value = first_of(part, "content", "text", "refusal")
    if isinstance(value, dict):  # AnyValue-like {"value": ...}
        value = value.get("value")
    return as_text(value)


def _add_reasoning(builder: _Builder, part: dict[str, Any]) -> None:
    value = first_of(part, "content", "thinking", "text", "summary", "reasoningText", "reasoning")
    value = read_json(value) if isinstance(value, str) and value.startswith("[{") else value
    if isinstance(value, list):
        value = "\n".join(_part_text(v) if isinstance(v, dict) else as_text(v) for v in value)
    if isinstance(value, dict):
        inner = value.get("reasoningText")  # Bedrock Converse, inside another part
        value = _part_text(inner if isinstance(inner, dict) else value)
    if value:
        builder.reasoning.append(as_text(value))


def _add_other(builder: _Builder, part: dict[str, Any]) -> None:
    """A part of another type: a picture, a sound or a file by its kind; a generic part by its text."""
    text = part.get("text") if isinstance(part.get("text"), str) else None
    document = part.get("document")
    if not text and isinstance(document, dict) and _kind(part) == "document":  # Cohere: what a tool found
        text = as_text(document.get("data"))
    if text:
        builder.texts.append(text)
        return
    builder.media.append(_media(part))
    if spoken := _transcript(part):
        builder.texts.append(spoken)


def _transcript(part: dict[str, Any]) -> str:
    """What was said in a sound, where the client wrote it down."""
    for source in (part, *(v for v in part.values() if isinstance(v, dict))):
        if isinstance(found := source.get("transcript"), str):
            return found
    return ""


def _media(part: dict[str, Any]) -> str:
    """A short description of a part that is no text, such as `image/png` or `image`."""
    nested = [v for v in part.values() if isinstance(v, dict)]
    for source in [part, *nested, *(w for v in nested for w in v.values() if isinstance(w, dict))]:
        for key in ("url", "uri", "data", "content"):
            value = source.get(key)
            if isinstance(value, str) and value.startswith("data:"):
                return value[5:].partition(";")[0].partition(",")[0] or "data"
    for source in [part, *nested]:
        for key in _MEDIA_KEYS[:4]:
            if isinstance(source.get(key), str) and "/" in source[key]:
                return source[key]
    for key in ("modality", "type"):
        if isinstance(part.get(key), str):
            return part[key].removeprefix("input_").removesuffix("_url")
    return "file"


def _add_untyped(builder: _Builder, part: dict[str, Any]) -> None:
    """A part that names its kind by its key: Bedrock Converse and Gemini."""
    if isinstance(part.get("text"), str):
        (builder.reasoning if part.get("thought") is True else builder.texts).append(part["text"])
    elif isinstance(
        call := first_of(part, "toolUse", "functionCall", "function_call", "tool_call", "toolRequest"), dict
    ):
        builder.tool_calls.extend(read_tool_calls([call]))
    elif isinstance(
        result := first_of(part, "toolResult", "functionResponse", "function_response", "toolResponse"), dict
    ):
        builder.results.append(_result(result))
    elif isinstance(thought := part.get("reasoningContent"), dict):
        _add_reasoning(builder, thought)
    elif isinstance(
        media := first_of(
            part, "inlineData", "inline_data", "fileData", "file_data", "image", "video", "document", "media"
        ),
        dict,
    ):
        builder.media.append(_media(media))
    elif isinstance(part.get("parts"), list):
        _add_content(builder, part["parts"])
    elif isinstance(part.get("content"), (str, list)):
        _add_content(builder, part["content"])
    elif part:
        builder.texts.append(as_text(part))


def _result(part: dict[str, Any]) -> Message:
    """A tool's result as a message of the role `tool`."""
    value = first_of(part, "response", "result", "output", "content", "server_tool_call_response")
    return Message(
        role="tool",
        text=_result_text(value),
        tool_call_id=as_name(
            first_of(part, "tool_use_id", "toolUseId", "toolCallId", "tool_call_id", "call_id", "id", "ref")
        ),
    )


def _result_text(value: Any) -> str:
    """What a tool gave back, as text: the texts of parts, else JSON."""
    if isinstance(value, dict):
        if set(value) == {"type", "value"}:  # Vercel AI SDK 5+
            return as_text(value["value"])
        if set(value) in ({"text"}, {"type", "text"}, {"type", "content"}):
            return _part_text(value)
        if set(value) == {"json"}:
            return as_text(value["json"])
        return as_text(value)
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        texts = [_result_text(v) for v in value]
        return "\n".join(texts)
    return as_text(value)
