"""A trace's spans as rows of a waterfall: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.schema import parse_time
from heedloop_dashboard import words

__all__ = ["answer_span", "waterfall"]

Span = Mapping[str, Any]
MAX_SPANS = 1000


def waterfall(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Spans depth first, children by start time; `start` and `width` are shares of the trace's time.

    A span whose parent is not among them stands at the top; a parent loop is cut. At most 1,000 are shown.
    """
    if not spans:
        return []
    times = {s["span_id"]: parse_time(s["start_time"]) for s in spans}
    begin = min(times.values())
    starts = {span_id: (time - begin).total_seconds() for span_id, time in times.items()}
    last = max(starts[s["span_id"]] + s.get("duration_ns", 0) / 1e9 for s in spans)
    total = max(last, 1e-9)
    children = _children(spans, starts)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    stack = [(s, 0) for s in reversed(children.get(None, []))]
    loose = sorted(spans, key=lambda s: starts[s["span_id"]])
    while len(rows) < MAX_SPANS:
        if not stack:
            rest = next((s for s in loose if s["span_id"] not in seen), None)
            if rest is None:
                break
            stack.append((rest, 0))
        span, depth = stack.pop()
        if span["span_id"] in seen:
            continue
        seen.add(span["span_id"])
        rows.append(_row(span, depth, starts[span["span_id"]], total))
        stack += [(c, depth + 1) for c in reversed(children.get(span["span_id"], []))]
    return rows


def _children(spans: Sequence[Span], starts: Mapping[str, float]) -> dict[str | None, list[Span]]:
    children: dict[str | None, list[Span]] = {}
    for span in sorted(spans, key=lambda s: starts[s["span_id"]]):
        parent = span.get("parent_span_id")
        children.setdefault(parent if parent in starts else None, []).append(span)
    return children


def _row(span: Span, depth: int, start_s: float, total_s: float) -> dict[str, Any]:
    taken = span.get("duration_ns", 0)
    return {
        "span_id": span["span_id"],
        "name": span.get("name") or span.get("operation") or "span",
        "depth": depth,
        "start": start_s / total_s,
        "width": min(taken / 1e9 / total_s, 1 - start_s / total_s),
        "duration": words.duration(taken),
        "status": span.get("status", "ok"),
    }


def answer_span(spans: Sequence[Span], span_id: str | None) -> Span | None:
    """The span a reader came for: the one named, else the first answer, else the first with messages, else the first."""
    for test in (
        lambda s: s["span_id"] == span_id,
        lambda s: bool(s.get("is_answer", True)) and bool(s.get("output_messages")),
        lambda s: bool(s.get("output_messages") or s.get("input_messages")),
        lambda _: True,
    ):
        found = next((s for s in spans if test(s)), None)
        if found is not None:
            return found
    return None
