"""A review queue's settings and its guideline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, cast

from heedloop.responses import review as responses
from heedloop.schema import SchemaError, format_time, parse_time, to_json
from heedloop_server.review.questions import Question, read_questions

STATUSES = ("open", "paused", "closed", "archived")
"""What an admin may choose; a `deleted` queue is in no list and cannot be opened any more."""
FACTS = (
    "model",
    "provider",
    "prompt_name",
    "prompt_version",
    "service",
    "environment",
    "tags",
    "user_id",
    "session_id",
    "start_time",
    "duration_ms",
    "input_tokens",
    "output_tokens",
    "cost",
    "status",
)
"""What of a call a queue may show next to its answer; also `metadata.KEY`."""
_METADATA = re.compile(r"metadata\..{1,200}", re.S)


@dataclass(frozen=True, slots=True)
class Guideline:
    """One version of the annotators' instructions; number 0 is no guideline."""

    number: int
    text: str = ""
    examples: tuple[Mapping[str, str], ...] = ()
    send_back: bool = False
    created_at: datetime | None = None
    created_by: str = ""

    def response(self) -> responses.Guideline:
        """What the REST API says of it."""
        return responses.Guideline(
            version=self.number, text=self.text, examples=list(self.examples), created_at=self.created_at
        )


NO_GUIDELINE = Guideline(0)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is set up.

    Attributes:
        judgements_per_item: how many annotators judge each ordinary item.
        lease_s: seconds for which an annotator holds an item that they do nothing with.
        gold_share: share of gold items among what an annotator gets, 0 up to 0.5.
        show: facts of the call that are shown, of `FACTS`.
        suggestions: show the feedback of models and code on the answer, under the names of the questions.
        annotators: author ids that may work in it; empty for every key with the scope `annotate`.
        judged_from: judgements under older guidelines than this count no more (they were sent back).
        questions_version: counts the changes of the questions; the audit log has those of before.
        seed: what decides where gold items come; a secret of the server.
    """

    queue_id: str
    name: str
    questions: tuple[Question, ...]
    created_at: datetime
    description: str = ""
    status: responses.QueueStatus = "open"
    judgements_per_item: int = 1
    lease_s: int = 1800
    due_at: datetime | None = None
    gold_share: float = 0.0
    show: tuple[str, ...] = ()
    suggestions: bool = False
    annotators: tuple[str, ...] = ()
    created_by: str = ""
    judged_from: int = 0
    seed: str = ""
    questions_version: int = 1

    def admits(self, annotator: str) -> bool:
        """True where this annotator may work in it."""
        return not self.annotators or annotator in self.annotators

    def to_record(self) -> dict[str, Any]:
        """Everything, as it is stored."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["questions"] = [to_json(q.response()) for q in self.questions]
        out["created_at"] = format_time(self.created_at)
        out["due_at"] = format_time(self.due_at) if self.due_at else None
        return out

    def response(self, guideline: Guideline, mine: responses.Progress) -> responses.Queue:
        """What an annotator may know of it: nothing of the others, of gold or of how items are chosen."""
        return responses.Queue(
            queue_id=self.queue_id,
            name=self.name,
            description=self.description,
            status=self.status,
            lease_s=self.lease_s,
            questions_version=self.questions_version,
            questions=[q.response() for q in self.questions],
            due_at=self.due_at,
            show=list(self.show),
            created_at=self.created_at,
            guideline=guideline.response(),
            mine=mine,
        )

    def response_to_reviewer(
        self, guideline: Guideline, mine: responses.Progress, counts: responses.QueueCounts
    ) -> responses.Queue:
        """The same with all settings and everybody's work."""
        return replace(
            self.response(guideline, mine),
            judgements_per_item=self.judgements_per_item,
            gold_share=self.gold_share,
            suggestions=self.suggestions,
            annotators=list(self.annotators),
            created_by=self.created_by,
            counts=counts,
        )


def queue_from_record(record: Mapping[str, Any]) -> Queue:
    """The inverse of `Queue.to_record`."""
    values = dict(record)
    values["questions"] = read_questions(record["questions"])
    values["created_at"] = parse_time(record["created_at"])
    values["due_at"] = parse_time(record["due_at"]) if record["due_at"] else None
    values |= {n: tuple(record[n]) for n in ("show", "annotators")}
    return Queue(**values)


def new_queue(
    payload: Mapping[str, Any], *, queue_id: str, created_by: str, created_at: datetime, seed: str
) -> Queue:
    """A queue from what an admin sent; raises `SchemaError`."""
    for name in ("name", "questions"):
        if name not in payload:
            raise SchemaError(name, "is required and missing")
    known = set(_READERS) | {"guideline"}
    _refuse_unknown(payload, known)
    values = {n: _READERS[n](v, n) for n, v in payload.items() if n != "guideline"}
    return Queue(queue_id, created_by=created_by, created_at=created_at, seed=seed, **values)


def changed(queue: Queue, payload: Mapping[str, Any]) -> Queue:
    """The queue with what an admin changed; raises `SchemaError`."""
    _refuse_unknown(payload, set(_READERS))
    return replace(queue, **{n: _READERS[n](v, n) for n, v in payload.items()})


def _refuse_unknown(payload: Mapping[str, Any], known: set[str]) -> None:
    for name in payload:
        if name not in known:
            raise SchemaError(name, f"is no setting of a queue; there are {', '.join(sorted(known))}")


def read_guideline(
    payload: Mapping[str, Any], *, field: str = ""
) -> tuple[str, tuple[Mapping[str, str], ...]]:
    """Text and examples of a guideline; raises `SchemaError`."""
    prefix = f"{field}." if field else ""
    text = _text(payload.get("text"), f"{prefix}text", limit=200_000)
    examples = payload.get("examples", [])
    if not isinstance(examples, list) or len(cast(list[Any], examples)) > 100:
        raise SchemaError(f"{prefix}examples", "must be a list of at most 100 objects")
    return text, tuple(_example(e, f"{prefix}examples[{i}]") for i, e in enumerate(cast(list[Any], examples)))


def _example(payload: Any, where: str) -> Mapping[str, str]:
    names = ("input", "output", "verdict", "why")
    if not isinstance(payload, Mapping):
        raise SchemaError(where, f"must be an object with {', '.join(names)}")
    entry = cast(Mapping[str, Any], payload)
    for name in entry:
        if name not in names:
            raise SchemaError(f"{where}.{name}", f"is not a field of an example; it has {', '.join(names)}")
    return {n: _text(entry.get(n, ""), f"{where}.{n}", limit=100_000) for n in names}


# ------------------------------------------------------------------------------------------------- reading the settings


def _text(value: Any, where: str, *, limit: int = 256, empty: bool = True) -> str:
    if not isinstance(value, str) or len(value) > limit or (not empty and not value.strip()):
        raise SchemaError(where, f"must be a text of {0 if empty else 1} to {limit:,} characters")
    return value


def _status(value: Any, where: str) -> str:
    if value not in STATUSES:
        raise SchemaError(where, f"{value!r} is not one of {', '.join(STATUSES)}")
    return value


def _whole(value: Any, where: str, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SchemaError(where, f"{value!r} is not a whole number from {low:,} to {high:,}")
    return value


def _due_at(value: Any, where: str) -> datetime | None:
    return None if value is None else parse_time(value, field=where)


def _gold_share(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 0.5:
        raise SchemaError(where, f"{value!r} is not a share from 0 to 0.5")
    return float(value)


def _show(value: Any, where: str) -> tuple[str, ...]:
    for i, name in enumerate(_texts(value, where)):
        if name not in FACTS and not _METADATA.fullmatch(name):
            raise SchemaError(
                f"{where}[{i}]", f"{name!r} cannot be shown; there is {', '.join(FACTS)}, metadata.KEY"
            )
    return tuple(value)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(cast(list[Any], value)) > 10_000:
        raise SchemaError(where, "must be a list of texts")
    return tuple(_text(v, f"{where}[{i}]", empty=False) for i, v in enumerate(cast(list[Any], value)))


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise SchemaError(where, f"{value!r} is not true or false")
    return value


_READERS: dict[str, Any] = {
    "name": partial(_text, empty=False),
    "description": partial(_text, limit=10_000),
    "status": _status,
    "questions": lambda value, where: read_questions(value, field=where),
    "judgements_per_item": partial(_whole, low=1, high=1_000),
    "lease_s": partial(_whole, low=1, high=30 * 86_400),
    "due_at": _due_at,
    "gold_share": _gold_share,
    "show": _show,
    "suggestions": _flag,
    "annotators": _texts,
}
