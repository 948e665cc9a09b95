"""What people liked: answers to questions like this one that got a thumbs-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.client import Invalid, NotFound
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open

__all__ = ["show"]


def show(answer: Answer) -> None:
    """Draw the panel; a span without a question has none."""
    if isinstance(answer.error, (Invalid, NotFound)):
        return
    with panels.panel("similar"):
        panels.header(
            "Liked answers to similar questions",
            "Thumbs-up, the most alike first",
        )
        if answer.error is not None:
            panels.problem(answer.error)
            return
        calls: Sequence[Mapping[str, Any]] = answer.value
        if not calls:
            panels.empty("No liked answer to a question like this yet.")
            return
        components.feedback("similar_answers", [_entry(c) for c in calls])


def _entry(call: Mapping[str, Any]) -> dict[str, Any]:
    about = " · ".join(str(v) for v in (call.get("prompt_version"), call.get("model")) if v)
    return {
        "title": call.get("question") or call.get("input_preview"),
        "when": f"{words.percent(call.get('similarity'), digits=0)} alike",
        "who": about,
        "text": call.get("answer") or call.get("output_preview"),
        "id": "Open this trace",
        "open": Open("trace", {"trace_id": call["trace_id"], "span_id": call["span_id"]}).to_json(),
    }
