"""Evaluations: answers given before a release, next to production's or an earlier evaluation's, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from heedloop.responses.intervals import Interval
from heedloop.schema import CaseSet, Message

EvaluationStatus = Literal["running", "finished", "stopped"]
Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation; its answers are calls of the environment `evaluation:NAME`.

    Attributes:
        name: a to z, 0 to 9, `_`, `.` and `-`; unique in the project.
        target: what answered: `module:function`, a model at an endpoint, or a checkpoint's folder.
        source: what was answered: `snapshot ID`, `cases NAME@VERSION` or `file NAME`.
        judges: ids of the judges that rated both answers.
        num_cases: how many there are to answer; `num_answered` and `num_failed` are done.
        cost: of the answers, in the currency of the prices that the worker was given.
    """

    name: str
    target: str
    source: str
    status: EvaluationStatus
    created_at: datetime
    judges: tuple[str, ...] = ()
    num_cases: int = 0
    num_answered: int = 0
    num_failed: int = 0
    cost: float = 0.0
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationList:
    """All evaluations, the newest first."""

    evaluations: list[Evaluation]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow:
    """One case of an evaluation: which answers are compared, and their scores that need no judge.

    Attributes:
        case_id: the same for the same case in every evaluation.
        group: near-copies of a prompt have the same and count as one.
        trace_id, span_id: the evaluation's answer; empty where it failed.
        baseline_trace_id, baseline_span_id: production's answer; empty where there is none.
        scores, baseline_scores: name -> value of either answer: 0 to 1 by a reference; `latency_ms`, `cost`, `characters`.
        slices: such as `{"language": "en"}`.
        failed_checks: a sentence for each.
        error: a kind, such as `http 429`; empty where it was answered.
    """

    case_id: str
    group: str = ""
    trace_id: str = ""
    span_id: str = ""
    baseline_trace_id: str = ""
    baseline_span_id: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    baseline_scores: Mapping[str, float] = field(default_factory=dict)
    slices: Mapping[str, str] = field(default_factory=dict)
    failed_checks: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRows:
    """The rows of an evaluation, by case."""

    rows: list[EvaluationRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """One metric of the cases that have it on both sides.

    Attributes:
        better: whether higher or lower is better; empty where neither is.
        new, baseline: means of the two sides.
        difference: new less baseline, paired by case and clustered by group; null where there are fewer than two groups.
        num_people: cases of which annotators judged both answers; a judge's difference is then theirs, sharpened by the judge.
        verdict: `better` or `worse` where the interval excludes 0, else `undecided`.
    """

    name: str
    better: Better
    new: float
    baseline: float
    difference: Interval | None
    num_cases: int
    num_people: int = 0
    verdict: Literal["better", "worse", "undecided"] = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDifferences:
    """The metrics of the cases of one slice, such as `language` `en`."""

    name: str
    value: str
    num_cases: int
    metrics: list[MetricDifference]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """An evaluation compared with production, or with an earlier evaluation named `against`.

    Attributes:
        num_cases, num_groups: cases that are answered on both sides, and groups of near-copies among them.
        num_checked, num_passed: cases with checks, and those of which the new answer passes all.
        slices: those with at least 10 cases; with as many looks some differ by chance.
    """

    evaluation: Evaluation
    against: str
    num_cases: int
    num_groups: int
    num_checked: int
    num_passed: int
    metrics: list[MetricDifference]
    slices: list[SliceDifferences]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedPair:
    """A case with its prompt and both answers as they are stored; an erased one's are empty."""

    row: EvaluationRow
    prompt: tuple[Message, ...]
    answer: str
    baseline_answer: str
    new: float | None
    baseline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedPairs:
    """Cases in order of how one metric changed.

    Attributes:
        metric: the one that they are in order of.
    """

    metric: str
    pairs: list[EvaluatedPair]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSetList:
    """All versions of all case sets, the newest first."""

    case_sets: list[CaseSet]
