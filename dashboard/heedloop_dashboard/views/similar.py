"""What people liked: answers to questions like this one that got a thumbs-up."""

from __future__ import annotations

from typing import Any

import streamlit as st

from heedloop.client import Invalid, NotFound
from heedloop.responses import SimilarCall
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open


def show(answer: Answer[list[SimilarCall]]) -> None:
    """Draw the panel; a span without a question has none."""
    if isinstance(answer.error, (Invalid, NotFound)):
        return
    with st.expander("Liked answers to similar questions", icon=":material/thumb_up:", key="panel_similar"):
        if panels.failed(answer):
            return
        if not answer.value:
            panels.empty("No liked answer to a question like this yet.")
            return
        components.feedback("similar_answers", [_entry(c) for c in answer.value])


def _entry(call: SimilarCall) -> dict[str, Any]:
    about = " · ".join(v for v in (call.prompt_version, call.model) if v)
    return {
        "title": call.question or call.input_preview,
        "when": f"{words.percent(call.similarity, digits=0)} similar",
        "who": about,
        "text": call.answer or call.output_preview,
        "id": "Open this trace",
        "open": Open("trace", {"trace_id": call.trace_id, "span_id": call.span_id}).to_json(),
    }
