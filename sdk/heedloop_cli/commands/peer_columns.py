"""Dataset rows in the columns that other trainers read: TRL, OpenRLHF and verl. Pure.

As their documentation has them, not tried against the programs themselves: TRL's `prompt`, `chosen`, `rejected`, `margin` and
`prompt`, `completion`, `label` in the conversational form; OpenRLHF's message lists under the keys that `--data.prompt_key`,
`--data.input_key`, `--data.output_key`, `--data.chosen_key` and `--data.rejected_key` name; verl's `data_source`, `prompt`,
`ability`, `reward_model`, `extra_info`, or `messages`. `tools` is the tools' definitions as JSON text, which TRL reads: as objects,
tables would mix the schemas of different rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from heedloop.schema import (
    Comparison,
    DatasetForm,
    Demonstration,
    Message,
    PromptRow,
    RatedCompletion,
    ToolCall,
    ToolDefinition,
    Unpaired,
    answer_messages,
    to_json,
)

__all__ = ["PEERS", "Peer", "forms_for", "left_out", "peer_row"]

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
    columns = _WRITERS[peer](row, index, name)
    if columns is not None and row.tools:
        columns["tools"] = json.dumps([_tool(t) for t in row.tools], ensure_ascii=False)
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


def _messages(messages: Iterable[Message]) -> list[Columns]:
    """Messages in the form that chat templates read; a tool's result names the tool that was called."""
    called = {t.id: t.name for m in messages for t in m.tool_calls if t.id}
    return [_message(m, called) for m in messages]


def _message(message: Message, called: Mapping[str, str]) -> Columns:
    columns: Columns = {"role": message.role, "content": message.text}
    if message.reasoning:
        columns["reasoning_content"] = message.reasoning
    if message.tool_calls:
        columns["tool_calls"] = [_tool_call(t) for t in message.tool_calls]
    if message.tool_call_id:
        columns["tool_call_id"] = message.tool_call_id
        if message.tool_call_id in called:
            columns["name"] = called[message.tool_call_id]
    return columns


def _tool_call(call: ToolCall) -> Columns:
    function = {"name": call.name, "arguments": _parsed(call.arguments)}
    return {**({"id": call.id} if call.id else {}), "type": "function", "function": function}


def _tool(tool: ToolDefinition) -> Columns:
    schema = _parsed(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    return {"type": "function", "function": function}


def _parsed(text: str) -> Any:
    """What a JSON text holds, which is what chat templates want; the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _assistant_message(text: str, messages: tuple[Message, ...]) -> list[Columns]:
    return _messages(answer_messages(text, messages))


def _sides(row: Comparison) -> Columns:
    return {
        "chosen": _assistant_message(row.chosen, row.chosen_messages),
        "rejected": _assistant_message(row.rejected, row.rejected_messages),
        "margin": 0.0 if row.margin is None else row.margin,
    }


def _trl(row: Row, index: int, name: str) -> Columns | None:  # noqa: ARG001
    prompt = _messages(row.prompt)
    match row:
        case Demonstration():
            return {
                "prompt": prompt,
                "completion": _assistant_message(row.completion, row.completion_messages),
            }
        case Comparison():
            return {"prompt": prompt, **_sides(row)}
        case Unpaired():
            return {
                "prompt": prompt,
                "completion": _assistant_message(row.completion, row.completion_messages),
                "label": row.label,
            }
        case PromptRow():
            return {"prompt": prompt}
        case RatedCompletion():
            return None


def _openrlhf(row: Row, index: int, name: str) -> Columns | None:  # noqa: ARG001
    prompt = _messages(row.prompt)
    match row:
        case Demonstration():
            return {"input": prompt, "output": _assistant_message(row.completion, row.completion_messages)}
        case Comparison():
            return {"prompt": prompt, **_sides(row)}
        case PromptRow():
            return {"input": prompt}
        case Unpaired() | RatedCompletion():
            return None


def _verl(row: Row, index: int, name: str) -> Columns | None:
    prompt = _messages(row.prompt)
    match row:
        case Demonstration():
            return {"messages": prompt + _assistant_message(row.completion, row.completion_messages)}
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
