"""Named ratings, and flags and marked ranges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedCounts:
    """Answers that were rated under a name: the mean on the rating's own scale, or the share of each category."""

    num_answers: int
    num_ratings: int
    mean: Interval | None
    shares: dict[str, Interval | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedGroup(RatedCounts):
    """The same of the answers with one value of a field."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedPoint(RatedCounts):
    """The same of the answers of an hour, a day or a week."""

    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRating(RatedCounts):
    """A named rating. Of a thumb, on 0 to 1, the mean is the share of thumbs up.

    Attributes:
        min: the scale's lower end, as `max` its upper one; None for categories.
        groups: by the values of a field, where one was asked for.
        points: over time, where an interval was asked for.
    """

    name: str
    kind: Literal["thumb", "scale", "category"]
    min: float | None
    max: float | None
    categories: list[str]
    author_kinds: list[str]
    groups: list[RatedGroup] | None = None
    points: list[RatedPoint] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRatings:
    """The named ratings of a view, the most ratings first."""

    ratings: list[NamedRating]
    by: str | None
    interval: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Flags and marked ranges of one category: of which share of answers, how many, and how many per 1,000 characters."""

    name: str
    category: str
    num: int
    share: Interval | None
    per_answer: float
    per_1000_chars: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedGroup:
    """The flags and marks of the answers with one value of a field; `value` is empty where no field was asked for."""

    value: str
    num_answers: int
    num_chars: int
    marks: list[Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Flags and marks, the largest group first."""

    by: str | None
    groups: list[MarkedGroup]
