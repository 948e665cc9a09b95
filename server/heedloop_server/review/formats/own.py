"""Our own JSON Lines: an object per item, everything kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heedloop_server.review.formats.record import (
    External,
    Reviewed,
    Users,
    external_of,
    listed,
    member,
    original_of,
)
from heedloop_server.review.questions import Question


def write(_questions: Sequence[Question], item: Reviewed, _users: Users) -> dict[str, Any]:
    """`item_id, targets, messages, answers, facts, sampling_probability, expected, judgements`.

    Drafts and skips are in `unfinished`, which is left out where there are none.
    """
    unfinished = [original_of(j) for j in item.judgements if j.state != "done"]
    return {
        "item_id": item.item_id,
        "targets": [dict(t) for t in item.targets],
        "messages": [dict(m) for m in item.messages],
        "answers": list(item.answers),
        "facts": [dict(f) for f in item.facts],
        "sampling_probability": item.sampling_probability,
        "expected": item.expected,
        "judgements": [original_of(j) for j in item.judgements if j.state == "done"],
        **({"unfinished": unfinished} if unfinished else {}),
    }


def read(
    _questions: Sequence[Question], entry: Mapping[str, Any], find: Callable[[str], Reviewed], _users: Users
) -> list[External]:
    """The judgements, drafts and skips of one line."""
    item = find(member(entry, "item_id", "", str))
    return [
        external_of(item.item_id, one, f"{name}[{i}].")
        for name in ("judgements", "unfinished")
        for i, one in enumerate(listed(entry, name, ""))
    ]
