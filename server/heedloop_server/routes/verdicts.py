"""The verdict of a comparison: its always-valid test, and no field within which it is the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from heedloop.responses import Compared, Confounding
from heedloop.schema import utc_now
from heedloop_server.statistics.confounding import confounded_by, tag_tables
from heedloop_server.statistics.stratified import Table
from heedloop_server.statistics.versions import VersionComparison
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality.pairs import Pair, Strata, count_strata
from heedloop_server.store.quality.patterns import metadata_keys
from heedloop_server.store.quality.view import View

_KNOWN_FIELDS = (
    "model", "prompt_name", "prompt_version", "service", "environment", "tag", "language", "user", "status",
    "answer_chars",
)  # fmt: skip
_MAX_RATINGS_BY_USER = 100_000
"""Users are no part of the hourly aggregates: each by itself is looked at where the ratings are few enough to be read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison with the field that contradicts it, if any."""

    comparison: VersionComparison
    confounding: Confounding | None = None

    @property
    def decided(self) -> Literal["a", "b"] | None:
        """The better side; None also where the difference does not hold within a field."""
        return None if self.confounding else self.comparison.test.decided

    @property
    def num_needed(self) -> int | None:
        """Ratings until a decision; None where more ratings of the same kind would not bring one."""
        return None if self.confounding else self.comparison.test.num_needed


def last_day(view: View) -> date:
    """The last day of a view that has begun."""
    _, until = view.filters.period()
    return (min(until, utc_now()) - timedelta(microseconds=1)).date()


def judge(
    project: ProjectStore, view: View, sides: tuple[str, str, Sequence[str]], comparison: VersionComparison
) -> Verdict:
    """The verdict of a comparison after every known field was held still by itself.

    Args:
        sides: the field, the value that is A, and the values that are B.
    """
    field, a, b = sides
    if comparison.difference is None:
        return Verdict(comparison)
    pair = Pair(field, a, tuple(b), comparison.days_a, comparison.days_b)
    fields = [f for f in _fields(project, view, comparison.difference.n) if f != field]
    tables = _tables(count_strata(project, view, pair, fields))
    decided = comparison.test.decided is not None
    found = confounded_by(comparison.difference, tables, decided=decided)
    if found is None or comparison.design != "same_days":
        return Verdict(comparison, found)
    # days may mix as well: what a field seems to reverse must hold within its values on the same days
    name = found.field.partition(" ")[0]
    daily = _tables(count_strata(project, view, pair, [name], by_day=True), by_day=True)
    return Verdict(comparison, confounded_by(comparison.difference, daily, decided=decided))


def _fields(project: ProjectStore, view: View, num_ratings: int) -> list[str]:
    users = ["user_id"] if num_ratings <= _MAX_RATINGS_BY_USER else []
    return [*_KNOWN_FIELDS, *users, *(f"metadata.{key}" for key in metadata_keys(project, view))]


def _tables(found: Mapping[str, Strata], *, by_day: bool = False) -> dict[str, dict[str, Table]]:
    out: dict[str, dict[str, Table]] = {}
    for field, strata in found.items():
        if field == "tag" and not by_day:
            out |= tag_tables(strata)
        else:
            out[field] = {" ".join(stratum): table for stratum, table in strata.items()}
    return out


def compared_ratings(found: VersionComparison) -> Compared | None:
    """Which ratings a verdict comes from: the rates of both sides over them, and their days."""
    if found.difference is None:
        return None
    days = found.days_a | found.days_b
    return Compared(a=found.a, b=found.b, since=min(days), until=max(days), num_days=len(days))
