"""What the customers of the demo's shop ask about: facts, each with its right value, wrong values and wordings.

The shop is invented. `NUM_FRESH_WORDINGS` says how many of each fact's wordings only fresh users ask.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

NUM_FRESH_WORDINGS = 2
"""The last wordings of each fact that only fresh users ask: no feedback was ever collected on them."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that customers ask and the shop has an answer to.

    Attributes:
        topic: the subject it belongs to, such as `refunds`.
        name: unique name of the fact.
        sentences: how the answer is put, with `{}` for the value.
        right: the value that is true.
        wrong: values that are false but plausible.
        wordings: how customers ask for it, without greeting and without the final question mark.
    """

    topic: str
    name: str
    sentences: tuple[str, str]
    right: str
    wrong: tuple[str, ...]
    wordings: tuple[str, ...]


def _facts() -> tuple[Fact, ...]:
    text = (Path(__file__).parent / "topics.json").read_text(encoding="utf-8")
    rows = [{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()} for row in json.loads(text)]
    return tuple(Fact(**row) for row in rows)


FACTS: tuple[Fact, ...] = _facts()
"""All of them, from topics.json."""

TOPICS: tuple[str, ...] = tuple(dict.fromkeys(fact.topic for fact in FACTS))
