"""Answers about review queues and an annotator's work in them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

__all__ = [
    "DeletedQueue",
    "DraftKept",
    "Filled",
    "Guidelines",
    "Mine",
    "NewGuideline",
    "NewQueue",
    "NextAssignments",
    "Queue",
    "QueueChanges",
    "QueueList",
    "Released",
    "RemovedItems",
    "Reopened",
    "ReviewAssignment",
    "Worked",
]


class QuestionRecord(TypedDict):
    """One question of a queue; which fields there are depends on `kind`."""

    name: str
    kind: str
    title: str
    help: str
    required: bool
    per_answer: bool
    min: NotRequired[int]
    max: NotRequired[int]
    anchors: NotRequired[list[dict[str, Any]]]
    categories: NotRequired[list[str]]
    labels: NotRequired[list[str]]
    severity: NotRequired[bool]
    strength: NotRequired[bool]
    ordered: NotRequired[bool]
    verdict_path: NotRequired[str]
    verdict_pattern: NotRequired[str]
    distance: NotRequired[Literal["ordinal", "interval"]]


class GuidelineRecord(TypedDict):
    """One version of a guideline; version 0 is none."""

    version: int
    text: str
    examples: list[dict[str, str]]
    created_at: str | None


class MyCounts(TypedDict):
    """The caller's own work in a queue."""

    done: int
    done_today: int
    skipped: int
    remaining: int


class QueueCounts(TypedDict):
    """Everybody's work in a queue, without gold."""

    items: int
    done: int
    judgements: int
    leased: int
    skipped: int
    gold: int


class Queue(TypedDict):
    """A review queue; annotators are told less than reviewers."""

    queue_id: str
    name: str
    description: str
    status: Literal["open", "paused", "closed", "archived"]
    lease_s: int
    questions_version: int
    questions: list[QuestionRecord]
    due_at: str | None
    show: list[str]
    created_at: str
    guideline: GuidelineRecord
    mine: MyCounts
    judgements_per_item: NotRequired[int]
    gold_share: NotRequired[float]
    suggestions: NotRequired[bool]
    annotators: NotRequired[list[str]]
    created_by: NotRequired[str]
    counts: NotRequired[QueueCounts]


class QueueList(TypedDict):
    """The queues that the caller may see, newest first."""

    queues: list[Queue]


class Guidelines(TypedDict):
    """Every version of a queue's guideline, newest first."""

    guidelines: list[GuidelineRecord]


class MissingTarget(TypedDict):
    """An answer that is not stored."""

    trace_id: str
    span_id: str


class Filled(TypedDict):
    """What filling a queue did."""

    added: int
    known: int
    matching: int
    missing: list[MissingTarget]


class AnswerShown(TypedDict):
    """One answer as the annotator sees it."""

    text: str
    hash: str
    facts: dict[str, Any]
    tool_calls: list[dict[str, Any]]


class ReviewAssignment(TypedDict):
    """One annotator's hold of one item, with everything that is shown."""

    assignment_id: str
    queue_id: str
    item_id: str
    expires_at: str
    guideline_version: int
    revision: int
    remark: str
    state: Literal["leased", "done", "skipped"]
    reason: str
    questions: list[str]
    messages: list[dict[str, Any]]
    answers: list[AnswerShown]
    suggestions: dict[str, Any]
    draft: dict[str, Any]
    submitted: dict[str, Any] | None


class MyProgress(MyCounts):
    """The caller's own progress; `items` is what is done and what remains."""

    items: int


class NextAssignments(TypedDict):
    """What the caller should judge next."""

    assignments: list[ReviewAssignment]
    progress: MyProgress


class Reopened(ReviewAssignment):
    """A judgement or skip that was taken back, and the caller's progress since."""

    progress: MyProgress


class TrainingAnswer(TypedDict):
    """What would have been right in a training item."""

    correct: dict[str, bool]
    expected: dict[str, Any]
    why: str


class Worked(NextAssignments):
    """A judgement or a skip is stored; and what comes next."""

    state: Literal["done", "skipped"]
    feedback: list[str]
    training: TrainingAnswer | None


class DraftKept(TypedDict):
    """A draft is stored; the lease goes on until `expires_at`.

    Where `guideline_version`, the newest, is not the one that was shown, and `sent_back` is true, a judgement under the
    one that was shown would not count: it is refused.
    """

    assignment_id: str
    state: str
    expires_at: str
    guideline_version: int
    sent_back: bool
    queue_status: Literal["open", "paused", "closed", "archived"]


class Mine(TypedDict):
    """One page of the caller's own assignments that are done or skipped, newest first."""

    assignments: list[ReviewAssignment]
    next_cursor: str | None


class DeletedQueue(TypedDict):
    """A queue that was taken away."""

    queue_id: str
    deleted: bool


class RemovedItems(TypedDict):
    """What was taken out of a queue."""

    removed: int
    unknown: int


class Released(TypedDict):
    """How many leases were ended."""

    released: int


class GuidelineSent(TypedDict):
    """The guideline that a new queue comes with."""

    text: str
    examples: NotRequired[list[dict[str, str]]]


class NewGuideline(GuidelineSent):
    """A new version of a guideline."""

    send_back: NotRequired[bool]


class QueueChanges(TypedDict, total=False):
    """What of a queue can be changed."""

    name: str
    description: str
    status: Literal["open", "paused", "closed", "archived"]
    questions: list[dict[str, Any]]
    judgements_per_item: int
    lease_s: int
    due_at: str | None
    gold_share: float
    show: list[str]
    suggestions: bool
    annotators: list[str]


class NewQueue(QueueChanges, total=False):
    """A queue to be made: `name` and `questions` are needed."""

    guideline: GuidelineSent | None
