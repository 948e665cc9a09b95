"""What readers give, and the small things they all need: ids from contents, checked fields, times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, cast

from heedloop.schema import Call, Feedback, Message, Target

__all__ = [
    "BadLine",
    "Line",
    "Reader",
    "Source",
    "Wrong",
    "clipped",
    "content_id",
    "ids_of",
    "messages_of",
    "number_of",
    "sequence_of",
    "target_of",
    "text_of",
    "time_of",
]


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a file holds.

    Attributes:
        number: from 1.
        calls: the answers that it brings; the same answer may come with several lines.
        feedback: the judgements that it brings.
        left_out: reason -> how many of its judgements have no place here.
    """

    number: int
    calls: tuple[Call, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be taken: its number, the field where one is to blame, and a sentence."""

    number: int
    field: str
    reason: str

    def __str__(self) -> str:
        return (
            f"line {self.number}: {self.field}: {self.reason}"
            if self.field
            else f"line {self.number}: {self.reason}"
        )


class Wrong(Exception):
    """A field of a line holds what it must not hold."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Source:
    """The file that is read, and what the caller said about it."""

    path: Path
    default_time: datetime | None = None
    answers: Path | None = None


class Reader(Protocol):
    """One format's reader. `take` may keep a line back until `finish`."""

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]: ...

    def finish(self) -> Iterator[Line | BadLine]: ...


def content_id(*parts: object) -> str:
    """64 hex digits made of the parts: equal parts give equal ids on every machine."""
    text = "\x1f".join(str(p) for p in parts)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def ids_of(*parts: object) -> tuple[str, str]:
    """Trace id and span id made of the parts."""
    digest = content_id("heedloop import", *parts)
    return digest[:32], digest[32:48]


def target_of(call: Call) -> Target:
    """The call as a feedback's target."""
    return Target(trace_id=call.trace_id, span_id=call.span_id)


def text_of(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """A field that must be text; raises `Wrong`."""
    value = row.get(name)
    if not isinstance(value, str):
        text = "is missing" if name not in row else f"must be text, not {value!r:.60}"
        raise Wrong(name, text)
    if not value.strip() and not empty:
        raise Wrong(name, "is empty")
    return value


def number_of(row: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A field that must be a number; raises `Wrong`."""
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Wrong(name, "is missing" if name not in row else f"must be a number, not {value!r:.60}")
    return float(value)


def time_of(value: object, name: str) -> datetime:
    """A time in RFC 3339 or as `2023-05-19 13:11:45`; without an offset it is UTC. Unix seconds are taken too."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value / 1000 if value > 1e11 else value
        try:
            return datetime.fromtimestamp(seconds, timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise Wrong(name, f"{value!r} is no time") from None
    try:
        time = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
    except ValueError:
        raise Wrong(name, f"{value!r:.60} is no time such as 2023-05-19T13:11:45Z") from None
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


def messages_of(value: object, name: str) -> tuple[Message, ...]:
    """A prompt: a text (one user message), or a list of `{"role", "content"}`; raises `Wrong`."""
    if isinstance(value, str):
        if not value.strip():
            raise Wrong(name, "is empty")
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        raise Wrong(name, f"must be text or a list of messages, not {value!r:.60}")
    return tuple(_message(m, f"{name}[{i}]") for i, m in enumerate(cast(list[Any], value)))


def _message(value: object, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise Wrong(name, f"must be a message with role and content, not {value!r:.60}")
    message = cast(Mapping[str, Any], value)
    role = message.get("role") or message.get("from")
    content = message.get("content", message.get("text", message.get("value")))
    if not isinstance(role, str) or not isinstance(content, str):
        raise Wrong(name, f"must be a message with role and content, not {value!r:.60}")
    return Message({"human": "user", "gpt": "assistant", "prompter": "user"}.get(role, role), content)


def clipped(metadata: Mapping[str, object]) -> dict[str, str]:
    """Metadata as short texts; what is None or empty is left out."""
    return {k: str(v)[:4096] for k, v in metadata.items() if v is not None and str(v) != ""}


def sequence_of(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    """A field that must be a list; raises `Wrong`."""
    value = row.get(name)
    if not isinstance(value, list):
        raise Wrong(name, "is missing" if name not in row else f"must be a list, not {value!r:.60}")
    return cast(Sequence[Any], value)
