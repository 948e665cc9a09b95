"""Argilla's records (v2 `Record.to_dict()` and `from_dict()`), tested against argilla 2.8: fields, responses per question.

Ranges are Argilla span questions over the field `answer_1` (code points, as Python counts). A comparison is a label
question with `answer_1`, `answer_2` and `tie`; a ranking is in the order of its ranks, because the SDK reads the order
alone. The question about a second answer is called `NAME-2`. Argilla's users are UUIDs: an annotator who is no user there
has one made of the name. The original judgements are in `metadata.heedloop`, which Argilla keeps as it is; the SDK
keeps neither a response's status nor ranks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from heedloop.schema import SchemaError
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats.details import with_details
from heedloop_server.review.formats.record import (
    External,
    Reviewed,
    State,
    Users,
    control_name,
    controls_of,
    external_of,
    listed,
    member,
    original_of,
)
from heedloop_server.review.questions import Question, applicable_questions

UP, DOWN, TIE = "good", "bad", "tie"
_USERS = uuid.UUID("6f0c6a0e-5d1c-5d5e-9a53-4b8f8f1f3b70")
_STATUS: dict[str, str] = {"done": "submitted", "draft": "draft", "skipped": "discarded"}
_STATES: dict[Any, State] = {"submitted": "done", "draft": "draft", "discarded": "skipped"}

# ---------------------------------------------------------------------------------------------------------- writing


def user_id_of(annotator: str, users: Users) -> str:
    """The UUID of an annotator's user in Argilla; one made of the name where none is known."""
    return users.user(annotator) or str(uuid.uuid5(_USERS, annotator))


def write(questions: Sequence[Question], item: Reviewed, users: Users) -> dict[str, Any]:
    """One record with all annotators' responses."""
    responses: dict[str, list[dict[str, Any]]] = {}
    for one in item.judgements:
        user_id = user_id_of(one.annotator, users)
        for name, value in _written(questions, one, item):
            response = {"value": value, "user_id": user_id, "status": _STATUS[one.state]}
            responses.setdefault(name, []).append(response)
    return _record(item) | {"responses": responses}


def write_suggestions(questions: Sequence[Question], item: Reviewed) -> dict[str, Any]:
    """One record with the first judgement as suggestions; Argilla holds one suggestion for each question."""
    first = next((j for j in item.judgements if j.state == "done"), None)
    values = [] if first is None else _written(questions, first, item)
    agent = "" if first is None else first.annotator
    suggestions = {name: {"value": value, "agent": agent, "type": "human"} for name, value in values}
    return _record(item) | {"suggestions": suggestions}


def _record(item: Reviewed) -> dict[str, Any]:
    facts = {f"answer_{i + 1}_{k}": v for i, f in enumerate(item.facts) for k, v in f.items()}
    originals = [original_of(j) for j in item.judgements]
    return {
        "id": item.item_id,
        "fields": {"prompt": item.prompt_text, **item.answer_fields},
        # text, because a metadata property of Argilla holds a text, a number, or a list of texts
        "metadata": facts | {"heedloop": json.dumps(originals, ensure_ascii=False)},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def _written(questions: Sequence[Question], one: Judged | External, item: Reviewed) -> list[tuple[str, Any]]:
    """(Argilla question, value) of a judgement; a draft's answers that are not whole yet are left out."""
    result: list[tuple[str, Any]] = []
    for question in applicable_questions(questions, len(item.answers)):
        try:
            result += _values(question, one.answers.get(question.name), len(item.answers))
        except (KeyError, TypeError, AttributeError):
            if one.state == "done":
                raise
    return result


def _values(question: Question, answer: Any, num_answers: int) -> list[tuple[str, Any]]:
    if answer is None:
        return []
    if question.kind == "comparison":
        preferred = answer["preferred"]
        return [(question.name, TIE if preferred is None else f"answer_{preferred + 1}")]
    if question.kind == "ranking":
        ranks = sorted((r, i) for i, r in enumerate(answer["ranks"]))
        return [(question.name, [{"value": f"answer_{i + 1}", "rank": r} for r, i in ranks])]
    if question.listed(num_answers) and not isinstance(answer, list):
        raise TypeError("a draft that has not the form of its question yet")
    own = cast(list[Any], answer) if question.listed(num_answers) else [answer]
    values = [(control_name(question, i), _value(question, v)) for i, v in enumerate(own) if v is not None]
    return [(name, v) for name, v in values if v != []]


def is_rating(question: Question) -> bool:
    """True for a scale that an Argilla rating can hold, 0 to 10; others are labels of their numbers."""
    return question.min >= 0 and question.max <= 10


def _value(question: Question, answer: Any) -> Any:
    if question.kind == "thumb":
        return UP if answer else DOWN
    if question.kind == "scale":
        return answer if is_rating(question) else str(answer)
    if question.kind == "number":
        return str(answer)
    if question.kind == "flags":
        return [f["category"] for f in answer]
    if question.kind == "ranges":
        return [{"start": m["start"], "end": m["end"], "label": m["label"]} for m in answer]
    return answer


# ---------------------------------------------------------------------------------------------------------- reading


def read(
    questions: Sequence[Question], entry: Mapping[str, Any], find: Callable[[str], Reviewed], users: Users
) -> list[External]:
    """A judgement, draft or skip per user who responded, and the originals that no response speaks for."""
    item = find(member(entry, "id", "", str))
    responses = _by_user(questions, entry, item)
    originals = {user_id_of(str(o.get("annotator")), users): o for o in _originals(entry)}
    result: list[External] = []
    for user in dict.fromkeys([*originals, *responses]):
        states, answers = responses.get(user, (set[State](), dict[str, Any]()))
        if user in originals:
            result.append(_against(questions, item, originals[user], answers, states))
        else:
            state = next(iter(states)) if len(states) == 1 else "draft"
            answers = {} if state == "skipped" else answers
            result.append(External(item.item_id, users.annotator(user), answers, state=state))
    return result


def _originals(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metadata = entry.get("metadata")
    text: Any = cast(Mapping[str, Any], metadata).get("heedloop") if isinstance(metadata, Mapping) else None
    if not isinstance(text, str):
        # exports up to version 1 had them next to the record's own fields, under the annotator's name
        earlier = listed(entry, "heedloop", "")
        return [{**o, "annotator": o.get("annotator", o.get("user_id"))} for o in earlier]
    try:
        return listed({"heedloop": json.loads(text)}, "heedloop", "metadata.")
    except ValueError as err:
        raise SchemaError("metadata.heedloop", f"is no JSON: {str(err)[:100]}") from None


def _by_user(
    questions: Sequence[Question], entry: Mapping[str, Any], item: Reviewed
) -> dict[str, tuple[set[State], dict[str, Any]]]:
    """User -> the states of their responses, and what they answered."""
    num = len(item.answers)
    known = controls_of(questions, num)
    result: dict[str, tuple[set[State], dict[str, Any]]] = {}
    responses = cast(Mapping[str, Any], entry.get("responses") or {})
    for name in responses:
        if name not in known:
            raise SchemaError(f"responses.{name}", "is no question of the queue")
        question, index = known[name]
        for i, one in enumerate(listed(responses, name, "responses.")):
            where = f"responses.{name}[{i}]"
            user = str(one.get("user_id") or "")
            if not user:
                raise SchemaError(f"{where}.user_id", "is missing: whose judgement is it?")
            states, answers = result.setdefault(user, (set(), {}))
            states.add(_STATES.get(one.get("status") or "submitted", "done"))
            _put(answers, question, index, num, one.get("value"), where)
    return result


def _against(
    questions: Sequence[Question],
    item: Reviewed,
    original: Mapping[str, Any],
    answers: dict[str, Any],
    states: set[State],
) -> External:
    """The original where the responses still say the same; else what they say, with what of the original still holds."""
    before = external_of(item.item_id, original, "metadata.heedloop.")
    written = _read_back(questions, before, item, with_ranks=True)
    if answers in (written, _read_back(questions, before, item, with_ranks=False)):
        return before
    state: State = "done" if not states else next(iter(states)) if len(states) == 1 else "draft"
    return replace(before, answers=with_details(questions, answers, before.answers, written), state=state)


def _read_back(
    questions: Sequence[Question], before: External, item: Reviewed, *, with_ranks: bool
) -> dict[str, Any]:
    """What the original's responses say when they come back, with ranks or in the order that the SDK leaves of them."""
    result: dict[str, Any] = {}
    known = controls_of(questions, len(item.answers))
    for name, value in _written(questions, replace(before, state="draft"), item):
        question, index = known[name]
        if question.kind == "ranking" and not with_ranks:
            value = [v["value"] for v in value]
        _put(result, question, index, len(item.answers), value, name)
    return result


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
    """By the stated ranks; by the list's order, the best first, where the SDK has dropped them."""
    entries = cast(list[Any], value) if isinstance(value, list) else []
    names = [str(cast(Mapping[str, Any], e).get("value") if isinstance(e, Mapping) else e) for e in entries]
    ranks = {name: place for place, name in enumerate(names, 1)}
    wanted = [f"answer_{i + 1}" for i in range(num)]
    if sorted(names) != sorted(wanted):
        raise SchemaError(where, f"must rank {', '.join(wanted)}, each once")
    stated = {
        n: cast(Mapping[str, Any], e).get("rank")
        for n, e in zip(names, entries, strict=True)
        if isinstance(e, Mapping)
    }
    if len(stated) == num and all(isinstance(r, int) and not isinstance(r, bool) for r in stated.values()):
        ranks = cast(dict[str, int], stated)
    return [ranks[n] for n in wanted]


def _own(question: Question, value: Any) -> Any:
    if question.kind == "thumb":
        return {UP: 1, DOWN: 0}.get(value, value)
    if question.kind == "scale" and isinstance(value, str):
        return int(value) if value.lstrip("-").isdecimal() else value
    if question.kind == "number" and isinstance(value, str):
        return _float(value)
    if question.kind == "flags" and isinstance(value, list):
        return [{"category": c} for c in cast(list[Any], value)]
    if question.kind == "ranges" and isinstance(value, list):
        marks = cast(list[Mapping[str, Any]], value)
        return [{"start": m.get("start"), "end": m.get("end"), "label": m.get("label")} for m in marks]
    return value


def _float(text: str) -> float | str:
    """The number that a text field holds; what is none is refused when the judgement is checked."""
    try:
        return float(text)
    except ValueError:
        return text
