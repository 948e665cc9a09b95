"""What an annotator sees of an item: the prompt, the answers in the order shown, the facts that the queue shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from heedloop.responses import ReviewAssignment, ReviewedAnswer
from heedloop.schema import Call, Feedback, answer_hash, format_time
from heedloop_server.review.questions import Question, applicable_questions
from heedloop_server.review.queue import Queue
from heedloop_server.review.responses import Judgement, to_shown
from heedloop_server.store.review.assignments import Assignment, remark_of

METADATA = "heedloop.metadata."


def assignment_response(
    queue: Queue, a: Assignment, calls: Sequence[Call], suggestions: Mapping[str, Any]
) -> ReviewAssignment:
    """What the REST API says of an assignment; `calls` in the item's own order."""
    shown = [calls[i] for i in a.shown_order]
    submitted = to_shown(queue.questions, dict(a.answers), a.shown_order) if a.answers is not None else None
    return ReviewAssignment(
        assignment_id=a.assignment_id,
        queue_id=queue.queue_id,
        item_id=a.item_id,
        expires_at=a.expires_at,
        guideline_version=a.guideline,
        revision=a.revision,
        remark=remark_of(a),
        state=cast(Any, a.state),  # what is shown is leased, done or skipped
        reason=a.reason if a.state == "skipped" else "",
        questions=[q.name for q in applicable_questions(queue.questions, len(calls))],
        messages=list(calls[0].input_messages),
        answers=[
            replace(
                shown_answer(c, queue.show), tool_calls=[t for m in c.output_messages for t in m.tool_calls]
            )
            for c in shown
        ],
        suggestions=suggestions,
        draft=a.draft or {},
        submitted=submitted if a.state == "done" else None,
    )


def shown_answer(call: Call, show: Iterable[str]) -> ReviewedAnswer:
    """An answer's text with those facts of its call that are to be shown."""
    text = call.output_text
    return ReviewedAnswer(text=text, hash=answer_hash(text), facts=facts_of(call, show))


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
