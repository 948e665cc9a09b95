"""Label Studio's JSON: tasks with annotations (labelstud.io/guide/task_format), tested against label-studio 1.23.

A question is a control (`from_name`), an answer an object tag (`to_name`, `answer_1` is the item's first); the question
about a second answer is the control `NAME-2`, a tie of a comparison the control `NAME-tie`. A pair is a `Pairwise`, a
ranking a `Ranker`, which can hold no ties. Offsets are code points. The original judgements are in the task's `meta`,
which Label Studio keeps; an annotation's `id` names its original and comes back as `import_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from heedloop.schema import SchemaError
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats.details import with_details
from heedloop_server.review.formats.record import (
    External,
    Reviewed,
    Users,
    control_name,
    controls_of,
    external_of,
    listed,
    member,
    number_of,
    original_of,
    time_of,
    whole_of,
)
from heedloop_server.review.questions import Question, applicable_questions

UP, DOWN, TIE = "good", "bad", "tie"
_SIDES = ("left", "right")


# ---------------------------------------------------------------------------------------------------------- writing


def write(questions: Sequence[Question], item: Reviewed, users: Users) -> dict[str, Any]:
    """One task: `data` with the prompt and the answers, an annotation per judgement or skip; drafts are in `meta` alone."""
    annotations = [
        _annotation(questions, item, one, number, users)
        for number, one in enumerate(item.judgements, 1)
        if one.state != "draft"
    ]
    return _task(item) | {"annotations": annotations}


def write_predictions(questions: Sequence[Question], item: Reviewed) -> dict[str, Any]:
    """One task with a prediction per judgement, under the annotator as the model's version."""
    done = [j for j in item.judgements if j.state == "done"]
    predictions = [
        {"model_version": one.annotator, "result": _results(questions, one.answers, item)} for one in done
    ]
    return _task(item) | {"predictions": predictions}


def _task(item: Reviewed) -> dict[str, Any]:
    texts = item.answer_fields
    entries = [
        {"id": f"answer_{i + 1}", "title": f"Answer {i + 1}", "body": text}
        for i, text in enumerate(item.answers)
    ]
    data = {
        "item_id": item.item_id,
        "prompt": item.prompt_text,
        **texts,
        **({"answers": entries} if len(texts) > 1 else {}),
    }
    originals = [{"id": n, **original_of(j)} for n, j in enumerate(item.judgements, 1)]
    meta = {"heedloop": {"targets": [dict(t) for t in item.targets], "judgements": originals}}
    return {"data": data, "meta": meta}


def _annotation(
    questions: Sequence[Question], item: Reviewed, one: Judged, number: int, users: Users
) -> dict[str, Any]:
    email = users.user(one.annotator)
    return {
        "id": number,
        # without it, whoever imports is the annotation's user; an e-mail that Label Studio does not know is refused there
        **({"completed_by": {"email": email}} if email else {}),
        "lead_time": None if one.duration_ms is None else one.duration_ms / 1000,
        "was_cancelled": one.state == "skipped",
        "ground_truth": False,
        "result": _results(questions, one.answers, item),
    }


def _results(
    questions: Sequence[Question], answers: Mapping[str, Any], item: Reviewed
) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for question in applicable_questions(questions, len(item.answers)):
        result += _of_question(question, answers.get(question.name), item)
    return [{"id": f"r{i}", "origin": "manual", **r} for i, r in enumerate(result, 1)]


def _of_question(question: Question, answer: Any, item: Reviewed) -> list[dict[str, Any]]:
    if answer is None:
        return []
    if question.kind == "comparison":
        preferred = answer["preferred"]
        if preferred is None:
            return [_result(f"{question.name}-tie", "answer_1", "choices", {"choices": [TIE]})]
        return [_result(question.name, "answer_1,answer_2", "pairwise", {"selected": _SIDES[preferred]})]
    if question.kind == "ranking":
        ranks = answer["ranks"]
        order = [f"answer_{i + 1}" for i in sorted(range(len(ranks)), key=lambda i: (ranks[i], i))]
        return [_result(question.name, f"{question.name}-list", "ranker", {"ranker": {question.name: order}})]
    answers = answer if question.listed(len(item.answers)) else [answer]
    return [
        _result(control_name(question, i), f"answer_{i + 1}", kind, value)
        for i, own in enumerate(cast(list[Any], answers))
        if own is not None
        for kind, value in _values(question, own, item.answers[i])
    ]


def _values(question: Question, answer: Any, text: str) -> list[tuple[str, dict[str, Any]]]:
    """(type, value) of the results that say an answer about one text."""
    if question.kind == "thumb":
        return [("choices", {"choices": [UP if answer else DOWN]})]
    if question.kind == "scale":
        return [("rating", {"rating": answer}) if is_stars(question) else ("number", {"number": answer})]
    if question.kind == "number":
        return [("number", {"number": answer})]
    if question.kind in ("category", "choices"):
        return [("choices", {"choices": [answer] if question.kind == "category" else answer})]
    if question.kind == "flags":
        return [("choices", {"choices": [f["category"] for f in answer]})] if answer else []
    if question.kind == "ranges":
        return [("labels", _range(mark, text)) for mark in answer]
    return [("textarea", {"text": [answer]})]


def is_stars(question: Question) -> bool:
    """True for a scale that Label Studio's `Rating` can hold, which begins at 1; others are a `Number`."""
    return question.min == 1 and question.max <= 10


def _range(mark: Mapping[str, Any], text: str) -> dict[str, Any]:
    start, end = mark["start"], mark["end"]
    return {"start": start, "end": end, "text": text[start:end], "labels": [mark["label"]]}


def _result(name: str, to: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": kind, "value": dict(value)}


# ---------------------------------------------------------------------------------------------------------- reading


def read(
    questions: Sequence[Question], entry: Mapping[str, Any], find: Callable[[str], Reviewed], users: Users
) -> list[External]:
    """The annotations and drafts of one task; the item is named by `data.item_id`. Cancelled annotations are skips."""
    item = find(member(member(entry, "data", "", dict), "item_id", "data.", str))
    originals = _originals(entry)
    result: list[External] = []
    used = set[Any]()
    for i, one in enumerate(listed(entry, "annotations", "")):
        # what Label Studio has stored has import_id; a file that was never there has our own id
        number = one["import_id"] if "import_id" in one else one.get("id")
        used.add(number)
        original = originals.get(number) or _beside(one)
        result.append(_external(questions, item, one, original, f"annotations[{i}].", users))
    result += [
        external_of(item.item_id, o, f"meta.heedloop.judgements[{n}].")
        for n, o in originals.items()
        if o.get("state") == "draft" and n not in used
    ]
    drafts = enumerate(listed(entry, "drafts", ""))
    return result + [_draft(questions, item, d, f"drafts[{i}].", users) for i, d in drafts]


def _originals(entry: Mapping[str, Any]) -> dict[Any, Mapping[str, Any]]:
    meta = entry.get("meta")
    kept: Any = cast(Mapping[str, Any], meta).get("heedloop") if isinstance(meta, Mapping) else None
    if not isinstance(kept, Mapping):
        return {}
    return {o.get("id"): o for o in listed(cast(Mapping[str, Any], kept), "judgements", "meta.heedloop.")}


def _beside(annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The original as exports up to version 1 had it: next to the annotation's own fields."""
    kept: Any = annotation.get("heedloop")
    if not isinstance(kept, Mapping):
        return None
    return {
        "annotator": _user(annotation, ""),
        "submitted_at": annotation.get("created_at"),
        "duration_ms": _milliseconds(annotation, ""),
        **cast(Mapping[str, Any], kept),
    }


def _external(
    questions: Sequence[Question],
    item: Reviewed,
    one: Mapping[str, Any],
    original: Mapping[str, Any] | None,
    where: str,
    users: Users,
) -> External:
    """The original where the annotation still says the same; else what it says, with what of the original still holds."""
    cancelled = bool(one.get("was_cancelled"))
    answers = _answers(questions, listed(one, "result", where), item, where)
    duration = _milliseconds(one, where)
    if original is None:
        return External(
            item.item_id,
            users.annotator(_user(one, where)),
            {} if cancelled else answers,
            time_of(one, "created_at", where),
            duration,
            state="skipped" if cancelled else "done",
        )
    before = external_of(item.item_id, original, where)
    written = _answers(questions, _results_or_none(questions, before, item), item, where)
    if written == answers and cancelled == (before.state == "skipped"):
        return before
    merged = with_details(questions, answers, before.answers, written)
    at = time_of(one, "updated_at", where) or before.submitted_at
    return replace(
        before, answers=merged, submitted_at=at, state="skipped" if cancelled else "done", reason=""
    )


def _results_or_none(
    questions: Sequence[Question], before: External, item: Reviewed
) -> list[Mapping[str, Any]]:
    """What was written of the original; nothing where the original was damaged on its way."""
    try:
        return cast(list[Mapping[str, Any]], _results(questions, before.answers, item))
    except (KeyError, TypeError, IndexError, AttributeError):
        return []


def _draft(
    questions: Sequence[Question], item: Reviewed, one: Mapping[str, Any], where: str, users: Users
) -> External:
    user = one.get("user") or one.get("created_username")
    if not user:
        raise SchemaError(f"{where}user", "is missing: whose draft is it?")
    answers = _answers(questions, listed(one, "result", where), item, where)
    return External(item.item_id, users.annotator(str(user)), answers, state="draft")


def _milliseconds(annotation: Mapping[str, Any], where: str) -> int | None:
    lead = number_of(annotation, "lead_time", where)
    return None if lead is None else round(lead * 1000)


def _user(annotation: Mapping[str, Any], where: str) -> str:
    """`completed_by` is a user's id, or an object with e-mail and id."""
    completed_by: Any = annotation.get("completed_by")
    if isinstance(completed_by, Mapping):
        user = cast(Mapping[str, Any], completed_by)
        completed_by = user.get("email") or user.get("id")
    if completed_by is None or isinstance(completed_by, bool) or str(completed_by) == "":
        raise SchemaError(f"{where}completed_by", "is missing: whose judgement is it?")
    return str(completed_by)


def _answers(
    questions: Sequence[Question], results: Sequence[Mapping[str, Any]], item: Reviewed, where: str
) -> dict[str, Any]:
    """Question -> answer, as the results say it."""
    num = len(item.answers)
    known = controls_of(questions, num)
    known |= {f"{q.name}-tie": (q, 0) for q in applicable_questions(questions, num) if q.kind == "comparison"}
    per_question: dict[str, list[Mapping[str, Any]]] = {}
    for i, result in enumerate(results):
        name = result.get("from_name")
        if name not in known:
            raise SchemaError(f"{where}result[{i}].from_name", f"{name!r} is no question of the queue")
        per_question.setdefault(known[cast(str, name)][0].name, []).append(result)
    by_name = {q.name: q for q in questions}
    return {name: _answer(by_name[name], own, item, where) for name, own in per_question.items()}


def _answer(question: Question, results: Sequence[Mapping[str, Any]], item: Reviewed, where: str) -> Any:
    values = [member(r, "value", f"{where}{question.name}.", dict) for r in results]
    if question.kind == "comparison":
        selected = next((v["selected"] for v in values if v.get("selected") in _SIDES), None)
        tie = any(v.get("choices") for v in values)
        return {"preferred": None if tie or selected is None else _SIDES.index(selected)}
    if question.kind == "ranking":
        return {"ranks": _ranks(values[0], len(item.answers), f"{where}{question.name}")}
    per_answer: list[Any] = [None] * len(item.answers)
    for result, value in zip(results, values, strict=True):
        index = _index(result, len(item.answers), f"{where}{question.name}.to_name")
        own = _value(question, value, item.answers[index])
        several = question.kind == "ranges" and per_answer[index] is not None
        per_answer[index] = per_answer[index] + own if several else own
    if question.kind == "ranges":
        per_answer = [m and sorted(m, key=lambda r: (r["start"], r["end"], r["label"])) for m in per_answer]
    return per_answer if question.listed(len(item.answers)) else per_answer[0]


def _value(question: Question, value: Mapping[str, Any], text: str) -> Any:
    choices = cast(list[Any], value.get("choices") or [])
    if question.kind == "thumb":
        return {UP: 1, DOWN: 0}.get(choices[0] if choices else "")
    if question.kind in ("scale", "number"):
        return value.get("rating", value.get("number"))
    if question.kind == "choices":
        return choices or None
    if question.kind == "category":
        return choices[0] if choices else None
    if question.kind == "flags":
        return [{"category": c} for c in choices]
    if question.kind == "ranges":
        start, end = _place(value, text, f"{question.name}.")
        return [
            {"start": start, "end": end, "label": label}
            for label in cast(list[Any], value.get("labels") or [])
        ]
    words: Any = value.get("text")
    return "\n".join(cast(list[str], words)) if isinstance(words, list) else words


def _place(value: Mapping[str, Any], text: str, where: str) -> tuple[int, int]:
    """Start and end in code points; in UTF-16 units where only that fits the marked words (files of older versions)."""
    start, end = whole_of(value, "start", where) or 0, whole_of(value, "end", where) or 0
    marked = value.get("text")
    if isinstance(marked, str) and text[start:end] != marked:
        units = text.encode("utf-16-le", "surrogatepass")
        if units[2 * start : 2 * end].decode("utf-16-le", "replace") == marked:
            first = len(units[: 2 * start].decode("utf-16-le", "replace"))
            return first, first + len(marked)
    return start, end


def _index(result: Mapping[str, Any], num: int, where: str) -> int:
    name = str(result.get("to_name", "answer_1"))
    digits = name.removeprefix("answer_")
    index = int(digits) - 1 if digits.isdecimal() else 0 if num == 1 else -1
    if not 0 <= index < num:
        raise SchemaError(where, f"{name!r} names no answer; there are answer_1 to answer_{num}")
    return index


def _ranks(value: Mapping[str, Any], num: int, where: str) -> list[int]:
    buckets = cast(dict[str, list[str]], value.get("ranker") or {})
    order = next((b for b in buckets.values() if b), [])
    places = {name: i + 1 for i, name in enumerate(order)}
    names = [f"answer_{i + 1}" for i in range(num)]
    if set(places) != set(names):
        raise SchemaError(where, f"must rank {', '.join(names)}, each once")
    return [places[n] for n in names]
