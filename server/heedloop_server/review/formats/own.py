"""Our own JSON Lines: an object per item, everything kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heedloop.schema import format_time
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats.record import External, Reviewed, listed, member, time_of, whole_of
from heedloop_server.review.questions import Question

__all__ = ["read", "write"]


def write(_questions: Sequence[Question], item: Reviewed) -> dict[str, Any]:
    """`item_id, targets, messages, answers, facts, sampling_probability, expected, judgements`."""
    return {
        "item_id": item.item_id,
        "targets": [dict(t) for t in item.targets],
        "messages": [dict(m) for m in item.messages],
        "answers": list(item.answers),
        "facts": [dict(f) for f in item.facts],
        "sampling_probability": item.sampling_probability,
        "expected": item.expected,
        "judgements": [_judgement(j) for j in item.judgements],
    }


def _judgement(one: Judged) -> dict[str, Any]:
    return {
        "annotator": one.annotator,
        "answers": dict(one.answers),
        "shown_order": list(one.shown_order),
        "submitted_at": format_time(one.submitted_at),
        "duration_ms": one.duration_ms,
        "guideline_version": one.guideline_version,
    }


def read(
    _questions: Sequence[Question], entry: Mapping[str, Any], find: Callable[[str], Reviewed]
) -> list[External]:
    """The judgements of one line."""
    item = find(member(entry, "item_id", "", str))
    found: list[External] = []
    for i, one in enumerate(listed(entry, "judgements", "")):
        where = f"judgements[{i}]."
        found.append(
            External(
                item.item_id,
                member(one, "annotator", where, str),
                member(one, "answers", where, dict),
                time_of(one, "submitted_at", where),
                whole_of(one, "duration_ms", where),
                whole_of(one, "guideline_version", where),
            )
        )
    return found
