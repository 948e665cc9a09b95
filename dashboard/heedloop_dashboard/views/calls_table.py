"""A list of answers as a table whose rows open their traces; used by several pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heedloop.responses.calls import CallSummary
from heedloop_dashboard import components, words
from heedloop_dashboard.navigation import Open

COLUMNS = {
    "time": ("Time", ""),
    "question": ("Question", "wide"),
    "answer": ("Answer", "wide"),
    "tags": ("Tags", ""),
    "version": ("Version", ""),
    "model": ("Model", ""),
    "thumb": ("Thumb", "thumb"),
    "flags": ("Flags", ""),
    "user": ("User", ""),
    "session": ("Session", ""),
    "cost": ("Cost", "number"),
    "tokens": ("Tokens", "number"),
    "duration": ("Took", "number"),
    "status": ("Status", ""),
}
"""Key -> heading and kind; which of them a list shows, its page says."""
SORTS = {
    "time": ("newest", "oldest"),
    "duration": ("slowest", "fastest"),
    "cost": ("costliest", "cheapest"),
    "tokens": ("most_tokens", "fewest_tokens"),
}
"""Column -> the orders of `GET /v1/calls` by it, descending and ascending."""


def show(
    key: str,
    calls: Sequence[CallSummary],
    *,
    columns: Sequence[str],
    params: Mapping[str, str],
    tall: bool = False,
    caption: str = "Answers, newest first",
    order: str = "newest",
    sorted_by: Callable[[str], Open] | None = None,
    actions: Sequence[Mapping[str, str]] = (),
) -> Mapping[str, Any] | None:
    """Draw the list; returns what was just chosen to be done with answers, as `action` and `keys` (`trace:span`).

    Args:
        params: go along to the trace page, so that its next and previous stay in this list.
        sorted_by: the page with the list in another order, where it can be sorted.
    """
    heads = [_head(c, order, sorted_by) for c in columns]
    rows = [
        {
            "key": call.trace_id,
            "pick": f"{call.trace_id}:{call.span_id}",
            "cells": [_cell(call, c) for c in columns],
            "open": Open("trace", {**params, "trace_id": call.trace_id, "span_id": call.span_id}).to_json(),
            "opens": _opens(call),
        }
        for call in calls
    ]
    return components.table(key, heads, rows, caption=caption, tall=tall, actions=actions)


def _head(column: str, order: str, sorted_by: Callable[[str], Open] | None) -> dict[str, Any]:
    label, kind = COLUMNS[column]
    head: dict[str, Any] = {"key": column, "label": label, "kind": kind}
    if sorted_by is not None and column in SORTS:
        descending, ascending = SORTS[column]
        head["open"] = sorted_by(ascending if order == descending else descending).to_json()
        head["sorted"] = {descending: "descending", ascending: "ascending"}.get(order, "")
    return head


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
    if column == "cost":
        return None if call.cost is None else words.dollars(call.cost)
    if column == "tokens":
        return words.count((call.usage.input or 0) + (call.usage.output or 0)) if call.usage.input else None
    if column in ("user", "session"):
        return getattr(call, f"{column}_id")
    return getattr(call, column)


def _opens(call: CallSummary) -> dict[str, Any]:
    ids = {"user": call.user_id, "session": call.session_id}
    return {page: Open(page, {f"{page}_id": value}).to_json() for page, value in ids.items() if value}
