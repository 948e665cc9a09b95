"""What a call took in and gave out, kept on its span until it is written."""

from __future__ import annotations

import contextlib
import enum
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from heedloop import attributes as names
from heedloop._capture import (
    Budget,
    render_answer,
    render_json,
    render_prompt,
    snapshot,
    snapshot_messages,
)
from heedloop._guard import tolerant
from heedloop._messages import as_message, follow, is_conversation, is_message, named_text
from heedloop._plain import is_text
from heedloop._responses import Reading, client_of, is_response_json, read_response
from heedloop._runtime import Runtime
from heedloop._spans import CallSpan, Captured
from heedloop._values import attributes_of

_MAX_BODY_BYTES = 262_144
_SHORT_CHARS = 128
_PIECE_CHARS = 32
"""What a piece that is no text counts for, in addition to its texts."""


_RENDER = {names.INPUT_MESSAGES: render_prompt, names.OUTPUT_MESSAGES: render_answer}


def keep_content(runtime: Runtime, call: CallSpan, attribute: str, value: Any) -> None:
    """Take content for `attribute`.

    Content for a messages attribute that is neither text nor messages goes to `heedloop.input` or `heedloop.output`.
    """
    if not runtime.capture:
        return
    budget = Budget(runtime.options.max_value_chars)
    render = _RENDER.get(attribute, render_json)
    messages = value if type(value) is str or render is render_json else _messages_of(value)
    if messages is None and render is not render_json:
        attribute = names.INPUT if attribute == names.INPUT_MESSAGES else names.OUTPUT
        render = render_json
    content: Any
    if messages is None or render is render_json:
        content = snapshot(value, budget)
    else:
        content = budget.take(messages) if isinstance(messages, str) else snapshot_messages(messages, budget)
    call.captured.append(Captured(attribute, render, content))
    call.num_chars += budget.num_taken
    if budget.cut:
        call.mark_truncated(attribute)


def _messages_of(value: Any) -> str | list[Any] | None:
    """The text or the messages that `value` is; None where it is neither."""
    if is_text(value):
        return str(value.value) if isinstance(value, enum.Enum) else str(value)
    if is_conversation(value):
        return [as_message(m) for m in value]
    if type(value) is not tuple and is_message(value):
        return [as_message(value)]
    return None


def keep_result(runtime: Runtime, call: CallSpan, result: Any, answer: tuple[str, ...] = ()) -> None:
    """Take what a call returned. What the app said itself by `set` stays as it is.

    `answer` is the path to the answer in the result; without one it is found by its shape or name.
    """
    if type(result) is str:
        if not call.output_given:
            keep_content(runtime, call, names.OUTPUT_MESSAGES, result)
        return
    try:
        answer_value = follow(result, answer) if answer else _answer_in(result)
    except Exception:  # noqa: BLE001  the host's own class runs here, and may do anything
        answer_value = result
    reading = read_response(answer_value)
    if reading is not None:
        keep_reading(runtime, call, reading)
    elif not call.output_given and answer_value is not None:
        keep_content(runtime, call, names.OUTPUT_MESSAGES, answer_value)
    if answer_value is not result and not call.output_given:
        keep_content(runtime, call, names.OUTPUT, result)


def _answer_in(result: Any) -> Any:
    """The answer in `(text, sources)` or in a result object; the result itself where it has none."""
    if isinstance(result, tuple):
        first, *others = cast(tuple[Any, ...], result) or (None,)
        if others and (isinstance(first, str) or is_message(first) or client_of(first) is not None):
            return first
        return cast(Any, result)
    if is_conversation(result):
        return _answer_of(result)
    if client_of(result) is not None or is_response_json(result) or is_message(result):
        return result
    if isinstance(result, list) and result:
        return _text_of_blocks(cast(list[Any], result)) or cast(Any, result)
    text = named_text(result, "answer") or _text_of_body(result)
    if text is None and isinstance(result, Mapping):  # the state of a graph of agents
        conversation = cast(Mapping[str, Any], result).get("messages")
        text = _answer_of(conversation) if is_conversation(conversation) else None
    return cast(Any, result) if text is None else text


def _answer_of(conversation: Any) -> Any:
    """The last message where that is an answer, so that earlier turns are not taken for it; else all of them."""
    *_, last = conversation
    is_answer = len(conversation) > 1 and as_message(last).get("role") == "assistant"
    return last if is_answer else conversation


def _text_of_blocks(blocks: list[Any]) -> str | None:
    """The text of a client's content blocks, where the result is a list of them."""
    if any(client_of(block) is None or not hasattr(block, "type") for block in blocks):
        return None
    return "".join(text for block in blocks if isinstance(text := getattr(block, "text", None), str)) or None


@tolerant(None)
def _text_of_body(result: Any) -> Any:
    """The answer in a web response that is there as a whole (starlette's `body`, Django's `content`, Flask's `data`)."""
    if not (hasattr(result, "status_code") and hasattr(result, "headers")):
        return None
    for name in ("body", "content", "data"):
        body = None
        with contextlib.suppress(Exception):  # a client's response that was not read yet
            body = getattr(result, name, None)
        if isinstance(body, (bytes, memoryview)) and len(body) <= _MAX_BODY_BYTES:
            text = bytes(body).decode("utf-8", "replace")
            try:
                parsed = json.loads(text)
            except ValueError:
                return text or None
            return parsed if isinstance(parsed, str) else named_text(parsed, "answer")
    return None


def keep_reading(runtime: Runtime, call: CallSpan, reading: Reading) -> None:
    """Take what an LLM client's own object says about the answer."""
    keep_numbers(call, reading)
    if not call.output_given:
        keep_content(runtime, call, names.OUTPUT_MESSAGES, reading.output)


def keep_numbers(call: CallSpan, reading: Reading) -> None:
    """Take model, usage and ids, but not the answer; what the app said itself stays."""
    for key, value in attributes_of(reading.values).items():
        call.attributes.setdefault(key, value)


def keep_stream(call: CallSpan, pieces: Pieces) -> None:
    """Take the pieces of a streamed answer: texts are one answer, anything else is kept as it came."""
    content = pieces.kept()
    if call.output_given or not content:
        return
    attribute = names.OUTPUT_MESSAGES if pieces.is_text else names.OUTPUT
    call.captured.append(Captured(attribute, render_answer if pieces.is_text else render_json, content))
    call.num_chars += pieces.num_chars
    if pieces.cut:
        call.mark_truncated(attribute)


class Pieces:
    """The pieces of a stream so far, of a long one those of its head and of its tail."""

    def __init__(self, max_chars: int) -> None:
        self.is_text = True
        self.cut = False
        self._max_chars = max_chars
        self._head: list[Any] = []
        self._head_chars = 0
        self._tail: deque[tuple[Any, int]] = deque()
        self._tail_chars = 0
        self._left_out = 0

    @property
    def num_chars(self) -> int:
        """About how many characters are kept."""
        return self._head_chars + self._tail_chars

    def add(self, piece: Any) -> None:
        """Take the next piece."""
        if isinstance(piece, bytes):  # a web server's stream of text
            piece = piece.decode("utf-8", "replace")
        self.is_text = self.is_text and isinstance(piece, str)
        if (
            type(piece) is str and len(piece) <= _SHORT_CHARS
        ):  # a token; there may be ten thousand in a second
            content, size = piece, len(piece)
        else:
            budget = Budget(self._max_chars)
            content = snapshot(piece, budget)
            self.cut = self.cut or budget.cut
            size = budget.num_taken + (0 if isinstance(piece, str) else _PIECE_CHARS)
        if not self._tail and self._head_chars + size <= self._max_chars // 2:
            self._head.append(content)
            self._head_chars += size
            return
        self._tail.append((content, size))
        self._tail_chars += size
        while self._tail_chars > self._max_chars // 2 and len(self._tail) > 1:
            self._left_out += 1
            self._tail_chars -= self._tail.popleft()[1]

    def kept(self) -> list[Any]:
        """What is kept, with a piece in between that says how many are missing."""
        if not self._left_out:
            return [*self._head, *(piece for piece, _ in self._tail)]
        self.cut = True
        num_pieces = len(self._head) + self._left_out + len(self._tail)
        gap = f"… [truncated: {self._left_out:,} of {num_pieces:,} pieces left out] …"
        return [*self._head, gap, *(piece for piece, _ in self._tail)]
