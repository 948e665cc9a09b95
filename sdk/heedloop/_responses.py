"""What a function returned or streamed is often an LLM client's own object: read the answer and its numbers from it.

By shape, not by type, so that every client that speaks OpenAI's or Anthropic's form is understood and none is imported.
A shape that is not known is kept like any other value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

__all__ = ["Reading", "client_of", "read_response", "read_stream"]

_CLIENTS = frozenset(
    {"openai", "anthropic", "litellm", "groq", "mistralai", "together", "cerebras", "fireworks"}
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
        if usage is None:
            return
        found: dict[str, int] = dict(self.values.get("usage", {}))
        for name, places in _USAGE.items():
            for place in places:
                value = _at(usage, place)
                if isinstance(value, int) and not isinstance(value, bool):
                    found[name] = value
                    break
        for cached in ("cache_read_input_tokens", "cache_creation_input_tokens"):
            extra = getattr(
                usage, cached, None
            )  # Anthropic leaves cached tokens out of the input; the standard does not
            if isinstance(extra, int) and _at(usage, ("input_tokens",)) is not None:
                found["input"] = found.get("input", 0) + extra
        if found:
            self.values["usage"] = found


_USAGE: dict[str, tuple[tuple[str, ...], ...]] = {
    "input": (("prompt_tokens",), ("input_tokens",)),
    "output": (("completion_tokens",), ("output_tokens",)),
    "cache_read_input": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("cache_read_input_tokens",),
    ),
    "cache_write_input": (("cache_creation_input_tokens",),),
    "reasoning_output": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
    ),
}


def client_of(value: Any) -> str | None:
    """The client library that made this object, where it is one we know."""
    name = type(value).__module__.partition(".")[0]
    return name if name in _CLIENTS else None


def read_response(value: Any) -> Reading | None:
    """The answer in a client's response object; None where there is none."""
    client = client_of(value)
    if client is None:
        return None
    reading = Reading(client)
    for read in (_read_chat, _read_anthropic, _read_responses):
        if read(value, reading):
            reading.put("response_model", getattr(value, "model", None))
            reading.put("response_id", getattr(value, "id", None))
            reading.use(getattr(value, "usage", None))
            return reading
    return None


def read_stream(pieces: Sequence[Any]) -> Reading | None:
    """The answer in the pieces of a client's stream; None where they are of no known shape."""
    client = client_of(pieces[0]) if pieces else None
    if client is None:
        return None
    reading = Reading(client)
    readers: tuple[Callable[[Any, Reading], bool], ...] = (_read_chunk, _read_event)
    understood = [any(read(piece, reading) for read in readers) for piece in pieces]
    return reading if any(understood) else None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = getattr(value, name, None)
    return value


def _read_chat(value: Any, reading: Reading) -> bool:
    choices = getattr(value, "choices", None)
    if not isinstance(choices, list) or not choices:
        return False
    choice = cast(list[Any], choices)[0]
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
    text = getattr(value, "output_text", None)
    if not isinstance(text, str):
        return False
    _add_text(reading, text)
    for index, entry in enumerate(getattr(value, "output", None) or []):
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
            held = reading.tool_calls.setdefault(call.index, _tool_call(None, None, ""))
            function = getattr(call, "function", None)
            held["id"] = getattr(call, "id", None) or held["id"]
            held["function"]["name"] = getattr(function, "name", None) or held["function"]["name"]
            held["function"]["arguments"] += getattr(function, "arguments", None) or ""
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
        held = reading.tool_calls.get(piece.index)
        if held is not None:
            held["function"]["arguments"] += _at(piece, ("delta", "partial_json")) or ""
    elif kind == "message_delta":
        output = _at(piece, ("usage", "output_tokens"))
        if isinstance(output, int):  # the other counts of this event repeat those of the first
            reading.values["usage"] = {**reading.values.get("usage", {}), "output": output}
        reading.finish(_at(piece, ("delta", "stop_reason")))
    elif kind in ("response.completed", "response.incomplete"):
        found = read_response(piece.response)
        if found is not None:
            reading.values.update(found.values)
            reading.text, reading.tool_calls = found.text, found.tool_calls
    else:
        return False
    return True


def _add_text(reading: Reading, text: Any) -> None:
    if isinstance(text, str):
        reading.text.append(text)


def _tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}
