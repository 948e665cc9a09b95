"""Responses about review queues and an annotator's work in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from heedloop.schema import Message, ToolCall

QuestionKind = Literal[
    "thumb",
    "scale",
    "number",
    "category",
    "choices",
    "flags",
    "ranges",
    "text",
    "correction",
    "comparison",
    "ranking",
]
QueueStatus = Literal["open", "paused", "closed", "archived"]
EnoughJudgements = Literal["number", "agreement", "confidence"]
ItemOrder = Literal["added", "newest", "random"]
OnCareless = Literal["tell", "pause", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What one point of a scale means."""

    value: int
    label: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a queue; which fields there are depends on `kind`. `when`: the earlier question and the answers it is asked for."""

    name: str
    kind: QuestionKind
    title: str
    help: str
    required: bool
    per_answer: bool
    min: int | None = None
    max: int | None = None
    anchors: list[Anchor] | None = None
    distance: Literal["ordinal", "interval"] | None = None
    categories: list[str] | None = None
    labels: list[str] | None = None
    severity: bool | None = None
    severity_required: bool | None = None
    strength: bool | None = None
    ordered: bool | None = None
    verdict_path: str | None = None
    verdict_pattern: str | None = None
    when: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """One version of a guideline; version 0 is none."""

    version: int
    text: str
    examples: list[Mapping[str, str]]
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The caller's own work in a queue, `is_paused` where the lead has paused it; `items`, what is done and what remains, where assignments come with it."""

    done: int
    done_today: int
    skipped: int
    remaining: int
    is_paused: bool
    items: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """Everybody's work in a queue, without gold."""

    items: int
    done: int
    judgements: int
    leased: int
    skipped: int
    gold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A review queue; annotators are told less than reviewers."""

    queue_id: str
    name: str
    description: str
    status: QueueStatus
    lease_s: int
    questions_version: int
    questions: list[Question]
    due_at: datetime | None
    show: list[str]
    created_at: datetime
    guideline: Guideline
    mine: Progress
    judgements_per_item: int | None = None
    gold_share: float | None = None
    suggestions: bool | None = None
    annotators: list[str] | None = None
    created_by: str | None = None
    counts: QueueCounts | None = None
    until: EnoughJudgements | None = None
    max_judgements: int | None = None
    confidence: float | None = None
    order: ItemOrder | None = None
    by_language: bool | None = None
    second_share: float | None = None
    second_by: list[str] | None = None
    rules: list[Mapping[str, Any]] | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    stuck_hours: int | None = None
    on_careless: OnCareless | None = None
    suspended: list[str] | None = None
    uncounted: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueList:
    """The queues that the caller may see, newest first."""

    queues: list[Queue]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidelineList:
    """Every version of a queue's guideline, newest first."""

    guidelines: list[Guideline]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewTarget:
    """One answer of an item."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledQueue:
    """What filling a queue did: items added, those that were there already, all that matched, answers that are not stored."""

    added: int
    known: int
    matching: int
    missing: list[ReviewTarget]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedAnswer:
    """One answer's content, and those facts of its call that the reader sees; an annotator also sees its tool calls,
    and in a session what was asked before it."""

    text: str
    hash: str
    facts: Mapping[str, Any]
    tool_calls: list[ToolCall] | None = None
    asked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAssignment:
    """One annotator's hold of one item, with everything that is shown. `images` are `data:` addresses; in a session, `answers` are its turns."""

    assignment_id: str
    queue_id: str
    item_id: str
    expires_at: datetime
    guideline_version: int
    revision: int
    remark: str
    state: Literal["leased", "done", "skipped"]
    reason: str
    questions: list[str]
    is_session: bool
    messages: list[Message]
    images: list[str]
    answers: list[ReviewedAnswer]
    suggestions: Mapping[str, Any]
    draft: Mapping[str, Any]
    submitted: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentsAhead:
    """What the caller should judge next."""

    assignments: list[ReviewAssignment]
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ReopenedAssignment(ReviewAssignment):
    """A judgement or skip that was taken back, and the caller's progress since."""

    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What would have been right in a training item, answers in the order shown."""

    correct: Mapping[str, bool]
    expected: Mapping[str, Any]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAssignment(AssignmentsAhead):
    """A judgement or a skip is stored; and what comes next."""

    state: Literal["done", "skipped"]
    feedback: list[str]
    training: TrainingResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDraft:
    """A draft is stored; the lease goes on until `expires_at`.

    Where `guideline_version`, the newest, is not the one that was shown, and `sent_back` is true, a judgement under the
    one that was shown would not count: it is refused.
    """

    assignment_id: str
    state: str
    expires_at: datetime
    guideline_version: int
    sent_back: bool
    queue_status: QueueStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentPage:
    """One page of the caller's own assignments that are done or skipped, newest first."""

    assignments: list[ReviewAssignment]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedQueue:
    """A queue that was taken away."""

    queue_id: str
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedItems:
    """What was taken out of a queue."""

    removed: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedLeases:
    """How many leases were ended."""

    released: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamMember:
    """Somebody who reviews: queues name groups as `group:NAME`; no languages means all."""

    author_id: str
    groups: list[str]
    languages: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewTeam:
    """Everybody of whom something is known, by author id."""

    members: list[TeamMember]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNote:
    """A note to the lead is stored, as a comment of this id."""

    feedback_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRecord:
    """The caller's own record in a queue: `hours` while answers were in view, `training` how many training answers were right."""

    done: int
    skipped: int
    sent_back: int
    hours: float
    training: int
    training_right: int
