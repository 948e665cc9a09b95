"""Rows in other trainers' columns."""

from __future__ import annotations

import json

import pytest

from heedloop.schema import (
    ROW_CLASSES,
    Comparison,
    Demonstration,
    Message,
    PromptRow,
    RatedCompletion,
    ToolCall,
    ToolDefinition,
    Unpaired,
    from_json,
)
from heedloop_cli.commands.peer_columns import PEERS, forms_for, peer_row

PROMPT = (Message("system", "Be brief."), Message("user", "Hi"))
WRITTEN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
ROWS = {
    "demonstrations": Demonstration(PROMPT, "Hello"),
    "comparisons": Comparison(PROMPT, "Hello", "No", margin=0.5, weight=0.3),
    "unpaired": Unpaired(PROMPT, "Hello", True),
    "prompts": PromptRow(PROMPT, group="g", split="test"),
    "rated": RatedCompletion(PROMPT, "Hello", {"tone": 0.5}),
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("form", ROWS)
def test_a_peer_has_columns_for_what_it_can_train(peer, form):
    assert (peer_row(ROWS[form], peer) is not None) == (form in forms_for(peer))


def test_our_own_rows_come_back_whole():
    for form, row in ROWS.items():
        assert from_json(ROW_CLASSES[form], peer_row(row, "heedloop")) == row


def test_trl():
    said = [{"role": "assistant", "content": "Hello"}]
    assert peer_row(ROWS["demonstrations"], "trl") == {"prompt": WRITTEN, "completion": said}
    assert peer_row(ROWS["unpaired"], "trl") == {"prompt": WRITTEN, "completion": said, "label": True}
    assert peer_row(ROWS["comparisons"], "trl") == {
        "prompt": WRITTEN,
        "chosen": said,
        "rejected": [{"role": "assistant", "content": "No"}],
        "margin": 0.5,
    }
    assert peer_row(Comparison(PROMPT, "a", "b"), "trl")["margin"] == 0.0


def test_openrlhf():
    said = [{"role": "assistant", "content": "Hello"}]
    assert peer_row(ROWS["demonstrations"], "openrlhf") == {"input": WRITTEN, "output": said}
    assert peer_row(ROWS["prompts"], "openrlhf") == {"input": WRITTEN}
    assert peer_row(ROWS["comparisons"], "openrlhf") == peer_row(ROWS["comparisons"], "trl")


def test_tools_are_written_as_chat_templates_read_them():
    """Arguments are an object, also where the model wrote none; a result names the tool that was called."""
    asked = Message("assistant", "", tool_calls=(ToolCall("now", "", "c1"),))
    prompt = (Message("user", "Time?"), asked, Message("tool", "noon", tool_call_id="c1"))
    row = Demonstration(prompt, "It is noon.", tools=(ToolDefinition("now", "The time.", "", "custom"),))
    columns = peer_row(row, "trl")
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": {}}}
    assert columns["prompt"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "c1", "name": "now"},
    ]
    function = {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
    assert json.loads(columns["tools"]) == [{"type": "custom", "function": function}]


def test_a_tie_is_nobodys_preference():
    tie = Comparison(PROMPT, "a", "b", tie=True)
    assert peer_row(tie, "heedloop")["tie"] is True
    assert [peer_row(tie, peer) for peer in ("trl", "openrlhf")] == [None, None]


def test_verl():
    assert peer_row(ROWS["prompts"], "verl", index=4, name="mine") == {
        "data_source": "heedloop/mine",
        "prompt": WRITTEN,
        "ability": "feedback",
        "reward_model": {"style": "model", "ground_truth": ""},
        "extra_info": {"split": "test", "index": 4, "group": "g"},
    }
