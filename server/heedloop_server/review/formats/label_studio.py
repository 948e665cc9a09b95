"""Label Studio's JSON: tasks with annotations (labelstud.io/guide/task_format).

`from_name` is the question, `to_name` the answer (`answer_1` is the item's first). A pair is a `Pairwise` control, a
ranking a `Ranker`, whose order can hold no ties; our own answer stands beside each annotation under `heedloop` and is
what counts when it comes back unchanged. Label Studio counts characters as JavaScript does, in UTF-16 code units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from heedloop.schema import SchemaError, format_time
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats.record import (
    External,
    Reviewed,
    listed,
    member,
    number_of,
    time_of,
    whole_of,
)
from heedloop_server.review.questions import Question

__all__ = ["read", "write"]

UP, DOWN = "good", "bad"
_SIDES = ("left", "right")


def write(questions: Sequence[Question], item: Reviewed) -> dict[str, Any]:
    """One task: `data` with the prompt and the answers, and an annotation per judgement."""
    data: dict[str, Any] = {
        "item_id": item.item_id,
        "prompt": "\n\n".join(f"{m['role']}: {m['text']}" for m in item.messages),
        **{f"answer_{i + 1}": text for i, text in enumerate(item.answers)},
        "targets": [dict(t) for t in item.targets],
    }
    return {
        "data": data,
        "annotations": [_annotation(questions, item, j) for j in item.judgements],
    }


def _annotation(questions: Sequence[Question], item: Reviewed, one: Judged) -> dict[str, Any]:
    result: list[dict[str, Any]] = []
    for question in questions:
        result += _results(question, one.answers.get(question.name), item)
    return {
        "completed_by": {"email": one.annotator},
        "created_at": format_time(one.submitted_at),
        "lead_time": None if one.duration_ms is None else one.duration_ms / 1000,
        "was_cancelled": False,
        "ground_truth": False,
        "result": result,
        "heedloop": {"answers": dict(one.answers), "guideline_version": one.guideline_version},
    }


def _results(question: Question, answer: Any, item: Reviewed) -> list[dict[str, Any]]:
    if answer is None:
        return []
    if question.kind == "comparison":
        preferred = answer["preferred"]
        if preferred is None:
            return [_result(question, "answer_1", "choices", {"choices": ["tie"]})]
        return [_result(question, "answer_1,answer_2", "pairwise", {"selected": _SIDES[preferred]})]
    if question.kind == "ranking":
        ranks = answer["ranks"]
        order = [f"answer_{i + 1}" for i in sorted(range(len(ranks)), key=lambda i: (ranks[i], i))]
        return [_result(question, "answers", "ranker", {"ranker": {question.name: order}})]
    answers = answer if question.listed(len(item.answers)) else [answer]
    return [
        entry
        for i, own in enumerate(cast(list[Any], answers))
        if own is not None
        for entry in _one(question, own, f"answer_{i + 1}", item.answers[i])
    ]


def _one(question: Question, answer: Any, to: str, text: str) -> list[dict[str, Any]]:
    if question.kind == "thumb":
        return [_result(question, to, "choices", {"choices": [UP if answer else DOWN]})]
    if question.kind == "scale":
        return [_result(question, to, "rating", {"rating": answer})]
    if question.kind == "category":
        return [_result(question, to, "choices", {"choices": [answer]})]
    if question.kind == "flags":
        return [_result(question, to, "choices", {"choices": [f["category"] for f in answer]})]
    if question.kind == "ranges":
        return [_result(question, to, "labels", _span(mark, text)) for mark in answer]
    return [_result(question, to, "textarea", {"text": [answer]})]


def _span(mark: Mapping[str, Any], text: str) -> dict[str, Any]:
    start, end = mark["start"], mark["end"]
    return {
        "start": _utf16(text[:start]),
        "end": _utf16(text[:end]),
        "text": text[start:end],
        "labels": [mark["label"]],
    }


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _code_points(units: int, text: str) -> int:
    """How many code points the first `units` UTF-16 units of the text are."""
    return len(text.encode("utf-16-le", "surrogatepass")[: 2 * units].decode("utf-16-le", "replace"))


def _result(question: Question, to: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": question.name, "to_name": to, "type": kind, "origin": "manual", "value": dict(value)}


# ---------------------------------------------------------------------------------------------------------- reading


def read(
    questions: Sequence[Question], entry: Mapping[str, Any], find: Callable[[str], Reviewed]
) -> list[External]:
    """The annotations of one task, without cancelled ones; the item is named by `data.item_id`."""
    item = find(member(member(entry, "data", "", dict), "item_id", "data.", str))
    found: list[External] = []
    for i, one in enumerate(listed(entry, "annotations", "")):
        where = f"annotations[{i}]."
        if one.get("was_cancelled"):
            continue
        lead = number_of(one, "lead_time", where)
        found.append(
            External(
                item.item_id,
                _author(one, where),
                _answers(questions, one, item, where),
                time_of(one, "created_at", where),
                None if lead is None else round(lead * 1000),
                whole_of(_kept(one, where), "guideline_version", f"{where}heedloop."),
            )
        )
    return found


def _kept(annotation: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    return member(annotation, "heedloop", where, dict) if annotation.get("heedloop") is not None else {}


def _author(annotation: Mapping[str, Any], where: str) -> str:
    """`completed_by` is a user's id, or an object with e-mail and id."""
    given: Any = annotation.get("completed_by")
    if isinstance(given, Mapping):
        user = cast(Mapping[str, Any], given)
        given = user.get("email") or user.get("id")
    if given is None or isinstance(given, bool) or str(given) == "":
        raise SchemaError(f"{where}completed_by", "is missing: whose judgement is it?")
    return str(given)


def _answers(
    questions: Sequence[Question], annotation: Mapping[str, Any], item: Reviewed, where: str
) -> dict[str, Any]:
    results = listed(annotation, "result", where)
    kept = _kept(annotation, where).get("answers")
    if kept is not None and _same(questions, kept, item, results):
        return cast(dict[str, Any], kept)
    known = {q.name: q for q in questions}
    per_question: dict[str, list[Mapping[str, Any]]] = {}
    for i, result in enumerate(results):
        name = result.get("from_name")
        if name not in known:
            raise SchemaError(f"{where}result[{i}].from_name", f"{name!r} is no question of the queue")
        per_question.setdefault(cast(str, name), []).append(result)
    return {name: _answer(known[name], own, item, where) for name, own in per_question.items()}


def _same(
    questions: Sequence[Question], kept: Any, item: Reviewed, results: Sequence[Mapping[str, Any]]
) -> bool:
    """True where our own answer still says what the annotation's results say."""
    try:
        ours = [r for q in questions for r in _results(q, cast(dict[str, Any], kept).get(q.name), item)]
    except (KeyError, TypeError, IndexError, AttributeError):
        return False
    keys = ("from_name", "to_name", "type", "value")
    return [[r[k] for k in keys] for r in ours] == [[r.get(k) for k in keys] for r in results]


def _answer(question: Question, results: Sequence[Mapping[str, Any]], item: Reviewed, where: str) -> Any:
    values = [member(r, "value", f"{where}{question.name}.", dict) for r in results]
    if question.kind == "comparison":
        selected = values[0].get("selected")
        return {"preferred": _SIDES.index(selected) if selected in _SIDES else None}
    if question.kind == "ranking":
        return {"ranks": _ranks(values[0], len(item.answers), f"{where}{question.name}")}
    per_answer: list[Any] = [None] * len(item.answers)
    for result, value in zip(results, values, strict=True):
        index = _index(result, len(item.answers), f"{where}{question.name}.to_name")
        own = _value(question, value, item.answers[index])
        per_answer[index] = (
            own if per_answer[index] is None or question.kind != "ranges" else per_answer[index] + own
        )
    return per_answer if question.listed(len(item.answers)) else per_answer[0]


def _value(question: Question, value: Mapping[str, Any], text: str) -> Any:
    choices = cast(list[Any], value.get("choices") or [])
    if question.kind == "thumb":
        return {UP: 1, DOWN: 0}.get(choices[0] if choices else "")
    if question.kind == "scale":
        return value.get("rating")
    if question.kind == "category":
        return choices[0] if choices else None
    if question.kind == "flags":
        return [{"category": c} for c in choices]
    if question.kind == "ranges":
        start, end = (
            _code_points(whole_of(value, n, f"{question.name}.") or 0, text) for n in ("start", "end")
        )
        return [
            {"start": start, "end": end, "label": label}
            for label in cast(list[Any], value.get("labels") or [])
        ]
    said: Any = value.get("text")
    return "\n".join(cast(list[str], said)) if isinstance(said, list) else said


def _index(result: Mapping[str, Any], num: int, where: str) -> int:
    name = str(result.get("to_name", "answer_1"))
    digits = name.removeprefix("answer_")
    index = int(digits) - 1 if digits.isdecimal() else 0 if num == 1 else -1
    if not 0 <= index < num:
        raise SchemaError(where, f"{name!r} names no answer; there are answer_1 to answer_{num}")
    return index


def _ranks(value: Mapping[str, Any], num: int, where: str) -> list[int]:
    buckets = cast(dict[str, list[str]], value.get("ranker") or {})
    order = next(iter(buckets.values()), [])
    places = {name: i + 1 for i, name in enumerate(order)}
    names = [f"answer_{i + 1}" for i in range(num)]
    if set(places) != set(names):
        raise SchemaError(where, f"must rank {', '.join(names)}, each once")
    return [places[n] for n in names]
