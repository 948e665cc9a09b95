"""Our own form of a judgement file, and two common ones.

Ours, one object a line; everything but `prompt`, `answers` and `judgements` is optional::

    {"id": "q17", "prompt": "How long is delivery?", "created_at": "2026-03-01T09:00:00Z", "session": "s1", "user": "u9",
     "tags": ["shop"], "metadata": {"topic": "delivery"},
     "answers": ["Two days.", {"text": "Soon.", "model": "m2", "id": "b"}],
     "judgements": [
       {"kind": "comparison", "ranks": [1, 2], "strength": 0.5, "author": "w1", "created_at": "…", "shown_order": [1, 0]},
       {"kind": "rating", "answer": 0, "value": 4, "scale": [1, 5], "name": "helpfulness", "author": "w1"},
       {"kind": "thumb", "answer": 1, "value": false, "author": "u9", "author_kind": "end_user"},
       {"kind": "correction", "answer": 1, "correction": "Two days.", "author": "w2"},
       {"kind": "flag", "answer": 1, "category": "incomplete", "severity": "low", "author": "w2"},
       {"kind": "comment", "answer": 0, "comment": "Fine.", "author": "w1"}]}

Common: `{"prompt", "completion" | "response" | "answer", "label": true}` (liked or not), and
`{"conversation_a", "conversation_b", "winner": "model_a" | "model_b" | "tie" | "tie (bothbad)", "model_a", "model_b", "judge"}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, cast

from heedloop.attributes import METADATA_PREFIX
from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking, Scale, SchemaError
from heedloop_cli.importers.record import (
    BadLine,
    Line,
    Source,
    Wrong,
    clipped,
    content_id,
    ids_of,
    messages_of,
    sequence_of,
    target_of,
    text_of,
    time_of,
)

__all__ = ["knows", "reader"]

SERVICE = "judgements"
UNDATED = datetime(2020, 1, 1, tzinfo=timezone.utc)
"""For lines without a time: the same on every reading, so that reading twice stores once."""

_COMPLETIONS = ("completion", "response", "answer")
_WINNERS: dict[str, tuple[tuple[int, int], bool]] = {
    "model_a": ((1, 2), False),
    "model_b": ((2, 1), False),
    "tie": ((1, 1), False),
    "tie (bothbad)": ((1, 1), True),
    "both_bad": ((1, 1), True),
}


def knows(names: set[str]) -> bool:
    """True where an object with these fields is one of this reader's forms."""
    if {"prompt", "answers"} <= names or {"conversation_a", "conversation_b", "winner"} <= names:
        return True
    return {"prompt", "label"} <= names and bool(names & set(_COMPLETIONS))


def reader(source: Source) -> _Reader:
    """A reader of these forms."""
    return _Reader(source.default_time or UNDATED)


class _Reader:
    def __init__(self, time: datetime) -> None:
        self._time = time

    def finish(self) -> Iterator[Line | BadLine]:
        return iter(())

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        if "conversation_a" in row:
            row = _from_battle(row)
        elif "answers" not in row and "label" in row:
            row = _from_label(row)
        when = row.get("created_at") or row.get("time")
        time = self._time if when is None else time_of(when, "created_at")
        prompt = messages_of(row.get("prompt"), "prompt")
        answers = [_answer(a, f"answers[{i}]") for i, a in enumerate(sequence_of(row, "answers"))]
        if not answers:
            raise Wrong("answers", "is empty")
        calls = tuple(_call(row, prompt, answer, time) for answer in answers)
        feedback = tuple(
            _judgement(judgement, f"judgements[{i}]", calls, time)
            for i, judgement in enumerate(row.get("judgements") or ())
        )
        yield Line(number, calls, feedback)


def _answer(value: object, where: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, Mapping):
        raise Wrong(where, f"must be text or an object with text, not {value!r:.60}")
    answer = cast(Mapping[str, Any], value)
    if not isinstance(answer.get("text"), str):
        raise Wrong(f"{where}.text", "is missing" if "text" not in answer else "must be text")
    return answer


def _call(
    row: Mapping[str, Any], prompt: tuple[Message, ...], answer: Mapping[str, Any], time: datetime
) -> Call:
    # A source's own ids tell equal texts apart; without them equal texts are one answer.
    parts = (row.get("id", ""), answer.get("id", ""), prompt, answer["text"], answer.get("model", ""), time)
    trace_id, span_id = ids_of(SERVICE, *parts)
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise Wrong("metadata", f"must be an object, not {metadata!r:.60}")
    labels = clipped(
        {**cast(Mapping[str, object], metadata), "row": row.get("id"), "answer": answer.get("id")}
    )
    tags = row.get("tags") or ()
    if not isinstance(tags, (list, tuple)) or not all(isinstance(t, str) for t in cast(Sequence[Any], tags)):
        raise Wrong("tags", f"must be a list of texts, not {tags!r:.60}")
    return Call(
        trace_id=trace_id,
        span_id=span_id,
        start_time=time,
        name="answer",
        service=SERVICE,
        model_answered=_label(answer, "model"),
        input_messages=prompt,
        output_messages=(Message("assistant", answer["text"]),),
        session_id=_label(row, "session"),
        user_id=_label(row, "user"),
        prompt_name=_label(row, "prompt_name"),
        prompt_version=_label(row, "prompt_version"),
        tags=tuple(cast(Sequence[str], tags)),
        attributes={METADATA_PREFIX + k: v for k, v in labels.items()},
    )


def _label(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, (str, int)) or len(str(value)) > 256:
        raise Wrong(name, f"must be a text of up to 256 characters, not {value!r:.60}")
    return str(value)


def _judgement(value: object, where: str, calls: tuple[Call, ...], time: datetime) -> Feedback:
    if not isinstance(value, Mapping):
        raise Wrong(where, f"must be an object with kind, not {value!r:.60}")
    judgement = cast(Mapping[str, Any], value)
    kind = judgement.get("kind")
    if kind not in _FIELDS:
        raise Wrong(f"{where}.kind", f"{kind!r} is not one of {', '.join(_FIELDS)}")
    when = judgement.get("created_at")
    verdict = {k: v for k, v in judgement.items() if k != "created_at"}
    try:
        fields = _FIELDS[kind](judgement, calls)
        return Feedback(
            **fields,
            name=judgement.get("name") or "",
            author=Author(judgement.get("author_kind", "annotator"), _label(judgement, "author")),
            created_at=time if when is None else time_of(when, "created_at"),
            id=content_id(
                SERVICE, [c.trace_id for c in calls], sorted(verdict.items(), key=lambda kv: kv[0]), when
            )[:32],
            comment=judgement.get("comment"),
            guideline=judgement.get("guideline"),
            solicited=judgement.get("solicited", judgement.get("author_kind", "annotator") != "end_user"),
            sampling_probability=judgement.get("sampling_probability"),
            metadata=clipped(judgement.get("metadata") or {}),
        )
    except (SchemaError, Wrong) as err:
        raise Wrong(f"{where}.{err.field}", err.reason) from None


def _target(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    index = judgement.get("answer", 0 if len(calls) == 1 else None)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(calls):
        raise Wrong("answer", f"must be the place of an answer, 0 to {len(calls) - 1}, not {index!r}")
    return {"target": target_of(calls[index])}


def _rating(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    value, scale = judgement.get("value"), judgement.get("scale")
    if isinstance(value, bool):
        value = float(value)
    if isinstance(scale, list) and len(cast(list[Any], scale)) == 2 and not isinstance(scale[0], str):
        low, high = cast(list[float], scale)
        rating = Scale(low, high)
    elif isinstance(scale, list):
        rating = Scale(categories=tuple(cast(list[str], scale)))
    elif scale is None:
        rating = THUMB
    else:
        raise Wrong(
            "scale", f"must be [lowest, highest] or a list of categories, worst first, not {scale!r:.60}"
        )
    return {"kind": "rating", **_target(judgement, calls), "value": value, "scale": rating}


def _correction(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    return {"kind": "correction", **_target(judgement, calls), "correction": text_of(judgement, "correction")}


def _flag(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    category = text_of(judgement, "category")
    return {
        "kind": "flag",
        **_target(judgement, calls),
        "category": category,
        "severity": judgement.get("severity"),
    }


def _comment(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    text_of(judgement, "comment")
    return {"kind": "comment", **_target(judgement, calls)}


def _comparison(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    ranks = sequence_of(judgement, "ranks")
    order = judgement.get("shown_order")
    ranking = Ranking(
        tuple(target_of(c) for c in calls),
        tuple(ranks),
        shown_order=None if order is None else tuple(sequence_of(judgement, "shown_order")),
        all_bad=bool(judgement.get("all_bad", False)),
        strength=judgement.get("strength"),
    )
    return {"kind": "comparison", "target": target_of(calls[0]), "ranking": ranking}


_FIELDS = {
    "comparison": _comparison,
    "rating": _rating,
    "thumb": _rating,
    "correction": _correction,
    "flag": _flag,
    "comment": _comment,
}


def _from_label(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """`prompt`, one completion and whether it was liked, in our form."""
    name = next((n for n in _COMPLETIONS if n in row), "completion")
    label = row["label"]
    if label not in (True, False, 0, 1):
        raise Wrong("label", f"must be true or false, not {label!r:.60}")
    completion = row.get(name)
    if isinstance(completion, list):
        completion = messages_of(completion, name)[-1].text
    if not isinstance(completion, str):
        raise Wrong(name, "is missing" if name not in row else f"must be text, not {completion!r:.60}")
    who = row.get("annotator") or row.get("author")
    judgement = {"kind": "thumb", "value": bool(label), "author": who}
    messages_kept = {
        k: row[k] for k in ("id", "prompt", "created_at", "tags", "metadata", "session", "user") if k in row
    }
    return {
        **messages_kept,
        "answers": [{"text": completion, "model": row.get("model")}],
        "judgements": [judgement],
    }


def _from_battle(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Two conversations that one judge compared, in our form; they must share all turns before the last answers."""
    a, b = (messages_of(row.get(n), n) for n in ("conversation_a", "conversation_b"))
    if a[:-1] != b[:-1] or len(a) < 2:
        raise Wrong("conversation_b", "does not share all turns before the last answer with conversation_a")
    winner = row.get("winner")
    if winner not in _WINNERS:
        raise Wrong("winner", f"{winner!r} is not one of {', '.join(_WINNERS)}")
    ranks, all_bad = _WINNERS[winner]
    judgement = {
        "kind": "comparison",
        "ranks": list(ranks),
        "all_bad": all_bad,
        "author": row.get("judge"),
        "shown_order": [0, 1],
    }
    return {
        "id": row.get("question_id") or row.get("id"),
        "prompt": [{"role": m.role, "content": m.text} for m in a[:-1]],
        "created_at": row.get("tstamp") or row.get("created_at"),
        "answers": [
            {"text": a[-1].text, "model": row.get("model_a"), "id": "a"},
            {"text": b[-1].text, "model": row.get("model_b"), "id": "b"},
        ],
        "judgements": [judgement],
    }
