"""Drafts: rows before their group, split and final weight are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heedloop.schema import Comparison, Demonstration, PromptRow, RatedCompletion, Unpaired
from heedloop_server.curate.judged_calls import Answer, Judgement

Row = Demonstration | Comparison | Unpaired | PromptRow | RatedCompletion


@dataclass(frozen=True, slots=True)
class Draft:
    """A row, whose share it is (None where no single author's), and the answer that decides its group."""

    row: Row
    author: str | None
    answer: Answer


def sole_author(judgements: Iterable[Judgement]) -> str | None:
    """The author of all of them; None where they are several, or unknown."""
    ids = {j.feedback.author.id for j in judgements}
    return next(iter(ids)) if len(ids) == 1 else None
