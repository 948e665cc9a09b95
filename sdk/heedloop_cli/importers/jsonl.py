"""Our own form of a judgement file; the public forms of `preferences` are turned into it.

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
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking, Scale, SchemaError, Target
from heedloop_cli.importers import preferences
from heedloop_cli.importers.messages import tool_definitions
from heedloop_cli.importers.record import (
    JudgementReader,
    Line,
    Wrong,
    clipped,
    messages_of,
    sequence_of,
    target_of,
    text_of,
    time_of,
)

_KINDS = ("comparison", "rating", "thumb", "correction", "flag", "comment")


class Judgements(JudgementReader):
    """A prompt, its answers, and what was said of them."""

    service = "judgements"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return {"prompt", "answers"} <= row.keys() or preferences.form_of(row) is not None

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line]:
        form = None if "judgements" in row else preferences.form_of(row)
        row = row if form is None else form(row)
        when = row.get("created_at") or row.get("time")
        time = self.source.time if when is None else time_of(when, "created_at")
        assumed = self.source.assumed(when)
        prompt = _prompt(row.get("prompt"))
        answers = [_answer(a, f"answers[{i}]") for i, a in enumerate(sequence_of(row, "answers"))]
        if not answers:
            raise Wrong("answers", "is empty")
        calls = tuple(self._call(row, prompt, answer, time, assumed) for answer in answers)
        left_out = Counter[str]()
        feedback: list[Feedback] = []
        for i, judgement in enumerate(row.get("judgements") or ()):
            scale = judgement.get("scale") if isinstance(judgement, Mapping) else None
            name = judgement.get("name") if scale == "user" else None
            if name is not None and name not in self.source.scales:
                left_out[self.source.scale_unknown(name)] += 1
                continue
            own = judgement if name is None else {**judgement, "scale": self.source.scales[name]}
            feedback.append(self._judgement(own, f"judgements[{i}]", calls, time, assumed))
        yield Line(number, calls, tuple(feedback), left_out)

    def _call(
        self,
        row: Mapping[str, Any],
        prompt: tuple[Message, ...],
        answer: Mapping[str, Any],
        time: datetime,
        assumed: Mapping[str, str],
    ) -> Call:
        prompt = _prompt(answer["prompt"]) if "prompt" in answer else prompt
        # A source's own ids tell equal texts apart; without them equal texts are one answer, whenever they are read.
        named = (row.get("id") or "", answer.get("id", ""))
        key = (*named, prompt, answer["text"], answer.get("model", ""), "" if assumed else time)
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, Mapping):
            raise Wrong("metadata", f"must be an object, not {metadata!r:.60}")
        own = {"row": row.get("id"), "answer": answer.get("id"), **assumed}
        labels = clipped({**cast(Mapping[str, object], metadata), **own})
        tags = row.get("tags") or ()
        is_list = isinstance(tags, (list, tuple))
        if not is_list or not all(isinstance(t, str) for t in cast(Sequence[Any], tags)):
            raise Wrong("tags", f"must be a list of texts, not {tags!r:.60}")
        return self.call(
            key,
            time,
            prompt,
            answer["text"],
            labels,
            model_answered=_label(answer, "model"),
            tool_definitions=tool_definitions(row.get("tools")),
            session_id=_label(row, "session"),
            user_id=_label(row, "user"),
            prompt_name=_label(row, "prompt_name"),
            prompt_version=_label(row, "prompt_version"),
            tags=tuple(cast(Sequence[str], tags)),
        )

    def _judgement(
        self,
        value: object,
        where: str,
        calls: tuple[Call, ...],
        time: datetime,
        assumed: Mapping[str, str],
    ) -> Feedback:
        if not isinstance(value, Mapping):
            raise Wrong(where, f"must be an object with kind, not {value!r:.60}")
        judgement = cast(Mapping[str, Any], value)
        kind = judgement.get("kind")
        if kind not in _KINDS:
            raise Wrong(f"{where}.kind", f"{kind!r} is not one of {', '.join(_KINDS)}")
        when = judgement.get("created_at")
        verdict = {k: v for k, v in judgement.items() if k != "created_at"}
        author_kind = judgement.get("author_kind", "annotator")
        try:
            fields = _fields(kind, judgement, calls)
            target = target_of(calls[0]) if kind == "comparison" else _target(judgement, calls)
            return self.feedback(
                ([c.trace_id for c in calls], sorted(verdict.items(), key=lambda kv: kv[0]), when),
                "rating" if kind == "thumb" else kind,
                target,
                **fields,
                name=judgement.get("name") or "",
                author=Author(author_kind, _label(judgement, "author")),
                created_at=time if when is None else time_of(when, "created_at"),
                comment=judgement.get("comment"),
                guideline=judgement.get("guideline"),
                solicited=judgement.get("solicited", author_kind != "end_user"),
                sampling_probability=judgement.get("sampling_probability"),
                metadata=clipped({**(judgement.get("metadata") or {}), **assumed}),
            )
        except (SchemaError, Wrong) as err:
            raise Wrong(f"{where}.{err.field}", err.reason) from None


def _prompt(value: object) -> tuple[Message, ...]:
    """A prompt as text or messages, or as a public form was read."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(m, Message) for m in value):
        return tuple(cast(Sequence[Message], value))
    return messages_of(value, "prompt")


def _answer(value: object, where: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, Mapping):
        raise Wrong(where, f"must be text or an object with text, not {value!r:.60}")
    answer = cast(Mapping[str, Any], value)
    if not isinstance(answer.get("text"), str):
        raise Wrong(f"{where}.text", "is missing" if "text" not in answer else "must be text")
    return answer


def _label(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, (str, int)) or len(str(value)) > 256:
        raise Wrong(name, f"must be a text of up to 256 characters, not {value!r:.60}")
    return str(value)


def _target(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> Target:
    index = judgement.get("answer", 0 if len(calls) == 1 else None)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(calls):
        raise Wrong("answer", f"must be the place of an answer, 0 to {len(calls) - 1}, not {index!r}")
    return target_of(calls[index])


def _fields(kind: str, judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> dict[str, Any]:
    """The fields of a judgement that its kind alone has."""
    if kind == "comparison":
        return {"ranking": _ranking(judgement, calls)}
    if kind == "correction":
        return {"correction": text_of(judgement, "correction")}
    if kind == "flag":
        return {"category": text_of(judgement, "category"), "severity": judgement.get("severity")}
    if kind == "comment":
        text_of(judgement, "comment")
        return {}
    value = judgement.get("value")
    value = float(value) if isinstance(value, bool) else value
    return {"value": value, "scale": _scale(judgement.get("scale"))}


def _scale(scale: object) -> Scale:
    if isinstance(scale, Scale):
        return scale
    if scale is None:
        return THUMB
    if not isinstance(scale, list):
        raise Wrong(
            "scale", f"must be [lowest, highest] or a list of categories, worst first, not {scale!r:.60}"
        )
    ends = cast(list[Any], scale)
    if len(ends) == 2 and not isinstance(ends[0], str):
        return Scale(*ends)
    return Scale(categories=tuple(ends))


def _ranking(judgement: Mapping[str, Any], calls: tuple[Call, ...]) -> Ranking:
    order = judgement.get("shown_order")
    return Ranking(
        tuple(target_of(c) for c in calls),
        tuple(sequence_of(judgement, "ranks")),
        shown_order=None if order is None else tuple(sequence_of(judgement, "shown_order")),
        all_bad=bool(judgement.get("all_bad", False)),
        strength=judgement.get("strength"),
    )
