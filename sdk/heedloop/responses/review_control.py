"""Responses of the quality control of review queues. Estimates come as intervals, null where they are undefined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from heedloop.responses.feedback import FieldError
from heedloop.responses.intervals import Interval
from heedloop.responses.review import ReviewedAnswer, ReviewTarget
from heedloop.schema import Message

ItemState = Literal["open", "done", "disagreement", "adjudicated", "skipped"]
Label = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far annotators agree on one question; `slices` where they were asked for, of which each has its `value`."""

    question: str
    kind: str
    metric: str
    num_annotators: int
    num_judgements: int
    num_units: int
    percent: Interval | None
    cohen: Interval | None
    fleiss: Interval | None
    weighted_kappa: Interval | None
    alpha: Interval | None
    gwet_ac1: Interval | None
    range_overlap: Interval | None
    value: str | None = None
    slices: list[Agreement] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAgreement:
    """Agreement per question."""

    questions: list[Agreement]
    by: str | None
    num_items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """How the annotators of one group judge; `mean` of ordered labels on 0 to 1. The empty name is that of those in no group."""

    name: str
    num_annotators: int
    num_judgements: int
    mean: Interval | None
    percent: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPair:
    """The share of the units judged by both on which the majorities of two pools are the same."""

    first: str
    second: str
    agreement: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolComparison:
    """The pools on one question."""

    question: str
    pools: list[Pool]
    pairs: list[PoolPair]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePools:
    """The pools of a queue, per question."""

    questions: list[PoolComparison]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredValue:
    """Of the answers with one value of a field: how many there are, are in the queue, and were judged in it; `share` judged."""

    value: str
    num: int
    num_queued: int
    num_judged: int
    share: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCoverage:
    """Coverage by a field, the value with the most answers first."""

    by: str
    values: list[CoveredValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Dawid and Skene's view of an annotator."""

    accuracy: Interval
    informedness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """How one annotator works."""

    author_id: str
    num_items: int
    num_judgements: int
    gold: Interval | None
    gold_by_question: Mapping[str, Interval | None]
    severity: Mapping[str, Interval | None]
    reliability: Mapping[str, Reliability]
    median_s: float | None
    drift: Interval | None
    careless: bool
    reasons: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tendency:
    """What judgements go along with: of ratings the first three, of choices the last two."""

    length: Interval | None = None
    model: Mapping[str, Interval | None] | None = None
    language: Mapping[str, Interval | None] | None = None
    longer: Interval | None = None
    first_shown: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """The tendencies of everybody together and of each annotator."""

    question: str
    all: Tendency
    annotators: Mapping[str, Tendency]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAnnotators:
    """The annotators of a queue."""

    annotators: list[Annotator]
    bias: list[Bias]
    num_gold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusRow:
    """One unit's label, null where tied: `unit` is which answer, and which category or other answer."""

    item_id: str
    unit: list[str]
    label: Label | None
    confidence: float
    num: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConsensus:
    """Consensus per question."""

    method: str
    questions: Mapping[str, list[ConsensusRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Answers with people's consensus that are not in the table.

    `none`: the other said nothing of them; `unknown`: what it said is no label of the question, with `examples`.
    """

    none: int
    unknown: int
    examples: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Rows: people's consensus; columns: the other's label. `value` is that of a slice."""

    categories: list[Label]
    table: list[list[int]]
    n: int
    accuracy: Interval | None
    kappa: Interval | None
    left_out: LeftOut
    question: str | None = None
    value: str | None = None
    slices: list[Confusion] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfusion:
    """Confusion per question."""

    against: Literal["judge", "model", "user"]
    by: str | None
    questions: list[Confusion]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedAnswer:
    """One answer with people's consensus and the other's label, null where the other gave none."""

    item_id: str
    trace_id: str
    span_id: str
    people: Label
    other: Label | None
    asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedAnswers:
    """A page of the answers behind a confusion."""

    answers: list[ComparedAnswer]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemJudgement:
    """What one annotator said; answers in the item's own order."""

    annotator: str
    answers: Mapping[str, Any]
    shown_order: list[int]
    submitted_at: datetime
    duration_ms: int | None
    guideline_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSkip:
    """Who left an item to others, and why."""

    annotator: str
    reason: str
    skipped_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadNote:
    """What an annotator wrote to the lead about an item."""

    annotator: str
    text: str
    written_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjudication:
    """A reviewer's own judgement, which stands over the annotators'."""

    reviewer: str
    answers: Mapping[str, Any]
    reason: str
    judged_at: datetime
    guideline_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """An item with its judgements."""

    item_id: str
    targets: list[ReviewTarget]
    source: str
    reason: Mapping[str, Any] | None
    sampling_probability: float | None
    gold: str
    expected: Mapping[str, Any] | None
    state: ItemState
    disagreements: list[str]
    judgements: list[ItemJudgement]
    skips: list[ItemSkip]
    notes: list[LeadNote]
    consensus: Mapping[str, list[ConsensusRow]]
    adjudicated: Adjudication | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedItem(ReviewItem):
    """An item in a list, with the beginning of what was asked (empty where its answer is not stored any more)."""

    asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPage:
    """A page of items, in the queue's order."""

    items: list[ListedItem]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemWithContent(ReviewItem):
    """One item with the content it is about, in the item's own order."""

    queue_id: str
    is_session: bool
    messages: list[Message]
    answers: list[ReviewedAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What became of one judgement of an import."""

    item_id: str | None
    annotator: str | None
    status: Literal["stored", "duplicate", "rejected"]
    error: FieldError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedJudgements:
    """What became of an import."""

    results: list[ImportResult]
    stored: int
    duplicate: int
    rejected: int
