"""Answers about named ratings, and about flags and marks."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from heedloop_server.answers.quality import Interval

__all__ = ["Marks", "NamedRatings"]


class RatedCounts(TypedDict):
    """Answers that were rated under a name: the mean on the rating's own scale, or the share of each category."""

    num_answers: int
    num_ratings: int
    mean: Interval | None
    shares: dict[str, Interval | None]


class RatedGroup(RatedCounts):
    """The same of the answers with one value of a field."""

    value: str


class RatedPoint(RatedCounts):
    """The same of the answers of an hour, a day or a week."""

    time: str


class NamedRating(RatedCounts):
    """A named rating. Of a thumb, on 0 to 1, the mean is the share of thumbs up."""

    name: str
    kind: Literal["thumb", "scale", "category"]
    min: float | None
    max: float | None
    categories: list[str]
    author_kinds: list[str]
    groups: NotRequired[list[RatedGroup]]
    points: NotRequired[list[RatedPoint]]


class NamedRatings(TypedDict):
    """The named ratings of a view, the most ratings first."""

    ratings: list[NamedRating]
    by: str | None
    interval: str | None


class Mark(TypedDict):
    """Flags and marked ranges of one category: of which share of answers, how many, and how many per 1,000 characters."""

    name: str
    category: str
    num: int
    share: Interval | None
    per_answer: float
    per_1000_chars: float | None


class MarkedGroup(TypedDict):
    """The flags and marks of the answers with one value of a field; `value` is empty where none was asked for."""

    value: str
    num_answers: int
    num_chars: int
    marks: list[Mark]


class Marks(TypedDict):
    """Flags and marks, the largest group first."""

    by: str | None
    groups: list[MarkedGroup]
