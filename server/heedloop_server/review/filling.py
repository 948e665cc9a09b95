"""Filling a queue: items from a source, gold items with their answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from heedloop.responses.review import FilledQueue, ReviewTarget
from heedloop.schema import SchemaError, Target, from_json
from heedloop_server.errors import Conflict, Invalid
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.questions import applicable_questions
from heedloop_server.review.responses import check_judgement, to_stored
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.assignments import ReviewItem, insert_items
from heedloop_server.store.review.content import calls_at, find_targets
from heedloop_server.store.review.control import answer_facts
from heedloop_server.store.review.sources import Drawn, Source

MAX_ITEMS = 200_000
"""Items of one queue."""
MAX_ANSWERS = 20
"""Answers of one item."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Placing:
    """How items are placed in their queue.

    Attributes:
        priority: a greater one comes first; None leaves that of known items.
        assigned: author ids, or `group:NAME`, who alone are offered them; None leaves that of known items.
        calibration: the name of a round in which every annotator judges them, before all else; empty for ordinary items.
    """

    priority: int | None = None
    assigned: tuple[str, ...] | None = None
    calibration: str = ""

    def of(self, item: ReviewItem) -> ReviewItem:
        """The item, placed so."""
        item = item if self.priority is None else replace(item, priority=self.priority)
        item = item if self.assigned is None else replace(item, assigned=self.assigned)
        if not self.calibration or item.gold in ("gold", "training"):
            return item
        return replace(item, gold="calibration", reason={**(item.reason or {}), "round": self.calibration})


def item_id_of(queue_id: str, targets: Sequence[Key]) -> str:
    """The id of the item with these answers: the same in whatever order they are named, gold or not."""
    text = "\x1f".join((queue_id, *(f"{t}/{s}" for t, s in sorted(targets))))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def targets_of(payload: object, *, field: str) -> list[Key]:
    """The answers that an item names, as `[{"trace_id", "span_id"}, …]`; raises `SchemaError`."""
    entries = cast(list[Any], payload) if isinstance(payload, list) else []
    if not 1 <= len(entries) <= MAX_ANSWERS:
        raise SchemaError(
            field, f"must be a list of 1 to {MAX_ANSWERS} answers, each with trace_id and span_id"
        )
    result = [_target(e, f"{field}[{i}]") for i, e in enumerate(entries)]
    if len(set(result)) != len(result):
        raise SchemaError(field, "names the same answer twice")
    return result


def _target(payload: object, where: str) -> Key:
    try:
        target = from_json(Target, payload, field=where)
    except SchemaError as err:
        raise SchemaError(f"{where}.{err.field.removeprefix('target.')}", err.reason) from None
    if target.span_id is None or target.trace_id is None or target.range is not None:
        raise SchemaError(where, "must be an answer: trace_id and span_id")
    return target.trace_id, target.span_id


def add_items(
    opened: OpenQueue,
    source: str,
    drawn: Drawn,
    *,
    missing: Sequence[Key] = (),
    placing: Placing = Placing(),
) -> FilledQueue:
    """Add what a source found; an item that is there already has a sample's probability, and what `placing` says, from now on."""
    queue_id, work = opened.queue.queue_id, opened.work
    position = time.time_ns()
    new: dict[str, ReviewItem] = {}
    changed_now: dict[str, ReviewItem] = {}
    for n, proposed in enumerate(drawn.items):
        probability = proposed.probability or drawn.probability
        item = _item(queue_id, source, position + n, proposed, probability)
        known = work.items.get(item.item_id)
        if known is None:
            new.setdefault(item.item_id, placing.of(item))
            continue
        again = placing.of(known)
        if probability is not None and _drawn_better(known, proposed):
            again = replace(again, sampling_probability=probability)
        if again != known:
            changed_now[item.item_id] = again
    _check_askable(opened, new.values())
    if len(work.items) + len(new) > MAX_ITEMS:
        raise Conflict(
            f"the queue would hold {len(work.items) + len(new):,} items; at most {MAX_ITEMS:,} fit. Make a second queue"
        )
    changed = [*_with_languages(opened.project, new.values()), *changed_now.values()]
    insert_items(opened.project, queue_id, changed)
    work.take_items(changed)
    return FilledQueue(
        added=len(new),
        known=len(drawn.items) - len(new),
        matching=drawn.matching,
        missing=[ReviewTarget(trace_id=t, span_id=s) for t, s in missing],
    )


def _with_languages(project: ProjectStore, items: Iterable[ReviewItem]) -> list[ReviewItem]:
    """The items with the language that the metadata of the call of their first answer names."""
    items = list(items)
    facts = answer_facts(project, items) if items else {}
    rows = (facts.get(i.targets[0]) for i in items)
    languages = ("" if row is None else str(row["metadata"].get("language", "")) for row in rows)
    return [replace(i, language=language) for i, language in zip(items, languages, strict=True)]


def _drawn_better(known: ReviewItem, proposed: Source) -> bool:
    """True where an item had no probability; or a smaller one, of an earlier draw of the same lots (`audit`)."""
    before = known.sampling_probability
    return before is None or (proposed.probability or 0.0) > before


def _item(
    queue_id: str, source: str, position: int, proposed: Source, probability: float | None
) -> ReviewItem:
    targets = tuple((t, s) for t, s, _ in proposed.answers)
    times = tuple(at for _, _, at in proposed.answers)
    return ReviewItem(
        item_id_of(queue_id, targets),
        targets,
        times,
        source,
        position,
        sampling_probability=probability,
        reason=proposed.reason,
    )


def _check_askable(opened: OpenQueue, items: Any) -> None:
    for num, is_session in sorted({(len(i.targets), i.is_session) for i in items}):
        if not applicable_questions(opened.queue.questions, num, is_session=is_session):
            raise Invalid(
                f"none of the queue's questions can be asked about {num} answer{'s' if num > 1 else ''} "
                "(a comparison is about two, a ranking about two or more)",
                field="items",
            )


def stored_targets(project: ProjectStore, items: Sequence[Sequence[Key]]) -> tuple[Drawn, list[Key]]:
    """Named answers as a source, without the items of which an answer is not stored; and those answers."""
    result = find_targets(project, [t for item in items for t in item])
    missing = [t for item in items for t in item if t not in result]
    whole = [item for item in items if all(t in result for t in item)]
    there = [Source(tuple((t, s, result[t, s]) for t, s in item)) for item in whole]
    return Drawn(there, len(items)), missing


# ---------------------------------------------------------------------------------------------------------------- gold


def add_gold(opened: OpenQueue, payload: Sequence[Mapping[str, Any]]) -> FilledQueue:
    """Add gold or training items with the answers that are right; an item that is there already becomes gold.

    Raises:
        SchemaError: an entry is wrong.
        Invalid: an answer is not stored.
    """
    entries = [targets_of(e.get("targets"), field=f"items[{i}].targets") for i, e in enumerate(payload)]
    drawn, missing = stored_targets(opened.project, entries)
    if missing:
        trace_id, span_id = missing[0]
        raise Invalid(
            f"there is no answer with trace_id {trace_id} and span_id {span_id} in this project",
            field="items",
        )
    position = time.time_ns()
    items = [
        _gold_item(opened, proposed, entry, position + n, f"items[{n}]")
        for n, (proposed, entry) in enumerate(zip(drawn.items, payload, strict=True))
    ]
    num_known = sum(i.item_id in opened.work.items for i in items)
    insert_items(opened.project, opened.queue.queue_id, items)
    opened.work.take_items(items)
    return FilledQueue(added=len(items) - num_known, known=num_known, matching=len(items), missing=[])


def _gold_item(
    opened: OpenQueue, proposed: Source, payload: Mapping[str, Any], position: int, where: str
) -> ReviewItem:
    item = _item(opened.queue.queue_id, "gold", position, proposed, None)
    calls = calls_at(opened.project, [((t, s), at) for t, s, at in proposed.answers])
    texts = [calls[t].output_text for t in item.targets]
    optional = [replace(q, required=False) for q in opened.queue.questions]
    try:
        expected = check_judgement(optional, payload.get("answers"), texts)
    except SchemaError as err:
        raise SchemaError(f"{where}.{err.field}", err.reason) from None
    why = payload.get("why", "")
    training = payload.get("training", False)
    if not isinstance(why, str) or len(why) > 10_000:
        raise SchemaError(f"{where}.why", "must be a text of at most 10,000 characters")
    if not isinstance(training, bool):
        raise SchemaError(f"{where}.training", f"{training!r} is not true or false")
    known = opened.work.items.get(item.item_id)
    if known is not None:
        order = [known.targets.index(t) for t in item.targets]
        expected = to_stored(opened.queue.questions, expected, order)
        item = replace(known, source=known.source)
    only = {n: v for n, v in expected.items() if n in cast(Mapping[str, Any], payload["answers"])}
    return replace(item, gold="training" if training else "gold", expected=only, expected_why=why)
