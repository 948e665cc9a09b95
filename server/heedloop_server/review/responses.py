"""What annotators answer: checked, and turned between the order in which answers were shown and the order in which they are stored.

A *judgement* is `{question name: answer}` without the questions that were not answered. On the page, indices and lists follow the
order shown; in the store they follow the item's own order, so that two annotators' judgements can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from heedloop.schema import MAX_TEXT_CHARS, SEVERITIES, SchemaError
from heedloop_server.review.questions import Question, applicable_questions

Judgement = dict[str, Any]

MAX_MARKS = 500
"""Flags or ranges in the answer to one question."""


def check_judgement(
    questions: Sequence[Question], payload: object, texts: Sequence[str], *, is_session: bool = False
) -> Judgement:
    """The judgement in `payload`, checked against the questions and the answers' texts (in the order shown).

    Unanswered questions are left out, so that equal judgements are equal.

    Raises:
        SchemaError: names the question and says what is wrong.
    """
    if not isinstance(payload, Mapping):
        raise SchemaError("answers", "must be an object: question name -> answer")
    answers = cast(Mapping[str, Any], payload)
    wanted = {q.name: q for q in applicable_questions(questions, len(texts), is_session=is_session)}
    for name in answers:
        if name not in wanted:
            raise SchemaError(
                f"answers.{name}", f"is not asked about this item; asked are {', '.join(wanted)}"
            )
    result: Judgement = {}
    for name, question in wanted.items():
        met = _is_met(question, wanted, result, len(texts))
        value = _answer(question, answers.get(name), texts, met, f"answers.{name}")
        if value is not None:
            result[name] = value
        elif any(met) and question.required and question.kind not in _NEVER_MISSING:
            raise SchemaError(f"answers.{name}", f"{question.title or name} must be answered")
    return result


def _is_met(question: Question, asked: Mapping[str, Question], result: Judgement, num: int) -> Sequence[bool]:
    """Per answer, whether the question's condition is met by what was said before; the same for all where it is about all."""
    if question.when is None:
        return [True] * num
    said, values = result.get(question.when["question"]), question.when["is"]
    before = asked.get(question.when["question"])
    if before is None or not before.listed(num):
        return [_says(said, values)] * num
    each = [_says(one, values) for one in said or [None] * num]
    return each if question.listed(num) else [any(each)] * num


def _says(said: Any, values: Sequence[Any]) -> bool:
    if not isinstance(said, list):
        return said is not None and said in values
    entries = cast(list[Any], said)
    return any((e["category"] if isinstance(e, Mapping) else e) in values for e in entries)


def _answer(question: Question, value: Any, texts: Sequence[str], met: Sequence[bool], where: str) -> Any:
    """The checked answer, None where there is none."""
    if value not in (None, []) and not any(met):
        raise SchemaError(where, f"is not asked: {question.when} does not hold")
    if question.kind in _ABOUT_ALL:
        return None if value is None else _ABOUT_ALL[question.kind](question, value, len(texts), where)
    if not question.listed(len(texts)):
        return _one(question, value, texts[0] if len(texts) == 1 else "", where)
    payload = [None] * len(texts) if value is None else cast(list[Any], value)
    if not isinstance(payload, list) or len(payload) != len(texts):
        raise SchemaError(where, f"must be a list with {len(texts)} entries, one per answer shown")
    entries = [
        _one(question, v if ok else None, t, f"{where}[{i}]")
        for i, (v, t, ok) in enumerate(zip(payload, texts, met, strict=True))
    ]
    if all(e is None for e in entries):
        return None
    missing = [i for i, (e, ok) in enumerate(zip(entries, met, strict=True)) if ok and e is None]
    if missing and question.required and question.kind not in _NEVER_MISSING:
        raise SchemaError(
            f"{where}[{missing[0]}]",
            f"{question.title or question.name} must be answered for every answer",
        )
    return entries


def _one(question: Question, value: Any, text: str, where: str) -> Any:
    if value is None:
        return [] if question.kind in ("flags", "ranges") else None
    return _CHECKS[question.kind](question, value, text, where)


def _thumb(_: Question, value: Any, _text: str, where: str) -> int:
    if isinstance(value, bool) or value not in (0, 1):
        raise SchemaError(where, f"{value!r} is neither 1 (up) nor 0 (down)")
    return int(value)


def _scale(question: Question, value: Any, _text: str, where: str) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not question.min <= value <= question.max:
        raise SchemaError(
            where, f"{str(value)[:80]} is not a whole number from {question.min} to {question.max}"
        )
    return int(value)


def _number(question: Question, value: Any, _text: str, where: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not question.min <= value <= question.max
    ):
        raise SchemaError(where, f"{str(value)[:80]} is not a number from {question.min} to {question.max}")
    return float(value)


def _choices(question: Question, value: Any, _text: str, where: str) -> list[str] | None:
    if not isinstance(value, list):
        raise SchemaError(where, "must be a list of categories")
    chosen = [_category(question, c, "", f"{where}[{i}]") for i, c in enumerate(cast(list[Any], value))]
    if len(set(chosen)) != len(chosen):
        raise SchemaError(where, "names a category twice")
    return sorted(chosen, key=question.choices.index) or None


def _category(question: Question, value: Any, _text: str, where: str) -> str:
    if not isinstance(value, str) or value not in question.choices:
        raise SchemaError(where, f"{value!r} is not one of {', '.join(question.choices)}")
    return value


def _flags(question: Question, value: Any, _text: str, where: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for mark, at in _marks(value, where):
        category = _category(question, mark.get("category"), "", f"{at}.category")
        if any(f["category"] == category for f in result):
            raise SchemaError(f"{at}.category", f"{category!r} is flagged twice")
        result.append({"category": category, **_details(question, mark, {"category"}, at)})
    return sorted(result, key=lambda f: question.choices.index(f["category"]))


def _ranges(question: Question, value: Any, text: str, where: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for mark, at in _marks(value, where):
        start, end = mark.get("start"), mark.get("end")
        for name, place in (("start", start), ("end", end)):
            if isinstance(place, bool) or not isinstance(place, int) or place < 0:
                raise SchemaError(f"{at}.{name}", f"{place!r} is not a whole number of 0 or more")
        start, end = cast(int, start), cast(int, end)
        if not start < end <= len(text):
            raise SchemaError(
                f"{at}.end",
                f"{start} to {end} is no range of the answer, which has {len(text):,} code points",
            )
        label = _category(question, mark.get("label"), "", f"{at}.label")
        if any((f["start"], f["end"], f["label"]) == (start, end, label) for f in result):
            raise SchemaError(at, f"{start} to {end} is marked {label!r} twice")
        details = _details(question, mark, {"start", "end", "label"}, at)
        result.append({"start": start, "end": end, "label": label, **details})
    return sorted(result, key=lambda f: (f["start"], f["end"], f["label"]))


def _marks(value: Any, where: str) -> list[tuple[Mapping[str, Any], str]]:
    marks = cast(list[Any], value) if isinstance(value, list) else None
    if marks is None or not all(isinstance(m, Mapping) for m in marks):
        raise SchemaError(where, "must be a list of objects")
    if len(marks) > MAX_MARKS:
        raise SchemaError(where, f"holds {len(marks)} entries; at most {MAX_MARKS} are taken")
    return [(cast(Mapping[str, Any], m), f"{where}[{i}]") for i, m in enumerate(marks)]


def _details(question: Question, mark: Mapping[str, Any], known: set[str], where: str) -> dict[str, Any]:
    """Severity and comment of a flag or a range."""
    allowed = known | {"comment"} | ({"severity"} if question.severity else set[str]())
    for name in mark:
        if name not in allowed:
            raise SchemaError(
                f"{where}.{name}", f"is not asked here; an entry has {', '.join(sorted(allowed))}"
            )
    result: dict[str, Any] = {}
    if mark.get("severity") is not None:
        if mark["severity"] not in SEVERITIES:
            raise SchemaError(
                f"{where}.severity", f"{mark['severity']!r} is not one of {', '.join(SEVERITIES)}"
            )
        result["severity"] = mark["severity"]
    elif question.severity_required:
        raise SchemaError(f"{where}.severity", f"must be said: one of {', '.join(SEVERITIES)}")
    if mark.get("comment"):
        result["comment"] = _words(mark["comment"], f"{where}.comment")
    return result


def _text(_: Question, value: Any, _text: str, where: str) -> str | None:
    words = _words(value, where)
    return words if words.strip() else None


def _correction(_: Question, value: Any, text: str, where: str) -> str | None:
    """The corrected answer; the unchanged text is no correction, an empty one would be no answer."""
    words = _words(value, where)
    return None if words == text or not words.strip() else words


def _words(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise SchemaError(where, f"must be a text, not {str(value)[:80]}")
    if len(value) > MAX_TEXT_CHARS:
        raise SchemaError(
            where, f"is {len(value):,} characters long; at most {MAX_TEXT_CHARS:,} are accepted"
        )
    return value


def _comparison(question: Question, value: Any, num: int, where: str) -> dict[str, Any]:
    allowed = {"preferred", "all_bad"} | ({"strength"} if question.strength else set[str]())
    payload = _object(value, allowed, where)
    if "preferred" not in payload:
        raise SchemaError(
            f"{where}.preferred", "is missing: the index of the better answer, or null for a tie"
        )
    preferred = payload["preferred"]
    if preferred is not None and (
        isinstance(preferred, bool) or not isinstance(preferred, int) or not 0 <= preferred < num
    ):
        raise SchemaError(
            f"{where}.preferred",
            f"{preferred!r} is not the index of an answer shown (0 to {num - 1}) nor null",
        )
    result: dict[str, Any] = {"preferred": preferred} | _all_bad(payload, where)
    strength = payload.get("strength")
    if strength is not None:
        if strength not in (1, 0.5) or isinstance(strength, bool):
            raise SchemaError(f"{where}.strength", f"{strength!r} is neither 1 (clear) nor 0.5 (slight)")
        if preferred is None:
            raise SchemaError(f"{where}.strength", "has no meaning for a tie")
        result["strength"] = strength
    return result


def _ranking(_: Question, value: Any, num: int, where: str) -> dict[str, Any]:
    payload = _object(value, {"ranks", "all_bad"}, where)
    ranks = payload.get("ranks")
    if not isinstance(ranks, list) or len(cast(list[Any], ranks)) != num:
        raise SchemaError(f"{where}.ranks", f"must hold {num} ranks, one per answer shown; 1 is the best")
    ranks = cast(list[Any], ranks)
    if any(isinstance(r, bool) or not isinstance(r, int) or not 1 <= r <= num for r in ranks):
        raise SchemaError(f"{where}.ranks", f"{ranks!r} must be whole numbers from 1, the best, to {num}")
    dense = {r: i + 1 for i, r in enumerate(sorted(set(ranks)))}
    return {"ranks": [dense[r] for r in ranks]} | _all_bad(payload, where)


def _object(value: Any, allowed: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SchemaError(where, f"must be an object with {', '.join(sorted(allowed))}")
    payload = cast(Mapping[str, Any], value)
    for name in payload:
        if name not in allowed:
            raise SchemaError(
                f"{where}.{name}", f"is not asked here; the answer has {', '.join(sorted(allowed))}"
            )
    return payload


def _all_bad(payload: Mapping[str, Any], where: str) -> dict[str, Any]:
    bad = payload.get("all_bad", False)
    if not isinstance(bad, bool):
        raise SchemaError(f"{where}.all_bad", f"{bad!r} is not true or false")
    return {"all_bad": True} if bad else {}


_CHECKS: dict[str, Callable[[Question, Any, str, str], Any]] = {
    "thumb": _thumb,
    "scale": _scale,
    "number": _number,
    "category": _category,
    "choices": _choices,
    "flags": _flags,
    "ranges": _ranges,
    "text": _text,
    "correction": _correction,
}
_ABOUT_ALL: dict[str, Callable[[Question, Any, int, str], Any]] = {
    "comparison": _comparison,
    "ranking": _ranking,
}
_NEVER_MISSING = frozenset({"flags", "ranges", "correction"})
"""Kinds where finding nothing is an answer, so that `required` demands nothing."""


# ---------------------------------------------------------------------------------------------------- order of answers


def to_stored(questions: Sequence[Question], judgement: Judgement, shown_order: Sequence[int]) -> Judgement:
    """A judgement in the order shown as one in the item's order; `shown_order[k]` is the item's index of the k-th answer shown."""
    return _reorder(questions, judgement, shown_order, stored=True)


def draft_to_stored(
    questions: Sequence[Question], draft: Mapping[str, Any], shown_order: Sequence[int]
) -> Judgement:
    """`to_stored` of unchecked answers; one that has not the form of its question yet stays as it is."""
    return _reorder_draft(to_stored, questions, draft, shown_order)


def draft_to_shown(
    questions: Sequence[Question], draft: Mapping[str, Any], shown_order: Sequence[int]
) -> Judgement:
    """The inverse of `draft_to_stored`."""
    return _reorder_draft(to_shown, questions, draft, shown_order)


def _reorder_draft(
    reorder: Callable[[Sequence[Question], Judgement, Sequence[int]], Judgement],
    questions: Sequence[Question],
    draft: Mapping[str, Any],
    shown_order: Sequence[int],
) -> Judgement:
    result: Judgement = {}
    for name, value in draft.items():
        try:
            result |= reorder(questions, {name: value}, shown_order)
        except (KeyError, TypeError, IndexError, AttributeError):
            result[name] = value
    return result


def to_shown(questions: Sequence[Question], judgement: Judgement, shown_order: Sequence[int]) -> Judgement:
    """The inverse of `to_stored`."""
    return _reorder(questions, judgement, shown_order, stored=False)


def _reorder(
    questions: Sequence[Question], judgement: Judgement, order: Sequence[int], *, stored: bool
) -> Judgement:
    inverse = [order.index(i) for i in range(len(order))]
    pick = inverse if stored else order  # entry i of the result is entry pick[i] of what is given
    index = order if stored else inverse  # an index given means index[given] in the result
    kinds = {q.name: q for q in questions}
    out: Judgement = {}
    for name, value in judgement.items():
        question = kinds.get(name)
        if question is None or len(order) < 2:
            out[name] = value
        elif question.kind == "comparison":
            preferred = value["preferred"]
            out[name] = {**value, "preferred": None if preferred is None else index[preferred]}
        elif question.kind == "ranking":
            out[name] = {**value, "ranks": [value["ranks"][i] for i in pick]}
        elif question.listed(len(order)) and isinstance(value, list):  # a draft may hold anything
            out[name] = [value[i] for i in pick]
        else:
            out[name] = value
    return out
