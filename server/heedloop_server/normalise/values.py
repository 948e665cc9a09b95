"""Values as they come off the wire: OTLP `AnyValue`s, and texts that hold JSON, JSON in JSON, or Python's repr.

Everything here accepts anything: clients truncate JSON, redact it, encode it twice or print Python objects, and none of
that may cost us the rest of the span.
"""

from __future__ import annotations

import ast
import base64
import functools
import json
import math
import re
from collections import deque
from typing import Any, TypeAlias, cast

from heedloop_server.normalise.aliases import NO_NAMES

_MAX_DEPTH = 64
"""How deep nested arrays and maps are followed; what lies deeper is dropped (protobuf's own limit is 100)."""
_MAX_INT = 10**4000  # more digits than Python writes
_MAX_REPR_CHARS = 200_000
"""Python reprs and truncated documents longer than this are not parsed: that is slow, and who sends them may mean it."""
_PARTIAL_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,3})?$")
# possessive, so that a string without an end is scanned once
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+("?)|[\[\]{},]', re.DOTALL)
_Brackets: TypeAlias = "tuple[str, _Brackets] | None"
"""The brackets that are open, innermost first, as a list that shares its tails."""
_SCAN = cast(Any, json.JSONDecoder()).scan_once
_OPENERS = ("[", "{", '"', "(", " ", "\n")


def decode(value: Any, depth: int = 0) -> Any:
    """An OTLP `AnyValue` as str, bool, int, float, bytes, list, dict or None (an unset value)."""
    which = value.WhichOneof("value")
    if which is None or depth > _MAX_DEPTH:
        return None
    if which == "array_value":
        return [decode(v, depth + 1) for v in value.array_value.values]
    if which == "kvlist_value":
        return {kv.key: decode(kv.value, depth + 1) for kv in value.kvlist_value.values}
    return getattr(value, which)


def as_text(value: Any) -> str:
    """A decoded value as text: strings as they are, JSON for all else, base64 for bytes, nothing for None."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    try:
        return json.dumps(value, ensure_ascii=False, default=as_text)
    except (ValueError, TypeError, RecursionError):
        return ""


def read_json(value: Any) -> Any:
    """What a text holds: parsed JSON (unwrapped where it was encoded twice) or a parsed Python repr.

    A value that is no text is given back as it is. A truncated JSON document gives what can be saved of it. A text that
    is neither is given back as it is.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    for _ in range(3):
        if not isinstance(value, str) or not value.startswith(_OPENERS):
            return value
        parsed = _parse(value)
        if parsed is None:
            return value
        value = parsed
    return value


def read_object(value: Any) -> dict[str, Any]:
    """The JSON object that a text or value holds; an empty one where it holds none."""
    parsed = read_json(value)
    return parsed if isinstance(parsed, dict) else {}


def _parse(text: str) -> Any:
    """Parsed JSON, else a Python repr, else what a truncated document has whole; None where nothing can be read."""
    try:
        parsed = _loads(text)
    except (ValueError, RecursionError):
        text = text.lstrip()
        parsed = _parse_repr(text)
        if parsed is None:
            parsed = _parse_truncated(text)
    # an escaped lone surrogate is legal JSON and no legal UTF-8: it would fail at the store
    return scrub(parsed) if "\\ud" in text or "\\uD" in text else parsed


def _loads(text: str) -> Any:
    """`json.loads` without its checks for other types, which cost as much as reading a short document."""
    try:
        value, end = _SCAN(text, 0)
    except StopIteration:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


def _parse_repr(text: str) -> Any:
    if len(text) > _MAX_REPR_CHARS or text[:1] not in "[{(" or "'" not in text:
        return None
    try:
        return _as_json(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _as_json(value: Any) -> Any:
    """A Python literal as JSON has it: texts as keys, lists for tuples and sets, text for what JSON has not."""
    if isinstance(value, dict):
        return {
            k if isinstance(k, str) else str(k): _as_json(v) for k, v in cast(dict[Any, Any], value).items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_as_json(v) for v in cast(list[Any], value)]
    if value is None or isinstance(value, (str, bool, float)):
        return value
    return value if isinstance(value, int) and abs(value) < _MAX_INT else str(value)


def _parse_truncated(text: str) -> Any:
    """A JSON document that was cut off, closed again at one of its last complete values."""
    if text[:1] not in "[{" or len(text) > _MAX_REPR_CHARS:
        return None
    for attempt in _closings(text):
        try:
            return json.loads(attempt)
        except (ValueError, RecursionError):
            continue
    return None


def _closings(text: str) -> list[str]:
    """The text cut at its end and at its last commas, each with the brackets that are open there closed."""
    brackets: _Brackets = None
    cuts: deque[tuple[int, _Brackets]] = deque(maxlen=4)
    cut_string = False
    for token in _TOKEN.finditer(text):
        word = token[0]
        cut_string = token[1] == ""
        if word in "[{":
            brackets = ("]" if word == "[" else "}", brackets)
        elif word in "]}" and brackets is not None:
            brackets = brackets[1]
        elif word == ",":
            cuts.append((token.start(), brackets))
    earlier = [text[:i] + _closed(b) for i, b in reversed(cuts)]
    if cut_string:
        return [_PARTIAL_ESCAPE.sub("", text) + '"' + _closed(brackets), *earlier]
    # a number at the end may have lost its last digits: 12 of 127 is worse than nothing
    return [text + _closed(brackets), *earlier] if text.rstrip()[-1:] in '"]}' else earlier


def _closed(brackets: _Brackets) -> str:
    closers: list[str] = []
    while brackets is not None and len(closers) < _MAX_DEPTH:
        closers.append(brackets[0])
        brackets = brackets[1]
    return "".join(closers)


def scrub(value: Any) -> Any:
    """The same value with lone surrogates, which UTF-8 cannot carry, replaced by U+FFFD."""
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, list):
        return [scrub(v) for v in value]
    if isinstance(value, dict):
        return {scrub(k): scrub(v) for k, v in value.items()}
    return value


def _single(value: Any) -> Any:
    """What a list of one, or bytes of text, hold, as clients of other types send a name or a number; others as they are."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value


def as_number(value: Any) -> float | int | None:
    """A finite number, also where it was sent as text; None for anything else."""
    value = _single(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value) if "." in value or "e" in value.lower() else int(value)
        except (ValueError, OverflowError):
            return None
    if isinstance(value, int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def as_count(value: Any) -> int | None:
    """A token count: a whole number from 0 below 2^63; None for anything else."""
    if value.__class__ is int and 0 <= value < 2**63:
        return value
    number = as_number(value)
    if number is None or not 0 <= number < 2**63:
        return None
    return int(number)


def as_flag(value: Any) -> bool | None:
    """A boolean, also where it was sent as the text `True` or `false`; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return None


def as_name(value: Any) -> str | None:
    """A non-empty text; numbers as text; None for anything else. JSON-encoded texts and lists of one are unwrapped."""
    if value is None:
        return None
    value = _single(value)
    if isinstance(value, str):
        if value[:1] == '"':
            value = read_json(value)
        return value.strip() or None if isinstance(value, str) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def as_known(value: Any) -> str | None:
    """A name as `as_name` has it; None also for the words that clients write where they have none."""
    return (
        _known(value)
        if isinstance(value, str) and len(value) < _MAX_CACHED_CHARS
        else _known.__wrapped__(value)
    )


@functools.lru_cache(4096)
def _known(value: Any) -> str | None:
    name = as_name(value)
    return None if name is not None and name.lower() in NO_NAMES else name


_MAX_CACHED_CHARS = 200


def as_texts(value: Any) -> tuple[str, ...]:
    """A list of texts, also where it was sent as JSON or as one bare text; empty entries are left out."""
    value = read_json(value)
    if isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(as_text(v) for v in value if v is not None and v != "")
