"""An embedding model in place of words: a local folder (by the extra `trainer`), or an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from heedloop_server.errors import Unavailable
from heedloop_server.examples.index import Embed

GROUP = "heedloop.embedders"
"""Entry points that load a sentence model from a folder: the trainer contributes `folder`."""
TIMEOUT_S = 30.0


def embedder(model: str, key: str = "") -> Embed:
    """The model that `model` names: a folder, or `http://host:8000/v1#name` for an endpoint's model.

    Raises:
        ValueError: there is no such folder, or the extra that reads it is missing.
    """
    if model.startswith(("http://", "https://")):
        url, _, name = model.partition("#")
        return _endpoint(f"{url.rstrip('/')}/embeddings", name, key)
    if not Path(model).is_dir():
        raise ValueError(f"examples_model: {model!r} is no folder and no address of an endpoint")
    found = list(entry_points(group=GROUP, name="folder"))
    if not found:
        raise ValueError("examples_model: a folder needs the extra: pip install 'heedloop[trainer]'")
    make = cast(Callable[[Path], Embed], found[0].load())
    return make(Path(model))


def _endpoint(url: str, model: str, key: str) -> Embed:
    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        body = json.dumps({"model": model, "input": list(texts)}).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        request = urllib.request.Request(url, body, headers)  # noqa: S310  only http and https come here
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                return _vectors(json.load(response))
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise Unavailable(f"{url} gave no embeddings: {err.__class__.__name__}") from None

    return embed


def _vectors(body: Any) -> NDArray[np.float32]:
    rows = sorted(body["data"], key=lambda row: row["index"])
    vectors = np.asarray([row["embedding"] for row in rows], np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
