"""Judges, what they did, and how far they are to be believed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.intervals import Interval
from heedloop.schema import JudgeSpec, Target

JudgeState = Literal["unmeasured", "weak", "stale", "measured"]
JudgeCallStatus = Literal["judged", "unparsable", "failed", "same", "changed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCalls:
    """What a judge's runs came to, all attempts counted.

    Attributes:
        num_judged, num_unparsable, num_failed: items by how they ended.
        cost: in the currency of the prices that the worker was given.
        rechecked: the share of judged items whose verdict had changed when they were asked again; null where none was.
    """

    num_judged: int
    num_unparsable: int
    num_failed: int
    num_calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    last_at: datetime | None
    rechecked: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A stored judge."""

    id: str
    spec: JudgeSpec
    created_by: str
    created_at: datetime
    calls: JudgeCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeList:
    """All judges, newest first."""

    judges: list[Judge]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCalls:
    """How many items' calls were stored."""

    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnjudgedItems:
    """Those of the items that the judge has neither judged nor failed to be understood on."""

    items: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidelineAgreement:
    """How often the judge's verdict was that of annotators under one guideline, `queue/version`."""

    guideline: str
    num_audits: int
    agreement: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """Where the judge may decide alone.

    Attributes:
        threshold: the confidence (twice the distance of its score from the middle) from which it may; null where none passes.
        share: of the judged answers that are at least so sure.
        error: how often it is wrong among these; `high` is the one-sided bound that had to be below `max_error`.
        tested: thresholds in the order of the test, each with its share and error; it ends at the first that fails.
    """

    max_error: float
    level: float
    threshold: float | None
    share: float
    error: Interval | None
    tested: list[DeferralStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferralStep:
    """One threshold of the sequence."""

    threshold: float
    share: float
    error: Interval | None
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeDrift:
    """Whether the judge agrees with annotators less than it did (a CUSUM over the audited answers by day)."""

    state: Literal["ok", "warning", "alarm", "resolved"]
    evidence: float
    baseline: float
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCard:
    """How far a judge is to be believed about one question, by answers that were drawn at random and judged blind.

    Attributes:
        state: `unmeasured` (under 30 audits), `weak` (it tells good from bad no better than chance), `stale`, or `measured`.
        reasons: why, a sentence each.
        num_judged, num_audits: answers that it judged, and those of them that annotators judged in an audit.
        num_examples: audited answers that are left out because the judge was shown answers to their prompts.
        judge_rate: its own rate over all it judged: no estimate of people's.
        people_rate: of the audits alone, by their probabilities.
        combined: people's rate among all judged answers, from both; null where unmeasured or weak. Of a pairwise judge a rate is
            how often the first of two answers, by their ids, wins.
        worth: how many labels alone would be worth as much as these labels with the judge.
        sensitivity, specificity: how often it approves of what annotators approve of, and refuses what they refuse; a tie is a half.
        agreement: with annotators; `people_agreement`: of annotators with each other, the ceiling.
        informedness: sensitivity + specificity - 1: 0 is chance.
        length_effect: the judge's rating less people's, of answers longer than the median less that of the others.
        own_family: the same of answers by the judge's own family of models less that of others; null where there are none of one side.
        labels_left: how many more labels make the combined interval as wide as `half_width` on either side.
    """

    judge_id: str
    question: str
    state: JudgeState
    reasons: list[str]
    num_judged: int
    num_audits: int
    num_examples: int
    judge_rate: Interval | None
    people_rate: Interval | None
    combined: Interval | None
    weight: float | None
    worth: float | None
    agreement: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    informedness: Interval | None
    people_agreement: Interval | None
    length_effect: Interval | None
    own_family: Interval | None
    drift: JudgeDrift | None
    deferral: Deferral | None
    guidelines: list[GuidelineAgreement]
    half_width: float
    labels_left: int | None
    last_judged_at: datetime | None
    last_audit_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An audited answer that the judge got wrong, from the part of the prompts that may be shown to judges."""

    target: Target
    people: float
    judge: float
    guideline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreements:
    """Examples for a better version of a judge, the worst first, and what is left to test it by.

    Attributes:
        num_exam: audits of prompts that no version may be shown; `exam` names their answers, of a pair the first, newest first
            and 10,000 at most.
    """

    disagreements: list[Disagreement]
    num_exam: int
    exam: list[Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeComparison:
    """Two judges on the audited answers that both judged and neither was shown the prompts of: how often each is right.

    `difference` is that of `other` less that of `judge`, over the same answers.
    """

    judge: Interval | None
    other: Interval | None
    difference: Interval | None
    num_answers: int
