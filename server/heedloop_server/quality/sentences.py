"""The few sentences that the server says: plain text, never markup, worded as association."""

from __future__ import annotations

from collections.abc import Sequence

from heedloop_server.quality.findings import Finding
from heedloop_server.quality.intervals import Interval
from heedloop_server.quality.patterns import Attribute
from heedloop_server.quality.versions import VersionComparison

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


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _change(interval: Interval) -> str:
    return f"{100 * interval.level:.0f}% interval {_points(interval.low)} to {_points(interval.high)} points"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
