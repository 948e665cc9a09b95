"""Dataset rows in the columns that other trainers read: TRL, OpenRLHF and verl. Pure.

As their documentation has them, not tried against the programs themselves: TRL's `prompt`, `chosen`, `rejected`, `margin` and
`prompt`, `completion`, `label` in the conversational form; OpenRLHF's message lists under the keys that `--data.prompt_key`,
`--data.input_key`, `--data.output_key`, `--data.chosen_key` and `--data.rejected_key` name; verl's `data_source`, `prompt`,
`ability`, `reward_model`, `extra_info`, or `messages`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from heedloop.schema import (
    Comparison,
    DatasetForm,
    Demonstration,
    Message,
    PromptRow,
    RatedCompletion,
    Unpaired,
    to_json,
)

__all__ = ["PEERS", "Peer", "forms_for", "peer_row"]

Peer = Literal["heedloop", "trl", "openrlhf", "verl"]
PEERS: tuple[Peer, ...] = get_args(Peer)

Columns = dict[str, Any]
Row = Demonstration | Comparison | Unpaired | PromptRow | RatedCompletion


def forms_for(peer: Peer) -> tuple[DatasetForm, ...]:
    """The forms that a peer has a trainer for."""
    return _FORMS[peer]


def peer_row(row: Any, peer: Peer, *, index: int = 0, name: str = "") -> Columns | None:
    """One row in a peer's columns; None where the peer cannot hold it (a tie is no preference to any of them).

    Args:
        index: the row's place in its file.
        name: the dataset's name, for verl's `data_source`.
    """
    if peer == "heedloop":
        return to_json(row)
    if isinstance(row, Comparison) and (row.tie or row.chosen == row.rejected):
        return None
    return _WRITERS[peer](row, index, name)


def _messages(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.text} for m in messages]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _trl(row: Row, index: int, name: str) -> Columns | None:  # noqa: ARG001
    prompt = _messages(row.prompt)
    match row:
        case Demonstration():
            return {"prompt": prompt, "completion": _said(row.completion)}
        case Comparison():
            pair: Columns = {"prompt": prompt, "chosen": _said(row.chosen), "rejected": _said(row.rejected)}
            return pair | {"margin": 0.0 if row.margin is None else row.margin}
        case Unpaired():
            return {"prompt": prompt, "completion": _said(row.completion), "label": row.label}
        case PromptRow():
            return {"prompt": prompt}
        case RatedCompletion():
            return None


def _openrlhf(row: Row, index: int, name: str) -> Columns | None:  # noqa: ARG001
    prompt = _messages(row.prompt)
    match row:
        case Demonstration():
            return {"input": prompt, "output": _said(row.completion)}
        case Comparison():
            pair: Columns = {"prompt": prompt, "chosen": _said(row.chosen), "rejected": _said(row.rejected)}
            return pair | {"margin": 0.0 if row.margin is None else row.margin}
        case PromptRow():
            return {"input": prompt}
        case Unpaired() | RatedCompletion():
            return None


def _verl(row: Row, index: int, name: str) -> Columns | None:
    prompt = _messages(row.prompt)
    match row:
        case Demonstration():
            return {"messages": prompt + _said(row.completion)}
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


_WRITERS: dict[str, Callable[[Row, int, str], Columns | None]] = {
    "trl": _trl,
    "openrlhf": _openrlhf,
    "verl": _verl,
}
_FORMS: dict[str, tuple[DatasetForm, ...]] = {
    "heedloop": ("demonstrations", "comparisons", "unpaired", "prompts", "rated"),
    "trl": ("demonstrations", "comparisons", "unpaired", "prompts"),
    "openrlhf": ("demonstrations", "comparisons", "prompts"),
    "verl": ("demonstrations", "prompts"),
}
