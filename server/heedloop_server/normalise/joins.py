"""What arrives apart and belongs together: a call and its log records, and the spans of one provider call.

The parts may come in any order and in different requests. `join` is given the spans that have just come, those of the
store that may belong to them, and all the log content of both; it gives back what has to be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from heedloop.schema import Call
from heedloop_server.normalise.duplicates import Key, duplicate_target, fold
from heedloop_server.normalise.family import in_context
from heedloop_server.normalise.genai import has_question
from heedloop_server.normalise.logs import LogContent, merge


def key_of(call: Call) -> Key:
    """The span that a call is."""
    return call.trace_id, call.span_id


def wants_content(call: Call) -> bool:
    """True for a call that lacks its question or its answer: they may have come, or may yet come, as logs."""
    return bool(call.operation) and not (
        has_question(call.input_messages) and (call.output_messages or call.status == "error")
    )


def join(fresh: Sequence[Call], stored: Iterable[Call], contents: Iterable[LogContent]) -> list[Call]:
    """The fresh spans, joined and with each provider call once, then those of the stored ones that this changes.

    A fresh span that is stored already is left out: it is a resend, and the stored one may have grown since.
    """
    known = {key_of(c): c for c in stored}
    new = list({key_of(c): c for c in fresh if key_of(c) not in known}.values())
    by_span = _by_span(contents, {key_of(c): c for c in [*known.values(), *new]})
    joined = [merge(c, by_span.get(key_of(c), ())) for c in [*known.values(), *new]]
    resolved = in_context(fold(joined))
    changed = [c for c in resolved[: len(known)] if c != known[key_of(c)]]
    return resolved[len(known) :] + changed


def _by_span(contents: Iterable[LogContent], calls: Mapping[Key, Call]) -> dict[Key, list[LogContent]]:
    """Log content by the span it joins: of a span that was folded, the one that stands for it."""
    found: dict[Key, list[LogContent]] = {}
    for content in contents:
        key = (content.trace_id, content.span_id)
        call = calls.get(key)
        for _ in range(4):
            if call is None or (target := duplicate_target(call)) is None:
                break
            key, call = target, calls.get(target)
        found.setdefault(key, []).append(content)
    return found
