"""Versions, releases, clusters and leagues."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from heedloop.responses.calls import CallSummary
from heedloop.responses.intervals import Interval
from heedloop.responses.quality import CallParameters, Compared, Confounding, Counts, Design, Group
from heedloop.responses.runs import RunSummary

Decided = Literal["better", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Group):
    """One value against the baseline.

    Attributes:
        difference: its rate minus that of the baseline.
        decided: over all values together: under 5% of the decisions are wrong.
        decided_alone: the verdict of the two without allowing for the others.
        num_needed: ratings until a decision.
    """

    compared: Compared | None
    difference: Interval | None
    e_value: float
    decided: Decided | None
    decided_alone: Decided | None
    confounding: Confounding | None
    num_needed: int | None
    design: Design


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Every value of a field against one, decided over all together."""

    field: str
    baseline: Group | None
    versions: list[Version]
    num_compared: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEffect:
    """A release against what ran on the same days, else before it.

    Attributes:
        others: all other answers after the release.
        change: the release's rate minus that of what it is compared with.
        drift: how the others changed meanwhile.
        run: the run that trained the model, where it is one of ours.
    """

    time: datetime
    field: str
    value: str
    before: Counts
    after: Counts
    others: Counts
    compared: Compared | None
    change: Interval | None
    drift: Interval | None
    e_value: float
    decided: Decided | None
    confounding: Confounding | None
    num_needed: int | None
    design: Design
    sentence: str
    run: RunSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """The releases of the period, newest first; `days` are looked at on either side of each."""

    releases: list[ReleaseEffect]
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text of a cluster, at most 500 characters, and the call it belongs to with its question, at most 4,000."""

    trace_id: str
    span_id: str
    start_time: datetime
    text: str
    question: str = ""
    comment: str | None
    model: str | None
    prompt_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Texts that are alike.

    Attributes:
        share: of all texts, between 0 and 1.
        cohesion: how alike they are, between 0 and 1.
        since: the first answer of this cluster, or of one that it continues.
        down_rate: the share of low-rated ones among the rated answers that are most like this cluster; None for comments.
        lift: `down_rate` over that of all rated answers.
        is_excess: whether the whole interval of the down rate is above the rate of all.
        counts: its low-rated answers in each of 20 equal parts of the period.
    """

    id: str
    name: str
    words: list[str]
    num_answers: int
    share: float
    cohesion: float
    examples: list[Example]
    since: datetime
    filters: CallParameters
    down_rate: Interval | None = None
    lift: float | None = None
    is_excess: bool = False
    counts: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """What low-rated answers have in common; first those that hold the most low-rated answers above their expected number."""

    clusters: list[Cluster]
    num_texts: int
    num_low_rated: int
    of: Literal["answers", "comments", "questions"]
    made_at: datetime
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One contender's place; `strength` and `at_equal_length` are log odds with the mean 0."""

    value: str
    win_rate: Interval | None
    strength: Interval | None
    at_equal_length: float | None
    num_judgements: int
    num_wins: int
    num_ties: int
    num_losses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two contenders; the win rate is that of `a`, ties half."""

    a: str
    b: str
    wins_a: int
    wins_b: int
    ties: int
    win_rate: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeagueTable:
    """Who wins pairwise comparisons, the best first.

    Attributes:
        connected: True where a chain of comparisons joins all contenders; strengths are None where not.
        components: the contenders that chains join.
        longer_wins: how often the longer answer won.
        length_odds: the odds ratio of one standard deviation of length.
        first_shown_wins: how often the answer that was shown first won.
        num_unknown: comparisons left out: of one value, or of an unknown call.
    """

    field: str
    standings: list[Standing]
    pairs: list[Pair]
    connected: bool
    components: list[list[str]]
    longer_wins: Interval | None
    length_odds: Interval | None
    first_shown_wins: Interval | None
    num_judgements: int
    num_ties: int
    num_all_bad: int
    num_raters: int
    num_unknown: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarCall(CallSummary):
    """A liked answer to a question like another; `similarity` is a cosine between 0 and 1."""

    similarity: float
    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarCalls:
    """Liked answers, those to the most similar questions first; `num_candidates` were looked at."""

    calls: list[SimilarCall]
    num_candidates: int
