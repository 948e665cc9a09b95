"""Small models made from nothing: a byte-level tokenizer trained on the rows at hand and a Llama-shaped network.

For tests, for the demo and for places where no model can be downloaded. Such a model knows only what the rows teach it: a
few hundred thousand to a few million parameters learn a narrow task, and next to nothing of language from a thousand
real judgements. Every report of such a model prints its baselines beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

CHAT_TEMPLATE = (
    "{{ '<|start|>' }}{% if tools %}{{ '<|system|>' + tools | tojson + '\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}{{ '\n' + c['function'] | tojson }}{% endfor %}"
    "{{ eos_token if m['role'] == 'assistant' }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL_TOKENS = ["<|pad|>", "<|start|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


@dataclass(frozen=True, slots=True)
class SmallShape:
    """Size of a small Llama-shaped network; the default has about 1 M parameters besides its embeddings."""

    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 384
    max_positions: int = 1024


TINY = SmallShape()


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int = 2048,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    chat_template: str = CHAT_TEMPLATE,
    **settings: Any,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template; its pad, start and end tokens are three different ones.

    Args:
        special_tokens: with `<|pad|>` and `<|end|>`, and with `<|start|>` where texts begin with a token of their own.
        settings: further ones of the tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",  # noqa: S106
        bos_token="<|start|>" if "<|start|>" in special_tokens else None,
        eos_token="<|end|>",  # noqa: S106
        chat_template=chat_template,
        **settings,
    )


def small_policy(tokenizer: Any, shape: SmallShape = TINY, *, seed: int = 0) -> LlamaForCausalLM:
    """A causal language model with random weights decided by the seed."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(_config(tokenizer, shape))


def small_classifier(
    tokenizer: Any, shape: SmallShape = TINY, *, num_labels: int = 1, seed: int = 0
) -> LlamaForSequenceClassification:
    """A sequence classifier (reward model) with random weights decided by the seed."""
    torch.manual_seed(seed)
    config = _config(tokenizer, shape)
    config.num_labels = num_labels
    return LlamaForSequenceClassification(config)


def _config(tokenizer: Any, shape: SmallShape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        attention_dropout=0.0,
    )
