"""The few sentences that the server says: plain text, never markup, worded as association."""

from __future__ import annotations

from collections.abc import Sequence

from heedloop.responses import Confounding, Interval
from heedloop_server.statistics.findings import Finding
from heedloop_server.statistics.patterns import Attribute
from heedloop_server.statistics.releases import ReleaseComparison
from heedloop_server.statistics.versions import VersionComparison

_MAX_VALUE_CHARS = 60
_FIELD_WORDS = {"answer_chars": "answers with {} characters", "status": "status {}", "tag": "{}"}
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
    if field == "answer_chars":
        value = value.replace(" to ", "–")
    if (field, value) == ("answer_chars", "none"):
        return "empty answers"
    if field in _FIELD_WORDS:
        return _FIELD_WORDS[field].format(value)
    return f"{field.removeprefix('metadata.')} {value}"


def _answers_with(attribute: Attribute) -> str:
    name = _attribute_name(attribute)
    return name if attribute[0] == "answer_chars" else f"{name} answers"


def finding_sentence(result: Finding) -> tuple[str, str]:
    """The finding as (lead, rest): the lead names the group, the rest holds every number a reader needs to judge it."""
    name = _attribute_name(result.attributes[-1])
    if len(result.attributes) == 2:
        lead = f"{_capital(_answers_with(result.attributes[0]))} are rated worse on {name}"
        against = "on others"
    else:
        length = result.attributes[-1][0] == "answer_chars"
        lead = f"{_capital(name) if length else f'Answers with {name}'} are rated worse"
        against = "for all others"
    rest = (
        f": {_percent(result.rate.estimate)} thumbs-up against {_percent(result.other_rate.estimate)} {against}"
        f" ({result.rate.n:,} ratings, {_change(result.change)})"
    )
    return lead, rest


def compare_sentence(
    names: tuple[str, str], comparison: VersionComparison, confounding: Confounding | None = None
) -> str:
    """What two versions' ratings allow to be said, and what not."""
    for name, days in zip(names, (comparison.days_a, comparison.days_b), strict=True):
        if not days:
            return f"{name} has no ratings in this period, so there is nothing to compare."
    change = comparison.difference
    if change is None:
        return "There is nothing to compare."
    spread = f"{names[0]} minus {names[1]} is {_points(change.estimate)} points ({_change(change)})"
    if confounding is not None:
        return _confounding_sentence(spread, confounding)
    if comparison.test.decided is not None:
        better, worse = names if comparison.test.decided == "a" else names[::-1]
        caution = (
            " One followed the other, so this is right only if nothing else changed."
            if comparison.design == "before_and_after"
            else ""
        )
        return f"{better} is rated better than {worse}: {spread}.{caution}"
    return f"Not enough evidence yet: {spread}; {_what_is_missing(names, comparison)}."


def _confounding_sentence(spread: str, result: Confounding) -> str:
    within = f"within each {field_name(result.field)} it is {_points(result.difference.estimate)} ({_change(result.difference)})"
    if result.kind == "reversed":
        return f"The segments reverse the total: {spread}, but {within}. Trust the segments."
    return f"The segments explain the difference: {spread}, but {within}. The two were used for different things."


def _what_is_missing(names: tuple[str, str], comparison: VersionComparison) -> str:
    needed = comparison.test.num_needed
    ended = [name for name, side in zip(names, ("a", "b"), strict=True) if side in comparison.ended]
    if needed:
        return f"about {needed:,} more ratings are needed if the rates stay as they are"
    if ended:
        serve = "no longer serves" if len(ended) == 1 else "no longer serve"
        return f"{' and '.join(ended)} {serve}, so more ratings cannot decide it"
    return "no realistic number of ratings would decide it: the two are about equal so far"


def field_name(field: str) -> str:
    """A field of calls in words, such as `prompt version`."""
    words = {"answer_chars": "answer length", "user": "kind of user (new or returning)", "user_id": "user"}
    return words.get(field, field.removeprefix("metadata.").replace("_", " "))


def release_sentence(name: str, result: ReleaseComparison, confounding: Confounding | None = None) -> str:
    """What the ratings allow to be said of a release, with what changed without it."""
    if result.change is None:
        lacking = "no ratings yet" if result.after.rate is None else "nothing rated before it"
        return f"{name}: {lacking}, so there is nothing to compare."
    same_days = result.test.design == "same_days"
    against = "what ran beside it on the same days" if same_days else "the days before"
    spread = f"{_points(result.change.estimate)} points against {against} ({_change(result.change)})"
    if confounding is not None:
        return f"{name}: {_confounding_sentence(spread, confounding)}"
    drift = (
        f" Answers without it changed by {_points(result.drift.estimate)} points in the same days."
        if result.drift is not None
        else ""
    )
    if result.decided is None:
        needed = result.test.test.num_needed
        more = f"; about {needed:,} more ratings are needed" if needed else ""
        return f"{name}: not enough evidence yet. {spread}{more}.{drift}"
    caution = "" if same_days else " Right only if nothing else changed."
    return f"{name} is rated {result.decided}: {spread}.{drift}{caution}"


def versions_sentence(
    field: str, baseline: str, better: Sequence[str], worse: Sequence[str], num: int
) -> str:
    """Which of many values differ from one, over all comparisons together."""
    if not num:
        return f"There is no other {field_name(field)} with ratings to compare with {baseline}."
    if not better and not worse:
        return f"Not enough evidence yet that any of {num} differs from {baseline}."
    parts = [f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} rated {word}" for names, word in ((better, "better"), (worse, "worse")) if names]  # fmt: skip
    left = num - len(better) - len(worse)
    rest = f"; not enough evidence yet for {left} of {num}" if left else ""
    return f"Against {baseline}, {' and '.join(parts)}{rest}."


def league_sentence(names: Sequence[str], *, connected: bool, num_judgements: int) -> str:
    """Which contender leads, or why none does."""
    if not num_judgements:
        return "There are no comparisons between them in this period."
    if not connected:
        return "Strengths cannot be estimated: one of them won or lost every comparison, or some were never compared. Only win rates are shown."
    return f"{names[0]} leads {len(names)} over {num_judgements:,} judgements."


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _change(interval: Interval) -> str:
    return f"{100 * interval.level:.0f}% interval {_points(interval.low)} to {_points(interval.high)} points"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
