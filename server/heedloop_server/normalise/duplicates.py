"""One provider call that arrives as several spans, in one trace or in two, counts once.

Two instrumentations side by side each export their own span; some clients export two by themselves. The provider's
response id is the only thing they share. Nothing else is ever taken for a duplicate: two equal questions are two calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from heedloop.schema import Call, Message

_MERGED = (
    "provider",
    "model_requested",
    "model_answered",
    "cost",
    "error_message",
    "http_status",
    "prompt_name",
    "prompt_version",
    "session_id",
    "user_id",
)
_MERGED_LISTS = ("input_messages", "output_messages", "finish_reasons", "embedding_inputs", "tags")


def dedupe(calls: Iterable[Call]) -> list[Call]:
    """The calls with every provider call once, in the order of their first spans; spans that are no calls are kept.

    The kept call is the richest of its spans (`richness`) and takes what it lacks from the others. Which one is kept
    depends on the spans alone, never on their order.
    """
    groups: dict[str, list[Call]] = {}
    order: list[list[Call]] = []
    for call in calls:
        key = duplicate_key(call)
        group = groups.get(key) if key else None
        if group is None:
            group = [call]
            order.append(group)
            if key:
                groups[key] = group
        else:
            group.append(call)
    return [_merged(group) for group in order]


def duplicate_key(call: Call) -> str | None:
    """What the spans of one provider call share; None where only this span can be the call."""
    return call.response_id if call.operation and call.response_id else None


def richness(call: Call) -> tuple[bool, bool, int, int, str, str]:
    """Sorts the spans of one provider call: the best one is the greatest.

    An answer that the app marked comes first, then a span with an answer's text, then the one with more in it; the ids
    decide the rest, so that every reader picks the same.
    """
    size = _size(call.input_messages) + _size(call.output_messages)
    known = sum(getattr(call, n) is not None for n in _MERGED) + len(call.params)
    marked = call.attributes.get("heedloop.answer") == "true"
    return marked, bool(call.output_messages), size, known, call.trace_id, call.span_id


def _size(messages: tuple[Message, ...]) -> int:
    return sum(len(m.text) + len(m.reasoning or "") + 10 * len(m.tool_calls) for m in messages)


def _merged(group: list[Call]) -> Call:
    if len(group) == 1:
        return group[0]
    best = max(group, key=richness)
    others = sorted((c for c in group if c is not best), key=richness, reverse=True)
    changed: dict[str, object] = {}
    for name in _MERGED:
        if getattr(best, name) is None:
            changed[name] = next((v for c in others if (v := getattr(c, name)) is not None), None)
    for name in _MERGED_LISTS:
        if not getattr(best, name):
            changed[name] = next((v for c in others if (v := getattr(c, name))), ())
    changed["params"] = {**{k: v for c in reversed(others) for k, v in c.params.items()}, **best.params}
    if best.usage.input is None and best.usage.output is None:
        changed["usage"] = next((c.usage for c in others if c.usage.input is not None), best.usage)
    changed["stream"] = best.stream or any(c.stream for c in others)
    return replace(best, **changed)  # type: ignore[arg-type]
