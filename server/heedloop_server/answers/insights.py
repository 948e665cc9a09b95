"""Answers about versions, releases, clusters, leagues and liked answers."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from heedloop.responses import RunSummary
from heedloop_server.answers.calls import CallSummary
from heedloop_server.answers.quality import Compared, Confounding, Counts, Group, Interval

__all__ = ["Clusters", "LeagueTable", "Releases", "SimilarCalls", "Versions"]

Decided = Literal["better", "worse"]
Design = Literal["same_days", "before_and_after", "none"]


class Version(Group):
    """One value against the baseline; `decided_alone` is the verdict of the two without allowing for the others."""

    compared: Compared | None
    difference: Interval | None
    e_value: float
    decided: Decided | None
    decided_alone: Decided | None
    confounding: Confounding | None
    num_needed: int | None
    design: Design


class Versions(TypedDict):
    """Every value of a field against one, decided over all together."""

    field: str
    baseline: Group | None
    versions: list[Version]
    num_compared: int
    sentence: str


class ReleaseEffect(TypedDict):
    """A release against what ran beside it, else before it; and what changed without it."""

    time: str
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


class Releases(TypedDict):
    """What came up in the period, newest first."""

    releases: list[ReleaseEffect]
    days: int


class Example(TypedDict):
    """A text of a cluster, and the call it belongs to."""

    trace_id: str
    span_id: str
    start_time: str
    text: str
    comment: str | None
    model: str | None
    prompt_version: str | None


class ClusterRecord(TypedDict):
    """Texts that are alike; `since` is when a cluster of this name was first seen."""

    id: str
    name: str
    words: list[str]
    num_answers: int
    share: float
    cohesion: float
    examples: list[Example]
    since: str
    filters: dict[str, str]


class Clusters(TypedDict):
    """What low-rated answers have in common, the largest cluster first."""

    clusters: list[ClusterRecord]
    num_texts: int
    num_low_rated: int
    of: Literal["answers", "comments", "questions"]
    made_at: str
    method: str


class Standing(TypedDict):
    """One contender's place; strengths are log odds with the mean 0."""

    value: str
    win_rate: Interval | None
    strength: Interval | None
    at_equal_length: float | None
    num_judgements: int
    num_wins: int
    num_ties: int
    num_losses: int


class Pair(TypedDict):
    """Two contenders; the win rate is that of `a`, ties half."""

    a: str
    b: str
    wins_a: int
    wins_b: int
    ties: int
    win_rate: Interval | None


class LeagueTable(TypedDict):
    """Who wins pairwise comparisons, the best first; strengths are null where wins do not connect everybody."""

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


class SimilarCall(CallSummary):
    """A liked answer to a question like another."""

    similarity: float
    question: str
    answer: str


class SimilarCalls(TypedDict):
    """The most alike first."""

    calls: list[SimilarCall]
    num_candidates: int
