"""What an annotator sees of an item: the prompt, the answers in the order shown, the facts that the queue shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from heedloop.responses import picked
from heedloop.responses.review import ReviewAssignment, ReviewedAnswer
from heedloop.schema import Call, Feedback, answer_hash, format_time
from heedloop_server.review.questions import Question, applicable_questions
from heedloop_server.review.queue import Queue
from heedloop_server.review.responses import Judgement, to_shown
from heedloop_server.store.review.assignments import Assignment, ReviewItem, remark_of

METADATA = "heedloop.metadata."
MAX_IMAGES = 8
MAX_IMAGE_CHARS = 4_000_000
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*")
_KIND_OF_IMAGE = ("media_type", "mime_type", "mimeType", "mediaType")


def assignment_response(
    queue: Queue, item: ReviewItem, a: Assignment, calls: Sequence[Call], suggestions: Mapping[str, Any]
) -> ReviewAssignment:
    """What the REST API says of an assignment; `calls` in the item's own order."""
    shown = [calls[i] for i in a.shown_order]
    submitted = to_shown(queue.questions, dict(a.answers), a.shown_order) if a.answers is not None else None
    return picked(
        ReviewAssignment,
        a,
        queue_id=queue.queue_id,
        guideline_version=a.guideline,
        remark=remark_of(a),
        reason=a.reason if a.state == "skipped" else "",
        questions=[
            q.name for q in applicable_questions(queue.questions, len(calls), is_session=item.is_session)
        ],
        is_session=item.is_session,
        messages=list(calls[0].input_messages),
        images=images_of(calls[-1] if item.is_session else calls[0]),
        answers=[
            replace(
                shown_answer(c, queue.show, is_turn=item.is_session),
                tool_calls=[t for m in c.output_messages for t in m.tool_calls],
            )
            for c in shown
        ],
        suggestions=suggestions,
        draft=a.draft or {},
        submitted=submitted if a.state == "done" else None,
    )


def shown_answer(call: Call, show: Iterable[str], *, is_turn: bool = False) -> ReviewedAnswer:
    """An answer's text with those facts of its call that are to be shown; a turn of a session with what was asked before it."""
    text = call.output_text
    asked = next((m.text for m in reversed(call.input_messages) if m.role == "user"), "") if is_turn else None
    return ReviewedAnswer(text=text, hash=answer_hash(text), facts=facts_of(call, show), asked=asked)


def images_of(call: Call) -> list[str]:
    """The pictures that the call's own attributes hold, as `data:` addresses; of SVG, which can hold script, none."""
    found: list[str] = []
    for text in call.attributes.values():
        if "image/" in text and text.lstrip()[:1] in ("[", "{"):
            try:
                _find_images(json.loads(text), found)
            except ValueError:
                continue
    small = [i for i in dict.fromkeys(found) if len(i) <= MAX_IMAGE_CHARS]
    return small[:MAX_IMAGES]


def _find_images(value: Any, found: list[str]) -> None:
    if isinstance(value, list):
        for part in cast(list[Any], value):
            _find_images(part, found)
    elif isinstance(value, Mapping):
        part = cast(Mapping[str, Any], value)
        kind = next((part[n] for n in _KIND_OF_IMAGE if n in part), None)
        data = next((part[n] for n in ("data", "content", "blob") if isinstance(part.get(n), str)), None)
        if isinstance(kind, str) and data is not None and _IMAGE.fullmatch(f"data:{kind};base64,{data}"):
            found.append(f"data:{kind};base64,{data}")
        for inner in part.values():
            _find_images(inner, found)
    elif isinstance(value, str) and _IMAGE.fullmatch(value):
        found.append(value)


def facts_of(call: Call, show: Iterable[str]) -> dict[str, Any]:
    """Those facts of a call that are to be shown and known."""
    known: dict[str, Any] = {
        "model": call.model,
        "provider": call.provider,
        "prompt_name": call.prompt_name,
        "prompt_version": call.prompt_version,
        "service": call.service or None,
        "environment": call.environment or None,
        "tags": list(call.tags) or None,
        "user_id": call.user_id,
        "session_id": call.session_id,
        "start_time": format_time(call.start_time),
        "duration_ms": call.duration_ns // 1_000_000,
        "input_tokens": call.usage.input,
        "output_tokens": call.usage.output,
        "cost": call.cost,
        "status": call.status,
    }
    result: dict[str, Any] = {}
    for name in show:
        key = name.removeprefix("metadata.")
        value = call.attributes.get(METADATA + key) if key != name else known.get(name)
        if value is not None:
            result[name] = value
    return result


def suggestions_of(
    questions: Sequence[Question], targets: Sequence[tuple[str, str]], feedback_of_models: Iterable[tuple[tuple[str, str], Feedback]],
    shown_order: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    """Question -> the newest feedback of a model or a rule under its name. Lists in the order shown."""
    by_name = {q.name: q for q in applicable_questions(questions, len(targets))}
    result: Judgement = {}
    for target, feedback in feedback_of_models:
        question = by_name.get(feedback.name)
        value = _suggested(question, feedback) if question is not None else None
        if question is None or value is None:
            continue
        if not question.listed(len(targets)):
            result[question.name] = _joined(question, result.get(question.name), value)
            continue
        entries = result.setdefault(question.name, [None] * len(targets))
        place = targets.index(target)
        entries[place] = _joined(question, entries[place], value)
    return to_shown(questions, result, shown_order)


def _joined(question: Question, before: Any, value: Any) -> Any:
    """Flags add up; of everything else the newest word counts."""
    if question.kind != "flags" or not before:
        return value
    return [*(f for f in before if f["category"] != value[0]["category"]), *value]


def _suggested(question: Question, feedback: Feedback) -> Any:
    if question.kind in ("thumb", "scale") and isinstance(feedback.value, float):
        return feedback.value
    if question.kind == "category" and isinstance(feedback.value, str):
        return feedback.value
    if question.kind == "flags" and feedback.category:
        return [{"category": feedback.category}]
    if question.kind == "text":
        return feedback.comment
    return feedback.correction if question.kind == "correction" else None
