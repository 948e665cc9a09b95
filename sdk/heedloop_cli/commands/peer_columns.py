"""Dataset rows in the columns that other trainers read: TRL, OpenRLHF and verl. Pure.

As their documentation has them, not tried against the programs themselves: TRL's `prompt`, `chosen`, `rejected`, `margin` and
`prompt`, `completion`, `label` in the conversational form; OpenRLHF's message lists under the keys that `--data.prompt_key`,
`--data.input_key`, `--data.output_key`, `--data.chosen_key` and `--data.rejected_key` name; verl's `data_source`, `prompt`,
`ability`, `reward_model`, `extra_info`, or `messages`. `tools` is the tools' definitions as JSON text, which TRL reads: as objects,
tables would mix the schemas of different rows.
"""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from heedloop.schema import (
    Comparison,
    DatasetForm,
    Demonstration,
    PromptRow,
    RatedCompletion,
    Unpaired,
    answer_messages,
    to_json,
)
from heedloop.schema.chat import chat_messages, chat_tools

Peer = Literal["heedloop", "trl", "openrlhf", "verl"]
PEERS: tuple[Peer, ...] = get_args(Peer)

Columns = dict[str, Any]
Row = Demonstration | Comparison | Unpaired | PromptRow | RatedCompletion


def forms_for(peer: Peer) -> tuple[DatasetForm, ...]:
    """The forms that a peer has a trainer for."""
    return _FORMS[peer]


def peer_row(row: Any, peer: Peer, *, index: int = 0, name: str = "") -> Columns | None:
    """One row in a peer's columns; None where the peer cannot hold it (`left_out` says why).

    Args:
        index: the row's place in its file.
        name: the dataset's name, for verl's `data_source`.
    """
    if peer == "heedloop":
        return to_json(row)
    if left_out(row, peer):
        return None
    columns = _verl(row, index, name) if peer == "verl" else _named(row, _NAMES[peer])
    if columns is not None and row.tools:
        columns["tools"] = json.dumps(chat_tools(row.tools), ensure_ascii=False)
    return columns


def left_out(row: Row, peer: Peer) -> str | None:
    """Why a row of a form that the peer trains on is left out; None where it is not."""
    if peer == "heedloop":
        return None
    if isinstance(row, Comparison) and (row.tie or row.chosen == row.rejected):
        return "ties"
    # OpenRLHF gives no tools to the chat template; verl's rollouts want them as code
    uses_tools = row.tools or any(m.tool_calls or m.role == "tool" for m in row.prompt)
    if uses_tools and (peer == "openrlhf" or (peer == "verl" and isinstance(row, PromptRow))):
        return "rows with tools"
    return None


_NAMES: dict[str, dict[type[Row], tuple[str, ...]]] = {
    "trl": {
        Demonstration: ("prompt", "completion"),
        Comparison: ("prompt",),
        Unpaired: ("prompt", "completion"),
        PromptRow: ("prompt",),
    },
    "openrlhf": {Demonstration: ("input", "output"), Comparison: ("prompt",), PromptRow: ("input",)},
}
"""The columns of the prompt and of its one answer, by peer and form; the columns of a comparison's answers are the same in both."""


def _named(row: Row, names: dict[type[Row], tuple[str, ...]]) -> Columns | None:
    """A row in columns of these names; None for a form that has none."""
    if type(row) not in names:
        return None
    prompt, *answer = names[type(row)]
    columns: Columns = {prompt: chat_messages(row.prompt)}
    for column in answer:
        columns[column] = _answer(row, "completion")
    if isinstance(row, Comparison):
        sides = {side: _answer(row, side) for side in ("chosen", "rejected")}
        columns |= {**sides, "margin": 0.0 if row.margin is None else row.margin}
    if isinstance(row, Unpaired):
        columns["label"] = row.label
    return columns


def _answer(row: Row, side: str) -> list[Columns]:
    return chat_messages(answer_messages(getattr(row, side), getattr(row, f"{side}_messages")))


def _verl(row: Row, index: int, name: str) -> Columns | None:
    prompt = chat_messages(row.prompt)
    match row:
        case Demonstration():
            return {"messages": prompt + _answer(row, "completion")}
        case PromptRow():
            return {
                "data_source": f"heedloop/{name}",
                "prompt": prompt,
                "ability": "feedback",
                "reward_model": {"style": "model", "ground_truth": ""},
                "extra_info": {"split": row.split, "index": index, "group": row.group},
            }
        case Comparison() | Unpaired() | RatedCompletion():
            return None


_FORMS: dict[str, tuple[DatasetForm, ...]] = {
    "heedloop": ("demonstrations", "comparisons", "unpaired", "prompts", "rated"),
    "trl": ("demonstrations", "comparisons", "unpaired", "prompts"),
    "openrlhf": ("demonstrations", "comparisons", "prompts"),
    "verl": ("demonstrations", "prompts"),
}
