"""A model's own verdict in its answer: the whole text, a field of JSON, or what a pattern finds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from heedloop_server.filters import CallFilters
from heedloop_server.review.control.annotators import scaled
from heedloop_server.review.control.labels import Label
from heedloop_server.review.questions import Question
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.sources import Drawn, Source, human_verdicts
from heedloop_server.store.review.verdicts import verdict_texts

RATING_KINDS = ("thumb", "scale", "category")
"""Kinds of questions to which a model's answer can hold a verdict."""

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.S)
_THUMBS: dict[str, int] = {
    "1": 1, "true": 1, "yes": 1, "up": 1, "good": 1, "pass": 1,
    "0": 0, "false": 0, "no": 0, "down": 0, "bad": 0, "fail": 0,
}  # fmt: skip


def verdict_of(question: Question, text: str) -> Label | None:
    """The label that an answer gives to a question; None where it gives none.

    With `question.verdict_path` it is that value of the answer's JSON (which may be in a Markdown fence), else the whole
    text, else the JSON's field with the question's name, else the one value in it that is a category. A pattern was
    already applied to `text` by the store.
    """
    if question.verdict_path:
        value = _json(text)
        for part in question.verdict_path.split("."):
            value = _step(value, part)
        return _label(question, value)
    whole = _label(question, text)
    if whole is not None or question.verdict_pattern:
        return whole
    value = _json(text)
    if isinstance(value, Mapping) and question.name in value:
        return _label(question, cast(Mapping[str, Any], value)[question.name])
    if question.kind != "category":
        return None  # any number of the JSON could be a rating
    result = {label for leaf in _leaves(value) if (label := _label(question, leaf)) is not None}
    return result.pop() if len(result) == 1 else None


def verdict_disagreements(
    project: ProjectStore, questions: Sequence[Question], filters: CallFilters, *, limit: int
) -> Drawn:
    """Answers whose own verdict on a question is not that of most human authors, the most rated first."""
    result: dict[tuple[str, str], Source] = {}
    for question in questions:
        if question.kind in RATING_KINDS:
            rated = human_verdicts(project, question.name, filters)
            times = {(r["trace"], r["span"]): r["at"] for r in rated}
            texts = verdict_texts(project, times, question.verdict_pattern)
            for row in rated:
                answer = (row["trace"], row["span"])
                label = verdict_of(question, texts.get(answer, ""))
                own = None if label is None else _side(question, label)
                if own not in (None, row["verdict"]):
                    reason = {"name": question.name, "one": own, "other": row["verdict"]}
                    result.setdefault(answer, Source(((*answer, row["at"]),), reason))
    return Drawn(list(result.values())[:limit], len(result))


def _side(question: Question, label: Label) -> str:
    """A category, or on which side of the middle of its scale a number is."""
    if question.kind == "category":
        return str(label)
    return "up" if scaled(question, label) >= 0.5 else "down"


def _json(text: str) -> Any:
    fenced = _FENCED.search(text)
    for candidate in (text, fenced.group(1) if fenced else ""):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    return None


def _step(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value).get(part)
    if isinstance(value, list) and part.isascii() and part.isdecimal():
        entries = cast(list[Any], value)
        return entries[int(part)] if int(part) < len(entries) else None
    return None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for inner in cast(Mapping[str, Any], value).values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in cast(list[Any], value):
            yield from _leaves(inner)
    else:
        yield value


def _label(question: Question, value: Any) -> Label | None:
    if value is None or isinstance(value, (Mapping, list)):
        return None
    text = str(cast(object, value)).strip()
    if question.kind == "category":
        exact = [c for c in question.choices if c == text]
        alike = exact or [c for c in question.choices if c.casefold() == text.casefold()]
        return alike[0] if len(alike) == 1 else None
    if question.kind == "thumb":
        return _THUMBS.get(text.casefold())
    try:
        number = float(text)
    except ValueError:
        return None
    return round(number) if question.min <= number <= question.max else None
