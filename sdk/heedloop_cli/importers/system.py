"""What the readers of other systems' exports share: ids, authors, scales, times, and what is left out.

A reader yields `Call`s, `Feedback`s and `LeftOut`s for each row. The rules (docs/import.md): hex ids are kept, others are made of
source, project and id; a scale comes from the source's configuration or from the user, never from the values; judges are authors
of kind `model`; e-mail and IP addresses are hashed with a key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from heedloop.attributes import METADATA_PREFIX
from heedloop.schema import (
    THUMB,
    Author,
    AuthorKind,
    Call,
    Feedback,
    Message,
    Ranking,
    Scale,
    SchemaError,
    Target,
    char_range,
    from_json,
)
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.record import (
    BadLine,
    Line,
    Reader,
    Source,
    Wrong,
    clipped,
    content_id,
    ids_of,
    time_of,
)

T = TypeVar("T")

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|(?:\d{1,3}\.){3}\d{1,3}|(?=.*:.*:)[0-9a-fA-F:.]+")
_HEX = re.compile(r"[0-9a-f]+")
THUMB_NAMES = frozenset(
    [
        "thumb",
        "thumbs",
        "thumbs_up",
        "thumb_up",
        "thumbs_up_down",
        "like",
        "liked",
        "user_feedback",
        "user_score",
        "user_thumb",
        "feedback_thumb",
    ]
)
"""Names under which 0 and 1 are a thumb in every source, whatever type they are written in."""
COMMENT_NAMES = frozenset(
    ["note", "notes", "comment", "comments", "reason", "rationale", "explanation", "text"]
)
WHOLE = "heedloop"
"""Key of a judgement's metadata elsewhere that holds the judgement as heedloop wrote it there."""
JOINED = "another half of a comparison that is stored"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A judgement that is not stored, and why."""

    reason: str


Record = Call | Feedback | LeftOut


def plain(name: str) -> str:
    """A name in lower case with one underscore for all that is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def pseudonym(text: str, key: str) -> str:
    """What stands for an e-mail or IP address: the same for the same key, and not to be turned back without it."""
    return "h_" + hmac.new(key.encode(), text.strip().lower().encode(), hashlib.sha256).hexdigest()[:24]


class System(Reader):
    """One source's reader; a subclass has `name`, `knows` and `records`, and `learn` where rows explain other rows."""

    name: ClassVar[str]
    note = ""
    """What the user should know of the source's form; set by a row that shows it."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.project = source.project
        self.traces: dict[str, str] = {}
        """The trace of a span or run by its id there, for judgements that name it alone."""
        self._booleans: set[str] = set()
        self._categories: dict[str, dict[str, float]] = {}

    def learn(self, row: Mapping[str, Any]) -> None:
        """Remember what a row says about others; all rows of all files are shown before the first is read."""

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        """The calls and judgements of a row."""
        raise NotImplementedError

    def rest(self) -> Iterator[Record]:
        """What could be said only after the last row."""
        return iter(())

    # --------------------------------------------------------------------------------------- as a `record.Reader`

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        yield replace(_line(number, self.records(row)), note=self.note)

    def finish(self) -> Iterator[Line | BadLine]:
        line = _line(0, self.rest())
        if line.calls or line.feedback or line.left_out:
            yield line

    # ------------------------------------------------------------------------------------------------ ids and times

    def trace_id(self, value: object) -> str:
        """32 hex digits: the value's own where it is written so or is a UUID, else made of it."""
        text = str(value).strip().lower().removeprefix("tr-").replace("-", "")
        return text if _is_hex(text, 32) else ids_of(self.name, self.project, "trace", value)[0]

    def span_id(self, value: object) -> str:
        """16 hex digits: the value's own where it is written so, else made of it."""
        text = str(value).strip().lower()
        return text if _is_hex(text, 16) else ids_of(self.name, self.project, "span", value)[1]

    def time(self, *values: object, field: str = "time") -> datetime:
        """The first time that is there; without a zone it is UTC; the import's own where there is none."""
        value = next((v for v in values if v not in (None, "")), None)
        return self.source.time if value is None else time_of(value, field)

    def person(self, value: object) -> str | None:
        """A user's or author's id as it is stored: addresses as keyed hashes, unless they are to be kept."""
        text = "" if value is None else str(value).strip()
        if text and not self.source.keep_addresses and _ADDRESS.fullmatch(text):
            return pseudonym(text, self.source.pseudonym_key)
        return text[:256] or None

    def author(self, kind: AuthorKind, value: object = None) -> Author:
        """An author; see `person`."""
        return Author(kind, self.person(value))

    # ------------------------------------------------------------------------------------------------------ records

    def call(
        self,
        source_id: object,
        trace: object = None,
        span: object = None,
        *,
        start: object,
        end: object = None,
        is_call: bool = True,
        error: object = False,
        metadata: Mapping[str, object] | None = None,
        duration_s: float | None = None,
        **fields: Any,
    ) -> Call:
        """A call, or a step that is none; `source_id` is its own id there, which `metadata.source_id` keeps.

        Args:
            trace, span: what its ids are made of; `source_id` where None.
            error: what is wrong with it; True where nobody says what.
        """
        began = self.time(start)
        duration = timedelta(seconds=duration_s or 0) if end in (None, "") else self.time(end) - began
        labels = clipped({**(metadata or {}), "source_id": source_id, **self.source.assumed(start)})
        fields["user_id"] = self.person(fields.get("user_id"))
        for name in ("session_id", "prompt_name", "prompt_version", "model_requested", "model_answered"):
            fields[name] = str(fields[name])[:256] if fields.get(name) not in (None, "") else None
        return Call(
            trace_id=self.trace_id(source_id if trace is None else trace),
            span_id=self.span_id(source_id if span is None else span),
            start_time=began,
            duration_ns=max(0, duration // timedelta(microseconds=1)) * 1000,
            service=fields.pop("service", None) or self.name,
            name=fields.pop("name", None) or "answer",
            operation="chat" if is_call else "",
            is_answer=is_call,
            status="error" if error else "ok",
            error_message=str(error) if error and error is not True else None,
            attributes={METADATA_PREFIX + k: v for k, v in labels.items()},
            **fields,
        )

    def feedback(
        self,
        kind: Any,
        target: Target,
        source_id: object,
        *,
        author: Author,
        time: object,
        metadata: Mapping[str, object] | None = None,
        **fields: Any,
    ) -> Feedback:
        """A judgement; its id is made of source, project and `source_id`."""
        fields.setdefault("solicited", author.kind == "annotator")
        fields["comment"] = fields.get("comment") or None
        return Feedback(
            kind,
            target,
            id=content_id("heedloop import", self.name, self.project, "feedback", source_id)[:32],
            author=author,
            created_at=self.time(time),
            metadata=clipped(
                {**(metadata or {}), "source": self.name, "source_id": source_id, **self.source.assumed(time)}
            ),
            **fields,
        )

    def comparison(
        self, calls: Iterable[Target], ranks: Iterable[int], source_id: object, **fields: Any
    ) -> Feedback:
        """A ranking of answers, 1 is best."""
        targets = tuple(calls)
        order, strength = fields.pop("shown_order", None), fields.pop("strength", None)
        ranking = Ranking(targets, tuple(ranks), order, fields.pop("all_bad", False), strength)
        return self.feedback("comparison", targets[0], source_id, ranking=ranking, **fields)

    def rating(
        self,
        target: Target,
        source_id: object,
        name: str,
        value: object,
        *,
        scale: Scale | None = None,
        metadata: Mapping[str, object] | None = None,
        **fields: Any,
    ) -> Record:
        """A rating on the source's own scale, on the user's, or left out because nobody knows its scale."""
        labels = dict(metadata or {})
        wanted = self.source.scales.get(name)
        if isinstance(value, bool):
            value, scale = float(value), THUMB
        elif scale is None and isinstance(value, str):
            scale = wanted if wanted and wanted.categories else self._seen_scale(name, value)
            labels["scale"] = "assumed"
        elif scale is None and value in (0, 1) and (plain(name) in THUMB_NAMES or name in self._booleans):
            scale = THUMB
        elif scale is None and wanted is not None and isinstance(value, (int, float)):
            scale, labels["scale"] = wanted, "assumed"
            if name in self.source.reversed_scales:
                labels["source_value"] = value
                value = (scale.min or 0) + (scale.max or 0) - value
        if scale is None:
            return LeftOut(self.source.scale_unknown(name))
        return self.feedback(
            "rating", target, source_id, name=name[:256], value=value, scale=scale, metadata=labels, **fields
        )

    def note_value(self, name: object, value: object, rank: object = None) -> None:
        """Remember that a name has truth values or categories; `rank` is the number that stands for a category."""
        if isinstance(value, bool):
            self._booleans.add(str(name))
        elif isinstance(value, str) and value:
            known = self._categories.setdefault(str(name), {})
            known.setdefault(value, float(rank) if isinstance(rank, (int, float)) else float(len(known)))

    def _seen_scale(self, name: str, value: str) -> Scale:
        known = self._categories.get(name, {value: 0.0})
        return Scale(categories=tuple(sorted({**known, value: known.get(value, 0.0)}, key=known.get)))  # type: ignore[arg-type]

    def whole(self, metadata: object) -> Feedback | None:
        """The judgement itself, where heedloop had written it to the source (`heedloop export feedback --to`)."""
        text = mapping(metadata).get(WHOLE)
        return from_json(Feedback, mapping(text), strict=False) if text else None

    def flag(self, target: Target, source_id: object, category: object, **fields: Any) -> Feedback:
        """A flag of one category."""
        return self.feedback(
            "flag", target, f"{source_id}/{category}", category=str(category)[:256], **fields
        )

    def marked(self, target: Target, text: str, start: int, end: int, unit: Any = "code_points") -> Target:
        """The target with a range of its answer's text."""
        return Target(target.trace_id, target.span_id, range=char_range(text, start, end, unit))

    def each(self, entries: Iterable[T], read: Callable[[T], Iterator[Record]]) -> Iterator[Record]:
        """The records of every entry; an entry that is wrong is left out by its reason, and the others are read."""
        for entry in entries:
            try:
                yield from list(read(entry))
            except (SchemaError, Wrong) as err:
                yield LeftOut(f"{err.field}: {err.reason}")
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
                yield LeftOut(f"has not the form of {self.name}: {type(err).__name__} {str(err)[:80]}")


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and _HEX.fullmatch(text) is not None and set(text) != {"0"}


def _line(number: int, records: Iterator[Record]) -> Line:
    calls: list[Call] = []
    feedback: list[Feedback] = []
    left_out = Counter[str]()
    try:
        for record in records:
            if isinstance(record, Call):
                calls.append(record)
            elif isinstance(record, Feedback):
                feedback.append(record)
            else:
                left_out[record.reason] += 1
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
        raise Wrong("", f"has not the form that was expected: {type(err).__name__} {str(err)[:80]}") from err
    return Line(number, tuple(calls), tuple(feedback), left_out)


def assistant(text: str) -> tuple[Message, ...]:
    """An answer of one message."""
    return (Message("assistant", text),)
