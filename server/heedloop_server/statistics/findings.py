"""The one finding that a reader of the quality page should see first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heedloop.responses import Interval
from heedloop_server.statistics.intervals import newcombe, wilson
from heedloop_server.statistics.patterns import Attribute, Cell, Pattern, PatternReport, overrepresented

# What a team can change comes last in a pair, so that the sentence reads "refunds are worse on v13".
_CHANGEABLE = ("prompt_version", "model", "prompt_name", "service", "environment")


@dataclass(frozen=True, slots=True)
class Finding:
    """A group of answers that is rated worse than the answers it should be compared with.

    Attributes:
        attributes: the group: within (first, where there are two) and what is worse about it (last).
        rate: the group's thumbs-up rate.
        other_rate: that of the answers it is compared with: the same first attribute, another last one; for a group of
            one attribute, all other rated answers.
        change: `rate - other_rate` with Newcombe's interval.
        num_down: the group's thumbs down.
        q_value: after Benjamini and Hochberg over all `num_tested` groups.
    """

    attributes: tuple[Attribute, ...]
    rate: Interval
    other_rate: Interval
    change: Interval
    num_down: int
    lift: float
    q_value: float
    num_tested: int


def most_important(cells: Iterable[Cell], *, min_ratings: int = 30, q: float = 0.05) -> Finding | None:
    """The over-represented failure pattern that is surely worse, by the most; None where nothing is significant."""
    all_cells = list(cells)
    return worst_of(all_cells, overrepresented(all_cells, min_ratings=min_ratings, q=q))


def worst_of(cells: Sequence[Cell], report: PatternReport) -> Finding | None:
    """As `most_important`, of a report over the cells.

    Of the patterns that survive multiplicity control, the one with the most thumbs down beyond what the rest of the
    answers would have given: a small corner that is very bad matters less than a large part that is bad.
    """
    result = [
        f for p in report.patterns if (f := _finding(p, cells, report.num_tested)) and f.change.high < 0
    ]
    return max(result, key=lambda f: -f.change.high * f.rate.n, default=None)


def _finding(pattern: Pattern, cells: Sequence[Cell], num_tested: int) -> Finding | None:
    ordered = tuple(sorted(pattern.attributes, key=_changeability))
    inside = frozenset(ordered)
    within = frozenset(ordered[:-1])
    others = [c for c in cells if within <= c.attributes and not inside <= c.attributes]
    num_other = sum(c.num_rated for c in others)
    up_other = num_other - sum(c.num_bad for c in others)
    up = pattern.num_rated - pattern.num_bad
    rate, other = wilson(up, pattern.num_rated), wilson(up_other, num_other)
    change = newcombe(up, pattern.num_rated, up_other, num_other)
    if rate is None or other is None or change is None:
        return None
    return Finding(ordered, rate, other, change, pattern.num_bad, pattern.lift, pattern.q_value, num_tested)


def _changeability(attribute: Attribute) -> int:
    """Sort key: 0 for what comes with the question, more for what the team chose, most for the prompt's version."""
    field = attribute[0]
    return len(_CHANGEABLE) - _CHANGEABLE.index(field) if field in _CHANGEABLE else 0
