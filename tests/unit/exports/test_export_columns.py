"""Rows in other trainers' columns."""

from __future__ import annotations

import pytest

from heedloop.schema import (
    ROW_CLASSES,
    Comparison,
    Demonstration,
    Message,
    PromptRow,
    RatedCompletion,
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
