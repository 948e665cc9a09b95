"""Answers of the quality control of review queues. Estimates come as intervals, null where they are undefined."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from heedloop_server.answers.quality import Interval

__all__ = [
    "Adjudicated",
    "AgreementAnswer",
    "AnnotatorsAnswer",
    "ComparedAnswers",
    "ConfusionAnswer",
    "ConsensusAnswer",
    "ImportAnswer",
    "ItemAnswer",
    "ItemsAnswer",
]


class Agreement(TypedDict):
    """How far annotators agree on one question."""

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


class SliceAgreement(Agreement):
    """The same within a slice."""

    value: str


class QuestionAgreement(Agreement):
    """The same with the slices that were asked for."""

    slices: NotRequired[list[SliceAgreement]]


class AgreementAnswer(TypedDict):
    """Agreement per question."""

    questions: list[QuestionAgreement]
    by: str | None
    num_items: int


class Reliability(TypedDict):
    """Dawid and Skene's view of an annotator."""

    accuracy: Interval
    informedness: float


class AnnotatorRecord(TypedDict):
    """How one annotator works."""

    author_id: str
    num_items: int
    num_judgements: int
    gold: Interval | None
    gold_by_question: dict[str, Interval | None]
    severity: dict[str, Interval | None]
    reliability: dict[str, Reliability]
    median_s: float | None
    drift: Interval | None
    careless: bool
    reasons: list[str]
    notes: list[str]


class Tendency(TypedDict):
    """What judgements go along with: of ratings the first three, of choices the last two."""

    length: NotRequired[Interval | None]
    model: NotRequired[dict[str, Interval | None]]
    language: NotRequired[dict[str, Interval | None]]
    longer: NotRequired[Interval | None]
    first_shown: NotRequired[Interval | None]


class Bias(TypedDict):
    """The tendencies of everybody together and of each annotator."""

    question: str
    all: Tendency
    annotators: dict[str, Tendency]


class AnnotatorsAnswer(TypedDict):
    """The annotators of a queue."""

    annotators: list[AnnotatorRecord]
    bias: list[Bias]
    num_gold: int


class ConsensusRow(TypedDict):
    """One unit's label: `unit` is which answer, and which category or other answer."""

    item_id: str
    unit: list[str]
    label: int | float | str | None
    confidence: float
    num: int
    by: str


class ConsensusAnswer(TypedDict):
    """Consensus per question."""

    method: str
    questions: dict[str, list[ConsensusRow]]


class LeftOut(TypedDict):
    """Answers with people's consensus that are not in the table.

    `none`: the other said nothing of them; `unknown`: what it said is no label of the question, with `examples`.
    """

    none: int
    unknown: int
    examples: list[str]


class Confusion(TypedDict):
    """Rows: people's consensus; columns: the other's label."""

    categories: list[int | float | str]
    table: list[list[int]]
    n: int
    accuracy: Interval | None
    kappa: Interval | None
    left_out: LeftOut


class SliceConfusion(Confusion):
    """The same within a slice."""

    value: str


class QuestionConfusion(Confusion):
    """The same of a question, with the slices that were asked for."""

    question: str
    slices: NotRequired[list[SliceConfusion]]


class ConfusionAnswer(TypedDict):
    """Confusion per question."""

    against: Literal["judge", "model", "user"]
    by: str | None
    questions: list[QuestionConfusion]


class ComparedAnswer(TypedDict):
    """One answer with people's consensus and the other's label, null where the other gave none."""

    item_id: str
    trace_id: str
    span_id: str
    people: int | float | str
    other: int | float | str | None
    asked: str


class ComparedAnswers(TypedDict):
    """A page of the answers behind a confusion."""

    answers: list[ComparedAnswer]
    next_cursor: str | None


class SpanTarget(TypedDict):
    """One answer."""

    trace_id: str
    span_id: str


class ItemJudgement(TypedDict):
    """What one annotator said; answers in the item's own order."""

    annotator: str
    answers: dict[str, Any]
    shown_order: list[int]
    submitted_at: str
    duration_ms: int | None
    guideline_version: int


class ItemSkip(TypedDict):
    """Who left an item to others, and why."""

    annotator: str
    reason: str
    skipped_at: str


class Adjudicated(TypedDict):
    """A reviewer's word."""

    reviewer: str
    answers: dict[str, Any]
    reason: str
    judged_at: str
    guideline_version: int


class Item(TypedDict):
    """An item with its judgements."""

    item_id: str
    targets: list[SpanTarget]
    source: str
    reason: dict[str, Any] | None
    sampling_probability: float | None
    gold: str
    expected: dict[str, Any] | None
    state: Literal["open", "done", "disagreement", "adjudicated", "skipped"]
    disagreements: list[str]
    judgements: list[ItemJudgement]
    skips: list[ItemSkip]
    consensus: dict[str, list[ConsensusRow]]
    adjudicated: Adjudicated | None


class ListedItem(Item):
    """An item in a list, with the beginning of what was asked (empty where its answer is not stored any more)."""

    asked: str


class ItemsAnswer(TypedDict):
    """A page of items, in the queue's order."""

    items: list[ListedItem]
    next_cursor: str | None


class ShownAnswer(TypedDict):
    """One answer's content."""

    text: str
    hash: str
    facts: dict[str, Any]


class ItemAnswer(Item):
    """One item with the content it is about, in the item's own order."""

    queue_id: str
    messages: list[dict[str, Any]]
    answers: list[ShownAnswer]


class ImportResult(TypedDict):
    """What became of one judgement of an import."""

    item_id: str | None
    annotator: str | None
    status: Literal["stored", "duplicate", "rejected"]
    error: NotRequired[dict[str, str]]


class ImportAnswer(TypedDict):
    """What became of an import."""

    results: list[ImportResult]
    stored: int
    duplicate: int
    rejected: int
