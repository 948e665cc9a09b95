"""What a function returned or streamed is often an LLM client's own object: read the answer and its numbers from it.

By shape, not by type, so that every client that speaks OpenAI's or Anthropic's form is understood and none is imported.
A shape that is not known is kept like any other value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from heedloop._guard import tolerant
from heedloop._usage import counts_of

_CLIENTS = frozenset(
    {
        "openai",
        "anthropic",
        "litellm",
        "groq",
        "mistralai",
        "together",
        "cerebras",
        "fireworks",
        "langchain_core",
    }
)
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "groq": "groq", "mistralai": "mistral_ai"}


class Reading:
    """What could be read: `values` are arguments of `heedloop.set`, `output` a message with `role` and `content`."""

    def __init__(self, client: str) -> None:
        self.values: dict[str, Any] = {}
        self.text: list[str] = []
        self.tool_calls: dict[int, dict[str, Any]] = {}
        if client in _PROVIDERS:
            self.values["provider"] = _PROVIDERS[client]

    @property
    def output(self) -> dict[str, Any]:
        """The answer as one chat message."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text) or None}
        if self.tool_calls:
            message["tool_calls"] = list(self.tool_calls.values())
        return message

    def put(self, name: str, value: Any) -> None:
        """Keep a value that was said."""
        if isinstance(value, str) and value:
            self.values[name] = value

    def finish(self, reason: Any) -> None:
        """Keep why the model stopped."""
        if isinstance(reason, str) and reason:
            self.values["finish_reasons"] = [reason]

    def use(self, usage: Any) -> None:
        """Keep token counts, in OpenAI's names or Anthropic's; later ones win."""
        if usage is not None:
            counts = {**self.values.get("usage", {}), **counts_of(usage)}
            if counts:
                self.values["usage"] = counts


class Entries(dict[str, Any]):
    """A response as JSON, whose entries are read like a client's attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return _entries(self[name])


def _entries(value: Any) -> Any:
    if isinstance(value, dict):
        return Entries(cast(dict[str, Any], value))
    if isinstance(value, list):
        return [_entries(entry) for entry in cast(list[Any], value)]
    return value


def is_response_json(value: Any) -> bool:
    """True for a provider's response as JSON: OpenAI's chat or responses, Anthropic's message, or one chat choice."""
    if not isinstance(value, dict):
        return False
    body = cast(dict[str, Any], value)
    choices = body.get("choices")
    if isinstance(choices, list) and choices:
        return isinstance(cast(list[Any], choices)[0], dict) and "message" in choices[0]
    if isinstance(body.get("output"), list):
        return body.get("object") == "response"
    return isinstance(body.get("content"), list) and "stop_reason" in body and body.get("role") == "assistant"


def client_of(value: Any) -> str | None:
    """The client library that made this object, where it is one we know."""
    name = type(value).__module__.partition(".")[0]
    return name if name in _CLIENTS else None


@tolerant(None)
def read_response(value: Any) -> Reading | None:
    """The answer in a client's response object; None where there is none."""
    client = client_of(value)
    if client is None:
        if not is_response_json(value):
            return None
        value = Entries(value)
    reading = Reading(client or "")
    for read in (_read_chat, _read_anthropic, _read_responses, _read_langchain):
        if read(value, reading):
            reading.put("response_model", getattr(value, "model", None))
            reading.put("response_id", getattr(value, "id", None))
            reading.use(getattr(value, "usage", None))
            return reading
    return None


@tolerant(None)
def read_stream(pieces: Sequence[Any]) -> Reading | None:
    """The answer in the pieces of a client's stream; None where they are of no known shape."""
    client = client_of(pieces[0]) if pieces else None
    if client is None:
        return None
    reading = Reading(client)
    readers: tuple[Callable[[Any, Reading], bool], ...] = (_read_chunk, _read_event, _read_langchain)
    understood = [any(read(piece, reading) for read in readers) for piece in pieces]
    return reading if any(understood) else None


def read_numbers(values: Sequence[Any]) -> Reading | None:
    """Model, usage and ids in some of a client's objects: chunks, a response, a stream helper; None where none has any."""
    merged: Reading | None = None
    for value in values:
        numbers = read_response(value) or read_stream([value]) or _read_accumulated(value)
        if numbers is not None:
            if merged is None:
                merged = numbers
            merged.values.update(numbers.values)
    return merged


def _read_accumulated(value: Any) -> Reading | None:
    for name in _SNAPSHOTS:
        try:
            snapshot = getattr(value, name, None)
        except Exception:  # noqa: BLE001, S112  a property of the client's; before the first event it has nothing
            continue
        if snapshot is not None:
            return read_response(snapshot)
    return None


_SNAPSHOTS = ("current_message_snapshot", "current_completion_snapshot")


def _read_langchain(value: Any, reading: Reading) -> bool:
    if getattr(value, "type", None) not in ("ai", "AIMessageChunk"):
        return False
    _add_blocks(reading, getattr(value, "content", None))
    pieces = getattr(value, "tool_call_chunks", None) or []  # of a streamed chunk
    for piece in pieces:
        _add_tool_call(reading, piece.get("index"), piece.get("id"), piece.get("name"), piece.get("args"))
    for index, call in enumerate([] if pieces else getattr(value, "tool_calls", None) or []):
        reading.tool_calls[index] = _tool_call(call.get("id"), call.get("name"), call.get("args"))
    details = getattr(value, "response_metadata", None) or {}
    reading.put("response_model", details.get("model_name") or details.get("model"))
    reading.finish(details.get("finish_reason") or details.get("stop_reason"))
    reading.use(getattr(value, "usage_metadata", None))
    return True


def _add_blocks(reading: Reading, content: Any) -> None:
    if isinstance(content, str):
        reading.text.append(content)
    for block in cast(list[Any], content) if isinstance(content, list) else []:
        _add_text(reading, block if isinstance(block, str) else cast(dict[str, Any], block).get("text"))


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = getattr(value, name, None)
    return value


def _read_chat(value: Any, reading: Reading) -> bool:
    choices = getattr(value, "choices", None)
    if isinstance(choices, list) and choices:
        choice = cast(list[Any], choices)[0]
    elif hasattr(value, "finish_reason") and hasattr(value, "message"):
        choice = value
    else:
        return False
    message = getattr(choice, "message", None)
    if message is None:
        return False
    _add_text(reading, getattr(message, "content", None))
    for index, call in enumerate(getattr(message, "tool_calls", None) or []):
        function = getattr(call, "function", None)
        reading.tool_calls[index] = _tool_call(
            getattr(call, "id", None), getattr(function, "name", None), getattr(function, "arguments", "")
        )
    reading.finish(getattr(choice, "finish_reason", None))
    return True


def _read_anthropic(value: Any, reading: Reading) -> bool:
    blocks = getattr(value, "content", None)
    if not isinstance(blocks, list) or not hasattr(value, "stop_reason"):
        return False
    for index, block in enumerate(cast(list[Any], blocks)):
        if getattr(block, "type", None) == "text":
            _add_text(reading, getattr(block, "text", None))
        elif getattr(block, "type", None) == "tool_use":
            reading.tool_calls[index] = _tool_call(block.id, block.name, block.input)
    reading.finish(value.stop_reason)
    return True


def _read_responses(value: Any, reading: Reading) -> bool:
    output = getattr(value, "output", None)
    text = getattr(value, "output_text", None)
    if not isinstance(text, str) and not (isinstance(value, Entries) and isinstance(output, list)):
        return False
    _add_text(reading, text)
    for index, entry in enumerate(cast(list[Any], output or [])):
        if text is None and getattr(entry, "type", None) == "message":
            for block in entry.content:
                _add_text(reading, getattr(block, "text", None))
        if getattr(entry, "type", None) == "function_call":
            reading.tool_calls[index] = _tool_call(entry.call_id, entry.name, entry.arguments)
    return True


def _read_chunk(piece: Any, reading: Reading) -> bool:
    choices = getattr(piece, "choices", None)
    if not isinstance(choices, list):
        return False
    reading.put("response_model", getattr(piece, "model", None))
    reading.put("response_id", getattr(piece, "id", None))
    reading.use(getattr(piece, "usage", None))
    for choice in cast(list[Any], choices)[:1]:
        delta = getattr(choice, "delta", None)
        _add_text(reading, getattr(delta, "content", None))
        for call in getattr(delta, "tool_calls", None) or []:
            function = getattr(call, "function", None)
            named = (getattr(call, "id", None), getattr(function, "name", None))
            _add_tool_call(reading, call.index, *named, getattr(function, "arguments", None))
        reading.finish(getattr(choice, "finish_reason", None))
    return True


def _read_event(piece: Any, reading: Reading) -> bool:
    kind = getattr(piece, "type", None)
    if kind == "message_start":
        reading.put("response_model", _at(piece, ("message", "model")))
        reading.put("response_id", _at(piece, ("message", "id")))
        reading.use(_at(piece, ("message", "usage")))
    elif kind == "content_block_start" and _at(piece, ("content_block", "type")) == "tool_use":
        block = piece.content_block
        reading.tool_calls[piece.index] = _tool_call(block.id, block.name, "")
    elif kind == "content_block_delta":
        _add_text(reading, _at(piece, ("delta", "text")))
        tool_call = reading.tool_calls.get(piece.index)
        if tool_call is not None:
            tool_call["function"]["arguments"] += _at(piece, ("delta", "partial_json")) or ""
    elif kind == "message_delta":
        output = _at(piece, ("usage", "output_tokens"))
        if isinstance(output, int):  # the other counts of this event repeat those of the first
            reading.values["usage"] = {**reading.values.get("usage", {}), "output": output}
        reading.finish(_at(piece, ("delta", "stop_reason")))
    elif kind in ("response.completed", "response.incomplete"):
        final = read_response(piece.response)
        if final is not None:
            reading.values.update(final.values)
            reading.text, reading.tool_calls = final.text, final.tool_calls
    else:
        return False
    return True


def _add_text(reading: Reading, text: Any) -> None:
    if isinstance(text, str):
        reading.text.append(text)


def _add_tool_call(reading: Reading, index: Any, call_id: Any, name: Any, arguments: Any) -> None:
    """One piece of a streamed tool call; id and name come with the first, the arguments in parts."""
    tool_call = reading.tool_calls.setdefault(index or 0, _tool_call(None, None, ""))
    tool_call["id"] = call_id or tool_call["id"]
    tool_call["function"]["name"] = name or tool_call["function"]["name"]
    tool_call["function"]["arguments"] += arguments or ""


def _tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}
