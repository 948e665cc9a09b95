"""Prompts with a chosen and a rejected answer: Anthropic's HH dialogues, and the pair form that trainers read.

A prompt may be a dialogue in one text (`Human:` and `Assistant:` turns), a plain text, or a list of messages. Where there is none,
`chosen` and `rejected` are whole dialogues, and what they share up to the last answer is the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from heedloop.attributes import METADATA_PREFIX
from heedloop.schema import Author, Call, Feedback, Message, Ranking
from heedloop_cli.importers.record import (
    BadLine,
    Line,
    Source,
    Wrong,
    clipped,
    content_id,
    ids_of,
    messages_of,
    target_of,
    text_of,
    time_of,
)

__all__ = ["dialogue", "reader"]

SERVICE = "preference_pairs"
PUBLISHED = datetime(2022, 4, 12, tzinfo=timezone.utc)
"""For lines without a time: the day the HH dialogues were published."""

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def reader(source: Source) -> _Reader:
    """A reader of such lines."""
    return _Reader(source.default_time or PUBLISHED)


def dialogue(text: str) -> tuple[Message, ...]:
    """A text of `Human:` and `Assistant:` turns as messages; without turns, one user message."""
    pieces = _TURN.split(text)
    if len(pieces) == 1:
        return (Message("user", text),)
    turns = [Message(_ROLES[pieces[i]], pieces[i + 1].strip()) for i in range(1, len(pieces), 2)]
    head = [Message("system", pieces[0].strip())] if pieces[0].strip() else []
    if turns[-1].role == "assistant" and not turns[-1].text:
        turns.pop()  # the open turn that the answers fill
    return (*head, *turns)


class _Reader:
    def __init__(self, time: datetime) -> None:
        self._time = time

    def finish(self) -> Iterator[Line | BadLine]:
        return iter(())

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        prompt, chosen, rejected = _parts(row)
        # Without an id of the source, equal lines are one judgement: ids come from contents alone.
        key = content_id(row.get("id", ""), prompt, chosen, rejected, row.get("annotator"))
        time = time_of(row["created_at"], "created_at") if row.get("created_at") else self._time
        tie = row.get("tie", False)
        if not isinstance(tie, bool):
            raise Wrong("tie", f"must be true or false, not {tie!r:.60}")
        calls = tuple(
            _call(row, side, prompt, text, key, time)
            for side, text in (("chosen", chosen), ("rejected", rejected))
        )
        who = row.get("annotator") or row.get("author")
        feedback = Feedback(
            "comparison",
            target_of(calls[0]),
            ranking=Ranking((target_of(calls[0]), target_of(calls[1])), (1, 1) if tie else (1, 2)),
            author=Author("annotator", str(who) if who else None),
            created_at=time,
            id=content_id(SERVICE, key)[:32],
            solicited=True,
            metadata=_labels(row),
        )
        yield Line(number, calls, (feedback,))


def _parts(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str, str]:
    if row.get("prompt") is None:
        return _split(row)
    prompt = row["prompt"]
    messages = (
        dialogue(prompt) if isinstance(prompt, str) and prompt.strip() else messages_of(prompt, "prompt")
    )
    return messages, _answer(row, "chosen"), _answer(row, "rejected")


def _answer(row: Mapping[str, Any], name: str) -> str:
    """The answer's text; of a list of messages, the last one's."""
    if isinstance(row.get(name), list):
        return messages_of(row[name], name)[-1].text
    return text_of(row, name, empty=True)


def _split(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str, str]:
    sides: list[tuple[Message, ...]] = []
    for name in ("chosen", "rejected"):
        value = row.get(name)
        whole = dialogue(value) if isinstance(value, str) else messages_of(value, name)
        # An empty last answer was dropped as an open turn; it is the answer here.
        sides.append(whole if whole[-1].role == "assistant" else (*whole, Message("assistant", "")))
    chosen, rejected = sides
    if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
        raise Wrong(
            "prompt", "is missing, and chosen and rejected do not share all turns before their last answers"
        )
    return chosen[:-1], chosen[-1].text, rejected[-1].text


def _call(
    row: Mapping[str, Any], side: str, prompt: tuple[Message, ...], text: str, key: str, time: datetime
) -> Call:
    trace_id, span_id = ids_of(SERVICE, key, side)
    model = row.get(f"{side}_model")
    return Call(
        trace_id=trace_id,
        span_id=span_id,
        start_time=time,
        name="answer",
        service=SERVICE,
        model_answered=str(model) if model else None,
        input_messages=prompt,
        output_messages=(Message("assistant", text),),
        attributes={METADATA_PREFIX + k: v for k, v in _labels(row).items()},
    )


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    names = ("id", "split_in_source", "source", "category", "topic")
    return clipped({("row" if n == "id" else n): row.get(n) for n in names})
