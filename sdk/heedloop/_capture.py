"""What goes in and comes out of a call: taken on the caller's thread, written as JSON elsewhere.

Taking (`snapshot`) copies containers within a budget and keeps strings as they are, because strings never change; that
costs microseconds. Writing (`render_*`) happens on the exporter's thread. Nothing a host passes can hurt: cycles, deep
nesting, huge values and a `__repr__` that raises all end in a short honest text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from heedloop._messages import as_message, is_message
from heedloop._plain import MAX_INT_BITS, plain_value, shortened
from heedloop._secrets import MASK, is_secret

MAX_NODES = 5_000
"""The most values that are taken from one argument or result that is no conversation."""
MAX_ENTRIES = 2_000
"""The most entries that are taken of one list, half of them from its beginning and half from its end."""
_TEXTS_PER_VALUE = 4
"""One value may hold this many times the longest text in all."""
_MIN_TEXT_CHARS = 256
_MAX_DEPTH = 12
_MAX_REPR_CHARS = 2_000
_MIN_MEDIA_CHARS = 256
_MAX_SEARCHED_CHARS = 4_000_000

Clean = Callable[[str], str]
"""What is done to every text before it leaves the process: redaction, or nothing."""


class Budget:
    """How much of one value may be taken: `chars` for each text. `cut` tells whether something was left out."""

    __slots__ = ("chars", "cut", "nodes", "num_taken")

    def __init__(self, chars: int) -> None:
        self.chars = chars
        self.nodes = MAX_NODES
        self.cut = False
        self.num_taken = 0

    def take(self, text: str) -> str:
        """`text` without embedded files, or its head and tail where it is longer than the budget."""
        if len(text) >= _MIN_MEDIA_CHARS:
            text = without_media(text)
        if len(text) > self.chars:
            self.cut = True
            text = shortened(text, self.chars)
        self.num_taken += len(text)
        return text

    @property
    def total(self) -> int:
        """The most characters of one value."""
        return self.chars * _TEXTS_PER_VALUE


_DATA_URI = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,\s\"']{0,100})*);base64,([A-Za-z0-9+/=_%\r\n-]*)"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]+={0,2}\s{0,2}")
_MAGIC = {
    "iVBORw0KGg": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi0": "application/pdf",
    "SUQz": "audio/mpeg",
    "UEsDB": "application/zip",
}


def without_media(text: str) -> str:
    """`text` with every `data:` URI, and a text that is base64 as a whole, replaced by its type and size."""
    # Most texts hold no semicolon, and looking for one character costs a tenth.
    if ";" in text and text.find(";base64,", 0, _MAX_SEARCHED_CHARS) >= 0:
        return _DATA_URI.sub(lambda m: f"data:{m[1] or 'text/plain'};<{_num_bytes(m[3]):,} bytes>", text)
    if _is_base64(text):
        kind = next((kind for magic, kind in _MAGIC.items() if text.startswith(magic)), "base64")
        return f"<{kind}, {_num_bytes(text):,} bytes>"
    return text


def _is_base64(text: str) -> bool:
    if " " in text[:128]:  # nearly every text in words, in a hundredth of the time
        return False
    # Samples, because a text may have megabytes; and a long word is not yet base64, which mixes all kinds of characters.
    middle = len(text) // 2
    samples = (text[:128], text[middle : middle + 128], text[-128:])
    if not all(_BASE64.fullmatch(sample) for sample in samples):
        return False
    return all(any(is_kind(c) for c in samples[0]) for is_kind in (str.isupper, str.islower, str.isdigit))


def _num_bytes(encoded: str) -> int:
    return len(encoded.rstrip("=\r\n")) * 3 // 4


def snapshot(value: Any, budget: Budget) -> Any:
    """A copy of `value` made of str, int, float, bool, None, list and dict, within the budget.

    Dataclasses, pydantic models and other field-bearing records become dictionaries, without the fields that they keep
    out of their own repr or export; secrets by their name are masked; bytes, arrays and the like become a short
    description; anything else its `repr`, or its type's name where it has none of its own.
    """
    copied = _take(value, budget, 0)
    if budget.num_taken > budget.total:
        copied = _fit(copied, budget)
    return copied


def snapshot_messages(messages: Sequence[Any], budget: Budget) -> list[Any]:
    """The same for the messages of a conversation: the last one is kept before all others, so that the question survives.

    Where messages are left out, a message says how many.
    """
    copies: list[Any] = []
    for message in _both_ends(messages):
        budget.nodes = max(budget.nodes, 64)
        copies.append(_take(message, budget, 1))
    if budget.num_taken > budget.total:
        copies = _fit_messages(copies, budget)
    if len(copies) < len(messages):
        budget.cut = True
        copies.insert(
            _middle_of(copies, messages), _left_out_message(len(messages) - len(copies), len(messages))
        )
    return copies


def _both_ends(messages: Sequence[Any]) -> Sequence[Any]:
    if len(messages) <= MAX_ENTRIES:
        return messages
    return [*messages[: MAX_ENTRIES // 2], *messages[-MAX_ENTRIES // 2 :]]


def _middle_of(copies: Sequence[Any], messages: Sequence[Any]) -> int:
    return (
        min(MAX_ENTRIES // 2, len(copies))
        if len(messages) > MAX_ENTRIES and len(copies) == MAX_ENTRIES
        else 1
    )


def _left_out_message(num_left_out: int, num_messages: int) -> dict[str, Any]:
    words = f"… [truncated: {num_left_out:,} of {num_messages:,} messages left out] …"
    return {"role": "system", "content": words}


def _fit_messages(copies: list[Any], budget: Budget) -> list[Any]:
    *others, last = copies
    left = max(budget.total - sum(_lengths(last)), budget.chars)
    first, later = others[:1], others[1:]
    num_later = len(later)
    while later and left // max(sum(len(_lengths(m)) for m in [*first, *later]), 1) < _MIN_TEXT_CHARS:
        later = later[(len(later) + 3) // 4 :]
    if num_later != len(later):
        budget.cut = True
    shortened_messages = [*first, *later]
    lengths = _lengths(shortened_messages)
    if sum(lengths) > left:
        budget.cut = True
        shortened_messages = _shorten(shortened_messages, max(_longest_that_fits(lengths, left), 1))
    budget.num_taken = sum(_lengths(shortened_messages)) + sum(_lengths(last))
    return [*shortened_messages, last]


def _fit(copied: Any, budget: Budget) -> Any:
    budget.cut = True
    shorter = _shorten(copied, max(_longest_that_fits(_lengths(copied), budget.total), 1))
    budget.num_taken = sum(_lengths(shorter))
    return shorter


def _longest_that_fits(lengths: list[int], total: int) -> int:
    """The length c for which the sum of min(length, c) is `total` or just below."""
    left = total
    for index, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - index)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)


def _lengths(copied: Any) -> list[int]:
    if isinstance(copied, str):
        return [len(copied)]
    if isinstance(copied, list):
        return [n for entry in cast(list[Any], copied) for n in _lengths(entry)]
    if isinstance(copied, dict):
        return [n for entry in cast(dict[str, Any], copied).values() for n in _lengths(entry)]
    return []


def _shorten(copied: Any, chars: int) -> Any:
    if isinstance(copied, str):
        return shortened(copied, chars)
    if isinstance(copied, list):
        return [_shorten(entry, chars) for entry in cast(list[Any], copied)]
    if isinstance(copied, dict):
        return {key: _shorten(entry, chars) for key, entry in cast(dict[str, Any], copied).items()}
    return copied


def _take(value: Any, budget: Budget, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return budget.take(value)
    if value is None or kind is bool:
        return value
    budget.nodes -= 1
    if budget.nodes < 0 or depth > _MAX_DEPTH:
        budget.cut = True
        return "… [truncated: too many or too deeply nested values]"
    try:
        return _TAKERS.get(kind, _take_other)(value, budget, depth)
    except Exception as error:  # noqa: BLE001  the host's own classes run here, and may do anything; or its other threads
        return f"<{kind.__qualname__}: {type(error).__name__} while it was read>"


def _take_mapping(value: Mapping[Any, Any], budget: Budget, depth: int) -> Any:
    copies: dict[str, Any] = {}
    keys = list(value)
    for index, key in enumerate(keys):
        if budget.nodes <= 0 or index >= MAX_ENTRIES:
            budget.cut = True
            copies["…"] = f"[truncated: {len(keys) - index:,} of {len(keys):,} entries left out]"
            break
        name = budget.take(key if type(key) is str else _key_of(key))
        entry = value[key]
        if entry is not None and is_secret(name):
            copies[name] = MASK
        else:
            copies[name] = _take(entry, budget, depth + 1)
    return copies


def _take_sequence(value: Sequence[Any], budget: Budget, depth: int) -> Any:
    entries = list(value)
    copies: list[Any] = []
    half = MAX_ENTRIES // 2
    for index, entry in enumerate(entries):
        if budget.nodes <= 0:
            budget.cut = True
            copies.append(f"… [truncated: {len(entries) - index:,} of {len(entries):,} entries left out]")
            break
        if len(entries) > MAX_ENTRIES and half <= index < len(entries) - half:
            if index == half:
                budget.cut = True
                left_out = len(entries) - 2 * half
                copies.append(f"… [truncated: {left_out:,} of {len(entries):,} entries left out] …")
            continue
        copies.append(_take(entry, budget, depth + 1))
    return copies


def _take_int(value: int, _budget: Budget, _depth: int) -> Any:
    return value if value.bit_length() <= MAX_INT_BITS else f"<integer of {value.bit_length()} bits>"


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
    plain = plain_value(value)
    if plain is not None:
        return _take(plain, budget, depth)
    for base in (Mapping, list, tuple, set, frozenset):
        if isinstance(value, base):
            return _TAKERS.get(base, _take_mapping)(cast(Any, value), budget, depth)
    if hasattr(type(value), "get_secret_value"):  # pydantic's SecretStr and SecretBytes
        return MASK
    if is_message(value):
        return _take(as_message(value), budget, depth)
    fields = _fields_of(value)
    if fields is not None:
        return _take_mapping(fields, budget, depth)
    return budget.take(_text_of(value))


def _fields_of(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass, pydantic model or attrs class that may be seen; None for anything else."""
    if isinstance(value, type):
        return None
    kind = type(value)
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value) if f.repr}
    for name in ("model_fields", "__fields__"):  # pydantic 2 and 1
        declared = getattr(kind, name, None)
        if isinstance(declared, Mapping):
            hidden = {n for n, field in cast(Mapping[str, Any], declared).items() if _is_hidden(field)}
            extra = getattr(value, "__pydantic_extra__", None) or {}
            return {n: v for n, v in {**vars(value), **extra}.items() if n not in hidden}
    declared = getattr(kind, "__attrs_attrs__", None)
    if declared is not None:
        return {a.name: getattr(value, a.name, None) for a in declared if a.repr is not False}
    return None


def _is_hidden(field: Any) -> bool:
    field = getattr(field, "field_info", field)  # pydantic 1 keeps them one level down
    return getattr(field, "exclude", None) is True or getattr(field, "repr", True) is False


def _key_of(key: Any) -> str:
    plain = plain_value(key)
    return _text_of(key) if plain is None else str(plain)


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
            value = text_of_events("".join(chunks))
    return _render_messages(value, "assistant", clean)


_EVENTS = re.compile(
    r"(?:data|event|id|retry):[^\n]*\n(?:(?:(?:data|event|id|retry)?:[^\n]*|\r)?\n)*(?:data:[^\n]*)?"
)
_EVENT_TEXTS = ("delta", "text", "content", "token", "answer", "response", "message")


def text_of_events(text: str) -> str:
    """The text in server-sent events, such as `data: {"delta": "Thirty "}`; anything else as it is."""
    if _EVENTS.fullmatch(text) is None:
        return text
    # not splitlines(): a line of events ends with CR or LF alone, and an answer may hold U+2028
    found = text.replace("\r", "\n").split("\n")
    lines = [line[5:].removeprefix(" ") for line in found if line.startswith("data:")]
    pieces = [piece for line in lines if line != "[DONE]" and (piece := _text_of_event(line)) is not None]
    return "".join(pieces) or text


def _text_of_event(line: str) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if isinstance(event, str):
        return event
    for _ in range(3):  # OpenAI's chunks have theirs at choices[0].delta.content
        if not isinstance(event, dict):
            return None
        entries = cast(dict[str, Any], event)
        choices = entries.get("choices")
        event = cast(list[Any], choices)[0] if isinstance(choices, list) and choices else None
        for name in _EVENT_TEXTS if event is None else ():
            if isinstance(entries.get(name), str):
                return cast(str, entries[name])
            event = event or entries.get(name)
    return None


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
    ratings_by = str(message.get("role", role))
    parts = _content_parts(message.get("content"))
    if message.get("tool_call_id") is not None:
        parts = [
            {"type": "tool_call_response", "id": message["tool_call_id"], "response": message.get("content")}
        ]
    parts.extend(_tool_call(c) for c in cast(list[Any], message.get("tool_calls") or []))
    return {"role": ratings_by, "parts": parts}


def _content_parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    parts: list[dict[str, Any]] = []
    for part in cast(list[Any], content if isinstance(content, list) else [content]):
        entry = cast(dict[str, Any], part) if isinstance(part, dict) else {"text": str(part)}
        if "text" in entry:
            parts.append({"type": "text", "content": entry["text"]})
        else:
            parts.append({"type": str(entry.get("type", "unknown")), **entry})
    return parts


def _tool_call(call: Any) -> dict[str, Any]:
    entry = cast(dict[str, Any], call) if isinstance(call, dict) else {}
    function = cast(dict[str, Any], entry.get("function") or entry)
    return {
        "type": "tool_call",
        "id": entry.get("id"),
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
