"""Review as rows: items, and every annotator's assignments."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from heedloop.schema import Feedback, from_json
from heedloop_server.store.connection import ProjectStore, Row

SESSIONS = "sessions"
"""The source of items that are whole sessions."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OVERLAP = timedelta(seconds=30)
"""How far behind the newest change seen another server's insert may still become visible."""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One answer, or several to one prompt, in a queue.

    Attributes:
        targets: (trace id, span id) of each answer, hexadecimal.
        call_times: start time of each answer's call, which its content is read by.
        gold: '' for an ordinary item, `gold`, `training`, `calibration` for one that everybody judges, or `removed` for one that was
            taken out of its queue.
        expected: of gold: question -> answer, in the order of `targets`.
        reason: why a source took it.
        priority: items with a greater one come first.
        assigned: author ids, or `group:NAME`, who alone are offered it; empty for all.
        language: of the answer, where the queue hands answers out by language.
    """

    item_id: str
    targets: tuple[tuple[str, str], ...]
    call_times: tuple[datetime, ...]
    source: str
    position: int
    sampling_probability: float | None = None
    gold: str = ""
    expected: Mapping[str, Any] | None = None
    expected_why: str = ""
    reason: Mapping[str, Any] | None = None
    priority: int = 0
    assigned: tuple[str, ...] = ()
    language: str = ""

    @property
    def is_session(self) -> bool:
        """True where the answers are the turns of one session, in their order."""
        return self.source == SESSIONS


@dataclass(frozen=True, slots=True)
class Assignment:
    """One annotator's assignment of one item, as it is now: `review_assignments` says what the columns hold.

    `answers` are those of the last submission, also while the item is leased again. Where `whole` is False, the words (answers, draft,
    feedback ids) were not read.
    """

    item_id: str
    annotator: str
    assignment_id: str
    state: str
    leased_at: datetime
    expires_at: datetime
    guideline: int
    shown_order: tuple[int, ...]
    step: int = 0
    revision: int = 0
    judged_at: datetime = _EPOCH
    duration_ms: int = 0
    reason: str = ""
    answers: Mapping[str, Any] | None = None
    draft: Mapping[str, Any] | None = None
    feedback_ids: tuple[UUID, ...] = ()
    trace_ids: tuple[str, ...] = ()
    key_id: str = ""
    version: int = 0
    whole: bool = True

    def moved(self, **changes: Any) -> Assignment:
        """The next state of this assignment: a step on, so that it wins over every row of an earlier step."""
        step = self.step + 1
        return replace(self, step=step, version=_version(step), **changes)

    def touched(self, **changes: Any) -> Assignment:
        """The same state with a longer lease or another draft; any move made meanwhile wins over it."""
        return replace(self, version=max(self.version + 1, _version(self.step)), **changes)

    def without_words(self) -> Assignment:
        """What is kept in memory of it."""
        return replace(self, answers=None, draft=None, feedback_ids=(), trace_ids=(), whole=False)


def _version(step: int) -> int:
    return (step << _STEP_BITS) + time.time_ns() // 1_000_000


_STEP_BITS = 44


# --------------------------------------------------------------------------------------------------------------- items


def insert_items(project: ProjectStore, queue_id: str, items: Iterable[ReviewItem]) -> None:
    """Store items, new or changed."""
    rows = [{"queue_id": queue_id, "version": time.time_ns(), **_item_row(i)} for i in items]
    project.insert("review_items", rows, **project.lasting)


def _item_row(item: ReviewItem) -> Row:
    row = {f.name: getattr(item, f.name) for f in fields(item) if f.name != "targets"}
    return row | {
        "trace_ids": [bytes.fromhex(t) for t, _ in item.targets],
        "span_ids": [bytes.fromhex(s) for _, s in item.targets],
        "call_times": list(item.call_times),
        "assigned": list(item.assigned),
        "reason": _json(item.reason),
        "expected": _json(item.expected),
        "is_deleted": 0,
    }


_ITEM_COLUMNS = """
    item_id,
    arrayMap(t -> lower(hex(t)), trace_ids) AS traces,
    arrayMap(s -> lower(hex(s)), span_ids) AS spans,
    call_times,
    source,
    reason,
    sampling_probability,
    gold,
    expected,
    expected_why,
    position,
    priority,
    assigned,
    language,
    changed_at
"""


def _item(row: Row) -> ReviewItem:
    values = {f.name: row[f.name] for f in fields(ReviewItem) if f.name != "targets"}
    values["targets"] = tuple(zip(row["traces"], row["spans"], strict=True))
    values |= {name: tuple(row[name]) for name in ("call_times", "assigned")}
    values |= {name: _parsed(row[name]) for name in ("reason", "expected")}
    return ReviewItem(**values)


def changed_items(
    project: ProjectStore, queue_id: str, since: datetime | None
) -> tuple[list[ReviewItem], datetime]:
    """The items that changed since a time (all where it is None), and the newest change's time."""
    rows, newest = _changed(project, "review_items", _ITEM_COLUMNS, queue_id, since)
    return sorted((_item(r) for r in rows), key=lambda i: (i.position, i.item_id)), newest


def find_item(project: ProjectStore, item_id: str) -> tuple[str, ReviewItem] | None:
    """The queue's id and the item of this id."""
    row = project.row(
        f"""
        SELECT queue_id, {_ITEM_COLUMNS}
        FROM review_items FINAL
        WHERE project_id = {{project:String}} AND item_id = {{item:String}}
        """,  # noqa: S608
        {"item": item_id},
    )
    return (row["queue_id"], _item(row)) if row else None


# --------------------------------------------------------------------------------------------------------- assignments


def insert_assignments(project: ProjectStore, queue_id: str, assignments: Sequence[Assignment]) -> None:
    """Store how assignments stand now; durable when it returns."""
    rows = [{"queue_id": queue_id, **_assignment_row(a)} for a in assignments]
    project.insert("review_assignments", rows, **project.lasting)


def _assignment_row(a: Assignment) -> Row:
    row = {f.name: getattr(a, f.name) for f in fields(a) if f.name not in ("step", "whole")}
    return row | {
        "assignment_id": UUID(hex=a.assignment_id),
        "shown_order": list(a.shown_order),
        "answers": _json(a.answers),
        "draft": _json(a.draft),
        "feedback_ids": list(a.feedback_ids),
        "trace_ids": [bytes.fromhex(t) for t in a.trace_ids],
    }


_STATE_COLUMNS = """
    item_id,
    annotator,
    assignment_id,
    state,
    leased_at,
    expires_at,
    guideline,
    shown_order,
    reason,
    revision,
    judged_at,
    duration_ms,
    changed_at,
    version
"""
_WHOLE_COLUMNS = (
    _STATE_COLUMNS
    + """,
    answers,
    draft,
    feedback_ids,
    arrayMap(t -> lower(hex(t)), trace_ids) AS traces,
    key_id
"""
)
_PLAIN_COLUMNS = (
    "item_id", "annotator", "state", "leased_at", "expires_at", "guideline", "revision", "judged_at", "duration_ms", "reason",
    "version",
)  # fmt: skip
"""Columns that hold a field of `Assignment` as it is."""


def _assignment(row: Row) -> Assignment:
    return Assignment(
        **{name: row[name] for name in _PLAIN_COLUMNS},
        assignment_id=row["assignment_id"].hex,
        shown_order=tuple(row["shown_order"]),
        step=row["version"] >> _STEP_BITS,
        answers=_parsed(row.get("answers", "")),
        draft=_parsed(row.get("draft", "")),
        feedback_ids=tuple(row.get("feedback_ids", ())),
        trace_ids=tuple(row.get("traces", ())),
        key_id=row.get("key_id", ""),
        whole="answers" in row,
    )


def changed_assignments(
    project: ProjectStore, queue_id: str, since: datetime | None
) -> tuple[list[Assignment], datetime]:
    """The assignments that changed since a time (all where it is None), without their words, and the newest change's time."""
    rows, newest = _changed(project, "review_assignments", _STATE_COLUMNS, queue_id, since)
    return [_assignment(r) for r in rows], newest


def find_assignment(project: ProjectStore, assignment_id: str) -> tuple[str, Assignment] | None:
    """The queue's id and the whole assignment of this id."""
    result = _whole(project, "assignment_id = {id:UUID}", {"id": UUID(hex=assignment_id)}, **project.fresh)
    return result[0] if result else None


def read_assignments(
    project: ProjectStore, queue_id: str, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Assignment]:
    """(item id, annotator) -> the whole assignment, of those that exist."""
    if not keys:
        return {}
    wanted = set(keys)
    result = _whole(
        project,
        """queue_id = {queue:String}
          AND item_id IN {items:Array(String)}
          AND annotator IN {annotators:Array(String)}""",
        {"queue": queue_id, "items": [k[0] for k in keys], "annotators": sorted({k[1] for k in keys})},
        **project.fresh,
    )
    return {(a.item_id, a.annotator): a for _, a in result if (a.item_id, a.annotator) in wanted}


def judgements_of(
    project: ProjectStore, queue_id: str, item_ids: Sequence[str] | None = None
) -> list[Assignment]:
    """The judgements of a queue (or of some of its items) as they count now: whole assignments in the state `done`."""
    where = "queue_id = {queue:String} AND state = 'done'"
    if item_ids is not None:
        where += " AND item_id IN {items:Array(String)}"
    return [a for _, a in _whole(project, where, {"queue": queue_id, "items": list(item_ids or ())})]


def unfinished_of(project: ProjectStore, queue_id: str) -> list[Assignment]:
    """Whole assignments of a queue that are no judgements: drafts that were begun, and skips with their reasons."""
    where = """queue_id = {queue:String}
          AND (state = 'skipped' OR (state = 'leased' AND draft NOT IN ('', '{}')))"""
    return [a for _, a in _whole(project, where, {"queue": queue_id})]


def assignments_of(project: ProjectStore, annotator: str) -> list[UUID]:
    """The ids of all of an annotator's assignments."""
    rows = project.rows(
        """
        SELECT DISTINCT assignment_id
        FROM review_assignments
        WHERE project_id = {project:String} AND annotator = {annotator:String}
        """,
        {"annotator": annotator},
    )
    return [r["assignment_id"] for r in rows]


def unrecorded(project: ProjectStore, queue_id: str) -> list[Assignment]:
    """Judgements whose feedback never reached the store, because a server ended between the two; and undone ones.

    An undone judgement (reopened, not judged again) is always among them: whether its retraction was stored is cheaper to
    repeat than to find out.
    """
    where = f"""queue_id = {{queue:String}}
          AND ((state = 'leased' AND startsWith(reason, '{REOPENED}'))
               OR (state = 'done'
                   AND notEmpty(feedback_ids)
                   AND (replaceAll(toString(assignment_id), '-', ''), toString(revision)) NOT IN (
                       SELECT splitByChar(':', client_id)[2], splitByChar(':', client_id)[3]
                       FROM feedback_history
                       WHERE project_id = {{project:String}} AND client_id >= 'review:' AND client_id < 'review;'
                   )))"""  # noqa: S608
    return [a for _, a in _whole(project, where, {"queue": queue_id})]


def _whole(
    project: ProjectStore, where: str, params: Mapping[str, Any], **settings: Any
) -> list[tuple[str, Assignment]]:
    """(queue's id, whole assignment) of those that meet a condition, by item and annotator."""
    rows = project.rows(
        f"""
        SELECT
            queue_id,
            {_WHOLE_COLUMNS}
        FROM review_assignments FINAL
        WHERE project_id = {{project:String}}
          AND {where}
        ORDER BY
            item_id,
            annotator
        """,  # noqa: S608
        params,
        **settings,
    )
    return [(r["queue_id"], _assignment(r)) for r in rows]


def standing_feedback(project: ProjectStore, item_id: str, annotator: str) -> list[Feedback]:
    """What an annotator's judgement of an item is as feedback now."""
    rows = project.rows(
        """
        SELECT record
        FROM feedback FINAL
        WHERE project_id = {project:String}
          AND queue_item = {item:String}
          AND author_kind = 'annotator'
          AND author_id = {annotator:String}
          AND name != {note:String}
        """,
        {"note": LEAD_NOTE, "item": item_id, "annotator": annotator},
    )
    return [from_json(Feedback, json.loads(r["record"])) for r in rows]


LEAD_NOTE = "note_to_lead"
"""The name of the comments in which annotators write to the lead; no part of a judgement."""
REOPENED = "reopened"
"""How the `reason` of an assignment begins whose judgement was taken back and not made again yet; after `_REMARK` a reviewer's remark."""
_REMARK = "\x1f"
REMOVED = "removed"
"""The `gold` of an item that was taken out of its queue: a row that says so reaches other servers, a missing one does not."""


def sent_back_with(remark: str) -> str:
    """The `reason` of an assignment whose judgement a reviewer sent back."""
    return f"{REOPENED}{_REMARK}{remark}"


def remark_of(a: Assignment) -> str:
    """The reviewer's remark with which the judgement was sent back; empty where it was not."""
    return a.reason.partition(_REMARK)[2] if a.reason.startswith(REOPENED) and a.state == "leased" else ""


# ------------------------------------------------------------------------------------------------------------- details


def _changed(
    project: ProjectStore, table: str, columns: str, queue_id: str, since: datetime | None
) -> tuple[list[Row], datetime]:
    """The rows of a queue that changed since a time (all where it is None), and the newest change's time."""
    rows = project.rows(
        f"""
        SELECT {columns}
        FROM {table} FINAL
        WHERE project_id = {{project:String}}
          AND queue_id = {{queue:String}}
          AND changed_at >= {{since:DateTime64(6,'UTC')}}
        """,  # noqa: S608
        {"queue": queue_id, "since": _EPOCH if since is None else since - _OVERLAP},
        **project.fresh,
    )
    return rows, max((r["changed_at"] for r in rows), default=since or _EPOCH)


def _json(value: Mapping[str, Any] | None) -> str:
    return "" if value is None else json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"))


def _parsed(text: str) -> dict[str, Any] | None:
    return json.loads(text) if text else None
