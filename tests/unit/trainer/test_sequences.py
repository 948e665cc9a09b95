"""Token sequences and batches: the end token, lengths, budgets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedloop.schema import Message, ToolCall
from heedloop_trainer.nn.encoder import Encoder, render_prompt
from heedloop_trainer.nn.sequences import MAX_PADDING, TokenSequence, collate, micro_batches

PROMPT = (Message("user", "w1 w2"),)


def test_the_end_token_belongs_to_the_response(tokenizer):
    encoder = Encoder(tokenizer)
    [sequence] = encoder.sequences([PROMPT], ["w3 w4"])
    assert sequence.prompt_ids == [3, 4]
    assert sequence.response_ids == [5, 6, tokenizer.eos_token_id]
    assert sequence.ended


def test_a_cut_response_has_no_end_token_and_is_counted(tokenizer):
    encoder = Encoder(tokenizer, max_response_tokens=2)
    [sequence] = encoder.sequences([PROMPT], ["w3 w4 w5"])
    assert sequence.response_ids == [5, 6]
    assert not sequence.ended
    assert encoder.num_cut == 1


def test_a_long_prompt_loses_its_middle(tokenizer):
    encoder = Encoder(tokenizer, max_prompt_tokens=2)
    assert encoder.prompts([(Message("user", "w1 w2 w3"),)]) == [[3, 5]]
    assert encoder.num_cut == 1


def test_an_empty_prompt_still_predicts_a_first_token(tokenizer):
    [ids] = Encoder(tokenizer).prompts([()])
    assert len(ids) == 1


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no end token"):
        Encoder(tokenizer)


def test_a_tokenizer_without_a_template_gets_roles(word_tokenizer):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = None
    text = render_prompt(tokenizer, (Message("system", "be brief"), Message("user", "hello")))
    assert text == "system: be brief\n\nuser: hello\n\nassistant: "


def test_tool_calls_reach_the_template(word_tokenizer):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments.x }})"
        "{% endfor %}{% endfor %}"
    )
    call = ToolCall("find", '{"x": 3}')
    assert render_prompt(tokenizer, (Message("assistant", tool_calls=(call,)),)) == "find(3)"


def test_batches_know_lengths_not_pads():
    """A response full of the padding id is real all the same: masks come from lengths."""
    batch = collate([TokenSequence([5], [0, 0, 0]), TokenSequence([5, 6], [7])])
    assert batch.response_lengths.tolist() == [3, 1]
    assert batch.targets.tolist() == [0, 0, 0, 7]
    assert batch.columns.tolist() == [0, 1, 2, 1]
    assert batch.offsets.tolist() == [0, 1, 2, 0]
    padded = batch.unflatten(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert padded.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch.flatten(padded).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("bad", [TokenSequence([], [1]), TokenSequence([1], [])])
def test_a_sequence_needs_a_prompt_and_a_response(bad):
    with pytest.raises(ValueError, match="both need at least one"):
        collate([bad])


@given(
    lengths=st.lists(st.integers(1, 50), max_size=40),
    budget=st.integers(1, 200),
)
def test_micro_batches_hold_every_row_once_within_the_budget(lengths, budget):
    groups = micro_batches(lengths, budget)
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_large_micro_batches_hold_little_padding(lengths):
    for group in micro_batches(lengths, 2048):
        padded = len(group) * lengths[group[0]]
        wasted = padded - sum(lengths[i] for i in group)
        assert wasted <= MAX_PADDING * padded + 1e-9 or padded < 2048 // 8 + lengths[group[0]]


def test_equal_lengths_share_a_micro_batch():
    assert micro_batches([7] * 500, 7 * 500) == [list(range(500))]
