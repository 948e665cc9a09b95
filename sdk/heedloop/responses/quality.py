"""Quality: rates with their intervals, trends, groups, comparisons, findings. A rate is None where it is undefined."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from heedloop.responses.intervals import Interval

CallParameters = dict[str, str | list[str]]
"""Query parameters of `GET /v1/calls` that list the answers meant, without the period."""
Design = Literal["same_days", "before_and_after", "none"]
"""What two sides are compared over: the days that both have, the days before and after, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Answers and the ratings among them.

    Attributes:
        num_answers: answers that were given, estimated where calls were sampled.
        num_rated: answers with a rating.
        rate: the thumbs-up rate among rated answers.
        coverage: the share of answers that were rated.
    """

    num_answers: int
    num_rated: int
    num_up: int
    num_down: int
    rate: Interval | None
    coverage: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Counts):
    """The period, the equal one before, and the change between them: None where the project is younger than that."""

    previous: Counts
    previous_is_whole: bool
    change: Interval | None
    coverage_change: Interval | None
    num_corrections: int
    num_flags: int
    num_comparisons: int
    num_comments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Counts):
    """One bucket of a trend; `running` where it is not over yet."""

    time: datetime
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """When a value of a field was first seen."""

    time: datetime
    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Every bucket of the period, and the releases in it."""

    points: list[Point]
    releases: list[Release]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Counts):
    """The counts of one value of a field, or of one pair of values."""

    value: str
    value2: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups, those with the most answers first."""

    groups: list[Group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(Group):
    """One cell of a heatmap; `enough` where it has the ratings that were asked for."""

    enough: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """Two fields against each other: a cell per pair that occurs."""

    field: str
    field2: str
    rows: list[str]
    columns: list[str]
    cells: list[Cell]
    min_ratings: int


@dataclass(frozen=True, slots=True)
class Stratum:
    """Both sides within one stratum."""

    value: str
    a: Interval | None
    b: Interval | None
    difference: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratified:
    """The comparison within strata.

    Attributes:
        difference: Mantel and Haenszel's common difference of rates.
        odds_ratio: Mantel and Haenszel's common odds ratio, A over B.
        p_value: of the Cochran-Mantel-Haenszel test.
        reversal: True where the direction flips inside the strata (Simpson's paradox).
    """

    strata: list[Stratum]
    difference: Interval | None
    odds_ratio: Interval | None
    p_value: float | None
    reversal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The ratings that a verdict comes from: rates over the same mixture of days, first and last day, number of days."""

    a: Interval | None
    b: Interval | None
    since: date
    until: date
    num_days: int


@dataclass(frozen=True, slots=True)
class Confounding:
    """A field that contradicts a difference.

    Attributes:
        field: the field, such as `language`, `user_id` or `metadata.tier`.
        kind: `reversed`: within its values the difference is surely the other way round; `explained`: only a little of
            the difference is left there, and that may be chance.
        difference: the difference that is left within its values.
    """

    field: str
    kind: Literal["reversed", "explained"]
    difference: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValues:
    """Two values of one field.

    Attributes:
        a: the counts of the whole period, as `b`; the verdict comes from the ratings of `compared`.
        difference: A minus B; its interval is right for one look.
        e_value: evidence against the two being equal, right however often it is looked at; decided from 20.
        num_needed: ratings until a decision; None where more of the same kind would not bring one.
    """

    a: Group
    b: Group
    compared: Compared | None
    difference: Interval | None
    e_value: float
    decided: Literal["a", "b"] | None
    confounding: Confounding | None
    num_needed: int | None
    design: Design
    sentence: str
    stratified: Stratified | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How many answers were flagged with a category."""

    category: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Flagged answers by category."""

    flags: list[Flag]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A field with its value."""

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A group that is more common among thumbs-down than among rated answers.

    Attributes:
        lift: how many times more common it is there.
        lift_low: the lift at the low end of `down_rate`.
        p_value: of Fisher's one-sided test against all other rated answers.
        q_value: the same after Benjamini and Hochberg over every group tested.
        explained_by: the label of the broader or narrower group that accounts for this one.
    """

    label: str
    attributes: list[Attribute]
    num_rated: int
    num_down: int
    down_rate: Interval | None
    lift: float | None
    lift_low: float | None
    p_value: float
    q_value: float
    explained_by: str | None
    filters: CallParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrepresented:
    """The groups found, those that another one explains, and how many were tested; `q` is the false-discovery rate."""

    patterns: list[Pattern]
    explained: list[Pattern]
    num_tested: int
    num_rated: int
    num_down: int
    q: float
    min_ratings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The one finding to see first: a group that is rated worse than the answers it should be compared with.

    Attributes:
        field: the last of `attributes`, as `value`.
        change: `rate` minus `other_rate`.
        n: ratings of the group.
        num_answers: its thumbs down.
    """

    field: str
    value: str
    attributes: list[Attribute]
    rate: Interval
    other_rate: Interval
    n: int
    change: Interval
    num_answers: int
    lift: float | None
    q_value: float
    num_tested: int
    filters: CallParameters
    lead: str
    sentence: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the quality page shows; `segments` are pairs of the segment's value and the prompt version."""

    summary: Summary
    trend: Trend
    versions: list[Group]
    models: list[Group]
    segments: list[Group]
    reasons: Flags
    finding: Finding | None
    overrepresented: Overrepresented


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(Counts):
    """The counts of one value of one field."""

    field: str
    value: str
    filters: CallParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Raters(Counts):
    """Who rates: the total and its segments."""

    segments: list[Segment]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftChange:
    """A change of a drift's state; `evidence` of 1 or more is an alarm."""

    time: datetime
    before: str
    after: str
    evidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Whether a metric became worse than in the period before; `num_rated` counts what the metric is made of."""

    metric: Literal["rate", "coverage", "errors"]
    state: Literal["ok", "warning", "alarm", "resolved"]
    baseline: Interval
    evidence: float
    num_rated: int
    history: list[DriftChange]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Whatever the unrated answers are like, the rate is between these."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The ratings that users chose to give next to those of a random sample."""

    self_selected: Interval | None
    random_sample: Interval | None
    difference: Interval | None
    coverage: Interval | None
    bounds: Bounds | None
