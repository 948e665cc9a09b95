"""What goes in and comes out of a call: taken on the caller's thread, written as JSON elsewhere.

Taking (`snapshot`) copies containers within a budget and keeps strings as they are, because strings never change; that
costs microseconds. Writing (`render_*`) happens on the exporter's thread. Nothing a host passes can hurt: cycles, deep
nesting, huge values and a `__repr__` that raises all end in a short honest text.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

__all__ = [
    "MAX_NODES",
    "Budget",
    "Clean",
    "render_answer",
    "render_json",
    "render_prompt",
    "snapshot",
]

MAX_NODES = 5_000
"""The most values that are taken from one argument or result."""
_MAX_DEPTH = 12
_MAX_REPR_CHARS = 2_000
_MAX_INT_BITS = 1_024

Clean = Callable[[str], str]
"""What is done to every text before it leaves the process: redaction, or nothing."""


class Budget:
    """How much of one value may still be taken. `cut` tells whether something was left out."""

    __slots__ = ("chars", "cut", "nodes", "num_taken")

    def __init__(self, chars: int) -> None:
        self.chars = chars
        self.nodes = MAX_NODES
        self.cut = False
        self.num_taken = 0

    def take(self, text: str) -> str:
        """`text`, or as much of it as the budget holds with a mark that says how much that was."""
        size = len(text)
        if size <= self.chars:
            self.chars -= size
            self.num_taken += size
            return text
        kept = text[: self.chars]
        self.num_taken += len(kept)
        self.chars = 0
        self.cut = True
        return f"{kept}… [truncated: {len(kept):,} of {size:,} characters kept]"


def snapshot(value: Any, budget: Budget, depth: int = 0) -> Any:
    """A copy of `value` made of str, int, float, bool, None, list and dict, within the budget.

    Dataclasses, pydantic models and other field-bearing records become dictionaries; bytes, arrays and the like become
    a short description; anything else its `repr`, or its type's name where it has none of its own.
    """
    kind = type(value)
    if kind is str:
        return budget.take(value)
    if value is None or kind is bool:
        return value
    budget.nodes -= 1
    if budget.nodes < 0 or depth > _MAX_DEPTH:
        budget.cut = True
        return "… [truncated: too many or too deeply nested values]"
    taker = _TAKERS.get(kind)
    if taker is not None:
        return taker(value, budget, depth)
    return _take_other(value, budget, depth)


def _take_mapping(value: Mapping[Any, Any], budget: Budget, depth: int) -> Any:
    taken: dict[str, Any] = {}
    for key in list(value):
        if budget.nodes <= 0 or budget.chars <= 0:
            budget.cut = True
            break
        name = budget.take(key if type(key) is str else _text_of(key))
        taken[name] = snapshot(value[key], budget, depth + 1)
    return taken


def _take_sequence(value: Sequence[Any], budget: Budget, depth: int) -> Any:
    taken: list[Any] = []
    for entry in list(value):
        if budget.nodes <= 0 or budget.chars <= 0:
            budget.cut = True
            break
        taken.append(snapshot(entry, budget, depth + 1))
    return taken


def _take_int(value: int, _budget: Budget, _depth: int) -> Any:
    return value if value.bit_length() <= _MAX_INT_BITS else f"<integer of {value.bit_length()} bits>"


def _take_float(value: float, _budget: Budget, _depth: int) -> Any:
    return value if math.isfinite(value) else str(value)


def _take_bytes(value: bytes, _budget: Budget, _depth: int) -> Any:
    return f"<{len(value):,} bytes>"


_TAKERS: dict[type, Callable[[Any, Budget, int], Any]] = {
    dict: _take_mapping,
    list: _take_sequence,
    tuple: _take_sequence,
    set: _take_sequence,
    frozenset: _take_sequence,
    int: _take_int,
    float: _take_float,
    bytes: _take_bytes,
    bytearray: _take_bytes,
}


def _take_other(value: Any, budget: Budget, depth: int) -> Any:
    try:
        if isinstance(value, enum.Enum):
            return snapshot(value.value, budget, depth + 1)
        if isinstance(value, str):
            return budget.take(str.__str__(value))
        for base in (int, float, Mapping, list, tuple):
            if isinstance(value, base):
                return _TAKERS.get(base, _take_mapping)(value, budget, depth)
        fields = _fields_of(value)
        if fields is not None:
            return _take_mapping(fields, budget, depth)
    except Exception as error:  # noqa: BLE001  the host's own classes run here, and may do anything
        return f"<{type(value).__qualname__}: {type(error).__name__} while it was read>"
    return budget.take(_text_of(value))


def _fields_of(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass, pydantic model or attrs class; None for anything else."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    kind = type(value)
    if hasattr(kind, "model_fields") or hasattr(kind, "__attrs_attrs__"):
        return dict(vars(value))
    return None


def _text_of(value: Any) -> str:
    kind = type(value)
    if kind.__repr__ is object.__repr__:
        return f"<{kind.__module__}.{kind.__qualname__}>"
    shape = getattr(kind, "shape", None)
    if shape is not None:  # arrays, tensors, frames: their repr costs milliseconds and says little
        try:
            return f"<{kind.__module__.split('.')[0]}.{kind.__qualname__} of shape {tuple(value.shape)}>"
        except Exception:  # noqa: BLE001  see above
            return f"<{kind.__module__}.{kind.__qualname__}>"
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  see above
        return f"<{kind.__qualname__}: {type(error).__name__} in its __repr__>"
    return text if len(text) <= _MAX_REPR_CHARS else text[:_MAX_REPR_CHARS] + "…"


# ---------------------------------------------------------------------------------------------------- writing


def render_json(value: Any, clean: Clean | None) -> str:
    """A snapshot as JSON text."""
    return json.dumps(_cleaned(value, clean), ensure_ascii=False, separators=(",", ":"))


def render_prompt(value: Any, clean: Clean | None) -> str:
    """The value of `gen_ai.input.messages`: a text is one user message, a list is the conversation it holds."""
    return _render_messages(value, "user", clean)


def render_answer(value: Any, clean: Clean | None) -> str:
    """The value of `gen_ai.output.messages`: texts of a list are the chunks of one streamed answer."""
    if isinstance(value, list):
        chunks = cast(list[Any], value)
        if all(type(chunk) is str for chunk in chunks):
            value = "".join(chunks)
    return _render_messages(value, "assistant", clean)


def _render_messages(value: Any, role: str, clean: Clean | None) -> str:
    value = _cleaned(value, clean)
    messages = cast(list[Any], value) if isinstance(value, list) else [value]
    return json.dumps([_message(m, role) for m in messages], ensure_ascii=False, separators=(",", ":"))


def _message(value: Any, role: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"role": role, "parts": [{"type": "text", "content": value}]}
    if not isinstance(value, dict):
        return {"role": role, "parts": [{"type": "text", "content": json.dumps(value, ensure_ascii=False)}]}
    message = cast(dict[str, Any], value)
    if isinstance(message.get("parts"), list):
        return message
    said_by = str(message.get("role", role))
    parts = _content_parts(message.get("content"))
    if message.get("tool_call_id") is not None:
        parts = [
            {"type": "tool_call_response", "id": message["tool_call_id"], "response": message.get("content")}
        ]
    parts.extend(_tool_call(c) for c in cast(list[Any], message.get("tool_calls") or []))
    return {"role": said_by, "parts": parts}


def _content_parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    parts: list[dict[str, Any]] = []
    for part in cast(list[Any], content if isinstance(content, list) else [content]):
        given = cast(dict[str, Any], part) if isinstance(part, dict) else {"text": str(part)}
        if "text" in given:
            parts.append({"type": "text", "content": given["text"]})
        else:
            parts.append({"type": str(given.get("type", "unknown")), **given})
    return parts


def _tool_call(call: Any) -> dict[str, Any]:
    given = cast(dict[str, Any], call) if isinstance(call, dict) else {}
    function = cast(dict[str, Any], given.get("function") or given)
    return {
        "type": "tool_call",
        "id": given.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments"),
    }


def _cleaned(value: Any, clean: Clean | None) -> Any:
    if clean is None:
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(v, clean) for v in cast(list[Any], value)]
    if isinstance(value, dict):
        return {clean(k): _cleaned(v, clean) for k, v in cast(dict[str, Any], value).items()}
    return value
