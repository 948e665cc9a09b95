"""The few sentences that the server says: plain text, never markup, worded as association."""

from __future__ import annotations

from collections.abc import Sequence

from heedloop_server.statistics.findings import Finding
from heedloop_server.statistics.intervals import Interval
from heedloop_server.statistics.patterns import Attribute
from heedloop_server.statistics.releases import ReleaseComparison
from heedloop_server.statistics.versions import VersionComparison

_MAX_VALUE_CHARS = 60
_FIELD_WORDS = {"answer_chars": "answer of {} characters", "status": "status {}", "tag": "{}"}
# values that name themselves; every other field's name stands before its value
_BARE = ("model", "prompt_name", "prompt_version", "service", "environment")


def group_name(attributes: Sequence[Attribute]) -> str:
    """A group in words, such as `refunds + v13`."""
    return " + ".join(_attribute_name(a) for a in attributes)


def _attribute_name(attribute: Attribute) -> str:
    field, value = attribute
    value = value if len(value) <= _MAX_VALUE_CHARS else value[: _MAX_VALUE_CHARS - 1] + "…"
    if field in _BARE:
        return value
    if field in _FIELD_WORDS:
        return _FIELD_WORDS[field].format(value)
    return f"{field.removeprefix('metadata.')} {value}"


def finding_sentence(found: Finding) -> tuple[str, str]:
    """The finding as (lead, rest): the lead names the group, the rest holds every number a reader needs to judge it."""
    name = _attribute_name(found.attributes[-1])
    if len(found.attributes) == 2:
        lead = f"{_capital(_attribute_name(found.attributes[0]))} answers are rated worse on {name}"
        against = "on others"
    else:
        lead = f"Answers with {name} are rated worse"
        against = "for all others"
    rest = (
        f": {_percent(found.rate.estimate)} thumbs-up against {_percent(found.other_rate.estimate)} {against}"
        f" ({found.rate.n:,} ratings, {_change(found.change)})"
    )
    return lead, rest


def compare_sentence(
    names: tuple[str, str], rates: tuple[Interval | None, Interval | None], found: VersionComparison
) -> str:
    """What two versions' ratings allow to be said, and what not."""
    for name, rate in zip(names, rates, strict=True):
        if rate is None:
            return f"{name} has no ratings in this period, so there is nothing to compare."
    change = found.difference
    if change is None:
        return "There is nothing to compare."
    spread = f"{_points(change.estimate)} points ({_change(change)})"
    if found.test.decided is not None:
        better, worse = names if found.test.decided == "a" else names[::-1]
        caution = (
            " One followed the other, so this is right only if nothing else changed."
            if found.design == "before_and_after"
            else ""
        )
        return f"{better} is rated better than {worse}: {names[0]} minus {names[1]} is {spread}.{caution}"
    needed = found.test.num_needed
    more = (
        "no number of ratings in sight would decide it: the two are about equal so far"
        if needed is None
        else f"about {needed:,} more ratings are needed if the rates stay as they are"
    )
    return f"Not decided yet: {names[0]} minus {names[1]} is {spread}; {more}."


def release_sentence(name: str, found: ReleaseComparison) -> str:
    """What the ratings allow to be said of a release, with what changed without it."""
    if found.change is None:
        lacking = "no ratings yet" if found.after.rate is None else "nothing rated before it"
        return f"{name}: {lacking}, so there is nothing to compare."
    spread = f"{_points(found.change.estimate)} points against the days before ({_change(found.change)})"
    beside = (
        f" Answers without it changed by {_points(found.drift.estimate)} points in the same days."
        if found.drift is not None
        else ""
    )
    if found.decided is None:
        needed = found.test.test.num_needed
        more = f"; about {needed:,} more ratings are needed" if needed else ""
        return f"{name} is not decided yet: {spread}{more}.{beside}"
    caution = " Right only if nothing else changed." if found.test.design == "before_and_after" else ""
    return f"{name} is rated {found.decided}: {spread}.{beside}{caution}"


def versions_sentence(
    field: str, baseline: str, better: Sequence[str], worse: Sequence[str], num: int
) -> str:
    """Which of many values differ from one, over all comparisons together."""
    if not num:
        return f"There is no other {field} with ratings to set against {baseline}."
    if not better and not worse:
        return f"None of {num} is decided yet against {baseline}."
    parts = [f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} rated {word}" for names, word in ((better, "better"), (worse, "worse")) if names]  # fmt: skip
    return f"Against {baseline}, {' and '.join(parts)}; {num - len(better) - len(worse)} of {num} not decided yet."


def league_sentence(names: Sequence[str], *, connected: bool, num_judgements: int) -> str:
    """Who leads, or why nobody does."""
    if not num_judgements:
        return "No two of them were compared with each other in this period."
    if not connected:
        return "Strengths cannot be said: somebody won, or lost, every comparison, or some were never compared. Win rates stand alone."
    return f"{names[0]} leads {len(names)} over {num_judgements:,} judgements."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _change(interval: Interval) -> str:
    return f"{100 * interval.level:.0f}% interval {_points(interval.low)} to {_points(interval.high)} points"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
