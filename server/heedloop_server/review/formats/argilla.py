"""Argilla's records (v2 `record.to_dict()`): fields, and responses per question with a user each.

Ranges are Argilla span questions over the field `answer_1` (code points, as Python counts). A comparison is a label
question with `answer_1`, `answer_2` and `tie`. In an item with several answers the question of the second answer is
called `<question>_2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from heedloop.schema import SchemaError, format_time
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats.record import External, Reviewed, listed, member, time_of, whole_of
from heedloop_server.review.questions import Question

__all__ = ["read", "write"]

UP, DOWN, TIE = "good", "bad", "tie"


def write(questions: Sequence[Question], item: Reviewed) -> dict[str, Any]:
    """One record; `metadata.heedloop` keeps the judgements' times and what Argilla's values cannot say."""
    responses: dict[str, list[dict[str, Any]]] = {}
    for one in item.judgements:
        for question in questions:
            for name, value in _values(question, one.answers.get(question.name), len(item.answers)):
                responses.setdefault(name, []).append(
                    {"value": value, "user_id": one.annotator, "status": "submitted"}
                )
    return {
        "id": item.item_id,
        "fields": {
            "prompt": "\n\n".join(f"{m['role']}: {m['text']}" for m in item.messages),
            **{f"answer_{i + 1}": text for i, text in enumerate(item.answers)},
        },
        "metadata": {f"answer_{i + 1}_{k}": v for i, f in enumerate(item.facts) for k, v in f.items()},
        "suggestions": {},
        "responses": responses,
        "vectors": {},
        "heedloop": [_kept(j) for j in item.judgements],
    }


def _kept(one: Judged) -> dict[str, Any]:
    return {
        "user_id": one.annotator,
        "answers": dict(one.answers),
        "submitted_at": format_time(one.submitted_at),
        "duration_ms": one.duration_ms,
        "guideline_version": one.guideline_version,
    }


def _values(question: Question, answer: Any, num_answers: int) -> list[tuple[str, Any]]:
    """(Argilla question, value) of one answer to one of our questions."""
    if answer is None:
        return []
    if question.kind == "comparison":
        preferred = answer["preferred"]
        return [(question.name, TIE if preferred is None else f"answer_{preferred + 1}")]
    if question.kind == "ranking":
        ranks = enumerate(answer["ranks"])
        return [(question.name, [{"value": f"answer_{i + 1}", "rank": r} for i, r in ranks])]
    if not question.listed(num_answers):
        return [(question.name, _value(question, answer))]
    own = cast(list[Any], answer)
    return [(_name(question, i), _value(question, v)) for i, v in enumerate(own) if v is not None]


def _name(question: Question, index: int) -> str:
    return question.name if index == 0 else f"{question.name}_{index + 1}"


def _value(question: Question, answer: Any) -> Any:
    if question.kind == "thumb":
        return UP if answer else DOWN
    if question.kind == "flags":
        return [f["category"] for f in answer]
    if question.kind == "ranges":
        return [{"start": m["start"], "end": m["end"], "label": m["label"]} for m in answer]
    return answer


# ---------------------------------------------------------------------------------------------------------- reading


def read(
    questions: Sequence[Question], entry: Mapping[str, Any], find: Callable[[str], Reviewed]
) -> list[External]:
    """A judgement per user who responded; responses that are drafts or discarded are left out."""
    item = find(member(entry, "id", "", str))
    num = len(item.answers)
    known = {_name(q, i): (q, i) for q in questions for i in range(num if q.listed(num) else 1)}
    by_user: dict[str, dict[str, Any]] = {}
    responses = cast(Mapping[str, Any], entry.get("responses") or {})
    for name in responses:
        if name not in known:
            raise SchemaError(f"responses.{name}", "is no question of the queue")
        question, index = known[name]
        for i, one in enumerate(listed(responses, name, "responses.")):
            if one.get("status", "submitted") != "submitted":
                continue
            user = str(one.get("user_id") or "")
            if not user:
                raise SchemaError(f"responses.{name}[{i}].user_id", "is missing: whose judgement is it?")
            _put(
                by_user.setdefault(user, {}), question, index, num, one.get("value"), f"responses.{name}[{i}]"
            )
    kept = {str(k.get("user_id")): k for k in listed(entry, "heedloop", "")}
    return [_external(item, questions, user, answers, kept.get(user)) for user, answers in by_user.items()]


def _external(
    item: Reviewed,
    questions: Sequence[Question],
    user: str,
    answers: dict[str, Any],
    kept: Mapping[str, Any] | None,
) -> External:
    """Our own words count where they still say what the responses say."""
    if kept is None:
        return External(item.item_id, user, answers)
    ours = cast(dict[str, Any], kept.get("answers") or {})
    unchanged = all(
        _values(q, ours.get(q.name), len(item.answers)) == _values(q, answers.get(q.name), len(item.answers))
        for q in questions
    )
    return External(
        item.item_id,
        user,
        ours if unchanged else answers,
        time_of(kept, "submitted_at", "heedloop."),
        whole_of(kept, "duration_ms", "heedloop."),
        whole_of(kept, "guideline_version", "heedloop."),
    )


def _put(answers: dict[str, Any], question: Question, index: int, num: int, value: Any, where: str) -> None:
    if question.kind == "comparison":
        sides: dict[Any, int | None] = {TIE: None, "answer_1": 0, "answer_2": 1}
        if value not in sides:
            raise SchemaError(f"{where}.value", f"{value!r} is neither answer_1 nor answer_2 nor {TIE}")
        answers[question.name] = {"preferred": sides[value]}
    elif question.kind == "ranking":
        answers[question.name] = {"ranks": _ranks(value, num, f"{where}.value")}
    elif question.listed(num):
        answers.setdefault(question.name, [None] * num)[index] = _own(question, value)
    else:
        answers[question.name] = _own(question, value)


def _ranks(value: Any, num: int, where: str) -> list[int]:
    """Argilla writes `[{"value", "rank"}]`, or the plain order, the best first."""
    entries = cast(list[Any], value) if isinstance(value, list) else []
    ranks: dict[str, Any] = {}
    for place, one in enumerate(entries, 1):
        if isinstance(one, Mapping):
            given = cast(Mapping[str, Any], one)
            ranks[str(given.get("value"))] = given.get("rank", place)
        else:
            ranks[str(one)] = place
    names = [f"answer_{i + 1}" for i in range(num)]
    if set(ranks) != set(names):
        raise SchemaError(where, f"must rank {', '.join(names)}, each once")
    return [ranks[n] for n in names]


def _own(question: Question, value: Any) -> Any:
    if question.kind == "thumb":
        return {UP: 1, DOWN: 0}.get(value, value)
    if question.kind == "flags" and isinstance(value, list):
        return [{"category": c} for c in cast(list[Any], value)]
    if question.kind == "ranges" and isinstance(value, list):
        marks = cast(list[Mapping[str, Any]], value)
        return [{"start": m.get("start"), "end": m.get("end"), "label": m.get("label")} for m in marks]
    return value
