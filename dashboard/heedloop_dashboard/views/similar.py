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
            "Thumbs-up, the most alike first; select one to open its trace",
        )
        if answer.error is not None:
            panels.problem(answer.error)
            return
        calls: Sequence[Mapping[str, Any]] = answer.value
        if not calls:
            panels.empty("No liked answer to a question like this yet.")
            return
        heads = [
            {"key": "alike", "label": "Alike", "kind": "number"},
            {"key": "question", "label": "Question", "kind": "wide"},
            {"key": "answer", "label": "Answer", "kind": "wide"},
            {"key": "version", "label": "Version", "kind": ""},
            {"key": "model", "label": "Model", "kind": ""},
        ]
        rows = [
            {
                "key": c["trace_id"],
                "cells": [
                    words.percent(c.get("similarity"), digits=0),
                    c.get("question") or c.get("input_preview"),
                    c.get("answer") or c.get("output_preview"),
                    c.get("prompt_version"),
                    c.get("model"),
                ],
                "open": Open("trace", {"trace_id": c["trace_id"], "span_id": c["span_id"]}).to_json(),
            }
            for c in calls
        ]
        components.table("similar_rows", heads, rows, caption="Liked answers to similar questions", link=1)
