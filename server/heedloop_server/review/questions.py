"""What a queue asks about an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from heedloop.responses import review as responses
from heedloop.schema import SchemaError

Kind = responses.QuestionKind
KINDS: tuple[Kind, ...] = get_args(Kind)
Distance = Literal["ordinal", "interval"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
ABOUT_ALL = frozenset({"comparison", "ranking"})
"""Kinds that are answered once for all answers of an item, and only asked where there are several."""

MAX_QUESTIONS = 50
MAX_CHOICES = 100
MAX_WORDS = 10_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_BY_KIND: dict[str, frozenset[str]] = {
    "number": frozenset({"min", "max"}),
    "choices": frozenset({"categories"}),
    "thumb": frozenset({"verdict_path", "verdict_pattern"}),
    "scale": frozenset({"min", "max", "anchors", "distance", "verdict_path", "verdict_pattern"}),
    "category": frozenset({"categories", "ordered", "verdict_path", "verdict_pattern"}),
    "flags": frozenset({"categories", "severity", "severity_required"}),
    "ranges": frozenset({"labels", "severity", "severity_required"}),
    "comparison": frozenset({"strength"}),
}
_PLAIN = frozenset({"min", "max", "distance", "severity", "severity_required", "strength", "ordered"})
_COMMON = frozenset({"name", "kind", "title", "help", "required", "per_answer", "when"})
_WHOLE = frozenset({"thumb", "scale", "number", "category", "choices", "flags", "text"})
"""Kinds that may be asked once of all answers of an item (`per_answer` false): a text about them, the others about a session."""
_CONDITIONS = frozenset({"thumb", "scale", "category", "choices", "flags"})
"""Kinds whose answers may decide whether a later question is asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a queue; which fields count depends on `kind` (docs/review.md).

    Attributes:
        name: the name of the feedback that the answer becomes.
        per_answer: in an item with several answers, it is answered for each of them.
        choices: the categories of `category`, `choices` and `flags`, the labels of `ranges`.
        severity: `flags` and `ranges` may say how bad it is.
        severity_required: and must.
        when: the earlier question, and the answers to it for which this one is asked; of several answers each by itself.
        strength: `comparison` may say how clear the preference is.
        ordered: the categories of `category` go from worst to best; without it they have no order.
        verdict_path: where in an answer's JSON a model's own verdict is (`result.label`, `items.0.label`).
        verdict_pattern: or an RE2 pattern that finds it in the text, by its first group where it has one.
        distance: how far two values of a `scale` are apart in Krippendorff's alpha: by rank or by difference.
    """

    name: str
    kind: Kind
    title: str = ""
    help: str = ""
    required: bool = True
    per_answer: bool = True
    min: int = 0
    max: int = 0
    anchors: tuple[responses.Anchor, ...] = ()
    choices: tuple[str, ...] = ()
    severity: bool = False
    severity_required: bool = False
    strength: bool = False
    ordered: bool = False
    distance: Distance = "ordinal"
    verdict_path: str = ""
    verdict_pattern: str = ""
    when: Mapping[str, Any] | None = None

    @property
    def is_ordered(self) -> bool:
        """True where the labels of a rating go from worst to best."""
        return self.kind in ("thumb", "scale") or (self.kind == "category" and self.ordered)

    @property
    def choices_field(self) -> str:
        """What the choices are called in JSON."""
        return "labels" if self.kind == "ranges" else "categories"

    def listed(self, num_answers: int) -> bool:
        """True where the answer to it is a list with one entry per answer of the item."""
        return num_answers > 1 and self.per_answer and self.kind not in ABOUT_ALL

    def response(self) -> responses.Question:
        """What the REST API says of it."""
        own = _BY_KIND.get(self.kind, frozenset())
        values: dict[str, Any] = {n: getattr(self, n) for n in _PLAIN & own}
        if "anchors" in own:
            values["anchors"] = list(self.anchors)
        if self.choices:
            values[self.choices_field] = list(self.choices)
        return responses.Question(
            name=self.name,
            kind=self.kind,
            title=self.title or self.name,
            help=self.help,
            required=self.required,
            per_answer=self.per_answer,
            verdict_path=self.verdict_path or None,
            verdict_pattern=self.verdict_pattern or None,
            when=self.when,
            **values,
        )


def why_incompatible(before: Sequence[Question], after: Sequence[Question]) -> str:
    """Why answers to `before` would not be answers to `after`, with the way out; empty where they all are.

    Titles, help, anchors, order, `required` and where a verdict is may change; categories and optional questions may come.
    """
    now = {q.name: q for q in after}
    for old in before:
        new = now.get(old.name)
        if new is None:
            return f"answers to {old.name!r} are stored, so the question has to stay; make it optional, or make a new queue"
        if (new.kind, new.min, new.max, new.per_answer) != (old.kind, old.min, old.max, old.per_answer):
            return (
                f"answers to {old.name!r} are stored: its kind and its scale have to stay as they are. Add a question "
                "under another name, or make a new queue"
            )
        removed = [c for c in old.choices if c not in new.choices]
        if removed:
            return (
                f"{removed[0]!r} of {old.name!r} may have been chosen and has to stay; add categories, say in the help that "
                "one is not to be used any more, or make a new queue"
            )
        if (old.severity, old.strength) > (new.severity, new.strength):
            return f"{old.name!r} has answers with a severity or strength; leave it on, or make a new queue"
    known = {q.name for q in before}
    added = [q.name for q in after if q.name not in known and q.required]
    if added:
        return f"{added[0]!r} is new: what was judged has no answer to it. Make it optional (required: false), or make a new queue"
    return ""


def applicable_questions(
    questions: Sequence[Question], num_answers: int, *, is_session: bool = False
) -> list[Question]:
    """Those of the questions that make sense for an item with so many answers, or for a session of so many turns."""
    if is_session:
        return [q for q in questions if q.kind not in ABOUT_ALL]
    return [
        q
        for q in questions
        if (q.kind not in ABOUT_ALL and (num_answers == 1 or q.per_answer or q.kind == "text"))
        or (q.kind in ABOUT_ALL and (num_answers == 2 or (num_answers > 2 and q.kind == "ranking")))
    ]


def read_questions(payload: object, *, field: str = "questions") -> tuple[Question, ...]:
    """Questions from JSON; raises `SchemaError` with the field that is wrong."""
    if not isinstance(payload, list) or not payload:
        raise SchemaError(field, "must be a list with at least one question")
    entries = cast(list[Any], payload)
    if len(entries) > MAX_QUESTIONS:
        raise SchemaError(field, f"holds {len(entries)} questions; at most {MAX_QUESTIONS} can be asked")
    result = tuple(_question(entry, f"{field}[{i}]") for i, entry in enumerate(entries))
    names = [q.name for q in result]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SchemaError(f"{field}[{i}].name", f"{name!r} is the name of two questions")
    for i, question in enumerate(result):
        if question.when is not None:
            _check_condition(question.when, result[:i], f"{field}[{i}].when")
    return result


def _check_condition(when: Mapping[str, Any], earlier: Sequence[Question], where: str) -> None:
    asked = next((q for q in earlier if q.name == when["question"] and q.kind in _CONDITIONS), None)
    if asked is None:
        raise SchemaError(
            f"{where}.question",
            f"{when['question']!r} is no earlier question of the kinds {', '.join(sorted(_CONDITIONS))}",
        )
    known = {"thumb": (0, 1), "scale": range(asked.min, asked.max + 1)}.get(asked.kind, asked.choices)
    for value in when["is"]:
        if isinstance(value, bool) or value not in known:
            raise SchemaError(f"{where}.is", f"{value!r} is no answer to {asked.name!r}")


def _when(payload: Any, where: str) -> Mapping[str, Any] | None:
    if payload is None:
        return None
    entry = cast(Mapping[str, Any], payload) if isinstance(payload, Mapping) else {}
    values = entry.get("is")
    if set(entry) != {"question", "is"} or not isinstance(values, list) or not values:
        raise SchemaError(where, "must be an object with question and is, a list of answers to it")
    return {"question": str(entry["question"]), "is": list(cast(list[Any], values))}


def _question(payload: object, where: str) -> Question:
    if not isinstance(payload, Mapping):
        raise SchemaError(where, f"must be an object, not {payload!r}")
    entry = cast(Mapping[str, Any], payload)
    kind = entry.get("kind")
    if kind not in KINDS:
        raise SchemaError(f"{where}.kind", f"{kind!r} is not one of {', '.join(KINDS)}")
    allowed = _COMMON | _BY_KIND.get(kind, frozenset())
    for name in entry:
        if name not in allowed:
            raise SchemaError(
                f"{where}.{name}", f"is not a field of a {kind} question; it has {', '.join(sorted(allowed))}"
            )
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SchemaError(
            f"{where}.name", f"{name!r} is no name: a to z, then a to z, 0 to 9 and _, at most 64 characters"
        )
    common: dict[str, Any] = {
        "title": _words(entry, "title", where),
        "help": _words(entry, "help", where),
        "required": _flag(entry, "required", where, default=True),
        "per_answer": _flag(entry, "per_answer", where, default=True),
        "severity": _flag(entry, "severity", where, default=False),
        "severity_required": _flag(entry, "severity_required", where, default=False),
        "when": _when(entry.get("when"), f"{where}.when"),
        "strength": _flag(entry, "strength", where, default=False),
        "ordered": _flag(entry, "ordered", where, default=False),
        "verdict_path": _words(entry, "verdict_path", where),
        "verdict_pattern": _pattern(entry, where),
    }
    if not common["per_answer"] and kind not in ABOUT_ALL | _WHOLE:
        raise SchemaError(f"{where}.per_answer", f"must be true for a {kind} question: it is about one text")
    if common["severity_required"] and not common["severity"]:
        raise SchemaError(f"{where}.severity_required", "needs severity to be asked")
    return Question(name, kind, **common, **_specific(kind, entry, where))


def _specific(kind: str, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    if kind == "scale":
        return _scale(entry, where)
    if kind == "number":
        return _bounds(entry, where)
    if kind in ("category", "choices", "flags"):
        least = 2 if kind == "category" else 1
        return {"choices": _choices(entry, "categories", where, least=least)}
    if kind == "ranges":
        return {"choices": _choices(entry, "labels", where, least=1)}
    return {}


def _bounds(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    low, high = (_whole(entry.get(n), f"{where}.{n}") for n in ("min", "max"))
    if low >= high:
        raise SchemaError(f"{where}.max", f"{high} must be greater than min, {low}")
    return {"min": low, "max": high}


def _scale(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    bounds = _bounds(entry, where)
    low, high = bounds["min"], bounds["max"]
    payload = entry.get("anchors", [])
    if not isinstance(payload, list):
        raise SchemaError(f"{where}.anchors", "must be a list of objects with value, label, description")
    anchors = tuple(
        _anchor(a, low, high, f"{where}.anchors[{i}]") for i, a in enumerate(cast(list[Any], payload))
    )
    if len({a.value for a in anchors}) != len(anchors):
        raise SchemaError(f"{where}.anchors", "names a value twice")
    distance = entry.get("distance", "ordinal")
    if distance not in DISTANCES:
        raise SchemaError(f"{where}.distance", f"{distance!r} is not one of {', '.join(DISTANCES)}")
    return bounds | {"anchors": anchors, "distance": distance}


def _anchor(payload: object, low: int, high: int, where: str) -> responses.Anchor:
    if not isinstance(payload, Mapping):
        raise SchemaError(where, "must be an object with value, label, description")
    entry = cast(Mapping[str, Any], payload)
    unknown = sorted(set(entry) - {"value", "label", "description"})
    if unknown:
        raise SchemaError(f"{where}.{unknown[0]}", "is not a field of an anchor")
    value = _whole(entry.get("value"), f"{where}.value")
    if not low <= value <= high:
        raise SchemaError(f"{where}.value", f"{value} is outside the scale, {low} to {high}")
    return responses.Anchor(
        value=value,
        label=_words(entry, "label", where),
        description=_words(entry, "description", where),
    )


def _choices(entry: Mapping[str, Any], name: str, where: str, *, least: int) -> tuple[str, ...]:
    payload = entry.get(name)
    choices = cast(list[Any], payload) if isinstance(payload, list) else []
    if not least <= len(choices) <= MAX_CHOICES:
        raise SchemaError(f"{where}.{name}", f"must be a list of {least} to {MAX_CHOICES} texts")
    for i, choice in enumerate(choices):
        if not isinstance(choice, str) or not choice.strip() or len(choice) > 256:
            raise SchemaError(
                f"{where}.{name}[{i}]", f"{choice!r} is not a text of at most 256 characters"[:200]
            )
        if choice in choices[:i]:
            raise SchemaError(f"{where}.{name}[{i}]", f"{choice!r} is there twice")
    return tuple(choices)


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(10**6) <= value <= 10**6:
        raise SchemaError(where, f"{value!r} is not a whole number between -1,000,000 and 1,000,000")
    return value


def _words(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_WORDS:
        raise SchemaError(f"{where}.{name}", f"must be a text of at most {MAX_WORDS:,} characters")
    return value


def _pattern(entry: Mapping[str, Any], where: str) -> str:
    value = _words(entry, "verdict_pattern", where)
    if value and entry.get("verdict_path"):
        raise SchemaError(f"{where}.verdict_pattern", "stands next to verdict_path; give one of them")
    try:
        re.compile(value)
    except re.error as err:
        raise SchemaError(f"{where}.verdict_pattern", f"is no pattern: {err}") from None
    return value


def _flag(entry: Mapping[str, Any], name: str, where: str, *, default: bool) -> bool:
    value = entry.get(name, default)
    if not isinstance(value, bool):
        raise SchemaError(f"{where}.{name}", f"{value!r} is not true or false")
    return value
