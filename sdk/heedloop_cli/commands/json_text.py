"""JSON and numbers of files and options, with what is wrong about them in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast


def json_file(path: Path) -> Any:
    """What a JSON file holds; raises `ValueError` with its name."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:  # no JSON, or no UTF-8
        raise ValueError(f"{path} is no JSON: {err}") from None


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; raises `ValueError` with its name."""
    found = json_file(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return cast(dict[str, Any], found)


def json_value(option: str, text: str) -> Any:
    """The JSON of an option; raises `ValueError` with its name."""
    try:
        return json.loads(text)
    except ValueError as err:
        raise ValueError(f"{option}: {text!r:.80} is no JSON: {err}") from None


def number(option: str, text: str) -> float:
    """The number of an option; raises `ValueError` with its name."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r:.80} is no number") from None
