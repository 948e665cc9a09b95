"""A list of answers as a table whose rows open their traces; used by several pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.responses.calls import CallSummary
from heedloop_dashboard import components, words
from heedloop_dashboard.navigation import Open

__all__ = ["show"]

_COLUMNS = {
    "time": ("Time", ""),
    "question": ("Question", "wide"),
    "answer": ("Answer", "wide"),
    "tags": ("Tags", ""),
    "version": ("Version", ""),
    "model": ("Model", ""),
    "thumb": ("Thumb", "thumb"),
    "flags": ("Flags", ""),
    "duration": ("Took", "number"),
    "status": ("Status", ""),
}


def show(
    key: str,
    calls: Sequence[CallSummary],
    *,
    columns: Sequence[str],
    params: Mapping[str, str],
    tall: bool = False,
    caption: str = "Answers, newest first",
) -> None:
    """Draw the list; `params` go along to the trace page, so that its next and previous stay in this list."""
    heads = [{"key": c, "label": _COLUMNS[c][0], "kind": _COLUMNS[c][1]} for c in columns]
    rows = [
        {
            "key": call.trace_id,
            "cells": [_cell(call, c) for c in columns],
            "open": Open("trace", {**params, "trace_id": call.trace_id, "span_id": call.span_id}).to_json(),
        }
        for call in calls
    ]
    components.table(key, heads, rows, caption=caption, tall=tall)


def _cell(call: CallSummary, column: str) -> Any:
    if column == "time":
        return words.clock(call.start_time)
    if column == "answer":
        return call.output_preview or call.error_message
    if column == "question":
        return call.input_preview
    if column == "version":
        return call.prompt_version
    if column == "thumb":
        return None if call.thumb is None else ("Down", "Up")[call.thumb]
    if column == "duration":
        return words.duration(call.duration_ns)
    if column in ("flags", "tags"):
        return getattr(call, column) or None
    return getattr(call, column)
