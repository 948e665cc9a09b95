"""Prompts that are too long: which messages go, and what is cut inside those that stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from heedloop.schema import Message

CUT_MARK = "\n[…]\n"
MIN_KEPT = 200
"""Characters of a cut message below which older turns are left out instead."""


def shorten(
    messages: Sequence[Message], limit: int, num_tokens: Callable[[Sequence[Message]], int]
) -> tuple[Message, ...] | None:
    """The conversation within `limit` tokens.

    System turns and the last user turn with all that follows it stay. Where it is enough, only the longest message is cut,
    in its middle (a question often follows its documents); otherwise the oldest turns go, whole, until it is enough;
    a last turn that is too long by itself is cut in all its long messages.

    Args:
        num_tokens: tokens of these messages as the model reads them.

    Returns:
        the messages, or None where the system turns leave no room.
    """
    kept = list(messages)
    while True:
        second = sorted(len(m.text) for m in kept if not m.is_instruction)[-2:-1]
        floor = max(MIN_KEPT, *second, 0)  # only the longest message is longer than this
        if num_tokens(_cut_to(kept, floor)) <= limit:
            return tuple(_longest_fit(kept, floor, limit, num_tokens))
        fewer = _without_oldest_turn(kept)
        if fewer is None:
            break
        kept = fewer
        if num_tokens(kept) <= limit:
            return tuple(kept)
    if num_tokens(_cut_to(kept, 1)) > limit:
        return None
    return tuple(_longest_fit(kept, 1, limit, num_tokens))


def _longest_fit(
    messages: Sequence[Message], floor: int, limit: int, num_tokens: Callable[[Sequence[Message]], int]
) -> list[Message]:
    """The messages cut to the greatest length that fits; at `floor` characters they do."""
    low, high = floor, max(len(m.text) for m in messages)
    while low < high:
        middle = (low + high + 1) // 2
        if num_tokens(_cut_to(messages, middle)) <= limit:
            low = middle
        else:
            high = middle - 1
    return _cut_to(messages, low)


def _cut_to(messages: Sequence[Message], length: int) -> list[Message]:
    """All but system turns with at most `length` characters: the middle of longer ones goes."""
    return [
        m
        if m.is_instruction or len(m.text) <= length
        else dataclasses.replace(m, text=_without_middle(m.text, length))
        for m in messages
    ]


def _without_middle(text: str, length: int) -> str:
    mark = CUT_MARK if length > 4 * len(CUT_MARK) else ""
    room = length - len(mark)
    return text[: room // 2] + mark + text[len(text) - (room - room // 2) :]


def _without_oldest_turn(messages: Sequence[Message]) -> list[Message] | None:
    """Without everything before the second user turn but system turns; None where there is only one."""
    users = [i for i, m in enumerate(messages) if m.role == "user"]
    if len(users) < 2:
        return None
    return [m for i, m in enumerate(messages) if m.is_instruction or i >= users[1]]
