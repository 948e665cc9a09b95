"""A review queue's settings and its guideline."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, cast, get_args

from heedloop.responses import review as responses
from heedloop.schema import SchemaError, format_time, parse_time, to_json
from heedloop_server.alerts.webhooks import check_webhook_url
from heedloop_server.review.questions import Question, read_questions
from heedloop_server.review.rules import read_rules

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
        annotators: author ids, or `group:NAME`, that may work in it; empty for every key with the scope `annotate`.
        until: when an item has enough judgements: at `judgements_per_item` (`number`), or from then on one more at a time up to
            `max_judgements`, until most say the same (`agreement`) or the label is as probable as `confidence`.
        order: `added`, `newest` answers first, or `random`; a greater priority comes first in all of them.
        by_language: answers go to those only who read the language that their call's metadata names.
        second_share: of items, at random, judged once more by another annotator who is told nothing of it (of `second_by` where
            that names any).
        rules: what fills the queue by itself (`review.rules`).
        webhook_url: is told when items or the queue are done, when it is stuck (`stuck_hours` without a judgement, 0 for never) and
            when an annotator is careless.
        on_careless: `tell`; `pause` also gives them nothing more; `replace` also asks others again for what they judged.
        suspended: annotators who get nothing more.
        uncounted: annotators whose judgements do not count in this queue; they stay feedback.
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
    until: responses.EnoughJudgements = "number"
    max_judgements: int = 0
    confidence: float = 0.9
    order: responses.ItemOrder = "added"
    by_language: bool = False
    second_share: float = 0.0
    second_by: tuple[str, ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()
    webhook_url: str = ""
    stuck_hours: int = 0
    on_careless: responses.OnCareless = "tell"
    suspended: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    created_by: str = ""
    judged_from: int = 0
    seed: str = ""
    questions_version: int = 1

    @property
    def webhook_secret(self) -> str:
        """Signs what the webhook is told."""
        return hmac.new(self.seed.encode(), b"webhook", hashlib.sha256).hexdigest()

    def has_second(self, item_id: str) -> bool:
        """True where an item is drawn to be judged once more."""
        if not self.second_share:
            return False  # asked for every item at every request
        drawn = hmac.new(self.seed.encode(), f"second/{item_id}".encode(), hashlib.sha256).digest()
        return int.from_bytes(drawn[:6], "big") < self.second_share * 2**48

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
            counts=counts,
            **{n: list(v) if isinstance(v := getattr(self, n), tuple) else v for n in _FOR_REVIEWERS},
        )


def queue_from_record(record: Mapping[str, Any]) -> Queue:
    """The inverse of `Queue.to_record`."""
    values = dict(record)
    values["questions"] = read_questions(record["questions"])
    values["created_at"] = parse_time(record["created_at"])
    values["due_at"] = parse_time(record["due_at"]) if record["due_at"] else None
    values |= {n: tuple(v) for n, v in record.items() if n != "questions" and isinstance(v, list)}
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
    return _checked(Queue(queue_id, created_by=created_by, created_at=created_at, seed=seed, **values))


def changed(queue: Queue, payload: Mapping[str, Any]) -> Queue:
    """The queue with what an admin changed; raises `SchemaError`."""
    _refuse_unknown(payload, set(_READERS))
    return _checked(replace(queue, **{n: _READERS[n](v, n) for n, v in payload.items()}))


def _checked(queue: Queue) -> Queue:
    """The queue; raises `SchemaError` where its settings do not go together."""
    if queue.until != "number" and queue.max_judgements <= queue.judgements_per_item:
        raise SchemaError(
            "max_judgements",
            f"must be more than judgements_per_item, {queue.judgements_per_item}, where more are asked for on {queue.until}",
        )
    return queue


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


def _whole(value: Any, where: str, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SchemaError(where, f"{value!r} is not a whole number from {low:,} to {high:,}")
    return value


def _share(value: Any, where: str, *, low: float = 0.0, high: float = 1.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise SchemaError(where, f"{value!r} is not a number from {low:g} to {high:g}")
    return float(value)


def _one_of(value: Any, where: str, *, names: tuple[str, ...]) -> str:
    if value not in names:
        raise SchemaError(where, f"{value!r} is not one of {', '.join(names)}")
    return value


def _webhook(value: Any, where: str) -> str:
    url = _text(value, where, limit=2_000)
    try:
        if url:
            check_webhook_url(url)
    except ValueError as err:
        raise SchemaError(where, f"{url[:200]!r}: {err}") from None
    return url


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
    "status": partial(_one_of, names=STATUSES),
    "questions": lambda value, where: read_questions(value, field=where),
    "judgements_per_item": partial(_whole, low=1, high=1_000),
    "lease_s": partial(_whole, low=1, high=30 * 86_400),
    "due_at": lambda value, where: None if value is None else parse_time(value, field=where),
    "gold_share": partial(_share, high=0.5),
    "show": _show,
    "suggestions": _flag,
    "annotators": _texts,
    "until": partial(_one_of, names=get_args(responses.EnoughJudgements)),
    "max_judgements": partial(_whole, low=0, high=1_000),
    "confidence": partial(_share, low=0.5),
    "order": partial(_one_of, names=get_args(responses.ItemOrder)),
    "by_language": _flag,
    "second_share": _share,
    "second_by": _texts,
    "rules": lambda value, where: read_rules(value, field=where),
    "webhook_url": _webhook,
    "stuck_hours": partial(_whole, low=0, high=8_760),
    "on_careless": partial(_one_of, names=get_args(responses.OnCareless)),
    "suspended": _texts,
    "uncounted": _texts,
}
_FOR_REVIEWERS = (
    "judgements_per_item", "gold_share", "suggestions", "annotators", "created_by", "until", "max_judgements", "confidence", "order",
    "by_language", "second_share", "second_by", "rules", "webhook_url", "stuck_hours", "on_careless", "suspended", "uncounted",
)  # fmt: skip
"""Settings that annotators are not told."""
