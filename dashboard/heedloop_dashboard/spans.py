"""A trace's spans as rows of a waterfall, and what a span without messages was given and gave back: pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from heedloop.responses.calls import Trace
from heedloop.schema import Call, Target
from heedloop_dashboard import words

MAX_SPANS = 5000
MAX_PAYLOAD_CHARS = 1_000_000
INPUTS = (
    "gen_ai.tool.call.arguments", "tool_arguments", "ai.toolCall.args", "gcp.vertex.agent.tool_call_args",
    "tool.parameters", "traceloop.entity.input", "langfuse.observation.input", "mlflow.spanInputs", "input.value",
    "gen_ai.task.input", "heedloop.input", "input", "gen_ai.input.messages", "gen_ai.prompt",
)  # fmt: skip
"""Attributes that hold what a span was given, by the conventions that name them; the first that is there is shown."""
OUTPUTS = (
    "gen_ai.tool.call.result", "tool_response", "ai.toolCall.result", "gcp.vertex.agent.tool_response",
    "traceloop.entity.output", "langfuse.observation.output", "mlflow.spanOutputs", "output.value", "gen_ai.task.output",
    "heedloop.output", "output", "gen_ai.output.messages", "gen_ai.completion",
)  # fmt: skip
_TOOL_MARKS = (
    "gen_ai.tool.name",
    "gen_ai.tool.call.id",
    "gen_ai.tool.call.arguments",
    "tool.name",
    "tool_arguments",
    "ai.toolCall.name",
)
"""Attributes that only a call of a tool has."""


def waterfall(spans: Sequence[Call]) -> list[dict[str, Any]]:
    """Spans depth first, children by start time; `start` and `width` are shares of the trace's time.

    A span whose parent is not among them comes at the top; a parent loop is cut. At most 5,000 are shown.
    """
    if not spans:
        return []
    times = {s.span_id: s.start_time for s in spans}
    begin = min(times.values())
    starts = {span_id: (time - begin).total_seconds() for span_id, time in times.items()}
    total = max(1e-9, *(starts[s.span_id] + s.duration_ns / 1e9 for s in spans))
    children = _children(spans, starts)
    attempts = _attempts(children)
    rows: list[dict[str, Any]] = []
    for span, depth in _depth_first(spans, children, starts):
        if len(rows) == MAX_SPANS:
            break
        row = _row(span, depth, starts[span.span_id], total)
        rows.append(row | {"attempt": attempts.get(span.span_id, 0)})
    return rows


def _depth_first(
    spans: Sequence[Call], children: Mapping[str | None, Sequence[Call]], starts: Mapping[str, float]
) -> Iterator[tuple[Call, int]]:
    """Every span once with its depth: from those at the top, then from those that only a parent loop leads to."""
    seen: set[str] = set()
    tops = [*children.get(None, []), *sorted(spans, key=lambda s: starts[s.span_id])]
    for top in tops:
        stack = [(top, 0)]
        while stack:
            span, depth = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            yield span, depth
            stack += [(c, depth + 1) for c in reversed(children.get(span.span_id, []))]


def _attempts(children: Mapping[str | None, Sequence[Call]]) -> dict[str, int]:
    """Call id -> its number among attempts: siblings of one name of which each but the last failed."""
    found: dict[str, int] = {}
    for siblings in children.values():
        last: dict[str, Call] = {}
        for span in siblings:
            before = last.get(span.name)
            if before is not None and before.status == "error":
                number = found.setdefault(before.span_id, 1)
                found[span.span_id] = number + 1
            last[span.name] = span
    return found


def _children(spans: Sequence[Call], starts: Mapping[str, float]) -> dict[str | None, list[Call]]:
    children: dict[str | None, list[Call]] = {}
    for span in sorted(spans, key=lambda s: starts[s.span_id]):
        parent = span.parent_span_id
        children.setdefault(parent if parent in starts else None, []).append(span)
    return children


def _row(span: Call, depth: int, start_s: float, total_s: float) -> dict[str, Any]:
    taken = span.duration_ns
    return {
        "span_id": span.span_id,
        "name": span.name or span.operation or "span",
        "depth": depth,
        "start": round(start_s / total_s, 5),
        "width": round(min(taken / 1e9 / total_s, 1 - start_s / total_s), 5),
        "duration": words.duration(taken),
        "status": span.status,
        "error": (span.error_message or "")[:300],
    }


def is_tool(span: Call) -> bool:
    """True where the span is a call of a tool."""
    attributes = span.attributes
    kind = attributes.get("openinference.span.kind") or attributes.get("mlflow.spanType") or ""
    return (
        "execute_tool" in (span.operation, attributes.get("gen_ai.operation.name"))
        or kind.strip('"').lower() == "tool"
        or any(attributes.get(name) for name in _TOOL_MARKS)
    )


def payloads(span: Call) -> list[dict[str, str]]:
    """What a span was given and gave back, as `title` and `text` (JSON set out); of a tool both, also where one is empty."""
    attributes = span.attributes
    tool = is_tool(span)
    found: list[dict[str, str]] = []
    for title, names in (
        ("Arguments" if tool else "Input", INPUTS),
        ("Result" if tool else "Output", OUTPUTS),
    ):
        text = next((attributes[n] for n in names if attributes.get(n)), "")
        if text or tool:
            found.append({"title": title, "text": _set_out(text) if text else "(empty)"})
    return found


def sent_messages(span: Call) -> list[dict[str, Any]]:
    """The messages in the standard attributes of a span that is no LLM call by itself, as `role` and `text`."""
    attributes = span.attributes
    found: list[dict[str, Any]] = []
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        with suppress(ValueError, RecursionError, TypeError, AttributeError, KeyError):
            found += [
                {
                    "role": m["role"],
                    "text": "\n".join(p["content"] for p in m["parts"] if p.get("type") == "text"),
                }
                for m in json.loads(attributes[name])
            ]
    return found


def _set_out(text: str) -> str:
    """JSON with line breaks; any other text as it is."""
    if text.lstrip()[:1] not in ("{", "["):
        return text[:MAX_PAYLOAD_CHARS]
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return text[:MAX_PAYLOAD_CHARS]


def answer_span(trace: Trace, span_id: str | None = None) -> Call | None:
    """The span a reader came for: the one named, else the answer its user saw, else the first with messages, else the first."""
    for chosen in (
        [s for s in trace.spans if s.span_id == span_id],
        [s for s in trace.spans if s.span_id == trace.answer_span_id],
        [s for s in trace.spans if s.input_messages],
        trace.spans,
    ):
        if chosen:
            return chosen[0]
    return None


def judged_span(trace: Trace, target: Target) -> Call | None:
    """The span that feedback is about: a framework's span around the whole trace stands for the answer its user saw."""
    named = next((s for s in trace.spans if s.span_id == target.span_id), None)
    around = named is None or not (named.operation or named.parent_span_id)
    return named if named is not None and (named.output_messages or not around) else answer_span(trace)
