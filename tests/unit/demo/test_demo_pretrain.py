"""The base model: made on the spot, loads anywhere, and learns from its text."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from heedloop_trainer.demo.pretrain import FAST, Pretraining, make_text, make_tokenizer, pretrain


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Pretraining:
    torch.set_num_threads(1)
    return pretrain(tmp_path_factory.mktemp("base"), FAST, seed=1, quiet=True)


def test_the_loss_falls(base: Pretraining) -> None:
    assert base.losses[-1] < base.losses[0] - 1.0
    assert base.num_tokens > 5000


def test_it_loads_with_transformers_and_gives_the_same_logits_in_any_batch(base: Pretraining) -> None:
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How long does a refund take?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    alone = tokenizer([text], return_tensors="pt", add_special_tokens=False)
    both = tokenizer(
        [text, text + "Happy to help."], return_tensors="pt", padding=True, add_special_tokens=False
    )
    with torch.no_grad():
        first = model(**alone).logits[0, -1]
        padded = model(**both).logits[0, -1]
    torch.testing.assert_close(first, padded, rtol=1e-4, atol=1e-4)


def test_padding_is_not_the_end_and_roles_are_one_token(base: Pretraining) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    text = tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|system|>")
    assert ids[-1] == tokenizer.eos_token_id


def test_the_tokenizer_gives_back_any_text() -> None:
    tokenizer = make_tokenizer(make_text(50, random.Random(0)))
    for text in ("A refund takes five working days.", "Grüße — 日本 🙂\n\ttabs"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_same_seed_makes_the_same_model(base: Pretraining, tmp_path: Path) -> None:
    again = pretrain(tmp_path, FAST, seed=1, quiet=True)
    assert again.losses == base.losses
