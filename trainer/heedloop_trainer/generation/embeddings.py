"""Sentence vectors of a local model, such as MiniLM: the mean of the last layer's vectors over the text's tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

MAX_TOKENS = 256


def embedder(folder: Path) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Texts -> (texts, dimensions), each row of unit length; from the folder's files alone. Safe to share between threads.

    Source: Reimers & Gurevych 2019, arXiv 1908.10084, mean pooling.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    lock = threading.Lock()

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        with lock:
            tokens = tokenizer(
                list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            vectors = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        means = (vectors * mask).sum(1) / mask.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(means, dim=-1).numpy().astype(np.float32)

    return embed
