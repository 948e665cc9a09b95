"""Stored feedback in words, and flags as marks in the very answer they judge: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.schema import answer_hash
from heedloop_dashboard import words

__all__ = ["author_text", "entry", "marked_messages"]

Feedback = Mapping[str, Any]


def entry(feedback: Feedback, *, answer: str = "") -> dict[str, Any]:
    """One judgement as the feedback component takes it; `answer` is the judged text, for the quoted range."""
    title, tone = _title(feedback)
    texts = [t for t in (feedback.get("comment"), _ranking(feedback)) if t]
    return {
        "title": title,
        "tone": tone,
        "who": author_text(feedback),
        "when": words.clock(feedback.get("created_at")),
        "text": "\n".join(texts) or None,
        "quote": _quote(feedback, answer),
        "id": feedback.get("feedback_id"),
        "retracted": bool(feedback.get("retracted")),
    }


def author_text(feedback: Feedback) -> str:
    """The author in words: `end user user-412`."""
    author: Mapping[str, Any] = feedback.get("author") or {}
    parts = [str(author.get("kind", "end_user")).replace("_", " ")]
    if author.get("id"):
        parts.append(str(author["id"]))
    return " ".join(parts)


def _title(feedback: Feedback) -> tuple[str, str]:
    kind, value = feedback.get("kind"), feedback.get("value")
    if kind == "rating":
        return _rating(feedback, value)
    if kind == "flag":
        severity = f" ({feedback['severity']})" if feedback.get("severity") else ""
        return f"Flag: {feedback.get('category')}{severity}", "bad"
    if kind == "correction":
        return "Correction", ""
    if kind == "comparison":
        return "Comparison", ""
    return "Comment", ""


def _rating(feedback: Feedback, value: Any) -> tuple[str, str]:
    scale: Mapping[str, Any] = feedback.get("scale") or {}
    if feedback.get("name", "thumb") == "thumb" and value in (0, 1):
        return ("Thumbs-up", "good") if value == 1 else ("Thumbs-down", "bad")
    name = str(feedback.get("name", "rating")).capitalize()
    if "max" in scale and isinstance(value, (int, float)):
        return f"{name}: {value:g} of {scale['max']:g}", ""
    return f"{name}: {value}", ""


def _ranking(feedback: Feedback) -> str | None:
    ranking: Mapping[str, Any] | None = feedback.get("ranking")
    if not ranking:
        return None
    answers: Sequence[Mapping[str, Any]] = ranking.get("answers") or []
    ranks: Sequence[int] = ranking.get("ranks") or []
    lines = [
        f"{rank}. {a.get('trace_id') or a.get('response_id')}"
        for rank, a in sorted(zip(ranks, answers, strict=False), key=lambda p: p[0])
    ]
    if ranking.get("all_bad"):
        lines.append("None of them is acceptable.")
    return "\n".join(lines)


def _range(feedback: Feedback) -> Mapping[str, Any] | None:
    return (feedback.get("target") or {}).get("range")


def _quote(feedback: Feedback, answer: str) -> str | None:
    marked = _range(feedback)
    if marked is None or not answer:
        return None
    if marked["answer_hash"] != answer_hash(answer):
        return "(marked in a text that is not this answer)"
    return answer[marked["start"] : marked["end"]]


def marked_messages(span: Mapping[str, Any], feedback: Sequence[Feedback]) -> list[dict[str, Any]]:
    """The span's conversation, its answer marked where flags and corrections point; ranges of another text are left out."""
    outputs: Sequence[Mapping[str, Any]] = span.get("output_messages") or []
    answer = "\n".join(m["text"] for m in outputs if m.get("text"))
    marks = _marks(span["span_id"], feedback, answer)
    messages = [dict(m) for m in span.get("input_messages") or []]
    offset = 0
    for message in outputs:
        text = message.get("text") or ""
        inside = [_shift(m, offset, len(text)) for m in marks]
        messages.append({**message, "marks": [m for m in inside if m is not None]})
        offset += len(text) + 1 if text else 0
    return messages


def _marks(span_id: str, feedback: Sequence[Feedback], answer: str) -> list[dict[str, Any]]:
    digest = answer_hash(answer)
    found: list[dict[str, Any]] = []
    for f in feedback:
        marked = _range(f)
        if marked is None or f.get("retracted") or marked["answer_hash"] != digest:
            continue
        if f["target"].get("span_id") not in (None, span_id):
            continue
        label = f.get("category") or f.get("kind")
        found.append(
            {
                "start": marked["start"],
                "end": marked["end"],
                "label": str(label),
                "severity": f.get("severity") or "high",
            }
        )
    return found


def _shift(mark: Mapping[str, Any], offset: int, length: int) -> dict[str, Any] | None:
    start, end = max(mark["start"] - offset, 0), min(mark["end"] - offset, length)
    return {**mark, "start": start, "end": end} if start < end else None
