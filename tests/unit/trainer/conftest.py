"""Two-layer models and a tokenizer of whole words: small enough to train in a second."""

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from heedloop_trainer.nn.scratch import SmallShape, small_classifier, small_policy

torch.set_num_threads(1)

SHAPE = SmallShape(32, 2, 2, 64)


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """`word_tokenizer(n)`: words w0 … w(n-1), ids 2 and up; 0 is the pad, 1 the end (or both, with pad_is_end)."""

    def make(num_words: int = 30, *, pad_is_end: bool = False) -> PreTrainedTokenizerFast:
        vocab = {"<pad>": 0, "<end>": 1, **{f"w{i}": i + 2 for i in range(num_words)}}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        pad = "<end>" if pad_is_end else "<pad>"
        made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token="<end>")
        made.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        return made

    return make


@pytest.fixture
def tokenizer(word_tokenizer):
    return word_tokenizer()


@pytest.fixture
def policy(tokenizer):
    return small_policy(tokenizer, SHAPE, seed=1)


@pytest.fixture
def classifier(tokenizer):
    return small_classifier(tokenizer, SHAPE, seed=2)
