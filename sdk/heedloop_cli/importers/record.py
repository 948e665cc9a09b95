"""What readers give, and the small things they all need: ids from contents, checked fields, times."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, cast

from heedloop.attributes import METADATA_PREFIX
from heedloop.schema import Call, Feedback, Message, Scale, Target, utc_now

TIME_ASSUMED = {"time": "assumed"}
"""Metadata of what has no time of its own: it has the import's."""
_SLASHES = re.compile(r"^(\d{4})/(\d\d)/(\d\d)")


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a file holds.

    Attributes:
        number: from 1.
        calls: the answers that it brings; the same answer may come with several lines.
        feedback: the judgements that it brings.
        left_out: reason -> how many of its judgements have no place here.
        note: what the user should know of the source's form, in a sentence.
    """

    number: int
    calls: tuple[Call, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be taken: its number, the field where one is to blame, a sentence; its file, where there are several."""

    number: int
    field: str
    reason: str
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}: line {self.number}" if self.file else f"line {self.number}"
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"


class Wrong(Exception):
    """A field of a line holds what it must not hold."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Source:
    """The file that is read, and what the caller said about it.

    Attributes:
        now: the time of the import, which is the assumed time of what carries none, where `default_time` is not given.
        project: the source's project, for sources whose files do not name it; ids are made with it.
        scales: name of a rating -> its scale, for sources that do not say it.
        reversed_scales: names whose lowest value is the best.
        pseudonym_key: the key of the hashes that stand for e-mail and IP addresses.
        feedback_keys: keys of metadata that hold a thumb (OpenAI's stored completions).
        unknown_scales: names of ratings that are left out because nobody said their scale; readers fill it.
    """

    path: Path = Path()
    default_time: datetime | None = None
    answers: Path | None = None
    now: datetime = field(default_factory=utc_now)
    project: str = ""
    scales: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    reversed_scales: frozenset[str] = frozenset()
    pseudonym_key: str = ""
    keep_addresses: bool = False
    feedback_keys: tuple[str, ...] = ()
    unknown_scales: dict[str, None] = field(default_factory=dict[str, None])

    def scale_unknown(self, name: str) -> str:
        """Why a rating is left out whose scale the source does not say; its name is remembered."""
        self.unknown_scales[name] = None
        return f"the scale of {name!r} is not known: say it with --scale '{name}=LOW..HIGH'"

    @property
    def time(self) -> datetime:
        """The time of what carries none."""
        return self.default_time or self.now

    def assumed(self, time: object) -> Mapping[str, str]:
        """Metadata that marks the import's own time on what has none."""
        return TIME_ASSUMED if time in (None, "") and self.default_time is None else {}


class Reader:
    """One format's reader. `take` may keep a line back until `finish`.

    Args:
        source: what the user said about the files.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        """True where the row is one of this format's."""
        raise NotImplementedError

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        """The lines that a row completes."""
        raise NotImplementedError

    def finish(self) -> Iterator[Line | BadLine]:
        """The lines that were kept back, now that all rows are known."""
        return iter(())


class JudgementReader(Reader):
    """A reader of files of judgements, whose calls and feedback get ids made of their contents and the `service`."""

    service: ClassVar[str]

    def call(
        self,
        key: Sequence[object],
        time: datetime,
        prompt: tuple[Message, ...],
        text: str,
        labels: Mapping[str, str],
        *,
        name: str = "answer",
        **fields: Any,
    ) -> Call:
        """An answer to a prompt; `labels` are its metadata."""
        trace_id, span_id = ids_of(self.service, *key)
        return Call(
            trace_id=trace_id,
            span_id=span_id,
            start_time=time,
            name=name,
            service=self.service,
            input_messages=prompt,
            output_messages=(Message("assistant", text),),
            attributes={METADATA_PREFIX + k: v for k, v in labels.items()},
            **fields,
        )

    def feedback(self, key: Sequence[object], kind: Any, target: Target, **fields: Any) -> Feedback:
        """A judgement."""
        return Feedback(kind, target, id=content_id(self.service, *key)[:32], **fields)


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
    """A time in RFC 3339 or as `2023-05-19 13:11:45`; without an offset it is UTC. Unix times are taken, in s, ms, µs or ns."""
    if isinstance(value, Mapping):  # MongoDB's extended JSON
        inner = cast(Mapping[str, Any], value)
        return time_of(inner.get("$date", inner.get("$numberLong")), name)
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str) and re.fullmatch(r"\d{9,19}(\.\d+)?", value):
        value = float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
        while seconds > 1e11:
            seconds /= 1000
        try:
            return datetime.fromtimestamp(seconds, timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise Wrong(name, f"{value!r} is no time") from None
    try:
        time = datetime.fromisoformat(_SLASHES.sub(r"\1-\2-\3", str(value).strip()))
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


def number(value: object) -> float | None:
    """The number that a value or its text is; None where it is none."""
    try:
        return None if value in (None, "") or isinstance(value, bool) else float(str(value))
    except ValueError:
        return None
