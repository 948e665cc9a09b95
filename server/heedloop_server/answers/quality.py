"""Answers about quality. Rates come as intervals, null where they are undefined."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from heedloop.responses import Interval

__all__ = [
    "ComparedValues",
    "Drift",
    "FindingRecord",
    "Flags",
    "Groups",
    "Heatmap",
    "Overrepresented",
    "Overview",
    "Raters",
    "Sample",
    "Summary",
    "Trend",
]


class Counts(TypedDict):
    """Answers and the ratings among them."""

    num_answers: int
    num_rated: int
    num_up: int
    num_down: int
    rate: Interval | None
    coverage: Interval | None


class Summary(Counts):
    """The period, the equal one before, and the change between them: null where the project is younger than that."""

    previous: Counts
    previous_is_whole: bool
    change: Interval | None
    coverage_change: Interval | None
    num_corrections: int
    num_flags: int
    num_comparisons: int
    num_comments: int


class Point(Counts):
    """One bucket of a trend; `running` where it is not over yet."""

    time: str
    running: bool


class Release(TypedDict):
    """When a value of a field was first seen."""

    time: str
    field: str
    value: str


class Trend(TypedDict):
    """Every bucket of the period, and the releases in it."""

    points: list[Point]
    releases: list[Release]


class Group(Counts):
    """The counts of one value, or of one pair."""

    value: str
    value2: NotRequired[str]


class Groups(TypedDict):
    """The groups with the most answers first."""

    groups: list[Group]


class Cell(Group):
    """One cell of a heat map."""

    enough: bool


class Heatmap(TypedDict):
    """Two fields against each other."""

    field: str
    field2: str
    rows: list[str]
    columns: list[str]
    cells: list[Cell]
    min_ratings: int


class Stratum(TypedDict):
    """Both sides within one stratum."""

    value: str
    a: Interval | None
    b: Interval | None
    difference: Interval | None


class Stratified(TypedDict):
    """The comparison within strata; `reversal` where it flips inside them."""

    strata: list[Stratum]
    difference: Interval | None
    odds_ratio: Interval | None
    p_value: float | None
    reversal: bool


class Compared(TypedDict):
    """The ratings that a verdict comes from: rates over the same mixture of days, first and last day, number of days."""

    a: Interval | None
    b: Interval | None
    since: str
    until: str
    num_days: int


class Confounding(TypedDict):
    """The field that contradicts a difference, with the difference that is left within its values."""

    field: str
    kind: Literal["reversed", "explained"]
    difference: Interval


class ComparedValues(TypedDict):
    """Two values of one field; `decided` may be looked at every day, `difference` is right for one look.

    `a` and `b` count the whole period; `difference`, `e_value` and `decided` come from the ratings of `compared`.
    """

    a: Group
    b: Group
    compared: Compared | None
    difference: Interval | None
    e_value: float
    decided: Literal["a", "b"] | None
    confounding: Confounding | None
    num_needed: int | None
    design: Literal["same_days", "before_and_after", "none"]
    sentence: str
    stratified: Stratified | None


class Flag(TypedDict):
    """How many answers were flagged with a category."""

    category: str
    count: int


class Flags(TypedDict):
    """What people flagged."""

    flags: list[Flag]


class Attribute(TypedDict):
    """A field with its value."""

    field: str
    value: str


class Pattern(TypedDict):
    """A group that is more common among thumbs-down than among rated answers."""

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
    filters: dict[str, str | list[str]]


class Overrepresented(TypedDict):
    """The groups found, those that another one explains, and how many were tested."""

    patterns: list[Pattern]
    explained: list[Pattern]
    num_tested: int
    num_rated: int
    num_down: int
    q: float
    min_ratings: int


class FindingRecord(TypedDict):
    """The one finding to see first."""

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
    filters: dict[str, str | list[str]]
    lead: str
    sentence: str
    tone: str


class Overview(TypedDict):
    """A page's worth of answers; `segments` are pairs of the segment's value and the prompt version."""

    summary: Summary
    trend: Trend
    versions: list[Group]
    models: list[Group]
    segments: list[Group]
    reasons: Flags
    finding: FindingRecord | None
    overrepresented: Overrepresented


class Segment(Counts):
    """Who rates, of one value of one field."""

    field: str
    value: str
    filters: dict[str, str | list[str]]


class Raters(Counts):
    """Who rates: the total and its segments."""

    segments: list[Segment]


class Evidence(TypedDict):
    """The alarm's state changed."""

    time: str
    before: str
    after: str
    evidence: float


class Drift(TypedDict):
    """Has it become worse than in the period before? `num_rated` counts what the metric is made of."""

    metric: Literal["rate", "coverage", "errors"]
    state: Literal["ok", "warning", "alarm", "resolved"]
    baseline: Interval
    evidence: float
    num_rated: int
    history: list[Evidence]


class Bounds(TypedDict):
    """Whatever the unrated answers are like, the rate is between these."""

    low: float
    high: float


class Sample(TypedDict):
    """Those who chose to rate beside a random sample."""

    self_selected: Interval | None
    random_sample: Interval | None
    difference: Interval | None
    coverage: Interval | None
    bounds: Bounds | None
