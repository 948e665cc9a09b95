"""Stored feedback in words, and flags as marks in the very answer they judge: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.responses.feedback import StoredFeedback
from heedloop.schema import Call, Feedback, answer_hash, to_json
from heedloop_dashboard import words


def entry(feedback: StoredFeedback, *, answer: str = "") -> dict[str, Any]:
    """One judgement as the feedback component takes it; `answer` is the judged text, for the quoted range."""
    title, tone = _title(feedback)
    texts = [t for t in (feedback.comment, _ranking(feedback)) if t]
    return {
        "title": title,
        "tone": tone,
        "who": author_text(feedback),
        "when": words.clock(feedback.created_at),
        "text": "\n".join(texts) or None,
        "quote": _quote(feedback, answer),
        "id": feedback.feedback_id,
        "retracted": feedback.retracted,
    }


def author_text(feedback: Feedback) -> str:
    """The author in words: `end user user-412`."""
    author = feedback.author
    return " ".join(p for p in (author.kind.replace("_", " "), author.id) if p)


def _title(feedback: Feedback) -> tuple[str, str]:
    if feedback.kind == "rating":
        return _rating(feedback)
    if feedback.kind == "flag":
        severity = f" ({feedback.severity})" if feedback.severity else ""
        return f"Flag: {feedback.category}{severity}", "bad"
    return feedback.kind.capitalize(), ""


def _rating(feedback: Feedback) -> tuple[str, str]:
    value, scale = feedback.value, feedback.scale
    if feedback.name == "thumb" and value in (0, 1):
        return ("Thumbs-up", "good") if value == 1 else ("Thumbs-down", "bad")
    name = feedback.name.capitalize()
    if scale is not None and scale.max is not None and isinstance(value, (int, float)):
        return f"{name}: {value:g} of {scale.max:g}", ""
    return f"{name}: {value}", ""


def _ranking(feedback: Feedback) -> str | None:
    ranking = feedback.ranking
    if ranking is None:
        return None
    lines = [
        f"{rank}. {a.trace_id or a.response_id}"
        for rank, a in sorted(zip(ranking.ranks, ranking.answers, strict=True), key=lambda p: p[0])
    ]
    if ranking.all_bad:
        lines.append("None of them is acceptable.")
    return "\n".join(lines)


def _quote(feedback: Feedback, answer: str) -> str | None:
    marked = feedback.target.range
    if marked is None or not answer:
        return None
    if marked.answer_hash != answer_hash(answer):
        return "(marked in a text that is not this answer)"
    return answer[marked.start : marked.end]


def marked_messages(span: Call, feedback: Sequence[Feedback]) -> list[dict[str, Any]]:
    """The span's conversation, its answer marked where flags and corrections point; ranges of another text are left out."""
    marks = _marks(span.span_id, feedback, span.output_text)
    messages = [to_json(m) for m in span.input_messages]
    offset = 0
    for message in span.output_messages:
        inside = [_shift(m, offset, len(message.text)) for m in marks]
        messages.append({**to_json(message), "marks": [m for m in inside if m is not None]})
        offset += len(message.text) + 1 if message.text else 0
    return messages


def _marks(span_id: str, feedback: Sequence[Feedback], answer: str) -> list[dict[str, Any]]:
    digest = answer_hash(answer)
    found: list[dict[str, Any]] = []
    for f in feedback:
        marked = f.target.range
        if marked is None or f.retracted or marked.answer_hash != digest:
            continue
        if f.target.span_id not in (None, span_id):
            continue
        found.append(
            {
                "start": marked.start,
                "end": marked.end,
                "label": f.category or f.kind,
                "severity": f.severity or "high",
            }
        )
    return found


def _shift(mark: Mapping[str, Any], offset: int, length: int) -> dict[str, Any] | None:
    start, end = max(mark["start"] - offset, 0), min(mark["end"] - offset, length)
    return {**mark, "start": start, "end": end} if start < end else None
