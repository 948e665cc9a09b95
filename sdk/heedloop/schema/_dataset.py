"""Rows that models are trained on, and the snapshot that freezes them.

A completion is text and messages. `completion`, `chosen` and `rejected` are the text to read: what the model said, then a line
`name(arguments)` per tool call. Where the model wrote more than one message of plain text (tool calls, the tools' results
between them, reasoning), `completion_messages` and its like hold all of it, and are what a model is trained on; where they are
empty, the completion is one assistant message with the text. `answer_messages` gives the messages of either. `tools` are the
function tools that the request offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heedloop.schema._call import Message, ToolDefinition
from heedloop.schema._kinds import DatasetForm, Split


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What should be said: a prompt and a completion (a correction, or a liked answer). For SFT."""

    prompt: tuple[Message, ...]
    completion: str
    completion_messages: tuple[Message, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    source: str = "correction"
    weight: float = 1.0
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of two completions is better. For reward models and DPO.

    Attributes:
        margin: how much better, 0 or more on the reward's scale; None where nobody said.
        weight: the row's share of a judgement: the comparisons of one ranking sum to one weight.
        tie: True where the judge found them equal; chosen and rejected are then in no order.
        source: `comparison`, `correction` or `thumbs`.
        author: the judge's id, for intervals clustered by judge; None where unknown.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    chosen_messages: tuple[Message, ...] = ()
    rejected_messages: tuple[Message, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    margin: float | None = None
    weight: float = 1.0
    tie: bool = False
    source: str = "comparison"
    author: str | None = None
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A completion that was liked (`label` True) or disliked. For KTO and pointwise reward models."""

    prompt: tuple[Message, ...]
    completion: str
    label: bool
    completion_messages: tuple[Message, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    weight: float = 1.0
    author: str | None = None
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt that was really asked, once per distinct prompt. For PPO and for evaluation."""

    prompt: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    weight: float = 1.0
    group: str = ""
    split: Split = "train"
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RatedCompletion:
    """A completion with its ratings by name, each rescaled to 0..1. For per-dimension reward heads."""

    prompt: tuple[Message, ...]
    completion: str
    ratings: Mapping[str, float] = field(default_factory=dict)
    completion_messages: tuple[Message, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    weight: float = 1.0
    author: str | None = None
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


def answer_messages(text: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages of a completion: `messages`, or one assistant message of `text` where there are none.

    Such as `answer_messages(row.chosen, row.chosen_messages)`.
    """
    return messages or (Message("assistant", text),)


def answer_text(messages: Iterable[Message]) -> str:
    """An answer as text to read, measure or compare: what its assistant messages say, and a line `name(arguments)` per tool call."""
    lines: list[str] = []
    for message in messages:
        if message.role == "assistant":
            lines += [message.text] if message.text else []
            lines += [f"{t.name}({t.arguments})" for t in message.tool_calls]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset frozen in time.

    Attributes:
        id: hex; made from everything below that decides the rows, so equal snapshots have equal ids.
        query: the filter and the rules the rows were made with.
        as_of: feedback and calls stored after this moment are not in it.
        feedback_hash: SHA-256 over the sorted (feedback id, version) pairs it holds.
        num_rows: form -> split -> count.
    """

    id: str
    name: str
    created_at: datetime
    as_of: datetime
    query: Mapping[str, Any] = field(default_factory=dict)
    feedback_hash: str = ""
    num_feedback: int = 0
    num_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


ROW_CLASSES: dict[DatasetForm, type[Any]] = {
    "demonstrations": Demonstration,
    "comparisons": Comparison,
    "unpaired": Unpaired,
    "prompts": PromptRow,
    "rated": RatedCompletion,
}
"""The row class of each dataset form."""
