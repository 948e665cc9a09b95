"""Counts of answers and ratings, as an aggregate query returns them, and the rates that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from heedloop.responses import Counts, Interval
from heedloop_server.statistics.weighted import widened_by_design, wilson_from_sums

C = TypeVar("C", bound=Counts)


@dataclass(frozen=True, slots=True)
class Ratings:
    """The newest thumbs of answers, one per answer.

    `sum_w` and the others are over the ratings, with w one over the probability with which the answer was chosen to be
    rated (1 for end users, who choose themselves) and y 1 for thumbs up. `extra_w`, `extra_w2` are over the rated
    answers' 1/p - 1 and 1/p² - 1, with p the probability with which the call was recorded: see `Answers`.
    """

    num: int = 0
    num_up: int = 0
    sum_w: float = 0.0
    sum_w2: float = 0.0
    sum_wy: float = 0.0
    sum_w2y: float = 0.0
    extra_w: float = 0.0
    extra_w2: float = 0.0

    @property
    def rate(self) -> Interval | None:
        """The thumbs-up rate; None without ratings."""
        return wilson_from_sums(self.num, self.sum_w, self.sum_w2, self.sum_wy, self.sum_w2y)

    def rate_by_design(self, weights: tuple[float, float] | None) -> Interval | None:
        """The rate where the (smallest, largest) weight that sampling gives is known: right at few ratings too."""
        result = self.rate
        if result is None or weights is None:
            return result
        return widened_by_design(result, self.num_up, self.sum_w, self.sum_wy, weights)


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that were recorded: their number, and the sums of one over (the square of) their probability."""

    num: int = 0
    sum_w: float = 0.0
    sum_w2: float = 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """Answers and the ratings among them.

    A rated call is always kept, an unrated one with its sampling probability p: so a rated answer stands for itself and
    an unrated one for 1/p answers.
    """

    answers: Answers = Answers()
    ratings: Ratings = Ratings()

    @property
    def num_answers(self) -> int:
        """How many answers were given, estimated where calls were sampled; never fewer than were rated."""
        return max(round(self.answers.sum_w - self.ratings.extra_w), self.ratings.num)

    @property
    def rate(self) -> Interval | None:
        """The thumbs-up rate among rated answers; None without ratings."""
        return self.ratings.rate

    @property
    def coverage(self) -> Interval | None:
        """The share of answers that got a rating; None without answers."""
        rated = self.ratings.num
        total = max(self.answers.sum_w - self.ratings.extra_w, float(rated))
        squares = max(self.answers.sum_w2 - self.ratings.extra_w2, float(rated))
        return wilson_from_sums(max(self.answers.num, rated), total, squares, float(rated), float(rated))

    def as_record(self, record: type[C], **more: Any) -> C:
        """The counts and rates as a response; `more` are the fields that its class has beyond `Counts`."""
        return record(
            num_answers=self.num_answers,
            num_rated=self.ratings.num,
            num_up=self.ratings.num_up,
            num_down=self.ratings.num - self.ratings.num_up,
            rate=self.rate,
            coverage=self.coverage,
            **more,
        )


def add_groups(groups: Iterable[Group]) -> Group:
    """The group of all answers of some groups that share none."""
    parts = list(groups)
    answers = Answers(*(sum(getattr(g.answers, f.name) for g in parts) for f in fields(Answers)))
    ratings = Ratings(*(sum(getattr(g.ratings, f.name) for g in parts) for f in fields(Ratings)))
    return Group(answers, ratings)
